"""The world of motifs: the same picture everywhere, one whole motif in each, and no class in a single token."""

import numpy as np
import pytest

from common.data.worlds.motifs import CONTRAST, GRATINGS, GREY, GRID, MOTIF, SIDE, TOKEN, Motifs, quarters, waves
from common.errors import UserError


def tokens(image):
    """uint8 [24, 24, 3] -> contrasts [6, 6, 4, 4]."""
    grey = (image[..., 0].astype(float) - GREY) / CONTRAST
    return grey.reshape(GRID, TOKEN, GRID, TOKEN).swapaxes(1, 2)


def test_a_picture_has_its_motif_whole_where_it_is_said_and_quarters_of_others_elsewhere():
    world = Motifs("train", 60, noise=0.0, distractors=6)
    for index in range(60):
        picture = world[index]
        assert picture.image.shape == (SIDE, SIDE, 3) and picture.image.dtype == np.uint8
        assert (picture.image == picture.image[..., :1]).all()
        seen, (row, column) = tokens(picture.image), world.place(index)
        inside = (slice(row, row + MOTIF), slice(column, column + MOTIF))
        np.testing.assert_allclose(seen[inside], quarters(0)[picture.label], atol=0.01)
        others = np.delete(quarters(0), picture.label, 0).reshape(-1, TOKEN, TOKEN)
        seen[inside] = 0
        filled = [token for token in seen.reshape(-1, TOKEN, TOKEN) if np.abs(token).max() > 0.5]
        assert len(filled) == 6
        for token in filled:
            assert np.abs(others - token).max((1, 2)).min() < 0.01


def test_pictures_are_the_same_in_any_order_and_size_and_differ_between_splits_and_seeds():
    world = Motifs("val", 9, seed=3)
    expected = world[7].image.tobytes()
    world[0]
    assert world[7].image.tobytes() == Motifs("val", 8, seed=3)[7].image.tobytes() == expected
    made = [Motifs(split, 20, seed)[k] for split in ("train", "val", "test") for seed in (0, 1) for k in range(20)]
    assert len({picture.image.tobytes() for picture in made}) == len(made)
    assert not np.array_equal(quarters(0), quarters(1))


def test_labels_and_places_are_even_and_noise_has_its_size():
    world = Motifs("test", 1500)
    labels = np.bincount([world[k].label for k in range(1500)], minlength=10)
    assert labels.min() > 100
    places = {world.place(k) for k in range(1500)}
    assert places == {(r, c) for r in range(5) for c in range(5)}
    plain, noisy = Motifs("test", 40, noise=0.0), Motifs("test", 40, noise=0.6)
    errors = [(noisy[k].image.astype(float) - plain[k].image)[..., 0] / CONTRAST for k in range(40)]
    assert np.std(errors) == pytest.approx(0.6, rel=0.02)


def test_gratings_lie_in_patches_and_can_be_read_token_by_token():
    world = Motifs("train", 80, noise=0.2, distractors=0, grating=0.5)
    right, beside = [], []
    for index in range(80):
        kinds, (row, column) = world.gratings(index), world.place(index)
        seen = tokens(world[index].image)
        patterns = waves()[:, :TOKEN, :TOKEN]  # a period is a token: all tokens see the same
        nearest = np.abs(seen[:, :, None] - 0.5 * patterns).mean((-1, -2)).argmin(-1)
        outside = np.ones((GRID, GRID), bool)
        outside[row : row + MOTIF, column : column + MOTIF] = False
        right += list((nearest == kinds)[outside])
        beside += list((kinds[:, 1:] == kinds[:, :-1]).flatten())
    assert np.mean(right) > 0.99 and np.mean(beside) > 0.75
    assert {int(k) for index in range(80) for k in world.gratings(index).flatten()} == set(range(len(GRATINGS)))
    assert world[3].label == Motifs("train", 80)[3].label and world.place(3) == Motifs("train", 80).place(3)


def test_bad_arguments_and_indices():
    with pytest.raises(UserError, match="'trian': did you mean train"):
        Motifs("trian", 2)
    for wrong in ({"size": 0}, {"seed": -1}, {"noise": -0.1}, {"distractors": 33}, {"grating": -1.0}):
        with pytest.raises(UserError, match="world of motifs"):
            Motifs("val", **{"size": 2} | wrong)
    for index in (2, -1):
        with pytest.raises(IndexError):
            Motifs("val", 2)[index]
