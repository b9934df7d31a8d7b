"""What `make speed PAPER=mobilesamv2` measures: the decoder on points and on boxes, the detector, an encoder."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.models.sam import SamConfig, build_sam, postprocess_masks
from common.workload import Network, Speed
from projects.mobilesamv2.detector import DetectorConfig, ObjectDetector
from projects.mobilesamv2.efficientvit import EfficientVitConfig, EfficientVitEncoder

SIDE = 1024
SHAPE = (768, 1024)  # of the image, pixels
SHARE = 16
"""1,024 points and 320 boxes take minutes on a CPU: a sixteenth of each is measured."""
GRID, BOXES = "a sixteenth of the 1,024 points, three masks each", "a sixteenth of 320 boxes, a mask each"


class NoEncoder(nn.Module):
    """In the place of the image encoder: embeddings are given."""

    img_size = SIDE


class Decoding(nn.Module):
    """Mask decoder and the scaling of its masks: embedding [1, C, h, w], tokens of prompts [N, 2, C] -> masks."""

    def __init__(self, multimask: bool):
        super().__init__()
        self.sam, self.multimask = build_sam(SamConfig(), NoEncoder()), multimask
        self.sam.image_encoder = nn.Identity()

    def forward(self, embedding: Tensor, tokens: Tensor) -> Tensor:
        dense = self.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embedding)
        low, _ = self.sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=tokens,
            dense_prompt_embeddings=dense.expand(len(tokens), -1, -1, -1),
            multimask_output=self.multimask,
        )
        return postprocess_masks(low, SIDE, SHAPE, SHAPE) > 0


class Heads(nn.Module):
    """The detector up to the scores and boxes of all locations, which are then sorted out."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = ObjectDetector(DetectorConfig())
        self.detector.mask_head = nn.Sequential()  # proposals do not need it

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.detector.fcos.head(list(self.detector.features(images).values()))


def speed() -> Speed:
    """The two ways to prompt side by side, the detector, and the encoder that MobileSAM's speed does not have."""
    grid, boxes = _decoding(1024 // SHARE, True), _decoding(320 // SHARE, False)
    return Speed(
        networks=(
            Network(GRID, grid, giant=True, reported={"ms": 1600 / SHARE}, source="Table 2"),
            Network(BOXES, boxes, GRID, giant=True, reported={"ms": 50 / SHARE}, source="Table 2"),
            Network("detector", _heads, giant=True, reported={"ms": 47}, source="Table 2"),
            Network("EfficientViT-L2 encoder", _l2, giant=True, reported={"ms": 20}, source="§5.2, about"),
        )
    )


def _heads() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Heads().eval(), _image()


def _l2() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return EfficientVitEncoder(EfficientVitConfig()).eval(), _image()


def _image() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 3, SIDE, SIDE),)


def _decoding(prompts: int, multimask: bool) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    return lambda: (Decoding(multimask).eval(), (torch.zeros(1, 256, 64, 64), torch.zeros(prompts, 2, 256)))
