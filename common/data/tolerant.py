"""Unreadable samples: counted, logged with their path, and tolerated up to 0.1 %."""

import logging

import torch

from common.data.scene import Scene, SceneSource, UnreadableSample
from common.errors import UserError

log = logging.getLogger(__name__)
TOLERATED = 0.001
LISTED = 10


class Tolerant(SceneSource):
    """A source in which an unreadable sample is replaced by the next readable one.

    Raises:
        UserError: when more than 0.1 % of the source's samples turn out to be unreadable.
    """

    def __init__(self, source: SceneSource):
        self.source = source
        self.unreadable: dict[int, str] = {}
        """Errors by index, as far as this process has met them."""
        self._found = torch.zeros(len(source), dtype=torch.bool).share_memory_()  # by any of a loader's processes

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Scene:
        while True:
            try:
                return self.source[index]
            except UnreadableSample as error:
                self._count(index, error)
                index = (index + 1) % len(self)

    def _count(self, index: int, error: UnreadableSample) -> None:
        self.unreadable[index] = str(error)
        new, self._found[index] = not self._found[index], True
        found = int(self._found.sum())
        if new:
            log.warning("unreadable sample %d of %d: %s", found, len(self), error)
        if found > TOLERATED * len(self):
            listed = "\n  ".join(list(self.unreadable.values())[-LISTED:])
            raise UserError(
                f"{found} of {len(self)} samples cannot be read, more than the tolerated 0.1 %:\n  {listed}\n"
                "Download these files again or remove them."
            ) from error
