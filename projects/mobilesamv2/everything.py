"""Measure mask proposals of whole images: the recall of the K best, and what they cost on the decoder's side.

python -m projects.mobilesamv2.everything test --config projects/mobilesamv2/configs/mini/everything.yaml
"""

import time
from collections import defaultdict
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from common.cli import main
from common.data.promptable import PromptableData, SceneBatch
from common.data.prompts import box_prompts, tight_boxes
from common.evaluators.detection import COCO_AREAS, AverageRecall, encode_masks
from common.models.sam import SamConfig, scale_boxes
from common.models.tiny_vit import TinyViTConfig
from common.training.flops import flop_counter
from common.training.runs import save_picture
from common.visual import draw_masks, draw_prompts, enlarge
from projects.mobilesamv2.detector import Detections, DetectorConfig
from projects.mobilesamv2.efficientvit import EfficientVitConfig
from projects.mobilesamv2.models import load_detector, load_segmenter
from projects.mobilesamv2.propose import Filters, Proposals, centres, decode, grid_points, propose

Prompting = Literal["grid", "boxes", "points", "oracle", "random", "detector"]


class Everything(L.LightningModule):
    """Segments all objects of images, and compares with all of their masks, whatever their kinds (MobileSAMv2 §5).

    - `grid`: side x side points; `masks` for each, filtered, ranked by predicted IoU (SAM's automatic mode).
    - `boxes`: the detector's boxes, ranked by its confidence, a mask each (the paper's method).
    - `points`: the middle points of these boxes: one mask each and nothing filtered, or three, filtered as the grid's.
    - `oracle`: the true boxes; `random`: `most` boxes anywhere. Both are ranked by predicted IoU.
    - `detector`: the masks of the detector's own branch, without SAM's decoder (a prompt-free system, Table 6).

    Args:
        sam: sizes of SAM.
        sam_weights: its published checkpoint, or a foundation's weights.
        tiny_vit: sizes of a TinyViT in the place of SAM's image encoder.
        efficientvit: sizes of an EfficientViT in its place.
        encoder_weights: of such an encoder.
        prompts: which of the above.
        masks: of each prompt: 1 or 3.
        side: points of the grid's side.
        filtered: whether filters are applied; None for what the kind of prompts has.
        filters: what they keep.
        detector: sizes of the detector.
        detector_weights: of the detector's stage.
        confidence: least score of a box.
        overlap: of two boxes that overlap more one stays.
        most: boxes of an image.
        top: the K whose recall is measured and averaged. With `boxes`, at most K of them are the same as the K best.
        also: further K.
        areas: sizes of objects, in pixels of the image itself.
        pictures: how many images are drawn for the report.
    """

    def __init__(
        self,
        sam: SamConfig,
        sam_weights: str,
        tiny_vit: TinyViTConfig | None = None,
        efficientvit: EfficientVitConfig | None = None,
        encoder_weights: str | None = None,
        prompts: Prompting = "boxes",
        masks: Literal[1, 3] = 1,
        side: int = 32,
        filtered: bool | None = None,
        filters: Filters = Filters(),  # noqa: B008
        detector: DetectorConfig | None = None,
        detector_weights: str | None = None,
        confidence: float = 0.4,
        overlap: float = 0.9,
        most: int = 320,
        top: tuple[int, ...] = (10, 100, 1000),
        also: tuple[int, ...] = (),
        areas: dict[str, tuple[float, float]] = COCO_AREAS,
        pictures: int = 4,
    ):
        super().__init__()
        self.sam = load_segmenter(sam, sam_weights, tiny_vit or efficientvit, encoder_weights)
        self.detector = None
        if detector is not None and detector_weights is not None and prompts in ("boxes", "points", "detector"):
            self.detector = load_detector(detector, detector_weights)
        self.chance = np.random.default_rng(0)
        self.kind, self.masks, self.side, self.pictures = prompts, masks, side, pictures
        several = prompts == "grid" or (prompts == "points" and masks > 1)
        self.filters = filters if (several if filtered is None else filtered) else None
        self.confidence, self.overlap, self.most = confidence, overlap, most
        self.top = top
        self.recall = AverageRecall((*top, *also), areas)
        self.validation = AverageRecall((*top, *also), {})
        self.sums: dict[str, float] = defaultdict(float)
        self.flops: dict[str, float] = {}

    def test_step(self, batch: SceneBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """An image of the test split; or, from the second loader, of the validation split."""
        scene, size = batch.scenes[0], batch.sizes[0]
        embedding = self.sam.image_encoder(batch.images)
        truth = np.asarray(scene.masks)
        truth = truth[truth.any((1, 2))]
        started = self._now()
        found, detections = self.proposals(batch.images, embedding, size, scene.image.shape[:2], truth)
        spent = self._now() - started
        (self.recall if dataloader_idx == 0 else self.validation).update(found.masks, found.scores, encode_masks(truth))
        if dataloader_idx:
            return
        counts = {"images": 1, "prompts": found.prompts, "masks": found.prompts * self.masks, "seconds": spent}
        counts |= {"proposals": len(found.masks), "parts": count_parts(found.masks, encode_masks(truth))}
        for name, value in counts.items():
            self.sums[name] += value
        if not self.flops:
            self._count(batch.images, embedding, size)
        if int(batch.index[0]) < self.pictures:
            self.draw(int(batch.index[0]), scene.image, size, found, detections, truth)

    def proposals(
        self, images: Tensor, embedding: Tensor, size: tuple[int, int], shape: tuple[int, int], truth: np.ndarray
    ) -> tuple[Proposals, Detections | None]:
        """Proposals of one image, and the boxes they come from, if they come from boxes."""
        if self.kind == "grid":
            points = grid_points(self.side, shape, self.sam.image_encoder.img_size)
            return propose(self.sam, embedding, points, size, shape, self.masks, filters=self.filters), None
        if self.kind in ("oracle", "random"):
            boxes = tight_boxes(truth)
            if self.kind == "random":
                boxes = (np.sort(self.chance.random((self.most, 2, 2)), 1) * shape[::-1]).reshape(-1, 4)
            boxes = scale_boxes(boxes, shape, self.sam.image_encoder.img_size)
            return propose(self.sam, embedding, box_prompts(boxes), size, shape, filters=self.filters), None
        assert self.detector is not None
        features = self.detector.features(images)
        [found] = self.detector.detect(images, [size], self.confidence, self.overlap, self.most, features)
        if self.kind == "detector":
            probable = self.detector.masks(images, features, found.boxes)
            boxes = found.boxes * found.boxes.new_tensor([shape[1] / size[1], shape[0] / size[0]] * 2)
            pasted = paste_masks_in_image(probable, boxes, shape)[:, 0] > 0.5
            return Proposals(encode_masks(pasted.cpu().numpy()), found.scores, 0), found
        prompts = box_prompts(found.boxes.cpu().numpy()) if self.kind == "boxes" else centres(found.boxes)
        scores = None if self.masks > 1 else found.scores
        return propose(self.sam, embedding, prompts, size, shape, self.masks, scores, self.filters), found

    def _now(self) -> float:
        """Seconds: of the processor on a CPU, where others may be at work too."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def _count(self, images: Tensor, embedding: Tensor, size: tuple[int, int]) -> None:
        """Operations of the decoder for one prompt, and of the detector for an image: no value changes them."""
        side = self.sam.image_encoder.img_size
        prompt = box_prompts(np.array([[0, 0, side / 2, side / 2]])).to(self.device)
        with flop_counter() as counted, torch.no_grad():
            for _ in decode(self.sam, embedding, prompt, self.masks > 1, 1):
                pass
        self.flops["prompt"] = counted.get_total_flops()
        self.flops["detector"] = 0
        if self.detector is not None:
            with flop_counter() as counted:
                self.detector.detect(images, [size], 1.0)
            self.flops["detector"] = counted.get_total_flops()

    def draw(
        self,
        index: int,
        image: np.ndarray,
        size: tuple[int, int],
        found: Proposals,
        detections: Detections | None,
        truth: np.ndarray,
    ) -> None:
        """Keep the best proposals, as many as there are objects, the detector's boxes and the truth for the report."""
        large, zoom = enlarge(image, 256)
        best = torch.argsort(found.scores, descending=True, stable=True)[: len(truth)].tolist()
        masks = [coco_mask.decode(found.masks[k]).astype(bool) for k in best]
        shown = draw_masks(large, np.array(masks, dtype=bool).reshape(-1, *image.shape[:2]))
        save_picture(
            self.run_dir, f"image {index}", shown, f"Image {index}: the {len(truth)} best of {len(found.masks)}"
        )
        save_picture(
            self.run_dir,
            f"image {index}, truth",
            draw_masks(large, truth),
            f"Image {index}: its objects",
            reference=True,
        )
        if detections is not None and self.kind == "boxes":
            scale = zoom * image.shape[1] / size[1]
            boxes = detections.boxes.cpu().numpy() * scale
            framed = draw_prompts(large, np.zeros((len(boxes), 0, 2)), boxes)
            save_picture(self.run_dir, f"image {index}, boxes", framed, f"Image {index}: {len(boxes)} boxes")

    def on_test_epoch_end(self) -> None:
        found = {name: value for name, value in self.recall.compute().items() if value.isfinite()}  # no such objects
        for size in ("", *(f"_{name}" for name in self.recall.areas if f"ar_{self.top[0]}_{name}" in found)):
            self.log(f"test/ar{size}", torch.stack([found[f"ar_{top}{size}"] for top in self.top]).mean())
        self.log_dict({f"test/{name}": value for name, value in found.items()})
        if self.validation.objects[0] > 0:
            values = self.validation.compute()
            self.log("test/val_ar", torch.stack([values[f"ar_{top}"] for top in self.top]).mean())
            self.log_dict({f"test/val_{name}": value for name, value in values.items()})
        images = self.sums["images"]
        prompts = self.sums["prompts"] / images
        self.log("test/prompts", prompts)
        self.log("test/decoded_masks", self.sums["masks"] / images)
        if self.sums["proposals"]:
            self.log("test/parts", self.sums["parts"] / self.sums["proposals"])
        self.log("test/decoder_ms", 1000 * self.sums["seconds"] / images)
        self.log("test/decoder_gflop", (prompts * self.flops["prompt"] + self.flops["detector"]) / 1e9)


def count_parts(proposals: list[dict[str, Any]], truth: list[dict[str, Any]]) -> int:
    """How many proposals are parts of an object: nine tenths of one lie in it, and cover less than half of it."""
    if not proposals or not truth:
        return 0
    inside = coco_mask.iou(proposals, truth, [1] * len(truth))  # for a crowd the intersection over the proposal's area
    areas = coco_mask.area(proposals)[:, None] / coco_mask.area(truth)[None]
    return int(((inside > 0.9) & (inside * areas < 0.5)).any(1).sum())


if __name__ == "__main__":
    main(
        Everything,
        PromptableData,
        links=lambda parser: parser.link_arguments("data.image_size", "model.sam.image_size"),
    )
