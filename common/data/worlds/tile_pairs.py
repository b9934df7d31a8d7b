"""Two texts of each scene of tiles, from which a language model learns what all the names mean."""

from typing import Any

import numpy as np

from common.data.pairs import Pair, PairSource
from common.data.text import Split
from common.data.worlds.tile_words import long_caption, short_caption
from common.data.worlds.tiles import TileScenes


class TilePairs(PairSource):
    """A short and a long text of a scene, either one first: what the one calls red, the other may call crimson.

    Args:
        size: number of pairs of a split.
        scenes: settings of TileScenes.
    """

    def __init__(self, size: int, scenes: dict[str, Any] | None = None):
        self.size, self.scenes = size, scenes or {}

    def read(self, split: Split) -> list[Pair]:
        source = TileScenes(split, self.size, **self.scenes)
        return [self._pair(source, index) for index in range(self.size)]

    def _pair(self, source: TileScenes, index: int) -> Pair:
        tiles, rng = source.tiles(index), np.random.default_rng((*source.key, index, 4))
        pair = Pair(short_caption(tiles, rng, source.alone), long_caption(tiles, rng))
        return pair.swapped if rng.integers(2) else pair
