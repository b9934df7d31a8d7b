"""The class-agnostic detector that says where to prompt: torchvision's FCOS of one class with a branch for masks.

Boxes are SAM's everywhere: (x0, y0, x1, y1) in the frame of the preprocessed image, indices of first and last pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_loss
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from common.errors import UserError

SNAP = 20 / 1024
"""A side of a box that lies nearer than this to the image's border is moved onto it; over the longer side (official
`adjust_bboxes_to_image_border`: 20 pixels at 1024)."""


@dataclass(frozen=True)
class DetectorConfig:
    """Sizes of the detector; the defaults are those of the paper's scale, of our choice: the paper names none.

    Args:
        image_size: side of the square input, pixels: SAM's.
        resnet: backbone, a ResNet of torchvision's; empty for a plain one of `widths`.
        widths: channels of the plain backbone, a convolution of stride 2 each; the last `levels` are looked at.
        levels: of the feature pyramid that a plain backbone has.
        channels: of pyramid and heads, a multiple of 32.
        head_convs: convolutions of the heads for score and box.
        mask_convs: convolutions of the mask branch.
    """

    image_size: int = 1024
    resnet: str = "resnet50"
    widths: tuple[int, ...] = ()
    levels: int = 2
    channels: int = 256
    head_convs: int = 4
    mask_convs: int = 4

    def __post_init__(self) -> None:
        if not self.resnet and not 0 < self.levels <= len(self.widths):
            raise UserError(f"detector: {self.levels} levels of a plain backbone with widths {self.widths}")
        if self.channels % 32:
            raise UserError(f"detector: channels {self.channels} must be a multiple of 32 (its heads normalise groups)")

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of each level of the pyramid."""
        if self.resnet:
            return (8, 16, 32, 64, 128)
        return tuple(2 ** (len(self.widths) - self.levels + k + 1) for k in range(self.levels))


class PlainPyramid(nn.Module):
    """Convolutions of stride 2 with a feature pyramid on the last of them: [B, 3, S, S] -> {"0": [B, C, h, w], ...}."""

    def __init__(self, config: DetectorConfig):
        super().__init__()
        chain = zip((3, *config.widths), config.widths, strict=False)
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(),
                nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU(),
            )
            for before, after in chain
        )  # fmt: skip
        self.fpn = FeaturePyramidNetwork(list(config.widths[-config.levels :]), config.channels)
        self.levels, self.out_channels = config.levels, config.channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = []
        for step in self.steps:
            x = step(x)
            maps.append(x)
        return self.fpn({str(k): map for k, map in enumerate(maps[-self.levels :])})


@dataclass
class Detections:
    """Boxes [N, 4] with scores [N] in [0, 1], the best first."""

    boxes: Tensor
    scores: Tensor


class ObjectDetector(nn.Module):
    """Boxes of all objects, whatever they are (MobileSAMv2 §4.2).

    Its supervision is FCOS's focal loss, IoU loss and centre-ness (Tian et al. 2019), and, where masks are given, Mask
    R-CNN's cross-entropy (He et al. 2017) on the features under the true boxes.
    """

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.config = config
        if config.resnet:
            kept = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
            backbone = resnet_fpn_backbone(
                backbone_name=config.resnet, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5, **kept
            )
        else:
            backbone = PlainPyramid(config)
        # a location stands for the objects whose sides are up to 8 strides away from it (the coarsest for all larger)
        anchors = AnchorGenerator(tuple((stride,) for stride in config.strides), ((1.0,),) * len(config.strides))
        head = FCOSHead(config.channels, anchors.num_anchors_per_location()[0], 1, config.head_convs)
        self.fcos = FCOS(backbone, num_classes=1, anchor_generator=anchors, head=head)
        width = config.channels
        names = ["0", "1", "2"] if config.resnet else [str(k) for k in range(config.levels)]
        self.align = MultiScaleRoIAlign(names, output_size=14, sampling_ratio=2)
        self.mask_head = nn.Sequential(
            MaskRCNNHeads(width, [width] * config.mask_convs, dilation=1),
            MaskRCNNPredictor(width, width, num_classes=1),
        )

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The pyramid of images [B, 3, S, S]."""
        return self.fcos.backbone(images)

    def places(self, images: Tensor) -> Tensor:
        """The squares [L, 4] round all places of which the heads say something, level by level."""
        return self._located(images, list(self.features(images).values()))[1][0]

    def _located(self, images: Tensor, maps: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        """What the heads say at every location, the locations, and how many each level has."""
        side = tuple(images.shape[-2:])
        anchors = self.fcos.anchor_generator(ImageList(images, [side] * len(images)), maps)
        return self.fcos.head(maps), anchors, [level.shape[-2] * level.shape[-1] for level in maps]

    def losses(
        self, images: Tensor, boxes: list[Tensor], masks: list[Tensor], masked: list[Tensor], stride: int
    ) -> dict[str, Tensor]:
        """Terms to be added up: `classification`, `bbox_regression`, `bbox_ctrness`, and `mask` where there are masks.

        Args:
            images: [B, 3, S, S].
            boxes: of all objects of each image, [G, 4].
            masks: of some objects of each image, bool [k, S/stride, S/stride]; an empty list for box supervision alone.
            masked: the boxes of these objects, [k, 4].
        """
        features = self.features(images)
        said, anchors, counts = self._located(images, list(features.values()))
        targets = [
            {"boxes": own, "labels": torch.zeros(len(own), dtype=torch.long, device=own.device)} for own in boxes
        ]
        found = self.fcos.compute_loss(targets, said, anchors, counts)
        if masks:
            logits = self.mask_head(self._aligned(features, masked, images))
            labels = [torch.zeros(len(own), dtype=torch.long, device=own.device) for own in masked]
            rows = [torch.arange(len(own), device=own.device) for own in masked]
            small = [own / stride for own in masked]
            found["mask"] = maskrcnn_loss(logits, small, [mask.float() for mask in masks], labels, rows)
        return found

    def _aligned(self, features: dict[str, Tensor], boxes: list[Tensor], images: Tensor) -> Tensor:
        return self.align(features, boxes, [tuple(images.shape[-2:])] * len(images))

    @torch.no_grad()
    def detect(
        self,
        images: Tensor,
        sizes: list[tuple[int, int]],
        confidence: float = 0.4,
        overlap: float = 0.9,
        most: int = 320,
        features: dict[str, Tensor] | None = None,
    ) -> list[Detections]:
        """Boxes of each image, snapped to its border; perhaps none.

        Args:
            images: [B, 3, S, S].
            sizes: (h, w) of the area of each that shows the image.
            confidence: least score.
            overlap: of two boxes with a larger IoU the better one stays. The official 0.9 is deliberately loose: it
                lets nested objects live.
            most: boxes that are kept.
            features: the pyramid of the images, if it is known.
        """
        maps = list((self.features(images) if features is None else features).values())
        said, anchors, counts = self._located(images, maps)
        self.fcos.score_thresh, self.fcos.nms_thresh, self.fcos.detections_per_img = confidence, overlap, most
        levels = {name: list(values.split(counts, 1)) for name, values in said.items()}
        found = self.fcos.postprocess_detections(levels, [list(own.split(counts)) for own in anchors], sizes)
        return [
            Detections(snap_to_border(own["boxes"], size, SNAP * self.config.image_size), own["scores"])
            for own, size in zip(found, sizes, strict=True)
        ]

    @torch.no_grad()
    def masks(self, images: Tensor, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """The detector's own masks in boxes [N, 4] of one image: probabilities [N, 1, 28, 28] that fill the boxes."""
        return self.mask_head(self._aligned(features, [boxes], images)).sigmoid()


def snap_to_border(boxes: Tensor, shape: tuple[int, int], threshold: float) -> Tensor:
    """Boxes [N, 4] whose sides nearer than `threshold` pixels to the border of an image (h, w) lie on it: new ones."""
    height, width = shape
    ends = boxes.new_tensor([width, height])
    first, last = boxes[:, :2], boxes[:, 2:]
    first = torch.where(first < threshold, 0.0, first)
    return torch.cat([first, torch.where(last > ends - threshold, ends, last)], 1)
