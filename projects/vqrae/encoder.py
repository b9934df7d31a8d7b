"""The pretrained ViT that VQRAE starts from, and the ViT decoder that mirrors it (§3.2)."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    InternVLVisionConfig,
    InternVLVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from common.data.images import IMAGENET_MEAN, IMAGENET_STD
from common.errors import UserError
from common.hub import from_pretrained, weight_files
from common.paths import expand
from common.training.weights import load_state, load_weights

CLASSES = {"siglip": (SiglipVisionConfig, SiglipVisionModel), "internvl": (InternVLVisionConfig, InternVLVisionModel)}
NORMALISATION = {
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "internvl": (IMAGENET_MEAN, IMAGENET_STD),
}


@dataclass
class EncoderConfig:
    """Which ViT.

    Attributes:
        kind: its class: SigLIP's image tower (SigLIP 2 at a fixed resolution too), or InternViT.
        hub: id of a released model that has it ("google/siglip2-so400m-patch16-256", "OpenGVLab/InternVL3-8B-hf").
        sizes: settings of the class, instead of `hub`.
        weights: a foundation's weights for `sizes`.
    """

    kind: Literal["siglip", "internvl"] = "siglip"
    hub: str | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None


class Encoder(nn.Module):
    """Pictures to token features Z_I, one for each patch.

    Args:
        kind: which class; it also says how pixels are normalised.
        vit: the tower, without a pooling head.
    """

    def __init__(self, kind: str, vit: nn.Module):
        super().__init__()
        self.vit = vit
        self.prefix_tokens = int(kind == "internvl")  # a class token, which stands for no patch
        register_normalisation(self, kind)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] in [0, 1] -> Z_I [B, N, d], the last layer's."""
        features = self.vit((images - self.mean) / self.std).last_hidden_state
        return features[:, self.prefix_tokens :]


class Decoder(nn.Module):
    """A ViT of the encoder's depth and width with patches of one token, and a linear layer to pixels; no convolutions.

    The pixels come out as the encoder takes them in, normalised, so that a fresh decoder begins at the mean colour.

    Args:
        kind: the encoder's class.
        config: the encoder's settings.
        pixels: side q of the square of pixels that a token becomes; the encoder's patch size keeps the resolution.
    """

    def __init__(self, kind: str, config: Any, pixels: int):
        super().__init__()
        settings_class, model_class = CLASSES[kind]
        self.grid, self.pixels = grid(config), pixels
        mirrored = {"patch_size": 1, "image_size": self.grid, "num_channels": config.hidden_size}
        self.vit = headless(settings_class, model_class, {**settings(config), **mirrored})
        self.prefix_tokens = int(kind == "internvl")
        self.to_pixels = nn.Linear(config.hidden_size, 3 * pixels * pixels)
        register_normalisation(self, kind)

    def forward(self, tokens: Tensor) -> Tensor:
        """Z_bot [B, N, d] -> pictures [B, 3, S', S'], about [0, 1]."""
        square = rearrange(tokens, "b (h w) d -> b d h w", h=self.grid)
        decoded = self.vit(square).last_hidden_state[:, self.prefix_tokens :]
        pixels = unpatchify(self.to_pixels(decoded).float(), self.pixels)  # losses compare them in full precision
        return pixels * self.std + self.mean


def register_normalisation(module: nn.Module, kind: str) -> None:
    """Buffers `mean` and `std` of the channels [3, 1, 1], which belong to the class of ViT and to no checkpoint."""
    for name, values in zip(("mean", "std"), NORMALISATION[kind], strict=True):
        module.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)


def unpatchify(patches: Tensor, pixels: int) -> Tensor:
    """A square of tokens [B, N, 3 q q], each the pixels of a patch, as pictures [B, 3, S, S]."""
    side = round(patches.shape[1] ** 0.5)
    return rearrange(patches, "b (h w) (c p q) -> b c (h p) (w q)", h=side, p=pixels, q=pixels)


def patchify(images: Tensor, pixels: int) -> Tensor:
    """The inverse of `unpatchify`."""
    return rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=pixels, q=pixels)


def side(value: Any) -> int:
    """A size that some configs give once, others for height and width."""
    return value if isinstance(value, int) else value[0]


def grid(config: Any) -> int:
    """Patches along a side."""
    return side(config.image_size) // side(config.patch_size)


def settings(config: Any) -> dict[str, Any]:
    """What makes another ViT of the same depth and width."""
    dropped = ("architectures", "dtype", "transformers_version", "model_type")
    return {key: value for key, value in config.to_dict().items() if key not in dropped}


def headless(settings_class: Any, model_class: Any, values: dict[str, Any]) -> nn.Module:
    """A ViT without SigLIP's pooling head, which reconstruction does not train."""
    if settings_class is SiglipVisionConfig:
        values = {**values, "vision_use_head": False}
    return model_class(settings_class(**values))


def build_encoder(config: EncoderConfig, pretrained: bool = True) -> Encoder:
    """The encoder of a config, with its weights unless another checkpoint brings them.

    Raises:
        UserError: the hub's model has no such tower, or weights and sizes do not fit.
    """
    settings_class, model_class = CLASSES[config.kind]
    if config.hub is None:
        vit = headless(settings_class, model_class, config.sizes)
        if pretrained and config.weights is not None:
            state = load_state(expand(config.weights, "encoder.weights"))
            load_weights(vit, tower(state, list(vit.state_dict()), config.weights))
        return Encoder(config.kind, vit)
    whole = from_pretrained(AutoConfig, config.hub)
    vit = headless(settings_class, model_class, settings(getattr(whole, "vision_config", whole)))
    if pretrained:
        load_weights(vit, tower(hub_tensors(config.hub), list(vit.state_dict()), config.hub))
    return Encoder(config.kind, vit)


def tower(state: dict[str, Tensor], keys: list[str], where: str) -> dict[str, Tensor]:
    """The part of a larger model's state that has `keys`, whatever they are prefixed with there."""
    for name in state:
        if name.endswith(keys[0]):
            prefix = name.removesuffix(keys[0])
            return {key: state[prefix + key].float() for key in keys if prefix + key in state}
    raise UserError(f"{where} has no image tower of this class: none of its weights is called '{keys[0]}'")


def hub_tensors(hub: str) -> dict[str, Tensor]:
    """The image tower's tensors of a model on the hub (or in a folder), from those of its files that hold any."""
    found: dict[str, Tensor] = {}
    for file in weight_files(hub, "vision"):
        state = load_state(file)
        found |= {name: value for name, value in state.items() if "vision" in name}
    return found
