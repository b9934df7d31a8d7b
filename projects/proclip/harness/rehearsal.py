"""Stand-ins for what the paper's configs read: captioned tars, test sets in their layouts, a Llama and a CLIP."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import datasets
from PIL import Image

from common.data.readers.zero_shot_sets import SETS
from common.rehearsal.datasets import make_sentences, write_jsonl, write_parquet
from common.rehearsal.hub import write_hub
from common.rehearsal.image_hubs import write_open_clip
from common.rehearsal.sa1b import make_scene
from common.rehearsal.zero_shot_sets import make_zero_shot_set
from projects.proclip.readers import LANGUAGES

LLAMA = "microsoft/LLM2CLIP-Llama-3-8B-Instruct-CC-Finetuned"
SIDE = (48, 64)
PAIRS, PICTURES = 24, 4


def make(folder: Path) -> None:
    """Write `data/` and `hub/` into `folder`."""
    data = folder / "data"
    for number, root in enumerate(("cc3m", "cc12m", "yfcc15m")):
        write_pairs(data / root / "00000.tar", PAIRS, 100 * number)
    for name in SETS:
        make_zero_shot_set(data, name, [f"kind {k}" for k in range(3)], 1, SIDE)
    for name, label in (("cifar10/plain_text", "label"), ("cifar100/cifar100", "fine_label")):
        features = datasets.Features({"img": datasets.Image(), label: datasets.ClassLabel(names=["cat", "a_dog"])})
        rows = [{"img": {"bytes": encoded(k), "path": None}, label: k % 2} for k in range(PICTURES)]
        write_parquet(data / name / "test-00000-of-00001.parquet", rows, features)
    write_sets(data)
    write_hub(folder / "hub", [LLAMA], layers=1)
    write_open_clip(folder / "hub", "ViT-B-32-quickgelu", "openai", narrow=True, layers=1)


def encoded(number: int) -> bytes:
    """A JPEG."""
    content = BytesIO()
    Image.fromarray(make_scene(number, SIDE)[0]).save(content, "JPEG", quality=90)
    return content.getvalue()


def write_pairs(tar: Path, count: int, first: int = 0) -> None:
    """Pictures with DreamLIP's captions, as img2dataset packs them with additional columns."""
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as opened:
        for number in range(first, first + count):
            short, raw, *long = make_sentences(4, number)
            facts = {"key": f"{number:09d}", "caption": raw, "status": "success"}
            facts |= {"shortSV_captions": short, "longSV_captions": " ".join(long)}
            for suffix, content in (("jpg", encoded(number)), ("json", json.dumps(facts).encode())):
                member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                member.size = len(content)
                opened.addfile(member, BytesIO(content))


def write_sets(data: Path) -> None:
    """The retrieval sets in the layouts of their releases."""
    texts = make_sentences(10 * PICTURES)

    def picture(path: str, number: int) -> None:
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(encoded(number))

    for name, folder in (("flickr30k", "flickr30k-images"), ("coco", "val2014")):
        rows = []
        for k in range(2 * PICTURES):
            picture(f"{name}/{folder}/{k}.jpg", k)
            said = [{"raw": text} for text in texts[5 * k : 5 * k + 5]]
            rows.append(
                {"filename": f"{k}.jpg", "filepath": folder, "split": ("test", "val")[k % 2], "sentences": said}
            )
        write(data / name / f"dataset_{name}.json", {"images": rows})
    conversations = []
    for k in range(PICTURES):
        picture(f"sharegpt4v/sam/images/sa_{k}.jpg", k)
        turns = [{"from": "human", "value": "Describe it."}, {"from": "gpt", "value": f"{texts[k]} {texts[k + 1]}"}]
        conversations.append({"id": f"sa_{k}", "image": f"sam/images/sa_{k}.jpg", "conversations": turns})
        picture(f"urban1k/image/{k}.jpg", k)
        (data / "urban1k/caption").mkdir(exist_ok=True)
        (data / f"urban1k/caption/{k}.txt").write_text(f"{texts[k]}\n{texts[k + 2]}\n", encoding="utf-8")
        picture(f"docci/images/test_{k}.jpg", k)
        picture(f"dci/photos/sa_{k}.jpg", k)
        facts = {"image": f"sa_{k}.jpg", "short_caption": texts[k], "extra_caption": texts[k + 3]}
        write(data / f"dci/complete/sa_{k}.json", facts)
        picture(f"xm3600/images/{k}.jpg", k)
    write(data / "sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json", conversations)
    described = [{"image_file": f"test_{k}.jpg", "description": texts[k], "split": "test"} for k in range(PICTURES)]
    write_jsonl(data / "docci/docci_descriptions.jsonlines", described)
    spoken = {language: {"caption": texts[:2]} for language in LANGUAGES}
    write_jsonl(data / "xm3600/captions.jsonl", [{"image/key": str(k), **spoken} for k in range(PICTURES)])


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
