"""Stand-ins for the eleven sets of the CLIP literature: a few made-up pictures a class, in CoOp's folders and files."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from common.data.readers.zero_shot_sets import SETS, SetName
from common.rehearsal.datasets import make_image_folder
from common.rehearsal.sa1b import make_scene

SPLITS = ("train", "val", "test")


def make_zero_shot_set(
    root: Path, name: SetName, classes: Sequence[str], images: int = 2, resolution: tuple[int, int] = (96, 144)
) -> None:
    """Write a set, so that `ZeroShotSet(root, name, split)` reads it.

    Args:
        root: folder of the sets' folders.
        classes: names of the set's classes.
        images: of each class in each split; of ImageNet, which has no third split, in each of its two.
        resolution: (H, W) in pixels.
    """
    layout = SETS[name]
    folder = root / layout.folder
    if name == "imagenet":
        synsets = [f"n{number:08d}" for number in range(len(classes))]
        for part in ("train", "val"):
            make_image_folder(folder / "images" / part, synsets, images, resolution)
        lines = [f"{synset} {words}" for synset, words in zip(synsets, classes, strict=True)]
        (folder / "classnames.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for path in (folder / "images").rglob("*.jpg"):
            path.rename(path.with_suffix(".JPEG"))
        return
    rows: dict[str, list[tuple[str, int, str]]] = {split: [] for split in SPLITS}
    for number in range(len(SPLITS) * images * len(classes)):
        split, label = SPLITS[number % len(SPLITS)], number // len(SPLITS) % len(classes)
        place = f"{number:07d}.jpg" if name == "fgvc_aircraft" else f"{classes[label].replace(' ', '_')}/{number}.jpg"
        (folder / layout.pictures / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_scene(number, resolution)[0]).save(folder / layout.pictures / place, quality=90)
        rows[split].append((place, label, classes[label]))
    if layout.split:
        (folder / layout.split).write_text(json.dumps(rows), encoding="utf-8")
        return
    (folder / "variants.txt").write_text("".join(f"{words}\n" for words in classes), encoding="utf-8")
    for split, found in rows.items():
        lines = [f"{Path(place).stem} {words}" for place, _, words in found]
        (folder / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
