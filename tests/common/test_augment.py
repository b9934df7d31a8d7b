"""DiffAugment and random crops: what they may change, and by how much."""

import pytest
import torch

from common.training.augment import colour, cutout, diff_augment, random_crop, translate


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_augmentation_keeps_shapes_lets_gradients_through_and_differs_between_images():
    images = torch.rand(64, 3, 16, 16, requires_grad=True)
    found = diff_augment(images)
    assert found.shape == images.shape
    found.sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    same = torch.rand(1, 3, 16, 16).expand(64, -1, -1, -1)
    for change in (colour, translate, cutout):
        changed = change(same)
        assert len({tuple(x.flatten().tolist()) for x in changed}) > 5


def test_translation_shifts_by_an_eighth_at_most_and_cutout_takes_a_fifth():
    dot = torch.zeros(200, 1, 16, 16)
    dot[:, :, 8, 8] = 1
    places = translate(dot).flatten(2).argmax(2)
    offsets = {(int(p) // 16 - 8, int(p) % 16 - 8) for p in places}
    assert {abs(a) for pair in offsets for a in pair} == {0, 1, 2} and len(offsets) == 25
    removed = (cutout(torch.ones(200, 1, 16, 16)) == 0).sum((1, 2, 3))
    assert removed.max() == 9  # a square of 3 pixels' side, fewer at the border


def test_large_images_are_cropped_half_of_the_time():
    shapes = {random_crop(torch.zeros(1, 3, 30, 40), 20).shape for _ in range(40)}
    assert shapes == {(1, 3, 20, 20), (1, 3, 30, 40)}
    assert random_crop(torch.zeros(1, 3, 20, 20), 20).shape == (1, 3, 20, 20)
