"""The world of shapes: the same scene everywhere, and nothing said of a scene that its picture does not show."""

import hashlib
import re
import subprocess
import sys
import time
from itertools import combinations

import numpy as np
import pytest

from common.data.prompts import tight_boxes
from common.data.worlds.shape_layout import (
    CLASSES,
    COLOURS,
    SIZES,
    TEXTURES,
    area,
    draw_layout,
    footprint,
    signed_distance,
)
from common.data.worlds.shapes import COUNTS, INVERSE, PHRASES, VOCABULARY, ShapeScene, ShapeScenes, caption, tags
from common.errors import UserError

PRINT_DIGEST = """
from tests.common.test_worlds import digest
from common.data.worlds.shapes import ShapeScenes
print(digest(ShapeScenes("val", 10, 64, seed=3)[7]))
"""


def digest(scene: ShapeScene) -> str:
    """Fingerprint of all that a scene holds."""
    parts = (scene.image, scene.masks, scene.depth, scene.boxes, str(scene.relations), scene.caption, tags(scene))
    return hashlib.sha256(b"".join(p.encode() if isinstance(p, str) else p.tobytes() for p in parts)).hexdigest()


@pytest.fixture(scope="module")
def scenes() -> list[ShapeScene]:
    return list(ShapeScenes("train", 150, 64))


def test_a_scene_is_the_same_in_any_order_split_size_and_process():
    expected = digest(ShapeScenes("val", 10, 64, seed=3)[7])
    other = ShapeScenes("val", 8, 64, seed=3)
    assert digest(other[7]) == expected and digest(other[0]) != expected and digest(other[7]) == expected
    run = subprocess.run([sys.executable, "-c", PRINT_DIGEST], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == expected


def test_splits_seeds_and_indices_differ():
    made = [ShapeScenes(split, 5, 32, seed) for split in ("train", "val", "test") for seed in (0, 1)]
    assert len({scene.image.tobytes() for source in made for scene in source}) == 30
    assert len({scene.name for source in made[::2] for scene in source}) == 15


def test_a_scene_is_a_picture_with_disjoint_masks_that_are_large_enough(scenes):
    for scene in scenes:
        count = len(scene.classes)
        assert 2 <= count <= 6
        assert scene.image.shape == (64, 64, 3) and scene.image.dtype == np.uint8
        assert scene.masks.shape == (count, 64, 64) and scene.masks.dtype == bool
        assert scene.masks.sum(0).max() == 1
        assert scene.masks.mean((1, 2)).min() >= 0.01
        np.testing.assert_array_equal(scene.boxes, tight_boxes(scene.masks))


def test_every_name_of_the_vocabulary_is_met(scenes):
    for known, attribute in ((CLASSES, "classes"), (COLOURS, "colours"), (SIZES, "sizes"), (TEXTURES, "textures")):
        assert {name for scene in scenes for name in getattr(scene, attribute)} == set(known)
    assert {len(scene.classes) for scene in scenes} == {2, 3, 4, 5, 6}


def test_sizes_are_the_areas_of_whole_objects(scenes):
    for shape in (shape for scene in scenes for shape in scene.layout.objects):
        equivalent = shape.radius * np.sqrt(area(shape.kind, shape.ratio) / np.pi)
        assert SIZES[shape.size][0] <= equivalent * 1.0001 and equivalent <= SIZES[shape.size][1] * 1.0001


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("ratio", [0.4, 0.6])
def test_areas_and_distances(kind, ratio):
    grid = np.linspace(-1.1, 1.1, 441)
    x, y = grid[None], grid[:, None]
    distance = signed_distance(kind, *np.broadcast_arrays(x, y), ratio)
    assert np.isclose((distance < 0).sum() * 0.005**2, area(kind, ratio), rtol=0.01)
    assert (distance[np.hypot(x, y) > 1.001] > 0).all(), "a shape lies within the unit circle"
    steps = np.hypot(*np.gradient(distance, 0.005))
    near = abs(distance) < 0.02
    assert steps[near].max() < 1.6 and np.median(steps[near]) > 0.5, "edges are about a pixel wide"


def test_colour_of_an_object_is_the_one_named(scenes):
    """Of plain objects without a core, the mean colour is nearest to the palette's, up to shading and haze."""
    palette = np.array(list(COLOURS.values()))
    hits = []
    for scene in scenes:
        for shape, mask in zip(scene.layout.objects, scene.masks, strict=True):
            if shape.texture == "plain" and shape.core is None:
                seen = scene.image[mask].mean(0) / 255
                hits.append(list(COLOURS)[np.linalg.norm(palette - seen, axis=1).argmin()] == shape.colour)
    assert len(hits) > 50 and np.mean(hits) > 0.85


def test_depth_agrees_with_what_covers_what(scenes):
    covered = 0
    for scene in scenes:
        whole = np.stack([footprint(shape, 64) for shape in scene.layout.objects])
        assert scene.depth.shape == (64, 64) and scene.depth.dtype == np.float32
        for i, j in combinations(range(len(whole)), 2):
            assert scene.depth[scene.masks[i]].max() < scene.depth[scene.masks[j]].min()
            assert not (scene.masks[j] & whole[i]).any(), "a farther object shows where a nearer one is"
            covered += (scene.masks[i] & whole[j]).any()
        outside = ~scene.masks.any(0)
        assert scene.depth[outside].min() > scene.depth[~outside].max()
    assert covered > 100, "objects overlap often"


def test_relations_are_antisymmetric_and_follow_from_boxes_and_depth(scenes):
    axes = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}
    seen = set()
    for scene in scenes:
        relations = set(scene.relations)
        assert len(relations) == len(scene.relations)
        centres = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2
        for i, predicate, j in relations:
            seen.add(predicate)
            assert (j, INVERSE[predicate], i) in relations and (j, predicate, i) not in relations
            if predicate in axes:
                axis, sign = axes[predicate]
                offset = centres[j] - centres[i]
                assert sign * offset[axis] > 0 and abs(offset[axis]) >= abs(offset[1 - axis])
            else:
                front, back = (i, j) if predicate == "in front of" else (j, i)
                assert scene.depth[scene.masks[front]].max() < scene.depth[scene.masks[back]].min()
                assert (scene.masks[front] & footprint(scene.layout.objects[back], 64)).any()
    assert seen == set(INVERSE)


def test_relations_hold_at_other_resolutions():
    for scene in ShapeScenes("train", 50, 160):
        middle = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2
        for i, predicate, j in scene.relations:
            if predicate in ("left of", "above"):
                axis = ("left of", "above").index(predicate)
                assert middle[i, axis] < middle[j, axis]


def test_captions_are_true_and_in_the_vocabulary(scenes):
    phrases = {phrase: name for name, pair in PHRASES.items() for phrase in pair}
    pattern = re.compile(rf"(?P<a>[a-z ]+) is (?P<phrase>{'|'.join(sorted(phrases, key=len)[::-1])}) (?P<b>[a-z ]+)")
    related = 0
    for n, scene in enumerate(scenes):
        objects = [
            dict(colour=c, kind=k, size=s, texture=t)
            for c, k, s, t in zip(scene.colours, scene.classes, scene.sizes, scene.textures, strict=True)
        ]

        def named(text: str, objects: list[dict] = objects) -> set[int]:
            """Objects that a noun phrase fits."""
            words = set(text.split()) - {"a", "an", "another"}
            assert words & set(COLOURS) and words & set(CLASSES)
            return {k for k, names in enumerate(objects) if words <= set(names.values())}

        for text in [scene.caption, tags(scene), *(caption(scene, np.random.default_rng((n, k))) for k in range(4))]:
            assert set(re.findall(r"[a-z]+|[.,]", text)) <= set(VOCABULARY)
            assert re.fullmatch(r"[a-z ,.]+", text)
            first, *rest = text.rstrip(".").split(". ")
            if found := re.search(r" on a (\w+) background", first):
                assert found[1] == scene.background
                first = first.replace(found[0], "")
            if found := re.fullmatch(r"there are (\w+) shapes", first):
                assert found[1] == COUNTS[len(objects)]
            elif text != tags(scene):
                listed = re.sub(r"^(there is|a picture of|a scene with) ", "", first)
                assert all(named(item) for item in re.split(", | and ", listed))
            for sentence in rest:
                found = pattern.fullmatch(sentence)
                pairs = {(i, phrases[found["phrase"]], j) for i in named(found["a"]) for j in named(found["b"])}
                assert pairs & set(scene.relations)
                related += 1
    assert related > 200
    assert len({scene.caption for scene in scenes}) > 140


def test_articles_and_repeated_names(scenes):
    rng = np.random.default_rng(0)
    for scene in scenes:
        alike = len(set(zip(scene.colours, scene.classes, strict=True))) < len(scene.classes)
        texts = [caption(scene, rng) for _ in range(1000 if alike else 5)]
        assert any(" another " in text for text in texts) == alike
        assert not any(re.search(r"\ba [aeiou]|\ban [^aeiou]", text) for text in texts)
    assert any("an orange" in scene.caption for scene in scenes)


def test_tags_list_all_objects(scenes):
    *objects, background = tags(scenes[0]).split(", ")
    attributes = zip(scenes[0].sizes, scenes[0].textures, scenes[0].colours, scenes[0].classes, strict=True)
    assert objects == [" ".join(names) for names in attributes] and background == f"{scenes[0].background} background"


@pytest.mark.parametrize("resolution", [32, 128, 224])
def test_resolution_changes_only_the_sampling(resolution, scenes):
    for scene, other in zip(scenes[:20], ShapeScenes("train", 20, resolution), strict=True):
        for name in ("classes", "colours", "sizes", "textures", "relations", "caption", "background"):
            assert getattr(scene, name) == getattr(other, name)
        assert other.image.shape == (resolution, resolution, 3)
        np.testing.assert_allclose(scene.masks.mean((1, 2)), other.masks.mean((1, 2)), atol=0.012)
        shift = abs(scene.boxes / 64 - other.boxes / resolution)
        assert np.mean(shift < 2 / min(64, resolution)) > 0.85, "a sliver between two pixels may widen a box"
        np.testing.assert_allclose(scene.image.mean((0, 1)), other.image.mean((0, 1)), atol=3)


def test_masks_are_at_least_a_hundredth_at_any_resolution():
    for resolution in (32, 48, 96):
        assert min(scene.masks.mean((1, 2)).min() for scene in ShapeScenes("test", 100, resolution)) >= 0.008


def test_there_are_always_two_objects():
    assert min(len(draw_layout(np.random.default_rng(n)).objects) for n in range(300)) == 2


def test_a_simpler_world_on_request():
    for scene in ShapeScenes("test", 60, 32, max_objects=1, plain=True):
        assert scene.textures == ["plain"] and scene.background in ("plain", "shaded")
    assert max(len(scene.masks) for scene in ShapeScenes("test", 60, 32, max_objects=3)) == 3


def test_indices_out_of_range_and_bad_arguments():
    source = ShapeScenes("train", 2, 32)
    assert len(source) == 2 and source[np.int64(1)].name == "train-000001"
    for index in (2, -1):
        with pytest.raises(IndexError):
            source[index]
    with pytest.raises(UserError, match="'trian': did you mean train"):
        ShapeScenes("trian", 2)
    for wrong in ({"size": 0}, {"size": 2, "resolution": 16}, {"size": 2, "seed": -1}, {"size": 2, "max_objects": 7}):
        with pytest.raises(UserError, match="world of shapes"):
            ShapeScenes("val", **wrong)


def test_fast_enough_not_to_be_the_bottleneck():
    source = ShapeScenes("train", 100, 64)
    start = time.process_time()
    list(source)
    assert 100 / (time.process_time() - start) > 100, "scenes a second on one core; about 1000 are usual"
