"""DiffusionDB as released: parts of 1,000 pictures that Stable Diffusion has drawn, each with all of their prompts.

Zip files are read where they lie: nothing is unpacked, so nothing can leave its folder.
"""

import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.checks import try_source
from common.data.files import decode_rgb, is_folder, read_file, readable, reason, walk
from common.data.images import Picture, PictureSource
from common.data.scene import UnreadableSample
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT, parse

ABOUT = """DiffusionDB: 2 or 14 million pictures of Stable Diffusion with their prompts, CC0 1.0.
  from: huggingface.co/datasets/poloclub/diffusiondb, images/part-000001.zip and so on (2M: 2,000 parts of 0.6 GB)
  expected: part-000001.zip, part-000002.zip, ... as downloaded, or folders of those names with what was in them"""
PART = re.compile(r"(part-\d{6})(\.zip)?")


@schema(config=STRICT, slots=True)
class Entry:
    """Of a picture: `p` is its prompt. Seed, steps, guidance and sampler stand beside it."""

    p: str


ENTRIES = TypeAdapter(Annotated[dict[str, Entry], Field(min_length=1)])


class DiffusionDB(PictureSource):
    """Pictures with their prompts, in the order of the parts and of their names. Those without a prompt are left out.

    Args:
        root: folder of the parts, at any depth; `$DATA_ROOT` is replaced.
        first: position of the first part in the order of their names.
        last: position behind the last one; None for all that follow.

    Raises:
        UserError: no such parts, or a damaged one.
    """

    def __init__(self, root: str, first: int = 0, last: int | None = None):
        self.parts = parts_in(root)[first:last]
        if not self.parts:
            raise UserError(f"no parts {first} to {last} among the {len(parts_in(root))} in {expand(root, 'root')}")
        self.rows: list[tuple[int, str, str]] = []
        for number, part in enumerate(self.parts):
            said = prompts_of(part)
            self.rows += [(number, name, said[name].p.strip()) for name in sorted(said) if said[name].p.strip()]
        if not self.rows:
            raise UserError(f"none of the pictures in {self.parts[0]} has a prompt.\n{ABOUT}")

    @classmethod
    def check(cls, root: str, first: int = 0, last: int | None = None) -> None:
        """Try the first and the last of the parts."""
        count = len(parts_in(root)[first:last])
        for number in {first, first + max(count, 1) - 1}:
            try_source(cls(root, number, number + 1))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Picture:
        number, file, prompt = self.rows[index]
        name = f"{self.parts[number]}:{file}"
        return Picture(decode_rgb(read_part(self.parts[number], file), name), -1, prompt, name)


def parts_in(root: str) -> list[Path]:
    """Zip files or folders, by name; a folder goes before a zip file of the same name.

    Raises:
        UserError: no such folder, or none in it.
    """
    folder = expand(root, "root")
    if not is_folder(folder):
        raise UserError(f"no folder {folder} for {ABOUT}")
    found: dict[str, Path] = {}
    for place, names in walk(folder):
        if PART.fullmatch(place.name) and f"{place.name}.json" in names:
            found[place.name] = place
        for name in names:
            if (match := PART.fullmatch(name)) and match[2]:
                found.setdefault(match[1], place / name)
    if not found:
        raise UserError(f"no part-*.zip in {folder} for {ABOUT}")
    return [found[name] for name in sorted(found)]


def prompts_of(part: Path) -> dict[str, Entry]:
    """The entry of each picture of a part.

    Raises:
        UserError: it lacks its JSON, which is named like the part, or that is damaged.
    """
    name = f"{part.name.removesuffix('.zip')}.json"
    try:
        with readable(part):
            return parse(ENTRIES, read_part(part, name))
    except UnreadableSample as error:
        raise UserError(f"cannot read {error}: download that part again.\n{ABOUT}") from error
    except ValueError as error:
        raise UserError(f"{part}: {name} is damaged ({error}): download that part again.\n{ABOUT}") from error


def read_part(part: Path, name: str) -> bytes:
    """A file of a part.

    Raises:
        UnreadableSample: missing or damaged.
    """
    if not part.name.endswith(".zip"):
        return read_file(part / Path(name).name)
    try:
        with zipfile.ZipFile(part) as archive:
            return archive.read(name)
    except (OSError, KeyError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UnreadableSample(f"{part}:{name}", reason(error)) from error


def write_diffusiondb(part: Path, pictures: dict[str, tuple[bytes, str]]) -> None:
    """Write a part as it is released.

    Args:
        part: ".../part-000001.zip".
        pictures: by file name, PNG bytes and prompt.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    drawn = {"se": 1, "c": 7.0, "st": 50, "sa": "k_lms"}
    entries = {name: {"p": prompt, **drawn} for name, (_, prompt) in pictures.items()}
    with zipfile.ZipFile(part, "w") as archive:
        for name, (content, _) in pictures.items():
            archive.writestr(name, content)
        archive.writestr(f"{part.stem}.json", json.dumps(entries))
