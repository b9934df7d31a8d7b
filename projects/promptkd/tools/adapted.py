"""A student that `adapt` has left: a folder with what it learned, the names of its classes, and which CLIP it is of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import decode_rgb, lines_of, read_file
from common.data.images import Picture, PictureSource
from common.data.records import json_file
from common.errors import UserError
from common.schemas import STRICT

if TYPE_CHECKING:
    from projects.promptkd.model import Student

ABOUT, WEIGHTS = "adapted.json", "student.safetensors"
EXPECTED = f"A folder that `python -m projects.promptkd.tools.adapt` has written holds {ABOUT} and {WEIGHTS}."


@schema(config=STRICT)
class Adapted:
    """Which CLIP the student is of, and the names of its classes."""

    clip: str
    classes: list[str]


@dataclass
class Folder(PictureSource):
    """Pictures by their files, without labels, for classes with these names."""

    files: list[Path]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Picture:
        path = self.files[index]
        return Picture(decode_rgb(read_file(path), path), -1, "", str(path))


def read_names(file: Path) -> list[str]:
    """Names of classes, one a line; empty lines are passed over.

    Raises:
        UserError: no text file, fewer than two names, or one of them twice.
    """
    if not file.is_file():
        raise UserError(f"--classes {file}: no such file; give a text file with the name of a class on each line")
    names = [line.strip() for line in lines_of(file) if line.strip()]
    if len(names) < 2:
        raise UserError(f"{file} has {len(names)} names: at least two classes are needed, one a line")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{file} has the name '{twice[0]}' more than once")
    return names


def load_adapted(folder: Path) -> tuple[Student, list[str]]:
    """The student in evaluation mode, and the names of its classes.

    Raises:
        UserError: another folder, or a CLIP that cannot be had.
    """
    from common.models.clip import load_clip
    from common.training.weights import load_state
    from projects.promptkd.model import Student

    if not folder.is_dir():
        raise UserError(f"no folder {folder}. {EXPECTED}")
    about = json_file(folder / ABOUT, TypeAdapter(Adapted), EXPECTED)
    student = Student.of(load_clip(about.clip), load_state(folder / WEIGHTS))
    if len(student.vectors) != len(about.classes):
        raise UserError(f"{folder}: {len(about.classes)} names and {len(student.vectors)} class vectors. {EXPECTED}")
    return student.requires_grad_(False), about.classes
