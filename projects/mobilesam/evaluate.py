"""Measure a student against its teacher and the ground truth, prompt by prompt.

python -m projects.mobilesam.evaluate test --config projects/mobilesam/configs/mini/evaluate.yaml
"""

import time
from collections.abc import Callable
from typing import Literal

import lightning.pytorch as L
import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from common.cli import main
from common.data.promptable import PromptableData, SceneBatch
from common.data.prompts import Prompts, box_prompts, point_prompts, sample_point_pairs, sample_points, tight_boxes
from common.evaluators.promptable import MeanMaskIoU
from common.models.sam import SamConfig, postprocess_masks, predict_masks, scale_boxes, scale_points
from common.models.tiny_vit import TinyViTConfig
from common.training.runs import save_picture
from common.training.segmentation import best_mask
from common.visual import draw_masks, draw_prompts, enlarge
from projects.mobilesam.distill import links
from projects.mobilesam.student import borrow_decoder, build_student, load_student
from projects.mobilesam.teacher import load_teacher


class Evaluation(L.LightningModule):
    """mIoU of a model's masks to the teacher's masks for the same prompts (§3.2), and to the ground truth.

    A single point is answered with three masks, of which the model's own favourite counts; two points (one foreground,
    one background, Table 7) and boxes with one mask. Masks are compared at the image's own resolution.

    Args:
        teacher: sizes of the teacher SAM.
        teacher_weights: SAM's published checkpoint, or a foundation's weights.
        student: sizes of the student's image encoder.
        vit: sizes of a ViT that takes the TinyViT's place (Table 2).
        encoder: whose image encoder is measured.
        student_weights: a trained student, as `mobile_sam.pt`, `sam_vit_*.pth` or a stage's weights; None for an
            untrained encoder with the teacher's decoder.
        instances: prompts of each kind per image, each for an object of its own; all objects where there are fewer.
        distances: distances in pixels, in a frame of 1024, between the points of a two-point prompt.
        pictures: how many images are drawn for the report.
    """

    def __init__(
        self,
        teacher: SamConfig,
        teacher_weights: str,
        student: TinyViTConfig,
        vit: SamConfig | None = None,
        encoder: Literal["teacher", "student"] = "student",
        student_weights: str | None = None,
        instances: int = 8,
        distances: tuple[int, ...] = (100, 200, 300, 400, 500),
        pictures: int = 4,
    ):
        super().__init__()
        self.teacher = load_teacher(teacher, teacher_weights)
        self.model: Sam = self.teacher
        if encoder == "student":
            self.model = build_student(teacher, student, vit)
            if student_weights is not None:
                load_student(self.model, student_weights)
            else:
                borrow_decoder(self.model, teacher_weights)
        self.model.requires_grad_(False).eval()
        self.instances, self.distances, self.pictures = instances, distances, pictures
        kinds = ["point", "box", *(f"two_points_{distance}" for distance in distances)]
        self.to_teacher = nn.ModuleDict({kind: MeanMaskIoU() for kind in kinds})
        self.to_truth = nn.ModuleDict({kind: MeanMaskIoU() for kind in kinds})
        self.validation = MeanMaskIoU()

    def test_step(self, batch: SceneBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """An image of the test split; or of the validation split, from the second loader, where one point is enough."""
        validating = dataloader_idx == 1
        scene, size, index = batch.scenes[0], batch.sizes[0], int(batch.index[0])
        rng = np.random.default_rng((index, 0))
        chosen = rng.permutation(len(scene.masks))[: self.instances]
        if not len(chosen):
            return
        own = scene.masks[chosen]
        truth = torch.from_numpy(own).to(self.device)
        teacher = self.teacher.image_encoder(batch.images)
        model = teacher if self.model is self.teacher else self.model.image_encoder(batch.images)
        for kind, prompts in self.prompts(own, rng).items():
            prompts = prompts.to(self.device)
            target = self.masks(self.teacher, teacher, prompts, kind, size, truth.shape[1:])
            masks = target
            if model is not teacher:
                masks = self.masks(self.model, model, prompts, kind, size, truth.shape[1:])
            if validating:
                self.validation.update(masks, target)
                return
            self.to_teacher[kind].update(masks, target)
            self.to_truth[kind].update(masks, truth)
            if index < self.pictures and kind in ("point", "box"):
                self.draw(index, scene.image, kind, prompts, masks, truth)

    def prompts(self, masks: np.ndarray, rng: np.random.Generator) -> dict[str, Prompts]:
        """Prompts of every kind for masks [K, H, W], in the frame of the preprocessed image."""
        shape = masks.shape[1:]
        image_size = self.model.image_encoder.img_size
        points = scale_points(sample_points(masks, rng), shape, image_size)
        found = {
            "point": point_prompts(points[:, None], np.ones((len(points), 1))),
            "box": box_prompts(scale_boxes(tight_boxes(masks), shape, image_size)),
        }
        for distance in self.distances:
            pairs, labels = sample_point_pairs(masks, distance / 1024 * max(shape), rng)
            found[f"two_points_{distance}"] = point_prompts(scale_points(pairs, shape, image_size), labels)
        return found

    def masks(
        self, sam: Sam, embedding: Tensor, prompts: Prompts, kind: str, size: tuple[int, int], shape: tuple[int, int]
    ) -> Tensor:
        """A model's masks for the prompts of one image, bool [K, H, W]."""
        logits, iou = predict_masks(sam, embedding, prompts, multimask=kind == "point")
        low = best_mask(logits, iou)[:, None]
        return postprocess_masks(low, sam.image_encoder.img_size, size, shape)[:, 0] > 0

    def draw(self, index: int, image: np.ndarray, kind: str, prompts: Prompts, masks: Tensor, truth: Tensor) -> None:
        """Keep the prompts, the ground truth and this model's masks for the report."""
        large, zoom = enlarge(image, 256)
        scale = zoom * max(image.shape[:2]) / self.model.image_encoder.img_size
        key, words = f"image {index}, {kind}", {"point": "one point per object", "box": "a box per object"}[kind]
        shown = draw_prompts(
            large,
            prompts.coords.cpu().numpy() * scale,
            None if prompts.boxes is None else prompts.boxes.cpu().numpy() * scale,
        )
        save_picture(self.run_dir, key + ", prompts", shown, f"Image {index}: {words}", reference=True)
        save_picture(
            self.run_dir,
            key + ", truth",
            draw_masks(large, truth.cpu().numpy()),
            f"Image {index}: ground truth",
            reference=True,
        )
        save_picture(self.run_dir, key, draw_masks(large, masks.cpu().numpy()), f"Image {index}: masks for {words}")

    def on_test_epoch_end(self) -> None:
        for name, metrics in (("teacher", self.to_teacher), ("gt", self.to_truth)):
            for kind in ("point", "box"):
                self.log(f"test/miou_{name}_{kind}", metrics[kind].compute())
            pairs = [metrics[f"two_points_{distance}"].compute() for distance in self.distances]
            self.log(f"test/miou_{name}_two_points", torch.stack(pairs).mean())
            if name == "teacher":
                for distance, value in zip(self.distances, pairs, strict=True):
                    self.log(f"test/miou_teacher_two_points_{distance}", value)
        if self.validation.count:
            self.log("test/val_miou_teacher_point", self.validation.compute())
        encoder, decoder = self.model.image_encoder, self.model.mask_decoder
        self.log("test/encoder_params", float(sum(p.numel() for p in encoder.parameters())))
        self.log("test/decoder_params", float(sum(p.numel() for p in decoder.parameters())))
        side = encoder.img_size
        image = torch.zeros(1, 3, side, side, device=self.device)
        embedding = encoder(image)
        prompt = point_prompts(np.full((1, 1, 2), side / 2), np.ones((1, 1))).to(self.device)
        self.log("test/encoder_ms", median_ms(lambda: encoder(image)))
        self.log("test/decoder_ms", median_ms(lambda: predict_masks(self.model, embedding, prompt, multimask=True)))


def median_ms(call: Callable[[], object], repeats: int = 15) -> float:
    """Median wall time of a call in milliseconds, after three calls that do not count."""
    times = []
    for _ in range(repeats + 3):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return float(np.median(times[3:]) * 1000)


if __name__ == "__main__":
    main(Evaluation, PromptableData, links=links)
