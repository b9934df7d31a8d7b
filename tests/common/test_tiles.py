"""The world of tiles: the same scene everywhere, captions that are right, foils that are wrong; figures over them."""

import numpy as np
import pytest
import torch

from common.data.worlds.tile_words import (
    COLOURS,
    FOILS,
    KINDS,
    SHAPES,
    TEMPLATES,
    Tile,
    foils,
    long_caption,
    misheard,
    related,
    relation,
    short_caption,
    vocabulary,
)
from common.data.worlds.tiles import RGB, TileScenes, TileTexts
from common.errors import UserError
from common.evaluators.zero_shot import CaptionChoice, ZeroShot, harmonic_mean


def test_a_scene_is_the_same_in_any_order_and_split_size():
    big, small = TileScenes("val", 10, seed=3), TileScenes("val", 8, seed=3)
    assert small[0].name != small[7].name
    assert np.array_equal(big[7].image, small[7].image) and big[7].caption == small[7].caption
    made = [TileScenes(split, 5, seed) for split in ("train", "val", "test") for seed in (0, 1)]
    assert len({source[k].image.tobytes() for source in made for k in range(5)}) == 30


def test_objects_lie_in_their_cells_have_their_colours_and_differ():
    for index in range(40):
        scene = TileScenes("train", 40, cell=16, objects=(2, 4), noise=0).scene(index)
        assert (
            len({tile.colour for tile in scene.tiles}) == len({tile.shape for tile in scene.tiles}) == len(scene.tiles)
        )
        for tile, mask, box in zip(scene.tiles, scene.masks, scene.boxes, strict=True):
            left, top, right, bottom = box
            row, column = divmod(tile.cell, 2)
            assert 16 * column <= left < right <= 16 * column + 16 and 16 * row <= top < bottom <= 16 * row + 16
            assert mask.sum() > 20 and mask[top:bottom, left:right].sum() == mask.sum()
            shown = scene.image[mask].reshape(-1, 3).max(0).astype(int)
            assert abs(shown - np.array(RGB[tile.colour])).max() <= 1
        assert not (scene.masks.sum(0) > 1).any()


def test_shapes_can_be_told_apart():
    kinds = [f"red {shape}" for shape in SHAPES]
    source = TileScenes("train", 400, cell=16, objects=(1, 1), kinds=kinds, noise=0)
    masks: dict[int, list[np.ndarray]] = {}
    for index in range(400):
        scene = source.scene(index)
        left, top, right, bottom = scene.boxes[0]
        masks.setdefault(source[index].label, []).append(np.array([scene.masks[0].sum(), right - left, bottom - top]))
    means = np.array([np.mean(masks[k], 0) for k in range(8)])
    assert abs(means[:, None] - means[None]).sum(-1)[~np.eye(8, dtype=bool)].min() > 2


def test_domains_show_the_same_scenes_in_another_way():
    plain, shifted = TileScenes("test", 50, noise=0), TileScenes("test", 50, domain="shifted", noise=0)
    assert all(plain[k].caption == shifted[k].caption for k in range(50))
    assert np.median(shifted[0].image) == np.median(plain[0].image) + 25  # of the background


def test_captions_say_what_is_there():
    source = TileScenes("train", 200, objects=(2, 2))
    named = 0
    for index in range(200):
        tiles = source.tiles(index)
        said = source.caption(index)
        assert said in (
            *(f"a {tile.colour} {tile.shape}" for tile in tiles),
            related(tiles[0], tiles[1]),
            related(tiles[1], tiles[0]),
        )
        named += len(said.split()) == 3
    assert 0.65 < named / 200 < 0.85
    assert TileTexts(5, {"words": "kind"}).read("val") == [
        TileScenes("val", 5, words="kind")[k].caption for k in range(5)
    ]


def test_long_captions_name_all_in_any_of_their_names():
    tiles = [Tile("red", "disc", 0), Tile("blue", "bar", 3, "striped")]
    said = {long_caption(tiles, np.random.default_rng(k)) for k in range(200)}
    assert len(said) > 100 and all("upper left" in text and "striped" in text for text in said)
    words = {word for text in said for word in text.split()}
    assert set(COLOURS["red"]) | set(COLOURS["blue"]) | set(SHAPES["disc"]) | set(SHAPES["bar"]) <= words
    assert words <= set(vocabulary())
    assert {word for template in TEMPLATES for word in template.format("red disc").split()} <= set(vocabulary())


def test_relations_turn_with_the_order():
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    for a in range(4):
        for b in range(4):
            if a != b:
                one, two = Tile("red", "disc", a), Tile("blue", "bar", b)
                assert relation(two, one) == opposite[relation(one, two)]
    assert short_caption([Tile("red", "disc", 0)], np.random.default_rng(0)) == "a red disc"


def test_foils_are_wrong_in_a_single_respect():
    a, b = Tile("red", "disc", 0), Tile("blue", "bar", 1)
    right = related(a, b)
    for seed in range(50):
        found = foils(a, b, np.random.default_rng(seed))
        assert tuple(found) == FOILS and right not in found.values()
        assert found["swap_colour"] == "a blue disc left of a red bar"
        assert found["swap_shape"] == "a red bar left of a blue disc"
        for name in ("replace_colour", "replace_shape"):
            assert sum(x != y for x, y in zip(found[name].split(), right.split(), strict=True)) == 1
            assert len(set(found[name].split())) == len(set(right.split()))  # what replaces is not there already
        assert sorted(found["reshuffle"].split()) == sorted(right.split())


def test_words_are_misheard_as_often_as_is_said_and_in_training_alone():
    text = "a red disc left of a blue bar"
    changed = [misheard(text, 0.3, np.random.default_rng(k)).split() for k in range(500)]
    rate = np.mean([[x != y for x, y in zip(c, text.split(), strict=True)] for c in changed], 0)
    assert np.all(abs(rate[[1, 2, 6, 7]] - 0.3) < 0.07) and not rate[[0, 3, 4, 5]].any()
    assert [TileScenes("val", 30, wrong=0.9).caption(k) for k in range(30)] == [
        TileScenes("val", 30).caption(k) for k in range(30)
    ]
    assert TileScenes("train", 1, wrong=1.0, words="kind", objects=(1, 1)).caption(0).split()[1] in COLOURS


def test_labels_are_those_of_the_kinds_that_occur():
    kinds = ["red disc", "blue bar", "green ring"]
    source = TileScenes("train", 60, objects=(1, 1), kinds=kinds, words="kind")
    assert source.classes == tuple(kinds) and {source[k].label for k in range(60)} == {0, 1, 2}
    assert all(source[k].caption == f"a {kinds[source[k].label]}" for k in range(60))
    assert TileScenes("train", 1).classes == KINDS and Tile("red", "square", 0).kind == KINDS.index("red square")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split": "tests"}, "unknown split 'tests'.*test"),
        ({"domain": "shift"}, "unknown domain 'shift'.*shifted"),
        ({"objects": (0, 2)}, "from 1 to 4"),
        ({"objects": (2, 5)}, "from 1 to 4"),
        ({"wrong": 30}, "share"),
        ({"kinds": ["red disk", "blue bar"]}, "unknown kind of tile 'red disk'.*red disc"),
        ({"kinds": ["red disc", "red bar"]}, "as many colours"),
    ],
)
def test_bad_settings(settings, said):
    with pytest.raises(UserError, match=said):
        TileScenes(**{"split": "train", "size": 4, **settings})


def test_kinds_that_cannot_stand_together():
    source = TileScenes("train", 4, objects=(2, 2), kinds=["red disc", "red bar", "blue disc"], noise=0)
    assert {tile.kind for tile in source.tiles(0)} == {KINDS.index("red bar"), KINDS.index("blue disc")}
    with pytest.raises(UserError, match="no 3 of the kinds"):
        TileScenes(
            "train", 4, objects=(3, 3), kinds=["red disc", "blue disc", "green disc", "red bar", "red ring"]
        ).tiles(0)


def test_zero_shot_perfect_floor_scale_and_subsets():
    vectors, labels = torch.eye(4), torch.tensor([0, 1, 2, 3, 3])

    def figure(images, among=None):
        metric = ZeroShot(vectors, among)
        metric.update(images[:2], labels[:2])
        metric.update(images[2:], labels[2:])
        return metric.compute().item()

    assert figure(vectors[labels]) == figure(5 * vectors[labels]) == 1
    assert figure(torch.ones(5, 4)) == pytest.approx(0.2)  # always the first class
    mixed = vectors[labels].clone()
    mixed[4] = torch.tensor([0.9, 0.0, 0.0, 0.5])
    assert figure(mixed) == pytest.approx(0.8) and figure(mixed, [2, 3]) == 1 and figure(mixed, [0, 1]) == 1
    nobody = ZeroShot(vectors, [2])
    nobody.update(mixed[:2], labels[:2])
    assert nobody.compute().isnan()


def test_choice_of_captions_perfect_floor_and_ties():
    def figure(caption, foils):
        metric = CaptionChoice()
        metric.update(torch.tensor(caption), torch.tensor(foils))
        return metric.compute().item()

    assert figure([1.0, 0.0], [[0.0, 0.5], [-1.0, -2.0]]) == 1
    assert figure([1.0], [[0.0, 1.5]]) == 0
    assert figure([1.0, 1.0], [[1.0, 1.0, 1.0, 1.0]] * 2) == pytest.approx(0.2)  # a constant has chance
    assert figure([float("nan")], [[0.0]]) == figure([0.0], [[float("nan")]]) == 0


def test_harmonic_mean_of_the_papers():
    assert harmonic_mean(86.96, 80.73) == pytest.approx(83.73, abs=0.005) and harmonic_mean(0.0, 0.0) == 0
