"""SAM's mask losses (Kirillov et al. 2023, appendix A, "Losses"): 20 focal + 1 dice + 1 MSE of the predicted IoU."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from common.evaluators.promptable import mask_iou


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017) of each mask, averaged over its pixels.

    -alpha_t (1 - p_t)^gamma log p_t, with p_t the probability of the true class and alpha_t = alpha for foreground,
    1 - alpha for background.

    Args:
        logits: [..., H, W].
        target: float in {0, 1}, [..., H, W].

    Returns:
        [...].
    """
    return sigmoid_focal_loss(logits, target, alpha, gamma).mean((-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss (Milletari et al. 2016) of each mask: 1 - (2 sum pt + 1) / (sum p + sum t + 1).

    The ones make an empty prediction of an empty target perfect.

    Args:
        logits: [..., H, W].
        target: float in {0, 1}, [..., H, W].

    Returns:
        [...].
    """
    p = logits.sigmoid()
    overlap = (p * target).sum((-2, -1))
    return 1 - (2 * overlap + 1) / (p.sum((-2, -1)) + target.sum((-2, -1)) + 1)


class MaskLoss(NamedTuple):
    """Terms of `sam_mask_loss`, scalars; all but `total` are unweighted."""

    total: Tensor
    focal: Tensor
    dice: Tensor
    iou: Tensor


def sam_mask_loss(
    mask_logits: Tensor,
    iou_pred: Tensor,
    target: Tensor,
    focal_weight: float = 20.0,
    dice_weight: float = 1.0,
    iou_weight: float = 1.0,
) -> MaskLoss:
    """SAM's training loss, averaged over N prompts.

    A prompt may be ambiguous (part or whole), so the decoder answers with M masks and only the one with the smallest
    focal + dice is trained. The IoU head is trained on all M: at inference it ranks them, so it must know the poor
    ones too. Its target, the IoU of the thresholded mask, has no gradient. The paper leaves open which masks the MSE
    covers.

    Args:
        mask_logits: [N, M, H, W], N >= 1.
        iou_pred: predicted quality, [N, M].
        target: bool or float in {0, 1}, [N, H, W], at the logits' resolution.

    Raises:
        ValueError: no prompts, or shapes that do not belong together.

    Example:
        >>> loss = sam_mask_loss(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3), torch.ones(2, 8, 8))
        >>> loss.total.backward()  # doctest: +SKIP
    """
    prompts, masks, height, width = mask_logits.shape
    if not prompts or iou_pred.shape != (prompts, masks) or target.shape != (prompts, height, width):
        raise ValueError(
            f"mask_logits {list(mask_logits.shape)} need iou_pred [N, M] and target [N, H, W] with N >= 1, "
            f"not {list(iou_pred.shape)} and {list(target.shape)}"
        )
    wanted = target[:, None].to(mask_logits.dtype).expand_as(mask_logits)
    focal, dice = focal_loss(mask_logits, wanted), dice_loss(mask_logits, wanted)
    best = (focal_weight * focal + dice_weight * dice).argmin(1, keepdim=True)
    focal, dice = focal.gather(1, best).mean(), dice.gather(1, best).mean()
    iou = F.mse_loss(iou_pred, mask_iou(mask_logits > 0, wanted > 0.5).to(iou_pred.dtype))
    return MaskLoss(focal_weight * focal + dice_weight * dice + iou_weight * iou, focal, dice, iou)
