"""Scenes of two tiles whose captions have negatives: what the mini scale trains and is tested on."""

from collections.abc import Sequence

import numpy as np

from common.data.worlds.tile_words import FOILS, foils, related
from common.data.worlds.tiles import TileScenes
from common.errors import unknown
from projects.degla.data import Item, ItemSource

NEGATIVES = ("swap_colour", "swap_shape", "replace_colour", "replace_shape")


class TileItems(ItemSource):
    """A scene, how its two tiles lie, and foils of that.

    Args:
        split: train, val or test.
        size: number of scenes.
        kinds: of foils, as FOILS names them.
        shapes: those that occur; None for all.
        colours: likewise.
        seed: which world; the CLIP that is finetuned learned from that of 0.
    """

    def __init__(
        self,
        split: str,
        size: int,
        kinds: Sequence[str] = NEGATIVES,
        shapes: list[str] | None = None,
        colours: list[str] | None = None,
        seed: int = 1,
    ):
        for name in kinds:
            if name not in FOILS:
                raise unknown("kind of foil", name, FOILS)
        self.kinds = tuple(kinds)
        self.scenes = TileScenes(split, size, seed, objects=(2, 2), shapes=shapes, colours=colours)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Item:
        scene = self.scenes.scene(index)
        rng = np.random.default_rng((*self.scenes.key, index, 3))
        first, second = (scene.tiles[k] for k in rng.permutation(2))
        wrong = foils(first, second, rng)
        return Item(scene.image, related(first, second), tuple(wrong[name] for name in self.kinds))
