"""The Frechet distance between sets of pictures (FID): Inception's features from a local file, or any net's."""

from dataclasses import dataclass
from typing import Literal

from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from common.paths import expand
from common.training.weights import load_state


@dataclass
class Inception:
    """Inception for the Frechet distance.

    Attributes:
        weights: torch-fidelity's file pt_inception-2015-12-05-6726825d.pth; `$WEIGHTS_ROOT` is replaced.
        features: which of its layers; 2048 is the one that everybody reports.
    """

    weights: str
    features: Literal[64, 192, 768, 2048] = 2048


def frechet_distance(inception: Inception) -> FrechetInceptionDistance:
    """FID of pictures [B, 3, H, W] in [0, 1].

    Raises:
        UserError: the weights are missing, damaged or unsafe, which torch-fidelity would not say.
    """
    weights = expand(inception.weights, "inception.weights")
    load_state(weights)
    return FrechetInceptionDistance(inception.features, normalize=True, feature_extractor_weights_path=str(weights))


def frechet_of(net: nn.Module) -> FrechetInceptionDistance:
    """The same distance by the features of any net: pictures (or whatever it takes) -> [B, D], with D = `num_features`.

    The net is given what `update` is given, unchanged. A distance wants many times as many pictures as D.
    """
    return FrechetInceptionDistance(net, normalize=True)
