"""One image with its masks: what every segmentation source yields."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Masks(Protocol):
    """What is asked of masks, bool [K, H, W]: an array, or one whose masks are decoded when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, which: Any, /) -> Any: ...

    def __array__(self) -> np.ndarray: ...


@dataclass
class Scene:
    """An image and the masks of what it shows.

    Attributes:
        image: uint8 RGB, [H, W, 3].
        masks: bool, [K, H, W]; masks may overlap, K may be 0. Index the first axis; `np.asarray` for anything else.
        name: unique within its source (the file's stem, or split and index).
    """

    image: np.ndarray
    masks: Masks
    name: str


class SceneSource(ABC):
    """A random-access collection of scenes; the same index always gives the same scene."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Scene: ...


class UnreadableSample(Exception):
    """A file that cannot be decoded. Loaders count these, log the path, and tolerate up to 0.1 %."""

    def __init__(self, path: object, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = str(path), reason
