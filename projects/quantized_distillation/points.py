"""Differentiable quantization: a trained network's weights stay, the points they are put on are learned.

    python -m projects.quantized_distillation.points fit \\
        --config projects/quantized_distillation/configs/mini/student_points.yaml \\
        --config projects/quantized_distillation/configs/mini/points_2.yaml --model.weights FILE
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main, one_seed
from common.errors import UserError
from common.training.weights import load_weights
from projects.quantized_distillation.data import LabelledData
from projects.quantized_distillation.losses import Divided
from projects.quantized_distillation.model import ConvNet, Sizes
from projects.quantized_distillation.quantize import Quantizer, allocate, learned, quantile_points, scale
from projects.quantized_distillation.train import Schedule, Student, load

LOOKS = 5
"""Batches by which gradients are estimated."""


class Learned(nn.Module):
    """A network, the points of its quantized tensors, and these tensors' gradient norms.

    The points are in [0, 1], sorted, of each tensor in the network's order; the norms decided how many it has.
    """

    norms: Tensor

    def __init__(self, net: ConvNet, points: list[Tensor], norms: list[float]):
        super().__init__()
        self.net = net
        self.points = nn.ParameterList(points)
        self.register_buffer("norms", torch.tensor(norms))


class PointLearning(Student):
    """Points p by SGD on the distillation loss of Q(w), with the whole network as its own teacher (section 4).

    Every weight takes its nearest point; dL/dp_j = sum of alpha dL/dQ over the weights on j. Points begin at quantiles
    and are sorted again after every step. Batch norms go on gathering statistics, which belong to the result.

    Args:
        net: sizes of the network.
        weights: a trained network's.
        quantizer: how many points, on average, and buckets.
        lr: of the points.
        schedule: "halving" is the official one; "cosine" ends at 0 with the last step.
        temperature: T.
        weight: of the teacher's term.
        divided: by what the soft term is divided.
    """

    def __init__(
        self,
        net: Sizes,
        weights: str,
        quantizer: Quantizer,
        lr: float = 1e-5,
        schedule: Schedule = "halving",
        temperature: float = 2.0,
        weight: float = 0.7,
        divided: Divided = "elements",
    ):
        super().__init__(lr, 0.0, schedule, temperature, weight, divided)
        self.net = load(net, weights, "model.weights").requires_grad_(False)
        self.teacher = copy.deepcopy(self.net).eval()
        self.quantizer = quantizer
        self.chosen = list(quantizer.chosen(self.net))
        self.learned: Learned

    def configure_model(self) -> None:
        """How many points a tensor has depends on the data."""
        if hasattr(self, "learned"):
            return
        norms = self.gradient_norms()
        named, counts = dict(self.net.named_parameters()), allocate(norms, self.quantizer.levels)
        points = [
            quantile_points(scale(named[name], self.quantizer.bucket), count)
            for name, count in zip(self.chosen, counts, strict=True)
        ]
        self.learned = Learned(self.net, points, norms)

    @torch.enable_grad()
    def gradient_norms(self) -> list[float]:
        """Norm of the labels' mean gradient in every quantized tensor, over the first batches."""
        data: LabelledData = self.trainer.datamodule  # type: ignore[attr-defined]
        net = copy.deepcopy(self.net).requires_grad_(True).eval()
        batch = data.first(LOOKS * data.train_batch)
        device = next(net.parameters()).device
        F.cross_entropy(net(batch["image"].to(device)), batch["label"].to(device)).backward()
        named = dict(net.named_parameters())
        gradients = [named[name].grad for name in self.chosen]
        return [0.0 if gradient is None else float(gradient.norm()) for gradient in gradients]

    def values(self) -> dict[str, Tensor]:
        return point_values(self.learned, self.quantizer)

    def trained(self) -> list[nn.Parameter]:
        return list(self.learned.points)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step, and the points in order: checkpoints are written before the hooks at a batch's end."""
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            for points in self.learned.points:
                points.copy_(points.sort().values)

    def exported(self) -> nn.Module:
        return self.learned


def point_values(found: Learned, quantizer: Quantizer) -> dict[str, Tensor]:
    """A network's tensors on their points, by name; UserError where the points are of other tensors."""
    chosen = quantizer.chosen(found.net)
    if len(chosen) != len(found.points):
        raise UserError(
            f"there are points for {len(found.points)} tensors, and {len(chosen)} are quantized: give the "
            "quantizer that they were learned with"
        )
    return {
        name: learned(scale(w, quantizer.bucket), points)
        for (name, w), points in zip(chosen.items(), found.points, strict=True)
    }


def load_learned(sizes: Sizes, state: dict[str, Tensor]) -> Learned:
    """What a run of this stage has left; UserError where it does not fit."""
    count = sum(key.startswith("points.") for key in state)
    points = [torch.zeros(state[f"points.{k}"].shape) for k in range(count) if f"points.{k}" in state]
    return load_weights(Learned(ConvNet(sizes), points, [0.0] * count), state)


if __name__ == "__main__":
    main(PointLearning, LabelledData, links=one_seed)
