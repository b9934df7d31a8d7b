"""Stand-ins for data sets: made-up images, captions and rows in the formats that the real ones are released in.

The same arguments give the same files. SA-1B has a file of its own.
"""

import json
import tarfile
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import datasets
import numpy as np
from PIL import Image

from common.rehearsal.sa1b import make_scene

SUBJECTS = ["a small brown cat", "two people", "the white dog", "an old man in a red coat", "some children"]
ACTIONS = ["rest on", "walk past", "look at", "wait beside", "run towards"]
OBJECTS = ["a wooden chair", "the river", "a blue car", "the green door", "an open window"]
# of COCO's categories: what the background is, and the six masks of a scene
CATEGORIES = {187: "sky-other-merged", 1: "person", 3: "car", 17: "cat", 18: "dog", 44: "bottle", 62: "chair"}
BACKGROUND = 187


def make_sentences(count: int, first: int = 0) -> list[str]:
    """Sentences `first`, `first` + 1, ... of 125 whose words recur; then from the start again."""
    return [
        f"{SUBJECTS[i % 5]} {ACTIONS[i // 5 % 5]} {OBJECTS[i // 25 % 5]}.".capitalize()
        for i in range(first, first + count)
    ]


def make_coco(
    root: Path, split: Literal["train", "val"], images: int = 4, resolution: tuple[int, int] = (96, 144), first: int = 1
) -> None:
    """Write a split of COCO 2017 as it unpacks: images, panoptic and instance annotations, five captions an image.

    Args:
        resolution: (H, W) in pixels; the released images have up to 640 on their longer side.
        first: id of the first image.
    """
    name, annotations = f"{split}2017", root / "annotations"
    (root / name).mkdir(parents=True, exist_ok=True)
    (annotations / f"panoptic_{name}").mkdir(parents=True, exist_ok=True)
    infos, panoptic, instances, captions = [], [], [], []
    for number in range(first, first + images):
        image, masks = make_scene(number, resolution)
        Image.fromarray(image).save(root / name / f"{number:012d}.jpg", quality=90)
        infos.append({"id": number, "file_name": f"{number:012d}.jpg", "height": resolution[0], "width": resolution[1]})
        segments, colours = _segments(number, masks)
        Image.fromarray(colours).save(annotations / f"panoptic_{name}" / f"{number:012d}.png")
        panoptic.append(
            {
                "image_id": number,
                "file_name": f"{number:012d}.png",
                "segments_info": [{k: v for k, v in s.items() if k != "segmentation"} for s in segments],
            }
        )
        instances += [
            {**s, "image_id": number} for s in segments if s["segmentation"] and s["category_id"] != BACKGROUND
        ]
        captions += [
            {"id": 5 * number + k, "image_id": number, "caption": sentence}
            for k, sentence in enumerate(make_sentences(5, first=5 * number))
        ]
    kinds = [
        {"id": i, "name": kind, "supercategory": kind, "isthing": int(i != BACKGROUND)}
        for i, kind in CATEGORIES.items()
    ]
    contents: dict[str, dict[str, Any]] = {
        "panoptic": {"annotations": panoptic, "categories": kinds},
        "instances": {"annotations": instances, "categories": [kind for kind in kinds if kind["isthing"]]},
        "captions": {"annotations": captions},
    }
    for kind, content in contents.items():
        (annotations / f"{kind}_{name}.json").write_text(
            json.dumps({"info": {}, "images": infos, **content}), encoding="utf-8"
        )


def make_lvis(root: Path, images: int = 4, resolution: tuple[int, int] = (96, 144), first: int = 1) -> None:
    """Write a split of LVIS v1: `annotations/lvis_v1_val.json` of polygons alone, and images of COCO's that it names by
    their addresses, in `val2017/` and `train2017/` by turns."""
    infos, annotations = [], []
    for number in range(first, first + images):
        image, masks = make_scene(number, resolution)
        file = f"{('val2017', 'train2017')[number % 2]}/{number:012d}.jpg"
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / file, quality=90)
        infos.append({"id": number, "coco_url": f"http://images.cocodataset.org/{file}", "height": resolution[0]})
        infos[-1] |= {"width": resolution[1], "neg_category_ids": [], "not_exhaustive_category_ids": []}
        annotations += [
            {"id": 10 * number + k, "image_id": number, "category_id": k + 1, "segmentation": _polygons(mask)}
            for k, mask in enumerate(masks)
        ]
    kinds = [{"id": k + 1, "name": f"thing_{k + 1}", "frequency": "f"} for k in range(6)]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    content = {"info": {}, "images": infos, "annotations": annotations, "categories": kinds}
    (root / "annotations/lvis_v1_val.json").write_text(json.dumps(content), encoding="utf-8")


def make_image_folder(
    root: Path, classes: Sequence[str], images: int = 2, resolution: tuple[int, int] = (96, 144), first: int = 0
) -> None:
    """Write `images` JPEGs into a folder per class, as ImageNet's: `<class>/<class>_<number>.jpg`."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + images):
            image, _ = make_scene(number * len(classes) + label, resolution)
            Image.fromarray(image).save(root / name / f"{name}_{number}.jpg", quality=90)


def make_webdataset(path: Path, samples: int = 4, resolution: tuple[int, int] = (96, 144), first: int = 0) -> None:
    """Write a shard of captioned images as img2dataset does: `<key>.jpg`, `.txt` and `.json` in a tar, key by key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(first, first + samples):
            key, [caption] = f"{number:09d}", make_sentences(1, first=number)
            facts = {"key": key, "caption": caption, "height": resolution[0], "width": resolution[1]}
            facts |= {"url": f"https://example.org/{key}.jpg", "status": "success"}
            for suffix, content in (
                ("jpg", _jpeg(number, resolution)),
                ("json", json.dumps(facts).encode()),
                ("txt", caption.encode()),
            ):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))


def make_image_parquet(
    path: Path, classes: Sequence[str], images: int = 4, resolution: tuple[int, int] = (96, 144), first: int = 0
) -> None:
    """Write columns `image` (encoded) and `label`, typed in the schema, as the hub's image data sets are."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))})
    rows = [
        {
            "image": {"bytes": _jpeg(number, resolution), "path": f"{number}.jpg"},
            "label": number % len(classes),
        }
        for number in range(first, first + images)
    ]
    write_parquet(path, rows, features)


def make_captioned_parquet(
    path: Path, samples: int = 4, resolution: tuple[int, int] = (96, 144), first: int = 0
) -> None:
    """Write columns `image` (encoded) and `caption`, as the hub's data sets of captioned images have them."""
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    rows = [
        {"image": {"bytes": _jpeg(number, resolution), "path": f"{number}.jpg"}, "caption": caption}
        for number, caption in enumerate(make_sentences(samples, first), start=first)
    ]
    write_parquet(path, rows, features)


def write_parquet(path: Path, rows: Iterable[dict[str, Any]], features: datasets.Features | None = None) -> None:
    """Rows as `datasets.load_dataset("parquet", data_files=path)` reads them; `features` are their types."""
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(list(rows), features=features).to_parquet(path)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """A JSON object a line, as UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")


def _jpeg(number: int, resolution: tuple[int, int]) -> bytes:
    content = BytesIO()
    Image.fromarray(make_scene(number, resolution)[0]).save(content, "JPEG", quality=90)
    return content.getvalue()


def _segments(number: int, masks: np.ndarray) -> tuple[list[dict[str, Any]], np.ndarray]:
    """COCO's segments of image `number`: background, and what is seen of each mask; later ones lie over earlier ones.

    Args:
        masks: bool [6, H, W].

    Returns:
        The segments, with polygons; and their ids as colours, uint8 [H, W, 3].
    """
    layers = np.zeros(masks.shape[1:], np.int32)
    for k, mask in enumerate(masks):
        layers[mask] = k + 1
    ids = 10 * number + layers
    segments = []
    for layer in np.unique(layers).tolist():
        seen = layers == layer
        x, y, width, height = cv2.boundingRect(seen.astype(np.uint8))
        segments.append(
            {
                "id": 10 * number + layer,
                "category_id": list(CATEGORIES)[layer],
                "iscrowd": 0,
                "area": int(seen.sum()),
                "bbox": [x, y, width, height],
                "segmentation": _polygons(seen),
            }
        )
    return segments, np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines of a mask, bool [H, W], as COCO writes them: x, y, x, y, ..."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [outline.flatten().tolist() for outline in outlines if len(outline) > 2]
