"""Measure a tokenizer: reconstruction, use of the codebook, and what its features and tokens still understand.

python -m projects.vqrae.evaluate test --config projects/vqrae/configs/mini/evaluate.yaml --model.weights <a stage's>
"""

from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from common.cli import main, one_seed
from common.data.images import PictureData, to_uint8
from common.evaluators.frechet import Inception
from common.paths import expand
from common.training.runs import save_picture
from common.training.weights import load_weights
from projects.vqrae.encoder import EncoderConfig
from projects.vqrae.harness.pictures import strip
from projects.vqrae.metrics import CodebookUsage, QuantisationError, fid, mean_colour
from projects.vqrae.model import VQRAE, Codebook
from projects.vqrae.perceptual import PerceptualLoss, PerceptualNets
from projects.vqrae.understanding import HeadConfig, build_head, probe


class Evaluation(L.LightningModule):
    """PSNR, SSIM, rFID and codebook utilisation as in Tables 2, 5 and 6; understanding in place of MME and its like.

    Understanding is measured on the continuous features with the head that was trained for the original encoder
    (`dropin_accuracy`: what Table 3 does to InternVL3, with a classifier instead of a language model), and with linear
    probes that are fitted anew, of the continuous features and of the discrete tokens. Probes see the mean token.

    `psnr_floor` is what the pictures have in their own mean colour, `psnr_patches` in one mean colour a patch. With
    `data.val` PSNR, floor and drop-in accuracy are measured there too, for the premises of claims.

    Args:
        encoder: the pretrained ViT.
        codebook: the quantiser.
        perceptual: nets of LPIPS, and of rFID where Inception is not given.
        weights: a trained tokenizer.
        head: the original encoder's head; None for none.
        inception: for rFID; None takes the perceptual ConvNeXt's features.
        probe_images: training pictures that the probes are fitted on; 0 for no probes.
        measured_size: side in pixels that pictures are compared at: Table 2's is 256, to which the pictures of
            tokenizers for larger ones are scaled down. None for the tokenizer's own.
        pictures: how many reconstructions are kept for the report.
    """

    def __init__(
        self,
        encoder: EncoderConfig,
        codebook: Codebook,
        perceptual: PerceptualNets,
        weights: str,
        head: HeadConfig | None = None,
        inception: Inception | None = None,
        probe_images: int = 2000,
        measured_size: int | None = None,
        pictures: int = 12,
    ):
        super().__init__()
        self.tokenizer = VQRAE(encoder, codebook, pretrained=False)
        load_weights(self.tokenizer, expand(weights, "model.weights")).requires_grad_(False).eval()
        self.head_config, self.probe_images, self.pictures = head, probe_images, pictures
        self.measured_size, self.patch = measured_size, self.tokenizer.decoder.pixels
        perception = PerceptualLoss(perceptual)
        self.lpips = perception.lpips
        self.psnr, self.psnr_floor, self.psnr_patches = (PeakSignalNoiseRatio(1.0, dim=(1, 2, 3)) for _ in range(3))
        self.ssim = StructuralSimilarityIndexMeasure(data_range=1.0)
        self.fid = fid(perception.convnext, inception)
        self.usage, self.error = CodebookUsage(codebook.size), QuantisationError(codebook.dim)
        self.distances: list[Tensor] = []
        self.pooled: list[dict[str, np.ndarray]] = []

    def setup(self, stage: str) -> None:
        classes = self.trainer.datamodule.source("test").classes
        self.head = build_head(self.head_config, classes) if self.head_config else None

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        out = self.tokenizer(batch["image"])
        images, made = self.compared(batch["image"]), self.compared(out.images.float())
        self.update_psnr(images, made)
        self.psnr_patches.update(self.compared(mean_colour(batch["image"], self.patch)), images)
        self.ssim.update(made, images)
        self.fid.update(images, real=True)
        self.fid.update(made, real=False)
        self.distances.append(self.lpips(made, images).cpu())
        if out.indices is not None:
            self.usage.update(out.indices)
            self.error.update(self.tokenizer.to_codes(out.features), out.codes)
        self.pooled.append(self.means(out.features, out.codes, batch["label"]))
        if self.head is not None:
            self.log("test/dropin_accuracy", (self.head(out.features).argmax(1) == batch["label"]).float().mean())
        if batch_idx == 0:
            count = self.pictures
            save_picture(self.run_dir, "reconstructions", strip(to_uint8(images[:count])), "originals", reference=True)
            save_picture(self.run_dir, "reconstructions", strip(to_uint8(made[:count])), "reconstructions")

    def compared(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] as metrics see them: in [0, 1], at the size that they are compared at."""
        if self.measured_size is not None and self.measured_size != images.shape[-1]:
            shape = (self.measured_size, self.measured_size)
            images = F.interpolate(images, shape, mode="bicubic", align_corners=False, antialias=True)
        return images.clamp(0, 1)

    def update_psnr(self, images: Tensor, made: Tensor) -> None:
        """Of reconstructions and of their floor, as they are compared."""
        self.psnr.update(made, images)
        self.psnr_floor.update(mean_colour(images), images)

    @staticmethod
    def means(features: Tensor, codes: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
        """What probes see of a batch: mean tokens, continuous and discrete, and the labels."""
        arrays = {"continuous": features.mean(1), "discrete": codes.mean(1), "label": labels}
        return {name: value.float().cpu().numpy() for name, value in arrays.items()}

    def on_test_epoch_end(self) -> None:
        self.log_psnr()
        self.log("test/psnr_patches", self.psnr_patches.compute())
        self.log("test/ssim", self.ssim.compute())
        self.log("test/rfid", self.fid.compute().float())
        self.log("test/lpips", torch.cat(self.distances).mean())
        if self.tokenizer.quantizer is not None:
            self.log_dict({f"test/{name}": share for name, share in self.usage.compute().items()})
            self.log("test/quantisation_error", self.error.compute())
        if self.probe_images:
            train, test = joined(self.train_means()), joined(self.pooled)
            for kind in ("continuous", "discrete"):
                accuracy = probe(train[kind], train["label"], test[kind], test["label"])
                self.log(f"test/probe_{kind}", accuracy)
        if "val" in self.trainer.datamodule.sources:
            self.validate_premises()

    def log_psnr(self, suffix: str = "") -> None:
        """Log PSNR and its floor, and begin anew."""
        for name, metric in (("psnr", self.psnr), ("psnr_floor", self.psnr_floor)):
            self.log(f"test/{name}{suffix}", metric.compute())
            metric.reset()

    def validate_premises(self) -> None:
        """`psnr_val`, `psnr_floor_val` and `dropin_accuracy_val`, of the validation pictures."""
        right: list[Tensor] = []
        for batch in self.trainer.datamodule.ordered("val"):
            images = batch["image"].to(self.device)
            out = self.tokenizer(images)
            self.update_psnr(self.compared(images), self.compared(out.images.float()))
            if self.head is not None:
                right.append(self.head(out.features).argmax(1).cpu() == batch["label"])
        self.log_psnr("_val")
        if right:
            self.log("test/dropin_accuracy_val", torch.cat(right).float().mean())

    def train_means(self) -> list[dict[str, np.ndarray]]:
        found = []
        for batch in self.trainer.datamodule.ordered("train", self.probe_images):
            features = self.tokenizer.encoder(batch["image"].to(self.device))
            found.append(self.means(features, self.tokenizer.quantize(features)[0], batch["label"]))
        return found


def joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Batches of named arrays, end to end."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


if __name__ == "__main__":
    main(Evaluation, PictureData, links=one_seed)
