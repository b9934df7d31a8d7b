"""DiffAugment (Zhao et al. 2020) for what a discriminator sees: it lets gradients through.

Every picture gets changes of its own. torchvision's transforms draw one change for a whole batch, hence this file.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

TRANSLATION, CUTOUT = 0.125, 0.2  # of a picture's side


def diff_augment(images: Tensor) -> Tensor:
    """Random colour, place and cutout for images [N, 3, H, W] in [-1, 1]."""
    return cutout(translate(colour(images)))


def colour(images: Tensor) -> Tensor:
    """Brightness +-0.5, saturation 0 to 2 times, contrast 0.5 to 1.5 times, in that order."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device, dtype=images.dtype)
    images = images + brightness - 0.5
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def translate(images: Tensor, share: float = TRANSLATION) -> Tensor:
    """Shifted by up to `share` of the side, both ways; zeros come in."""
    count, _, height, width = images.shape
    most = [int(side * share + 0.5) for side in (height, width)]
    down, right = (torch.randint(-m, m + 1, (count, 1), device=images.device) for m in most)
    rows = (torch.arange(height, device=images.device) + down + 1).clamp(0, height + 1)  # in the padded picture
    columns = (torch.arange(width, device=images.device) + right + 1).clamp(0, width + 1)
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    number = torch.arange(count, device=images.device)[:, None, None]
    return padded[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, share: float = CUTOUT) -> Tensor:
    """A rectangle of `share` of the sides set to zero, anywhere; part of it may lie outside."""
    count, _, height, width = images.shape
    inside = []
    for side in (height, width):
        size = int(side * share + 0.5)
        start = torch.randint(0, side + (1 - size % 2), (count, 1), device=images.device) - size // 2
        place = torch.arange(side, device=images.device)
        inside.append((place >= start) & (place < start + size))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hole, 0.0)


def random_crop(images: Tensor, size: int) -> Tensor:
    """With probability 1/2 one random square of `size` for all images [N, 3, H, W], where they are larger."""
    height, width = images.shape[-2:]
    if min(height, width) <= size or torch.rand(()) >= 0.5:
        return images
    top, left = (int(torch.randint(side - size + 1, ())) for side in (height, width))
    return images[..., top : top + size, left : left + size]
