"""Deep linear encoder and predictor, their two objectives, and what can be seen of a feature in them."""

from typing import Literal

import torch
from torch import Tensor, nn

from projects.jepa_linear.theory import Objective

Start = Literal["aligned", "unaligned"]


class DeepLinear(nn.Module):
    """Encoder W^L ... W^1 and predictor V, square matrices that begin as orthogonal ones times eps^(1/L).

    An aligned V makes the product of all of them eps^(1 + 1/L) times the identity, in the space where it predicts: V is
    a multiple of the identity for JEPA, of the encoder's transpose for MAE.

    Args:
        size: features, F.
        depth: matrices of the encoder, L.
        eps: what the encoder's product begins with.
        objective: decides to what V is aligned.
        start: "unaligned" makes V one more random orthogonal matrix.
        relu: rectify what the first matrix gives.
    """

    def __init__(
        self, size: int, depth: int, eps: float, objective: Objective, start: Start = "aligned", relu: bool = False
    ):
        super().__init__()
        gain = eps ** (1 / depth)
        turned = [nn.init.orthogonal_(torch.empty(size, size, dtype=torch.float64)) for _ in range(depth + 1)]
        *layers, predictor = turned
        if start == "aligned":
            predictor = torch.eye(size, dtype=torch.float64) if objective == "jepa" else product(layers).T
        self.layers = nn.ParameterList([nn.Parameter(gain * layer) for layer in layers])
        self.predictor = nn.Parameter((gain * predictor).contiguous())
        self.relu = relu

    def encode(self, x: Tensor) -> Tensor:
        """Representations [B, F] of inputs or targets [B, F]."""
        for number, layer in enumerate(self.layers):
            x = x @ layer.T
            if self.relu and number == 0:
                x = x.relu()
        return x

    def predict(self, encoded: Tensor) -> Tensor:
        """The target's representation for JEPA, the target itself for MAE: [B, F]."""
        return encoded @ self.predictor.T


def product(layers: list[Tensor]) -> Tensor:
    """W^L ... W^1."""
    found = layers[0]
    for layer in layers[1:]:
        found = layer @ found
    return found


def half_square(predicted: Tensor, target: Tensor) -> Tensor:
    """1/2 E || predicted - target ||^2 of [B, F]."""
    return 0.5 * (predicted - target).square().sum(-1).mean()


def unbalanced(net: DeepLinear) -> Tensor:
    """Largest entry of W^(a+1)T W^(a+1) - W^a W^aT over all neighbours, V after W^L; the flow keeps it as it was."""
    chain = [*net.layers, net.predictor]
    gaps = [(after.T @ after - before @ before.T).abs().max() for before, after in zip(chain, chain[1:], strict=False)]
    return torch.stack(gaps).max()


def amplitudes(net: DeepLinear, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """How strongly the encoder answers to each feature, and how little it mixes them.

    Args:
        x: inputs [B, F].
        directions: of the features, a column each [F, F], orthonormal.

    Returns:
        Lengths [F] of the columns of the best linear map from the features to the representation, and the largest
        cosine between two of the columns: 0 where no feature's answer has anything of another's.
    """
    seen = x @ directions
    columns = torch.linalg.lstsq(seen, net.encode(x)).solution.T if net.relu else product([*net.layers]) @ directions
    lengths = columns.norm(dim=0)
    cosines = (columns.T @ columns) / (lengths[:, None] * lengths)
    return lengths, (cosines - torch.eye(len(lengths), dtype=cosines.dtype)).abs().max()


def progress(predicted: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """What the prediction has of the target's covariance with each feature: 0 of nothing, 1 once it is learned.

    Where features are aligned it is u / rho for JEPA and u^(L+1) / rho for MAE.

    Args:
        predicted, target: [B, F].
        seen: the features in the input, [B, F].

    Returns:
        For each feature the projection of E[predicted x_i] onto E[target x_i], by the latter's length: [F].
    """
    has, should = (one.T @ seen for one in (predicted, target))
    return (has * should).sum(0) / should.square().sum(0)
