"""A small SAM, a small detector in a run folder, a picture: what the tests of MobileSAMv2 share."""

from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_model

from common.models.sam import build_sam
from projects.mobilesamv2.detector import DetectorConfig, ObjectDetector
from tests.projects.mobilesam_small import SAM, write_run

DETECTOR = DetectorConfig(64, "", (8, 16, 32), 2, 32, 1, 1)


def small_sam():
    torch.manual_seed(0)
    return build_sam(SAM).requires_grad_(False).eval()


def small_detector():
    torch.manual_seed(0)
    return ObjectDetector(DETECTOR).requires_grad_(False).eval()


def write_sam(folder: Path) -> Path:
    """A SAM with random weights, as a stage leaves it."""
    return write_run(folder, small_sam(), {"sam": SAM})


def write_detector(folder: Path, **sizes: object) -> Path:
    """A detector with random weights, as `detect` leaves it; its scores are near 0.1."""
    folder.mkdir()
    save_model(small_detector(), str(folder / "weights.safetensors"))
    config = {"model": {"detector": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(DETECTOR).items()}}}
    config["data"] = {"image_size": 64, **sizes}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "weights.safetensors"
