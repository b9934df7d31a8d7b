"""A text-to-video latent diffusion model: ModelScope's or AnimateDiff's parts as diffusers has them, or a tiny one.

model = load_video_model(VideoModel("ali-vilab/text-to-video-ms-1.7b"))
z = model.latents(videos)
eps = model.denoise(model.unet, z_t, t, model.encode_text(["a dog runs"]))
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
    UNet3DConditionModel,
    UNetMotionModel,
)
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from common.hub import from_pretrained
from common.models.lora import Lora, add_lora, updated_layers
from common.models.text_to_image import load_text_encoder, load_tokenizer
from common.paths import expand

VideoUNet = UNet3DConditionModel | UNetMotionModel
DECODED = 8
"""Frames that the autoencoder takes at a time, where no gradient is needed."""

ATTENTION_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
RESNET_LAYERS = ["conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv"]
TEMPORAL_CONVOLUTIONS = r".*temp_convs.*"  # of ModelScope's U-Net: left out


@dataclass
class VideoModel:
    """Where the teacher comes from.

    Attributes:
        source: hub id or folder in diffusers' layout: tokenizer, text_encoder, unet, scheduler and, unless it works on
            pixels, vae.
        motion_adapter: hub id or folder of AnimateDiff's motion modules, where `source` is a text-to-image model.
        beta_schedule: a noise schedule other than that of `source`; AnimateDiff's sampling wants "linear".
        timestep_spacing: of the teacher's steps, where it is not that of `source`; AnimateDiff's is "linspace".
    """

    source: str
    motion_adapter: str | None = None
    beta_schedule: str | None = None
    timestep_spacing: str | None = None


class PixelCodec(nn.Module):
    """In the autoencoder's place for tiny videos: squares of 2 x 2 grey pixels are the four channels. Loses nothing."""

    def encode(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, 4, H/2, W/2]."""
        return F.pixel_unshuffle(images.mean(1, keepdim=True), 2)

    def decode(self, latents: Tensor) -> Tensor:
        """[N, 4, h, w] -> [N, 3, 2h, 2w]."""
        return F.pixel_shuffle(latents, 2).expand(-1, 3, -1, -1)


class KLCodec(nn.Module):
    """Stable Diffusion's autoencoder, with its scale."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae

    def encode(self, images: Tensor) -> Tensor:
        return self.vae.encode(images.to(self.vae.dtype)).latent_dist.sample() * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype)).sample


class VideoDiffusion(nn.Module):
    """Tokenizer, text encoder, frozen frame codec, video U-Net and noise schedule."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: CLIPTextModel,
        unet: VideoUNet,
        scheduler: DDIMScheduler,
        codec: nn.Module,
    ):
        super().__init__()
        self.tokenizer, self.scheduler = tokenizer, scheduler
        self.text_encoder, self.unet, self.codec = text_encoder, unet, codec

    def encode_text(self, texts: list[str]) -> Tensor:
        """[B, N, d]."""
        ids = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.text_encoder(input_ids=ids.to(self.unet.device)).last_hidden_state

    @torch.no_grad()
    def latents(self, videos: Tensor) -> Tensor:
        """Videos [B, 3, F, H, W] in [0, 1] -> z [B, 4, F, h, w]."""
        frames = rearrange(2 * videos - 1, "b c f h w -> (b f) c h w")
        z = torch.cat([self.codec.encode(part) for part in frames.split(DECODED)]).float()
        return rearrange(z, "(b f) c h w -> b c f h w", b=len(videos))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """z [B, 4, F, h, w] -> videos [B, 3, F, H, W] in [0, 1]."""
        frames = rearrange(latents, "b c f h w -> (b f) c h w")
        pixels = torch.cat([self.codec.decode(part) for part in frames.split(DECODED)]).float()
        return rearrange(pixels / 2 + 0.5, "(b f) c h w -> b c f h w", b=len(latents)).clamp(0, 1)

    def save_pretrained(self, folder: Path) -> None:
        """Write what `load_video_model` reads; for models of pixels."""
        for name in ("tokenizer", "text_encoder", "unet", "scheduler"):
            getattr(self, name).save_pretrained(folder / name)


def denoise(unet: VideoUNet, latents: Tensor, t: Tensor, context: Tensor, guidance: Tensor | None = None) -> Tensor:
    """What the U-Net predicts for noisy latents [B, 4, F, h, w] at timesteps t [B], given a context [B, N, d].

    Args:
        guidance: embedded guidance scale [B, d_w], of a U-Net that was trained with one.
    """
    kind = unet.dtype  # half of float32's for sampling; the sampler keeps its latents in float32
    latents, context = latents.to(kind), context.to(kind)
    guidance = None if guidance is None else guidance.to(kind)
    if isinstance(unet, UNetMotionModel):  # it looks at frames one by one, and wants a context for each
        context = context.repeat_interleave(latents.shape[2], 0)
    return unet(latents, t, encoder_hidden_states=context, timestep_cond=guidance).sample


def load_video_model(model: VideoModel) -> VideoDiffusion:
    """The model with its weights in float32, frozen, in evaluation mode.

    Raises:
        UserError: nothing there.
    """
    source = str(expand(model.source, "teacher.source"))
    scheduler = from_pretrained(DDIMScheduler, source, subfolder="scheduler")
    own = {"beta_schedule": model.beta_schedule, "timestep_spacing": model.timestep_spacing}
    if changed := {name: value for name, value in own.items() if value is not None}:
        scheduler = DDIMScheduler.from_config(scheduler.config, **changed)
    if model.motion_adapter is None:
        unet = from_pretrained(UNet3DConditionModel, source, subfolder="unet", torch_dtype=torch.float32)
    else:
        spatial = from_pretrained(UNet2DConditionModel, source, subfolder="unet", torch_dtype=torch.float32)
        adapter = from_pretrained(MotionAdapter, model.motion_adapter, torch_dtype=torch.float32)
        unet = UNetMotionModel.from_unet2d(spatial, adapter)
    codec: nn.Module = PixelCodec()
    if not Path(source).is_dir() or (Path(source) / "vae").is_dir():
        codec = KLCodec(from_pretrained(AutoencoderKL, source, subfolder="vae", torch_dtype=torch.float32))
    whole = VideoDiffusion(load_tokenizer(source), load_text_encoder(source), unet, scheduler, codec)
    return whole.requires_grad_(False).eval()


def build_student(teacher: VideoUNet, lora: Lora | None, guidance_dim: int = 256) -> VideoUNet:
    """A copy of the teacher's U-Net that computes the same function at first, and what of it is trained.

    Args:
        lora: low-rank updates are all that is trained; None trains everything, and adds the projection of an embedded
            guidance scale, which starts from zero.
        guidance_dim: of that embedding.
    """
    if lora is not None:
        student = add_updates(copy.deepcopy(teacher), lora)
        return student
    student = type(teacher).from_config(teacher.config, time_cond_proj_dim=guidance_dim)
    student.load_state_dict(teacher.state_dict(), strict=False)
    nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student.eval()


def add_updates(unet: VideoUNet, lora: Lora) -> VideoUNet:
    """Updates of attention, feed-forward, ResNet, resampling and time-projection layers, in place, unless `lora` names
    others. diffusers' motion modules call their layers in a way that peft's do not know: see `_by_position`."""
    exclude = TEMPORAL_CONVOLUTIONS if isinstance(unet, UNet3DConditionModel) and lora.targets is None else None
    for layer in updated_layers(add_lora(unet, lora, ATTENTION_LAYERS + RESNET_LAYERS, exclude)):
        layer.register_forward_pre_hook(_by_position, with_kwargs=True)
    return unet


def _by_position(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    """diffusers' motion modules pass `input` by that name, which peft's layers do not know."""
    return ((kwargs.pop("input"), *args) if "input" in kwargs else args), kwargs


def noise_schedule(scheduler: Any) -> Tensor:
    """alpha-bar of the timesteps, float32 [T]."""
    return scheduler.alphas_cumprod.float()
