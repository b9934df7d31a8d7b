"""Stand-ins for what the paper's configs read: made-up pictures, captions, benches and sets, and a narrow CLIP."""

import json
from itertools import product
from pathlib import Path
from typing import Any, cast

import datasets
import torch
from PIL import Image

from common.data.readers.zero_shot_sets import SetName
from common.models.clip import load_clip
from common.rehearsal.datasets import make_image_parquet, make_sentences, write_parquet
from common.rehearsal.image_hubs import write_open_clip
from common.rehearsal.sa1b import make_scene
from common.rehearsal.zero_shot_sets import make_zero_shot_set
from projects.degla.negatives import by_rules

SIDE = (60, 90)  # of pictures, (H, W) in pixels
ITEMS = 4  # of a bench
CREPE = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")
VALSE = {
    "existence": "visual7w/images/v7w_{}.jpg",
    "plurals": "coco/val2017/{:012d}.jpg",
    "counting-hard": "visual7w/images/v7w_{}.jpg",
    "counting-small-quant": "visual7w/images/v7w_{}.jpg",
    "counting-adversarial": "visual7w/images/v7w_{}.jpg",
    "relations": "coco/val2017/{:012d}.jpg",
    "action-replacement": "swig/images_512/exercising_{}.jpg",
    "actant-swap": "swig/images_512/exercising_{}.jpg",
    "coreference-standard": "coco/train2014/COCO_train2014_{:012d}.jpg",
    "coreference-hard": "visdial/VisualDialog_val2018/VisualDialog_val2018_{:012d}.jpg",
    "foil-it": "coco/val2014/COCO_val2014_{:012d}.jpg",
}
"""Its pieces, and where their pictures lie."""
SETS = (
    "food101", "oxford_pets", "oxford_flowers", "sun397", "stanford_cars", "dtd", "caltech101", "fgvc_aircraft",
    "imagenet",
)  # fmt: skip
CLASSES = ("red cat", "small dog")


def make(folder: Path) -> None:
    """Write `data/`, `weights/` and `hub/` into `folder`."""
    data, captions = folder / "data", make_sentences(40)
    rewritten = [{"image_id": k, "original": text, "enhanced": by_rules(text, 5)} for k, text in enumerate(captions)]
    for k in range(len(captions)):
        draw(data / f"coco/train2014/COCO_train2014_{k:012d}.jpg", k)
    write(data / "degla/DeGLA.json", rewritten)
    foiled = [(k, text, by_rules(text, 4)) for k, text in enumerate(captions[:ITEMS])]
    for kind in CREPE:
        rows = {str(k): {"filename": f"{k:012d}.jpg", "caption": t, "negative_caption": n[0]} for k, t, n in foiled}
        write(data / f"sugarcrepe/{kind}.json", rows)
    for place, k in product(VALSE.values(), range(ITEMS)):
        draw(data / place.format(k), k)
    for piece, place in VALSE.items():
        names = [Path(place.format(k)).name for k, _, _ in foiled]
        said = zip(names, foiled, strict=True)
        rows = {
            f"{piece}_{k}": {"image_file": name, "caption": t, "foil": n[0], "mturk": {"caption": 3, "foil": 0}}
            for name, (k, t, n) in said
        }
        write(data / f"valse/{piece}.json", rows)
    for kind in ("relation", "attribution"):
        box = {"bbox_x": 5, "bbox_y": 5, "bbox_w": 40, "bbox_h": 30}
        genome = [{"image_path": f"{k}.jpg", "true_caption": t, "false_caption": n[0], **box} for k, t, n in foiled]
        write(data / f"aro/visual_genome_{kind}.json", genome)
    for k, place in product(range(ITEMS), ("aro/images/{}.jpg", "flickr30k/flickr30k-images/{}.jpg")):
        draw(data / place.format(k), k)
    for name, place in (("coco", "val2014/COCO_val2014_{:012d}.jpg"), ("flickr30k", "flickr30k-images/{}.jpg")):
        write(
            data / f"aro/{name}_order.json",
            [{"image": place.format(k), "caption_options": [t, *n]} for k, t, n in foiled],
        )
    for name in SETS:
        make_zero_shot_set(data, cast(SetName, name), CLASSES, 1, SIDE)
    make_image_parquet(data / "cifar10/plain_text/test-00000-of-00001.parquet", CLASSES, 4, (32, 32))
    names = datasets.ClassLabel(names=list(CLASSES))
    columns = datasets.Features({"img": datasets.Image(), "fine_label": names, "coarse_label": names})
    picture = (data / "aro/images/0.jpg").read_bytes()
    rows = [{"img": {"bytes": picture, "path": None}, "fine_label": k % 2, "coarse_label": 0} for k in range(4)]
    write_parquet(data / "cifar100/cifar100/test-00000-of-00001.parquet", rows, columns)
    hub = folder / "hub"
    write_open_clip(hub, "ViT-B-32-quickgelu", "openai", narrow=True, layers=1)
    [narrow] = hub.rglob("open_clip_config.json")
    state = load_clip(str(narrow.parent)).net.state_dict()
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    released = {"epoch": 5, "name": "DeGLA", "state_dict": {f"module.{name}": x for name, x in state.items()}}
    torch.save(released, folder / "weights/DeGLA.pt")


def draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_scene(number, SIDE)[0]).save(path, quality=90)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
