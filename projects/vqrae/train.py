"""Train VQRAE's tokenizer: either of its two stages, or both at once as the ablations do.

python -m projects.vqrae.train fit --config projects/vqrae/configs/mini/stage1.yaml
python -m projects.vqrae.train fit --config projects/vqrae/configs/mini/stage2.yaml --model.weights <stage 1's>
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from torchmetrics.image import PeakSignalNoiseRatio

from common.cli import main, one_seed
from common.data.images import PictureData
from common.paths import expand
from common.training.schedules import optimizer_steps
from common.training.weights import load_weights
from projects.vqrae.discriminator import Adversary, LeCam, PatchDiscriminator, discriminator_loss, generator_loss
from projects.vqrae.encoder import EncoderConfig, build_encoder
from projects.vqrae.metrics import CodebookUsage
from projects.vqrae.model import VQRAE, Codebook
from projects.vqrae.perceptual import PerceptualLoss, PerceptualNets

OWN_FILES = ("teacher.", "perceptual.")  # frozen nets with weight files of their own: not in checkpoints


class TokenizerTraining(L.LightningModule):
    """L_rec + L_quant + lambda_d L_distill (Eq. 2 to 6).

    - L_rec = mean (X - X')^2 + 1.1 L_P(X, X') + lambda_G L_G(X'): pixels, perception, and in stage 2 the discriminator.
    - L_quant = mean (z - sg(c))^2 + beta mean (sg(z) - c)^2 of SimVQ.
    - L_distill = mean (Z_I - T(X))^2: the features before projection and quantisation stay near those of T, a frozen
      copy of the original encoder. The paper does not state the reduction; the mean is taken, as in the other terms.

    Stage 1 freezes the encoder and has neither distillation nor discriminator. Stage 2 starts from stage 1 and trains
    everything.

    Losses are in float32 under any precision, as in TiTok's code; so are the nets that they ask. What is validated and
    handed on is TiTok's running mean of the weights.

    Args:
        encoder: the pretrained ViT.
        codebook: the quantiser.
        perceptual: the nets of L_P.
        weights: a tokenizer to start from: stage 1's.
        train_encoder: whether the encoder learns.
        distill_weight: lambda_d; 0 for none.
        pixel_weight: of the mean squared error; the paper's is 1.
        perceptual_weight: of L_P; 0 for none.
        adversary: the discriminator; None for none.
        lr: peak learning rate of decoder, projections and quantiser.
        end_lr: where the cosine ends, for the encoder too if its own rate is not lower; the discriminator's rate falls
            by the same factor between its start and the end, as in TiTok's code.
        encoder_lr: peak learning rate of the encoder.
        weight_decay: of AdamW; biases, gains and embeddings are left alone, as in TiTok's code.
        warmup_steps: linear warm-up.
        clip: largest norm of the gradient, of tokenizer and discriminator apart.
        ema_decay: of the running mean of the tokenizer's weights, once it has risen so far: see `RunningMean`.
    """

    def __init__(
        self,
        encoder: EncoderConfig,
        codebook: Codebook,
        perceptual: PerceptualNets,
        weights: str | None = None,
        train_encoder: bool = False,
        distill_weight: float = 0.0,
        pixel_weight: float = 1.0,
        perceptual_weight: float = 1.1,
        adversary: Adversary | None = None,
        lr: float = 4e-4,
        end_lr: float = 1e-4,
        encoder_lr: float = 1e-5,
        weight_decay: float = 1e-4,
        warmup_steps: int = 2000,
        clip: float = 1.0,
        ema_decay: float = 0.999,
    ):
        super().__init__()
        self.train_encoder, self.distill_weight, self.adversary = train_encoder, distill_weight, adversary
        self.pixel_weight, self.perceptual_weight, self.clip = pixel_weight, perceptual_weight, clip
        self.lr, self.end_lr, self.encoder_lr = lr, end_lr, encoder_lr
        self.weight_decay, self.warmup_steps = weight_decay, warmup_steps
        self.tokenizer = VQRAE(encoder, codebook, pretrained=weights is None)
        if weights is not None:
            load_weights(self.tokenizer, expand(weights, "model.weights"))
        if not train_encoder:
            self.tokenizer.encoder.requires_grad_(False).eval()
        self.averaged = AveragedModel(self.tokenizer, multi_avg_fn=RunningMean(ema_decay)).requires_grad_(False).eval()
        self.teacher = build_encoder(encoder).requires_grad_(False).eval() if distill_weight else None
        self.perceptual = PerceptualLoss(perceptual) if perceptual_weight else None
        self.discriminator = PatchDiscriminator(adversary.hidden, adversary.stages) if adversary else None
        self.lecam = LeCam()
        self.psnr = PeakSignalNoiseRatio(1.0, dim=(1, 2, 3))
        self.usage = CodebookUsage(codebook.size)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        images = batch["image"]
        out = self.tokenizer(images)
        target = self.target(images)
        with torch.autocast(images.device.type, enabled=False):
            images, made = images.float(), out.images.float()
            terms = {
                "pixels": self.pixel_weight * F.mse_loss(made, images),
                "quant": out.loss,
            }
            if self.perceptual is not None:
                terms["perceptual"] = self.perceptual_weight * self.perceptual(images, made)
            if target is not None:
                terms["distill"] = self.distill_weight * F.mse_loss(out.features.float(), target.float())
            if self.adversary is not None and self.global_step >= self.adversary.start:
                terms |= self.play(images, made)
            loss = torch.stack(list(terms.values())).sum()
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        self.log("train/loss", loss)
        return loss

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor | None:
        """T(X), what the features are held near; None without distillation."""
        return None if self.teacher is None else self.teacher(images)

    def play(self, images: Tensor, reconstructed: Tensor) -> dict[str, Tensor]:
        """The generator's term, and the discriminator's own loss, in one sum whose gradients do not mix.

        The discriminator judges for the generator as it is before this step, and learns from the pictures as they are
        before this step: what alternating steps on one batch amount to, with one optimiser.
        """
        assert self.adversary is not None and self.discriminator is not None
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        fooled = functional_call(self.discriminator, fixed, (reconstructed,))
        real, fake = self.discriminator(images), self.discriminator(reconstructed.detach())
        return {
            "generator": self.adversary.weight * generator_loss(fooled),
            "discriminator": discriminator_loss(real, fake),
            "lecam": self.adversary.lecam * self.lecam(real, fake),
        }

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        out = self.averaged(batch["image"])
        self.psnr.update(out.images.float().clamp(0, 1), batch["image"])
        self.log("val/psnr", self.psnr)
        if out.indices is not None:
            self.usage.update(out.indices)

    def on_validation_epoch_end(self) -> None:
        if self.usage.update_called:
            self.log_dict({f"val/{name}": share for name, share in self.usage.compute().items()})
            self.usage.reset()

    def configure_optimizers(self) -> dict[str, Any]:
        steps, end = optimizer_steps(self.trainer), self.end_lr / self.lr
        named = list(self.tokenizer.named_parameters())
        rest = [(name, p) for name, p in named if not name.startswith("encoder.")]
        schedule = partial(cosine, warmup=self.warmup_steps, total=steps)
        parts = [(rest, self.lr, partial(schedule, end=end))]
        if self.train_encoder:
            encoder_end = min(1.0, self.end_lr / self.encoder_lr)
            encoder = [(name, p) for name, p in named if name.startswith("encoder.")]
            parts.append((encoder, self.encoder_lr, partial(schedule, end=encoder_end)))
        if self.adversary is not None and self.discriminator is not None:
            later = partial(cosine, warmup=self.warmup_steps, total=steps, end=end, start=self.adversary.start)
            parts.append((list(self.discriminator.named_parameters()), self.adversary.lr, later))
        groups: list[dict[str, Any]] = []
        factors: list[Callable[[int], float]] = []
        for members, lr, factor in parts:
            for kept, decay in ((True, 0.0), (False, self.weight_decay)):
                chosen = [p for name, p in members if p.requires_grad and undecayed(name, p) == kept]
                groups.append({"params": chosen, "lr": lr, "weight_decay": decay})
                factors.append(factor)
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        nn.utils.clip_grad_norm_(self.tokenizer.parameters(), self.clip)
        if self.discriminator is not None:
            nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.clip)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.averaged.update_parameters(self.tokenizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith(OWN_FILES)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= {k: v for k, v in self.state_dict().items() if k.startswith(OWN_FILES)}

    def exported(self) -> nn.Module:
        return self.averaged.module


class RunningMean:
    """Moves averaged weights towards the trained ones after every step, as TiTok's training does.

    Args:
        decay: share of the mean that stays; (1 + n) / (10 + n) after n steps where that is less, so that the beginning
            is soon forgotten.
    """

    def __init__(self, decay: float):
        self.decay = decay

    @torch.no_grad()
    def __call__(self, averaged: Any, trained: Any, steps: Any) -> None:
        """Lists of tensors, of which the first is changed; `steps` so far, at least 1."""
        stays = min(self.decay, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(averaged, trained, 1 - stays)


def undecayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay leaves a parameter alone, as in TiTok's code: biases, gains and embeddings."""
    return parameter.ndim < 2 or "embed" in name


def cosine(step: int, warmup: int, total: int, end: float, start: int = 0) -> float:
    """Factor on the learning rate: linear warm-up to 1 from step `start` on, then a cosine to `end` at step `total`."""
    step = max(0, step - start)
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - start - warmup))
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))


if __name__ == "__main__":
    main(TokenizerTraining, PictureData, links=one_seed)
