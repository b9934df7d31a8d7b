"""Teach a U-Net to give in one evaluation what guidance gives in two.

python -m projects.lora_distill.distill fit --config projects/lora_distill/configs/mini/distill.yaml
"""

from typing import Any, Literal

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from common.cli import main, one_seed
from common.data.images import PictureData
from common.models.lora import Lora, trained_part
from common.models.text_to_image import guided, load_text_to_image
from common.training.schedules import optimizer_steps
from projects.lora_distill.model import Pair, distillation_loss


class GuidanceDistillation(L.LightningModule):
    """L = mean (e_S - e_T)^2 with e_T = e_u + w (e_c - e_u), at uniform t and fresh noise for each picture.

    `val/closed` is the share of the gap between the unguided and the guided prediction that the student has closed:
    1 - L / L of the unguided teacher, on the validation pictures, at the same t and noise every time.

    Args:
        text_to_image: hub id or folder of the teacher.
        lora: Delta; None trains a copy of the whole U-Net.
        guidance: w.
        schedule: "constant" is the paper's; "linear" lets w grow from 1, where the student is right from the start,
            to `guidance` over the whole training.
        lr: learning rate after the warm-up, constant.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up.
    """

    def __init__(
        self,
        text_to_image: str,
        lora: Lora | None = None,
        guidance: NonNegativeFloat = 7.5,
        schedule: Literal["constant", "linear"] = "constant",
        lr: PositiveFloat = 5e-4,
        weight_decay: NonNegativeFloat = 1e-2,
        warmup_steps: NonNegativeInt = 500,
    ):
        super().__init__()
        self.guidance, self.schedule = guidance, schedule
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.t2i = load_text_to_image(text_to_image).requires_grad_(False).eval()
        with torch.random.fork_rng():  # the same t and noise for every arm, whatever its updates draw at first
            self.pair = Pair(self.t2i.unet, lora)
        with torch.no_grad():
            empty = self.t2i.encode_text([""])
        self.register_buffer("empty", empty, persistent=False)  # the same for all: computed once

    def scale(self) -> float:
        """w at this step."""
        if self.schedule == "constant":
            return self.guidance
        done = (self.global_step + 1) / optimizer_steps(self.trainer)
        return 1 + (self.guidance - 1) * min(done, 1.0)

    def noised(self, batch: dict[str, Any], seed: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """z_t [B, C, h, w], t [B] and c [B, N, d]; t and noise from a seed, or from torch's own chance."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        drawing = self.device if generator is None else torch.device("cpu")
        with torch.no_grad():
            latents, context = self.t2i.latents(batch["image"]), self.t2i.encode_text(batch["caption"])
        steps = self.t2i.scheduler.config.num_train_timesteps
        t = torch.randint(steps, (len(latents),), generator=generator, device=drawing).to(self.device)
        noise = torch.randn(latents.shape, generator=generator, device=drawing).to(latents)
        return self.t2i.scheduler.add_noise(latents, noise, t), t, context

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        noisy, t, context = self.noised(batch)
        target = self.pair.guided(noisy, t, context, self.empty, self.scale())
        loss = distillation_loss(self.pair.student(noisy, t, context).sample, target)
        self.log("train/loss", loss, batch_size=len(t))
        return loss

    def on_validation_epoch_start(self) -> None:
        self.apart = [torch.zeros((), device=self.device) for _ in range(2)]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        noisy, t, context = self.noised(batch, batch_idx)
        conditional, unconditional = self.pair.predictions(noisy, t, context, self.empty)
        target = guided(conditional, unconditional, self.guidance).float()
        for total, answer in zip(self.apart, (self.pair.student(noisy, t, context).sample, conditional), strict=True):
            total += (answer.float() - target).square().sum()

    def on_validation_epoch_end(self) -> None:
        student, unguided = (self.all_gather(total).sum() for total in self.apart)
        self.log("val/closed", 1 - student / unguided)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        trained = [parameter for parameter in self.pair.student.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.lr, weight_decay=self.weight_decay)
        warm_up = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / (self.warmup_steps or 1))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warm_up, "interval": "step"}}

    def exported(self) -> nn.Module:
        """What was trained, by the names that it has in the U-Net."""
        return trained_part(self.pair.student)


if __name__ == "__main__":
    main(GuidanceDistillation, PictureData, links=one_seed)
