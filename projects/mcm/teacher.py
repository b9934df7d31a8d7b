"""The video teacher of the mini scale, trained once on the world and cached: a tiny ModelScope on poor videos.

    python -m projects.mcm.teacher fit --config projects/mcm/configs/mini/video_teacher.yaml

Leaves tokenizer, text encoder, U-Net and noise schedule in the run folder's `model/`.
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F

from common.cli import main, one_seed
from common.data.words import word_tokenizer
from common.data.worlds.moving_glyphs import CAPTIONS, OBEYS, centroid_velocity, commanded_velocity
from common.foundations.text_to_image import build_text_encoder
from common.training.schedules import adamw, optimizer_steps
from projects.mcm.data import VideoData
from projects.mcm.model import PixelCodec, VideoDiffusion, denoise
from projects.mcm.sampling import sample_teacher


class TeacherTraining(L.LightningModule):
    """Denoising of videos with captions, some of them dropped for guidance: mean (v(z_t, t, c) - v)^2.

    v = sqrt(abar) eps - sqrt(1 - abar) z (Salimans & Ho 2022): a loss on the noise, with which the paper's teachers
    were trained, says next to nothing where noise prevails, and in minutes a teacher would not learn captions there.

    Of two random timesteps the later one is taken: where noise prevails, a caption tells what the video does not.

    The gate, `val/obeys`: the share of guided 50-step samples that move as their caption says; 0.8 is wanted.

    Args:
        channels: of the U-Net's only level, a multiple of 4.
        width: of the text encoder.
        drop: share of captions that are left empty.
        guidance: w of the samples that are judged.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    run_dir: Path

    def __init__(
        self,
        channels: int = 24,
        width: int = 32,
        drop: float = 0.1,
        guidance: float = 2.0,
        lr: float = 3e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 50,
    ):
        super().__init__()
        self.drop, self.guidance = drop, guidance
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        tokenizer = word_tokenizer(CAPTIONS, length=max(len(text.split()) for text in CAPTIONS) + 2, ends=True)
        unet = UNet3DConditionModel(
            sample_size=4,
            down_block_types=("DownBlock3D",),
            up_block_types=("UpBlock3D",),
            block_out_channels=(channels,),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=width,
            attention_head_dim=4,
        )
        scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            prediction_type="v_prediction",
            timestep_spacing="trailing",  # from pure noise on, in however few steps
        )
        text_encoder = build_text_encoder(tokenizer, width, layers=1)
        self.net = VideoDiffusion(tokenizer, text_encoder, unet, scheduler, PixelCodec()).eval()  # without dropout

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        kept = (torch.rand(len(batch["caption"])) >= self.drop).tolist()
        captions = [text if keep else "" for text, keep in zip(batch["caption"], kept, strict=True)]
        latents = self.net.latents(batch["video"])
        t = torch.randint(len(self.net.scheduler.alphas_cumprod), (2, len(latents)), device=self.device).amax(0)
        noise = torch.randn_like(latents)
        noisy = self.net.scheduler.add_noise(latents, noise, t)
        velocity = self.net.scheduler.get_velocity(latents, noise, t)
        loss = F.mse_loss(denoise(self.net.unet, noisy, t, self.net.encode_text(captions)), velocity)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        noise = torch.randn(self.net.latents(batch["video"]).shape, generator=torch.Generator().manual_seed(batch_idx))
        latents = sample_teacher(self.net, batch["caption"], noise.to(self.device), 50, self.guidance)
        velocity = centroid_velocity(self.net.decode(latents).mean(1))
        error = (velocity - commanded_velocity(batch["caption"]).to(velocity)).norm(dim=1)
        self.log("val/obeys", (error < OBEYS).float().mean(), batch_size=len(error), sync_dist=True)
        self.log("val/motion_error", error.mean(), batch_size=len(error), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.net.save_pretrained(self.run_dir / "model")

    def exported(self) -> VideoDiffusion:
        return self.net


if __name__ == "__main__":
    main(TeacherTraining, VideoData, links=one_seed)
