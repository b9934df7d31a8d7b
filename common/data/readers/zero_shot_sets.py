"""The eleven classification sets of the CLIP literature, in the folders and with the fixed splits of CoOp."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import FailFast, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import decode_rgb, is_file, is_folder, lines_of, read_file, shown
from common.data.images import Picture, PictureSource
from common.data.readers.imagenet import ImageNet
from common.data.records import FileName, Int, Words, json_file
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT

SetName = Literal[
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101", "fgvc_aircraft", "sun397",
    "dtd", "eurosat", "ucf101",
]  # fmt: skip
SetSplit = Literal["train", "val", "test"]
Half = Literal["all", "base", "novel"]

Row = tuple[FileName, Int, Words]
"""A picture's path below the set's folder of pictures, its label, its class."""
Read = tuple[list[str], list[tuple[Path, int]]]
"""Names of the classes by label; pictures with their labels."""


@dataclass(frozen=True)
class Layout:
    """Where a set lies, and how it is spoken of.

    Attributes:
        folder: of the set, under the root.
        pictures: folder of its pictures, in it.
        split: its file of splits; "" where its own lists say them.
        template: the sentence in which CLIP is given a class's name, {}.
    """

    folder: str
    pictures: str
    split: str
    template: str = "a photo of a {}."


SETS: dict[SetName, Layout] = {
    "imagenet": Layout("imagenet", "images", ""),
    "caltech101": Layout("caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json"),
    "oxford_pets": Layout("oxford_pets", "images", "split_zhou_OxfordPets.json", "a photo of a {}, a type of pet."),
    "stanford_cars": Layout("stanford_cars", "", "split_zhou_StanfordCars.json"),
    "oxford_flowers": Layout(
        "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json", "a photo of a {}, a type of flower."
    ),
    "food101": Layout("food-101", "images", "split_zhou_Food101.json", "a photo of {}, a type of food."),
    "fgvc_aircraft": Layout("fgvc_aircraft", "images", "", "a photo of a {}, a type of aircraft."),
    "sun397": Layout("sun397", "SUN397", "split_zhou_SUN397.json"),
    "dtd": Layout("dtd", "images", "split_zhou_DescribableTextures.json", "{} texture."),
    "eurosat": Layout("eurosat", "2750", "split_zhou_EuroSAT.json", "a centered satellite photo of {}."),
    "ucf101": Layout("ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", "a photo of a person doing {}."),
}


@schema(config=STRICT, slots=True)
class Splits:
    """A file split_zhou_<set>.json."""

    train: Annotated[list[Row], FailFast()]
    val: Annotated[list[Row], FailFast()]
    test: Annotated[list[Row], FailFast()]


class ZeroShotSet(PictureSource):
    """Pictures of one split. Labels count all of the set's classes, whichever half of them is read.

    Args:
        root: folder that holds the folders of the sets; `$DATA_ROOT` is replaced.
        name: of the set.
        split: train, val or test. ImageNet's test is its validation folder, as is usual, and its val every 500th
            training picture.
        half: pictures of all classes; of the base classes, the first half of them (rounded up); or of the novel ones.

    Attributes:
        classes: names of all classes, as a sentence wants them.
        template: the sentence for a class's name, {}.
        labels: of the pictures, in order.

    Raises:
        UserError: folder, splits or pictures are missing, or a file is in another format.
    """

    def __init__(self, root: str, name: SetName, split: SetSplit, half: Half = "all"):
        layout = SETS[name]
        folder, about = expand(root, f"root of {name}") / layout.folder, described(name)
        if not is_folder(folder):
            raise UserError(f"no folder of the set {name} at {folder}.\n{about}")
        readers = {"imagenet": _imagenet, "fgvc_aircraft": _aircraft}
        classes, pictures = readers.get(name, _zhou)(folder, layout, split, about)
        self.classes, self.template = tuple(name.replace("_", " ") for name in classes), layout.template
        bases = base_classes(len(classes))
        kept = [(path, label) for path, label in pictures if half == "all" or (label < bases) == (half == "base")]
        if not kept:
            raise UserError(f"{name} has no {split} pictures of its {half} classes.\n{about}")
        if not is_folder(folder / layout.pictures) or not any(is_file(path) for path, _ in kept):
            raise UserError(f"none of the pictures of {name} is there ({kept[0][0]}, ...): unpack them.\n{about}")
        self.pictures, self.labels = [path for path, _ in kept], [label for _, label in kept]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        path = self.pictures[index]
        image = decode_rgb(read_file(path), path)
        return Picture(image, self.labels[index], "", f"{path.parent.name}/{path.stem}")


def base_classes(count: int) -> int:
    """How many of a set's classes are base classes: the first half, rounded up."""
    return (count + 1) // 2


def described(name: SetName) -> str:
    """A set for messages: where it comes from and what is expected."""
    layout = SETS[name]
    expected = f"<root>/{layout.folder}/{layout.pictures or '{cars_train,cars_test}'}/ with its pictures"
    match name:
        case "imagenet":
            source = "image-net.org (accept the terms), names of the classes from CoOp's DATASETS.md"
            expected = "<root>/imagenet/images/{train,val}/<synset>/*.JPEG, and <root>/imagenet/classnames.txt"
        case "fgvc_aircraft":
            source = "the hub's zhengli97/prompt_learning_dataset, or robots.ox.ac.uk/~vgg/data/fgvc-aircraft"
            expected += f", and <root>/{layout.folder}/variants.txt and images_variant_{{train,val,test}}.txt"
        case _:
            source = "the hub's zhengli97/prompt_learning_dataset, or by CoOp's DATASETS.md (KaiyangZhou/CoOp)"
            expected += f", and <root>/{layout.folder}/{layout.split}"
    return f"{name}, as CoOp lays it out.\n  from: {source}\n  expected: {expected}"


def _zhou(folder: Path, layout: Layout, split: SetSplit, about: str) -> Read:
    """CoOp's split_zhou_<set>.json."""
    file = folder / layout.split
    splits = json_file(file, TypeAdapter(Splits), about)
    names: dict[int, str] = {}
    for _, label, name in [*splits.train, *splits.val, *splits.test]:
        if names.setdefault(label, name) != name:
            raise UserError(f"{file} calls class {label} '{names[label]}' and '{name}'.\n{about}")
    if absent := sorted(set(range(len(names))) - names.keys()):
        raise UserError(f"{file} has {len(names)} classes, but none with label {absent[0]}.\n{about}")
    rows: list[Row] = {"train": splits.train, "val": splits.val, "test": splits.test}[split]
    pictures = [(folder / layout.pictures / path.lstrip("/"), label) for path, label, _ in rows]
    return [names[label] for label in range(len(names))], pictures


def _aircraft(folder: Path, layout: Layout, split: SetSplit, about: str) -> Read:
    """Lists of the release: variants.txt, and lines of a picture and its variant."""
    variants, file = folder / "variants.txt", folder / f"images_variant_{split}.txt"
    for path in (variants, file):
        if not is_file(path):
            raise UserError(f"{path} is missing.\n{about}")
    classes = [line.strip() for line in lines_of(variants)]
    labels = {name: label for label, name in enumerate(classes)}
    pictures = []
    for number, line in enumerate(lines_of(file), start=1):
        picture, _, variant = line.strip().partition(" ")
        if variant not in labels:
            raise UserError(f"{file}, line {number}: {shown(line)} ends in no name of {variants}.\n{about}")
        pictures.append((folder / layout.pictures / f"{picture}.jpg", labels[variant]))
    return classes, pictures


def _imagenet(folder: Path, layout: Layout, split: SetSplit, about: str) -> Read:
    """ImageNet's own folders; classnames.txt has the names that CLIP is given: lines of a synset and its name."""
    file = folder / "classnames.txt"
    if not is_file(file):
        raise UserError(f"{file} is missing.\n{about}")
    named = dict(line.split(" ", 1) for line in lines_of(file) if " " in line)
    parts: dict[SetSplit, Literal["train", "tune", "val"]] = {"train": "train", "val": "tune", "test": "val"}
    source = ImageNet(str(folder / layout.pictures), parts[split])
    if unnamed := [synset for synset in source.synsets if synset not in named]:
        raise UserError(f"{file} does not name {unnamed[0]} and {len(unnamed) - 1} more.\n{about}")
    return [named[synset].strip() for synset in source.synsets], source.files
