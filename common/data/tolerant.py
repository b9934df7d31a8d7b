"""Unreadable samples: counted, logged with their path, and tolerated up to 0.1 %."""

import logging

from common.data.scene import Scene, SceneSource, UnreadableSample
from common.errors import UserError

log = logging.getLogger(__name__)
TOLERATED = 0.001


class Tolerant(SceneSource):
    """A source in which an unreadable sample is replaced by the next readable one.

    Raises:
        UserError: when more than 0.1 % of the source's samples turn out to be unreadable.
    """

    def __init__(self, source: SceneSource):
        self.source = source
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Scene:
        while True:
            try:
                return self.source[index]
            except UnreadableSample as error:
                if index not in self.unreadable:
                    self.unreadable[index] = str(error)
                    log.warning("unreadable sample %d of %d: %s", len(self.unreadable), len(self), error)
                if len(self.unreadable) > TOLERATED * len(self):
                    listed = "\n  ".join(list(self.unreadable.values())[:10])
                    raise UserError(
                        f"{len(self.unreadable)} of {len(self)} samples cannot be read, more than the tolerated "
                        f"0.1 %:\n  {listed}\nDownload these files again or remove them."
                    ) from error
                index = (index + 1) % len(self)
