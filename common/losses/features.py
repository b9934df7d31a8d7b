"""Distances between feature maps, position by position."""

from torch import Tensor
from torch.nn import functional as F


def cosine_distance(a: Tensor, b: Tensor, dim: int = 1) -> Tensor:
    """1 - cos(a, b) at each position: half of the squared distance of the vectors, once both have length 1.

    From 0 (the same direction) to 2. A vector of zeros has no direction, and the distance 1 to any other. Gradients
    reach both sides: the caller detaches what is not trained.

    Args:
        a, b: of one shape, [B, C, H, W] for maps.
        dim: where a vector's components lie.

    Returns:
        the same shape without `dim`.

    Example:
        loss = cosine_distance(student(images), teacher(images).detach()).mean()
    """
    return 1 - F.cosine_similarity(a, b, dim)
