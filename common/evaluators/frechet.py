"""The Frechet distance between sets of pictures (FID), with Inception's features from a local file."""

from dataclasses import dataclass
from typing import Literal

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
