"""Pairs of texts of one scene: the same ones again, of one scene each, all names and either order among them."""

from pathlib import Path

import yaml

from common.data.worlds.tile_pairs import TilePairs
from common.data.worlds.tile_words import COLOURS, SHAPES
from common.data.worlds.tiles import TileScenes
from common.foundations import masked_lm

CONFIG = Path(masked_lm.__file__).parent / "configs/mini/tile_bert.yaml"


def test_both_texts_are_of_one_scene_and_say_every_name():
    pairs, source = TilePairs(600).read("train"), TileScenes("train", 600)
    assert pairs == TilePairs(600).read("train") and TilePairs(600).read("val")[0] not in pairs
    said, long_first = set(), 0
    for index, pair in enumerate(pairs):
        short, long = sorted(pair[:2], key=lambda text: " in the " in text)
        long_first += long == pair.a
        for tile in source.tiles(index):
            assert set(COLOURS[tile.colour]) & set(long.split()) and set(SHAPES[tile.shape]) & set(long.split())
        assert any(f"a {tile.colour} {tile.shape}" in short for tile in source.tiles(index))
        said |= set(long.split())
    assert {name for table in (COLOURS, SHAPES) for names in table.values() for name in names} <= said
    assert 200 < long_first < 400


def test_the_foundation_reads_them_whole():
    data = yaml.safe_load(CONFIG.read_text())["data"]
    data["texts"] = TilePairs(300)
    read = masked_lm.TextData(**data)
    words = {word for pair in read.pairs for text in pair[:2] for word in text.split()}
    assert words <= set(read.tokenizer.get_vocab())
    longest = max(len(read.tokenizer(pair.a, pair.b).input_ids) for pair in read.pairs)
    assert longest <= data["max_length"]
