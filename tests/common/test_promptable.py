"""mIoU of promptable segmentation, and the prompts it is measured with."""

import numpy as np
import pytest
import torch

from common.data.prompts import (
    Prompts,
    box_prompts,
    collate_prompts,
    jitter_boxes,
    point_prompts,
    sample_point_pairs,
    sample_points,
    tight_boxes,
)
from common.evaluators.promptable import MeanMaskIoU, mask_iou


def random_masks(n: int = 20, height: int = 30, width: int = 50, seed: int = 0) -> np.ndarray:
    """Rectangles of random place and size."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, height, width), dtype=bool)
    for mask in masks:
        y, x = rng.integers(height - 5), rng.integers(width - 5)
        mask[y : y + rng.integers(1, 12), x : x + rng.integers(1, 20)] = True
    return masks


def test_iou_closed_form():
    a, b = torch.zeros(2, 4, 4, dtype=torch.bool)
    a[:2], b[1:3] = True, True
    assert mask_iou(a, b).item() == pytest.approx(4 / 12)
    assert mask_iou(a, ~a).item() == 0
    assert mask_iou(a, a).item() == 1
    empty = torch.zeros_like(a)
    assert mask_iou(empty, empty).item() == 1 and mask_iou(empty, a).item() == 0


def test_mean_counts_every_prompt_once_whatever_the_batches():
    torch.manual_seed(0)
    pred, target = torch.rand(2, 10, 8, 8) > 0.5
    whole, parts = MeanMaskIoU(), MeanMaskIoU()
    whole.update(pred, target)
    parts.update(pred[:1], target[:1])
    parts.update(pred[1:], target[1:])
    expected = mask_iou(pred, target).mean()
    torch.testing.assert_close(whole.compute(), expected)
    torch.testing.assert_close(parts.compute(), expected)
    parts.update(torch.ones(10, 3, 5).bool(), torch.ones(10, 3, 5).bool())  # an image of another size
    torch.testing.assert_close(parts.compute(), (expected + 1) / 2)
    parts.reset()
    parts.update(pred[:0], target[:0])
    assert parts.compute().isnan()


def test_metric_refuses_logits_and_unequal_shapes():
    metric = MeanMaskIoU()
    with pytest.raises(ValueError, match="threshold"):
        metric.update(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4).bool())
    with pytest.raises(ValueError, match="shapes must be equal"):
        metric.update(torch.zeros(1, 3, 4, 4).bool(), torch.zeros(1, 4, 4).bool())


def test_points_lie_inside_and_are_uniform():
    masks = random_masks()
    x, y = sample_points(masks, np.random.default_rng(0)).astype(int).T
    assert masks[np.arange(len(masks)), y, x].all()
    mask = np.zeros((1, 4, 5), dtype=bool)
    mask[0, [0, 2, 3], [4, 1, 0]] = True
    drawn = sample_points(mask.repeat(6000, 0), np.random.default_rng(1))
    places, counts = np.unique(drawn, axis=0, return_counts=True)
    assert places.tolist() == [[0, 3], [1, 2], [4, 0]]
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(6000 * 2 / 9)


def test_points_depend_on_the_generator_alone():
    masks = random_masks()
    first, again, other = (sample_points(masks, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_empty_masks_are_refused():
    masks = random_masks(3)
    masks[1] = False
    for sample in (lambda: sample_points(masks, np.random.default_rng(0)), lambda: tight_boxes(masks)):
        with pytest.raises(ValueError, match="mask 1 of 3 is empty"):
            sample()


def test_pairs_are_at_the_given_distance():
    masks = random_masks(50, 100, 120)
    coords, labels = sample_point_pairs(masks, 25, np.random.default_rng(0))
    (x, y), (u, v) = coords.astype(int).transpose(1, 2, 0)
    rows = np.arange(50)
    assert masks[rows, y, x].all() and not masks[rows, v, u].any()
    assert np.abs(np.hypot(x - u, y - v) - 25).max() <= np.sqrt(0.5)
    assert labels.tolist() == [[1, 0]] * 50
    angles = np.arctan2(v - y, u - x)
    assert np.histogram(angles, 4, (-np.pi, np.pi))[0].min() > 3  # all quadrants


def test_pairs_fall_back_to_the_nearest_possible_distance():
    mask = np.ones((2, 10, 10), dtype=bool)
    mask[0, 0, 0] = False  # a single background pixel; the second mask has none
    coords, labels = sample_point_pairs(mask, 100, np.random.default_rng(0))
    assert coords[0, 1].tolist() == [0, 0]
    assert labels.tolist() == [[1, 0], [1, -1]]


def test_tight_boxes():
    mask = np.zeros((2, 10, 12), dtype=bool)
    mask[0, 3:6, 4:9] = True
    mask[1, 9, 0] = True
    assert tight_boxes(mask).tolist() == [[4, 3, 8, 5], [0, 9, 0, 9]]


def test_jittered_boxes_have_sams_noise():
    boxes = np.tile(np.array([[400.0, 300.0, 499.0, 349.0]]), (20000, 1))
    moved = jitter_boxes(boxes, (1024, 1024), np.random.default_rng(0)) - boxes
    assert np.abs(moved).max() <= 20 + 1e-3
    # normal noise of 10 % of the side (100 x 50), clipped at 20 pixels: two and four standard deviations
    np.testing.assert_allclose(moved.std(0), [9.6, 5.0, 9.6, 5.0], rtol=0.03)
    assert np.abs(moved.mean(0)).max() < 0.3
    small = jitter_boxes(boxes / 8, (128, 128), np.random.default_rng(0)) - boxes / 8
    assert 2.4 < np.abs(small).max() <= 2.5 + 1e-3  # the limit scales with the image


def test_jittered_boxes_stay_valid():
    boxes = tight_boxes(random_masks(200))
    moved = jitter_boxes(boxes, (30, 50), np.random.default_rng(0), std=2.0, limit=40)
    assert (moved[:, :2] <= moved[:, 2:]).all()
    assert (moved >= 0).all() and (moved <= [49, 29, 49, 29]).all()


def test_collation_remembers_the_image():
    items = [point_prompts(np.full((n, 1, 2), n), np.ones((n, 1))) for n in (2, 0, 3)]
    prompts = collate_prompts(items)
    assert len(prompts) == 5 and prompts.image.tolist() == [0, 0, 2, 2, 2]
    assert prompts.coords.dtype == torch.float32 and prompts.labels.dtype == torch.int64
    assert prompts.coords[:, 0, 0].tolist() == [2, 2, 3, 3, 3] and prompts.boxes is None
    boxes = collate_prompts([box_prompts(np.zeros((1, 4))), box_prompts(np.ones((2, 4)))])
    assert boxes.boxes.shape == (3, 4) and boxes.coords.shape == (3, 0, 2)
    with pytest.raises(ValueError, match="with and without boxes"):
        collate_prompts([items[0], Prompts(items[2].coords, items[2].labels, torch.zeros(3, 4), items[2].image)])
