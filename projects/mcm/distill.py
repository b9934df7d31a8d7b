"""Distil a video diffusion model into a student of a few steps: MCM, and the arms it is compared with.

python -m projects.mcm.distill fit --config projects/mcm/configs/mini/distill.yaml
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call

from common.cli import main, one_seed
from common.models.lora import Lora, trained_part
from common.training.augment import diff_augment
from common.training.ema import Ema
from common.training.schedules import adamw, optimizer_steps
from projects.mcm.consistency import Consistency, guidance_embedding, pseudo_huber
from projects.mcm.data import VideoData
from projects.mcm.discriminator import (
    FrameDiscriminator,
    GanLoss,
    PenaltyWeight,
    discriminator_losses,
    generator_loss,
    gradient_penalty,
)
from projects.mcm.features import FrameEncoder, FrameFeatures, SentenceEncoder, build_sentences
from projects.mcm.model import VideoModel, VideoUNet, build_student, denoise, load_video_model
from projects.mcm.motion import Motion, motion_head

GUIDANCE_DIM = 256


@dataclass
class Adversary:
    """The frame discriminator.

    Attributes:
        encoder: the frozen encoder that it looks through.
        sentences: what tells it the caption.
        loss: "wgan" has the hinge loss's gradients, and a gradient penalty.
        weight: of L_G in the student's loss.
        lr: peak learning rate.
        frames: K, frames of a video that it sees; as many images of the image set stand against them.
        penalty: lambda of the gradient penalty at first.
        augment: show it frames and images through DiffAugment.
    """

    encoder: FrameEncoder
    sentences: SentenceEncoder
    loss: GanLoss = "wgan"
    weight: float = 1.0
    lr: float = 1e-4
    frames: int = 2
    penalty: float = 1e-5
    augment: bool = True

    def seen(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] as the frozen encoder is given them."""
        return diff_augment(images) if self.augment else images


class MotionConsistency(L.LightningModule):
    """L = L_MCD + lambda_G L_G: motion is distilled from the teacher, appearance is learned from images.

    L_MCD = mean( sqrt((H(f) - H-(f'))^2 + c^2) - c ), where f is the student's clean latent at a knot of the teacher's
    trajectory and f' its own at the knot before, without gradient; H shows the motion of a latent video, H- is its
    moving average. L_G = -mean D(frames of f). The trajectories start from real videos, or from the student's own
    one-step videos.

    Args:
        teacher: the video diffusion model.
        lora: what the student adds to the teacher; None trains the whole U-Net, told the guidance scale, with a
            moving average of it as the target network.
        motion: H. "raw" without adversary and simulated videos is latent consistency distillation.
        adversary: the discriminator; None for none.
        simulated: probability that a batch starts from the student's own videos.
        knots: N, steps of the teacher's trajectory.
        timestep_scaling: s of the boundary condition.
        guidance: w is uniform in this range; the scale as pipelines count it is w + 1.
        ema: rate of the moving averages.
        lr: peak learning rate of student and head.
        warmup_steps: linear warm-up; a cosine to zero follows.
        clip: largest norm of the gradient of the student's U-Net.
        checkpointing: recompute the student's activations in the backward pass, to save memory.
    """

    run_dir: Path

    def __init__(
        self,
        teacher: VideoModel,
        lora: Lora | None,
        motion: Motion = "learn",
        adversary: Adversary | None = None,
        simulated: float = 0.5,
        knots: int = 50,
        timestep_scaling: float = 4.0,
        guidance: tuple[float, float] = (5.0, 15.0),
        ema: float = 0.95,
        lr: float = 5e-6,
        warmup_steps: int = 500,
        clip: float = 10.0,
        checkpointing: bool = False,
    ):
        super().__init__()
        self.adversary, self.simulated, self.guidance = adversary, simulated, guidance
        shares = {"real": 1 - simulated, "simulated": simulated}
        self.step_kinds = tuple(kind for kind, share in shares.items() if share > 0)  # of other work: what a run cost
        self.step_kind = self.step_kinds[0]
        self.lr, self.warmup_steps, self.clip = lr, warmup_steps, clip
        self.teacher = load_video_model(teacher)
        self.student = build_student(self.teacher.unet, lora, GUIDANCE_DIM)
        self.target = None if lora else Ema(self.student, ema)
        if checkpointing:
            self.student.enable_gradient_checkpointing()
        self.trained = [name for name, p in self.student.named_parameters() if p.requires_grad]
        scheduler = self.teacher.scheduler
        self.consistency = Consistency(
            scheduler.alphas_cumprod, knots, timestep_scaling, scheduler.config.prediction_type
        )
        self.head = motion_head(motion, self.teacher.unet.config.in_channels)
        self.target_head = Ema(self.head, ema)
        if adversary is not None:
            self.features = FrameFeatures(adversary.encoder)
            self.sentences = build_sentences(adversary.sentences)
            self.discriminator = FrameDiscriminator(
                adversary.encoder.blocks, self.features.channels, self.sentences.channels
            )
            self.penalty_weight = PenaltyWeight(adversary.penalty)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        with torch.no_grad():
            latents = self.teacher.latents(batch["video"])
            context, empty = self.teacher.encode_text([*batch["caption"], ""]).split([len(latents), 1])
            empty = empty.expand_as(context)
        count = len(latents)
        index = torch.randint(self.consistency.knots, (count,), device=self.device)
        w = torch.empty(count, device=self.device).uniform_(*self.guidance)
        told = None if self.target is None else guidance_embedding(w, GUIDANCE_DIM)
        student = self.network(self.student, context, told)
        target = student if self.target is None else self.network(self.target.model, context, told)
        self.step_kind = "simulated" if torch.rand(()) < self.simulated else "real"
        if self.step_kind == "simulated":
            latents = self.simulate(target, latents)
        step = self.consistency.step(
            latents,
            torch.randn_like(latents),
            index,
            w,
            student,
            teacher=self.guided(context, empty),
            target=target,
        )
        with torch.no_grad():
            goal = self.target_head(step.target)
        terms = {"motion": pseudo_huber(self.head(step.predicted).float(), goal.float())}
        if self.adversary is not None:
            terms |= self.play(self.adversary, step.predicted, batch)
        loss = torch.stack(list(terms.values())).sum()
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=count)
        self.log("train/loss", loss, batch_size=count)
        return loss

    @staticmethod
    def network(unet: VideoUNet, context: Tensor, guidance: Tensor | None) -> Any:
        """(z_t, t) -> the U-Net's output for these captions."""
        return partial(_denoise, unet, context, guidance)

    def guided(self, context: Tensor, empty: Tensor) -> Any:
        """(z_t, t) -> the teacher's outputs with captions and without, in one pass."""
        both = torch.cat([context, empty])

        def outputs(latents: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            found = denoise(self.teacher.unet, torch.cat([latents] * 2), torch.cat([t] * 2), both)
            conditional, unconditional = found.chunk(2)
            return conditional, unconditional

        return outputs

    @torch.no_grad()
    def simulate(self, target: Any, latents: Tensor) -> Tensor:
        """What the target network, with LoRA the student as it is now, makes of pure noise in one step: x0, without the
        boundary condition.
        """
        noise = torch.randn_like(latents)
        last = self.consistency.timesteps[-1].expand(len(latents))
        return self.consistency.x0(target(noise, last), noise, last).to(latents.dtype)

    def play(self, adversary: Adversary, predicted: Tensor, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The generator's term, and the discriminator's own losses, in one sum whose gradients do not mix.

        The discriminator judges for the student as it is before this step, and learns from frames as they are before
        this step: what alternating updates on one batch amount to, with one optimiser.
        """
        real = rearrange(2 * batch["images"] - 1, "b k c h w -> (b k) c h w")
        told_fake = self.sentences(batch["caption"]).repeat_interleave(adversary.frames, 0)
        told_real = self.sentences(batch["image_captions"])
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        shown = self.features(adversary.seen(self.some_frames(predicted, adversary.frames)))
        fooled = functional_call(self.discriminator, frozen, (shown, told_fake))
        with torch.no_grad():  # the discriminator's own step draws frames and changes anew
            fake = self.some_frames(predicted, adversary.frames)
            pixels = [self.features.prepared(adversary.seen(x)) for x in (real, fake)]
            seen_real, seen_fake = (self.features.tokens(x) for x in pixels)
        loss_real, loss_fake = discriminator_losses(
            self.discriminator(seen_real, told_real), self.discriminator(seen_fake, told_fake), adversary.loss
        )
        terms = {
            "generator": adversary.weight * generator_loss(fooled, adversary.loss),
            "real": loss_real,
            "fake": loss_fake,
        }
        if adversary.loss == "wgan":
            penalty = self.penalty(*pixels, told_fake)
            terms["penalty"] = self.penalty_weight.update(penalty, self.global_step) * penalty
        return terms

    def some_frames(self, latents: Tensor, count: int) -> Tensor:
        """Random frames, the same of all videos, in pixels: [B, 4, F, h, w] -> [B * count, 3, H, W] in [-1, 1]."""
        chosen = torch.randperm(latents.shape[2], device=latents.device)[:count]
        return self.teacher.codec.decode(rearrange(latents[:, :, chosen], "b c k h w -> (b k) c h w")).float()

    def penalty(self, real: Tensor, fake: Tensor, condition: Tensor) -> Tensor:
        """The gradient penalty at random mixtures of real and fake frames, as the encoder was given them when the
        discriminator saw them; in float32, whatever the precision.
        """
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        with torch.no_grad():
            seen = self.features.tokens(share * real + (1 - share) * fake)
        with torch.autocast(self.device.type, enabled=False):
            return gradient_penalty(self.discriminator, [x.float() for x in seen], condition)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The consistency loss on raw latents, at the same knots and noise every time."""
        latents, context = self.teacher.latents(batch["video"]), self.teacher.encode_text(batch["caption"])
        generator = torch.Generator().manual_seed(batch_idx)
        index = torch.randint(self.consistency.knots, (len(latents),), generator=generator).to(self.device)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        w = torch.full((len(latents),), sum(self.guidance) / 2, device=self.device)
        told = None if self.target is None else guidance_embedding(w, GUIDANCE_DIM)
        student = self.network(self.student, context, told)
        teacher = self.guided(context, self.teacher.encode_text([""]).expand_as(context))
        step = self.consistency.step(latents, noise, index, w, student, teacher, student)
        loss = pseudo_huber(step.predicted.float(), step.target.float())
        self.log("val/consistency", loss, batch_size=len(latents), sync_dist=True)

    def configure_optimizers(self) -> Any:
        groups: list[dict[str, Any]] = [{"params": [*self.student_parameters(), *self.head.parameters()]}]
        if self.adversary is not None:
            own = list(self.discriminator.parameters())
            groups.append({"params": own, "lr_scale": self.adversary.lr / self.lr})
        return adamw(groups, self.lr, 0.0, self.warmup_steps, optimizer_steps(self.trainer))

    def student_parameters(self) -> list[nn.Parameter]:
        return [p for p in self.student.parameters() if p.requires_grad]

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Of the student's U-Net alone, not of the head that learns with it."""
        nn.utils.clip_grad_norm_(self.student_parameters(), self.clip)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.target_head.update(self.head)
        if self.target is not None:
            self.target.update(self.student)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if not self.from_a_file(name)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = {name: value for name, value in self.state_dict().items() if self.from_a_file(name)}
        checkpoint["state_dict"] |= own

    def from_a_file(self, name: str) -> bool:
        """Whether a weight is frozen, with a file of its own, and needs no place in a checkpoint."""
        if name.startswith("student."):
            return name.removeprefix("student.") not in self.trained
        return name.startswith(("teacher.", "features.", "sentences."))

    def exported(self) -> nn.Module:
        """What sampling adds to the teacher; the motion head and the discriminator have done their work."""
        return trained_part(self.student)


def _denoise(unet: VideoUNet, context: Tensor, guidance: Tensor | None, latents: Tensor, t: Tensor) -> Tensor:
    return denoise(unet, latents, t, context, guidance)


if __name__ == "__main__":
    main(MotionConsistency, VideoData, links=one_seed)
