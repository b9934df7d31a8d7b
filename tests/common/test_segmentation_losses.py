"""SAM's losses: closed forms, which mask and which head get the gradient."""

import math

import pytest
import torch

from common.losses.segmentation import dice_loss, focal_loss, sam_mask_loss


def test_focal_closed_form():
    logit = torch.full((1, 2, 2), math.log(3.0))  # p = 0.75
    target = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    foreground = 0.25 * 0.25**2 * -math.log(0.75)
    background = 0.75 * 0.75**2 * -math.log(0.25)
    expected = torch.tensor([(3 * foreground + background) / 4])
    torch.testing.assert_close(focal_loss(logit, target), expected)


def test_focal_of_extreme_logits_is_finite():
    logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    assert focal_loss(logits, torch.tensor([[[1.0, 0.0]]])).item() == 0
    loss = focal_loss(logits, torch.tensor([[[0.0, 1.0]]]))
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([1e4 * (0.75 + 0.25) / 2]))
    assert logits.grad.isfinite().all()


def test_dice_closed_form():
    target = torch.zeros(1, 4, 4)
    target[:, :2] = 1  # 8 of 16 pixels
    torch.testing.assert_close(dice_loss(torch.zeros(1, 4, 4), target), torch.tensor([1 - (2 * 4 + 1) / (8 + 8 + 1)]))
    torch.testing.assert_close(dice_loss(100 * (2 * target - 1), target), torch.tensor([0.0]))
    torch.testing.assert_close(dice_loss(100 * (1 - 2 * target), target), torch.tensor([1 - 1 / 17]))
    torch.testing.assert_close(dice_loss(torch.full((1, 4, 4), -100.0), torch.zeros(1, 4, 4)), torch.tensor([0.0]))


def test_total_is_the_weighted_sum():
    torch.manual_seed(0)
    logits, iou_pred, target = torch.randn(3, 1, 8, 8), torch.rand(3, 1), torch.rand(3, 8, 8) > 0.5
    loss = sam_mask_loss(logits, iou_pred, target, focal_weight=5, dice_weight=2, iou_weight=3)
    torch.testing.assert_close(loss.total, 5 * loss.focal + 2 * loss.dice + 3 * loss.iou)
    torch.testing.assert_close(loss.focal, focal_loss(logits[:, 0], target.float()).mean())
    torch.testing.assert_close(loss.dice, dice_loss(logits[:, 0], target.float()).mean())
    default = sam_mask_loss(logits, iou_pred, target)
    torch.testing.assert_close(default.total, 20 * loss.focal + loss.dice + loss.iou)


def test_only_the_best_mask_gets_the_gradient():
    target = torch.zeros(2, 4, 4)
    target[:, :2] = 1
    right, wrong, unsure = 2 * target - 1, 1 - 2 * target, torch.zeros(2, 4, 4)
    logits = torch.stack([wrong, right, unsure], 1)
    logits[1] = logits[1, [1, 0, 2]]  # in the second prompt the first mask is best
    logits.requires_grad_()
    sam_mask_loss(logits, torch.zeros(2, 3), target).total.backward()
    assert (logits.grad.abs().amax((2, 3)) > 0).tolist() == [[False, True, False], [True, False, False]]


def test_best_mask_is_chosen_by_the_weighted_sum():
    torch.manual_seed(1)
    logits, target = 3 * torch.randn(16, 3, 6, 6), (torch.rand(16, 6, 6) > 0.7).float()
    wide = target[:, None].expand(-1, 3, -1, -1)
    for focal_weight, dice_weight in ((20.0, 1.0), (0.0, 1.0), (1.0, 0.0)):
        loss = sam_mask_loss(logits, torch.zeros(16, 3), target, focal_weight, dice_weight, iou_weight=0)
        each = focal_weight * focal_loss(logits, wide) + dice_weight * dice_loss(logits, wide)
        torch.testing.assert_close(loss.total, each.min(1).values.mean())


def test_iou_head_learns_from_all_masks_and_only_the_head():
    target = torch.zeros(1, 4, 4)
    target[:, :2] = 1
    half = torch.full((1, 4, 4), -1.0)
    half[:, :1] = 1
    logits = torch.stack([2 * target - 1, half, 1 - 2 * target], 1).requires_grad_()  # IoU 1, 0.5, 0
    iou_pred = torch.tensor([[0.8, 0.8, 0.8]], requires_grad=True)
    loss = sam_mask_loss(logits, iou_pred, target, focal_weight=0, dice_weight=0)
    loss.total.backward()
    torch.testing.assert_close(loss.iou, torch.tensor((0.2**2 + 0.3**2 + 0.8**2) / 3))
    torch.testing.assert_close(iou_pred.grad, torch.tensor([[-0.2, 0.3, 0.8]]) * 2 / 3)
    assert not logits.grad.any()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="N >= 1"):
        sam_mask_loss(torch.zeros(0, 3, 4, 4), torch.zeros(0, 3), torch.zeros(0, 4, 4))
    with pytest.raises(ValueError, match=r"target \[N, H, W\]"):
        sam_mask_loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3), torch.zeros(2, 8, 8))
