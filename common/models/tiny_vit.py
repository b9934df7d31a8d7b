"""TinyViT as MobileSAM's image encoder: RGB [B, 3, H, W] -> embedding [B, 256, H/16, W/16].

TinyViT-5M (Wu et al. 2022) with MobileSAM's changes (Zhang et al. 2023, official `build_sam_vit_t`): the last patch
merging keeps its resolution, SAM's convolutional neck follows, and the classifier is gone. Module names are those of
the official checkpoint `mobile_sam.pt`. All maps are [B, C, H, W]; only window attention and MLP work on tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from segment_anything.modeling import Sam
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from common.errors import UserError
from common.training.weights import State, load_state, load_weights

STEM_STRIDE = 4
UNUSED_KEYS = ("norm_head.*", "head.*", "*.attn.ab", "*.attn.attention_bias_idxs")
"""Entries of official files that have no counterpart here: the ImageNet classifier, and tables that are derived."""


@dataclass(frozen=True)
class TinyViTConfig:
    """Sizes of the encoder; the defaults are MobileSAM's.

    Args:
        image_size: side of the square input, pixels; what SAM pads to. Maps follow the actual input.
        embed_dims: channels of each stage.
        depths: blocks of each stage; the first stage's are MBConv, the others' TinyViT blocks.
        num_heads: attention heads of each stage (the first stage has no attention and ignores its entry).
        window_sizes: side of the attention windows of each stage, in tokens (the first entry is ignored).
        strides: stride of the patch merging after each stage but the last. MobileSAM: (2, 2, 1), ImageNet: (2, 2, 2).
        mlp_ratio: hidden width of the MLP over the block's width.
        mbconv_expand: hidden width of an MBConv over the block's width.
        out_chans: channels of the embedding; SAM's prompt dimension.
        drop_path: stochastic depth of the last block; grows linearly from 0 at the first.
    """

    image_size: int = 1024
    embed_dims: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (2, 4, 5, 10)
    window_sizes: tuple[int, ...] = (7, 7, 14, 7)
    strides: tuple[int, ...] = (2, 2, 1)
    mlp_ratio: float = 4.0
    mbconv_expand: float = 4.0
    out_chans: int = 256
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        stages = len(self.embed_dims)
        lengths = {len(self.depths), len(self.num_heads), len(self.window_sizes), len(self.strides) + 1}
        if lengths != {stages}:
            raise UserError(
                f"TinyViT: embed_dims has {stages} stages, so depths, num_heads and window_sizes need {stages} entries "
                f"and strides {stages - 1}: {self}"
            )
        for dim, heads in list(zip(self.embed_dims, self.num_heads, strict=True))[1:]:
            if dim % heads:
                raise UserError(f"TinyViT: {heads} heads do not divide {dim} channels: choose another num_heads")
        if self.image_size % self.stride:
            raise UserError(f"TinyViT: image_size {self.image_size} must be a multiple of the stride {self.stride}")

    @property
    def stride(self) -> int:
        """Pixels per token of the embedding; 16 for MobileSAM."""
        return STEM_STRIDE * prod(self.strides)


class ConvBN(nn.Sequential):
    """Convolution without bias, then BatchNorm: [B, C_in, H, W] -> [B, C_out, H/stride, W/stride]."""

    def __init__(self, in_chans: int, out_chans: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.c = nn.Conv2d(in_chans, out_chans, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_chans)


class PatchEmbed(nn.Module):
    """The stem: two 3x3 convolutions of stride 2, [B, 3, H, W] -> [B, dim, H/4, W/4]."""

    def __init__(self, dim: int):
        super().__init__()
        self.seq = nn.Sequential(ConvBN(3, dim // 2, 3, stride=2), nn.GELU(), ConvBN(dim // 2, dim, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class MBConv(nn.Module):
    """Inverted bottleneck [B, C, H, W] -> same: 1x1 expand, depthwise 3x3, 1x1 project; GELU also after the sum."""

    def __init__(self, dim: int, expand: float = 4.0, drop_path: float = 0.0):
        super().__init__()
        hidden = int(dim * expand)
        self.conv1 = ConvBN(dim, hidden)
        self.conv2 = ConvBN(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvBN(hidden, dim)
        nn.init.zeros_(self.conv3.bn.weight)  # a new block starts as (the GELU of) the identity
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return F.gelu(x + self.drop_path(self.conv3(y)))


class PatchMerging(nn.Module):
    """Transition between stages: [B, C, H, W] -> [B, C_out, H/stride, W/stride]."""

    def __init__(self, dim: int, out_dim: int, stride: int):
        super().__init__()
        self.conv1 = ConvBN(dim, out_dim)
        self.conv2 = ConvBN(out_dim, out_dim, 3, stride=stride, groups=out_dim)
        self.conv3 = ConvBN(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.conv1(x))
        x = F.gelu(self.conv2(x))
        return self.conv3(x)


def bias_indices(window: int) -> Tensor:
    """Column of the bias table for each pair of a window's tokens, int64 [w*w, w*w].

    A pair is described by |dy| and |dx|, so a window has w*w distinct offsets, numbered row by row.
    """
    y, x = torch.arange(window).repeat_interleave(window), torch.arange(window).repeat(window)
    return (y[:, None] - y).abs() * window + (x[:, None] - x).abs()


class Attention(nn.Module):
    """Multi-head attention among the tokens of one window [B, w*w, C] -> same, with LayerNorm before.

    A learned bias per head and absolute offset is added to the logits. It is read from its table at every call, so
    weights may be loaded or changed in any mode.
    """

    def __init__(self, dim: int, num_heads: int, window: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window * window))
        self.attention_bias_idxs: Tensor
        self.register_buffer("attention_bias_idxs", bias_indices(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # the checkpoint's layout keeps query, key and value of one head together
        q, k, v = rearrange(self.qkv(self.norm(x)), "b n (h three d) -> three b h n d", h=self.num_heads, three=3)
        # index_select, because its backward is faster than that of advanced indexing
        bias = self.attention_biases.index_select(1, self.attention_bias_idxs.flatten())
        bias = bias.unflatten(1, self.attention_bias_idxs.shape)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype))
        # unlike a reshape, this does not depend on the kernel's memory layout, which changes under export to ONNX
        return self.proj(torch.cat(y.unbind(1), dim=-1))


class Mlp(nn.Module):
    """Two-layer perceptron with LayerNorm before: [..., C] -> same."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Window attention, depthwise convolution, MLP: [B, C, H, W] -> same.

    The residual goes round attention and MLP, not round the convolution. A map that the window does not divide is
    padded with zeros at bottom and right; as in the original, the padding takes part in the attention.
    """

    def __init__(self, dim: int, num_heads: int, window: int, mlp_ratio: float = 4.0, drop_path: float = 0.0):
        super().__init__()
        self.window = window
        self.attn = Attention(dim, num_heads, window)
        self.local_conv = ConvBN(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self._windowed_attention(x))
        x = self.local_conv(x)
        y = self.mlp(rearrange(x, "b c h w -> b h w c"))
        return x + self.drop_path(rearrange(y, "b h w c -> b c h w"))

    def _windowed_attention(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.window, 0, -height % self.window))
        rows = padded.shape[-2] // self.window
        windows = rearrange(padded, "b c (r y) (s x) -> b r s (y x) c", y=self.window, x=self.window)
        batch, _, columns = windows.shape[:3]
        y = self.attn(windows.flatten(0, 2))
        y = rearrange(y, "(b r s) (y x) c -> b c (r y) (s x)", b=batch, r=rows, s=columns, y=self.window, x=self.window)
        return y[..., :height, :width]


class Stage(nn.Module):
    """Blocks of one resolution, then the patch merging to the next (none after the last stage)."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


def sam_neck(in_chans: int, out_chans: int) -> nn.Sequential:
    """SAM's neck: 1x1 and 3x3 convolutions, a channel LayerNorm after each. [B, C, h, w] -> [B, out_chans, h, w]."""
    return nn.Sequential(
        nn.Conv2d(in_chans, out_chans, 1, bias=False),
        LayerNorm2d(out_chans),
        nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False),
        LayerNorm2d(out_chans),
    )


class TinyViT(nn.Module):
    """The student image encoder, a drop-in for `Sam.image_encoder`.

    Example:
        >>> config = TinyViTConfig()
        >>> TinyViT(config)(torch.zeros(1, 3, 1024, 1024)).shape
        torch.Size([1, 256, 64, 64])
    """

    def __init__(self, config: TinyViTConfig):
        super().__init__()
        self.config = config
        self.img_size = config.image_size  # the name under which segment_anything's Sam looks it up
        drop = torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").tolist()
        self.patch_embed = PatchEmbed(config.embed_dims[0])
        self.layers = nn.ModuleList()
        for i, (dim, depth) in enumerate(zip(config.embed_dims, config.depths, strict=True)):
            rates = [drop.pop(0) for _ in range(depth)]
            if i == 0:
                blocks: list[nn.Module] = [MBConv(dim, config.mbconv_expand, rate) for rate in rates]
            else:
                heads, window = config.num_heads[i], config.window_sizes[i]
                blocks = [TinyViTBlock(dim, heads, window, config.mlp_ratio, rate) for rate in rates]
            last = i == len(config.depths) - 1
            merging = None if last else PatchMerging(dim, config.embed_dims[i + 1], config.strides[i])
            self.layers.append(Stage(blocks, merging))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.neck = sam_neck(config.embed_dims[-1], config.out_chans)

    def forward_features(self, images: Tensor) -> Tensor:
        """The last stage's map, before the neck: [B, 3, H, W] -> [B, embed_dims[-1], H/stride, W/stride]."""
        height, width = images.shape[-2:]
        if height % self.config.stride or width % self.config.stride:
            raise ValueError(f"image of {height}x{width}: both sides must be multiples of {self.config.stride}")
        x = self.patch_embed(images)
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Normalised, padded RGB [B, 3, H, W] -> image embedding [B, out_chans, H/stride, W/stride]."""
        return self.neck(self.forward_features(images))


def layer_lr_scales(model: TinyViT, decay: float = 0.8) -> Iterator[dict[str, Any]]:
    """Parameter groups whose learning rate falls by `decay` from block to block towards the input.

    Block i of D gets decay^(D-1-i); the stem shares the first block's, a patch merging that of the block before it,
    and the neck has 1 (official `set_layer_lr_decay`, decay 0.8; the paper does not say whether training used it).

    Yields:
        {"params": [...], "lr_scale": float}: set the group's "lr" to the base rate times `lr_scale`.
    """
    depth = sum(model.config.depths)
    scales = [decay ** (depth - 1 - i) for i in range(depth)]
    groups = [list(model.patch_embed.parameters())] + [[] for _ in range(depth - 1)]
    i = 0
    layer: Any
    for layer in model.layers:
        for block in layer.blocks:
            groups[i] += block.parameters()
            i += 1
        if layer.downsample is not None:
            groups[i - 1] += layer.downsample.parameters()
    groups[-1] += model.neck.parameters()
    for parameters, scale in zip(groups, scales, strict=True):
        yield {"params": parameters, "lr_scale": scale}


def load_mobile_sam(sam: Sam, source: State | str | Path) -> Sam:
    """Fill a `Sam` whose image encoder is a `TinyViT` from the official format of `mobile_sam.pt`; returns it.

    Everything must match but `UNUSED_KEYS`, which are skipped. Raises UserError as `load_weights` does.
    """
    load_weights(sam, source, ignore=[f"image_encoder.{key}" for key in UNUSED_KEYS])
    return sam


def load_timm_tiny_vit(model: TinyViT, source: State | str | Path) -> TinyViT:
    """Initialise all but the neck from a timm TinyViT (`tiny_vit_5m_224`); its classifier is dropped. Returns `model`.

    Shapes agree whatever the strides and the resolution: merging strides have no parameters, bias tables belong to
    windows. Raises UserError when the file is another size of TinyViT.
    """
    state = load_state(source) if isinstance(source, (str, Path)) else source
    own = {_from_timm(key): value for key, value in state.items() if not key.startswith("head.")}
    neck = {f"neck.{key}": value for key, value in model.neck.state_dict().items()}
    load_weights(model, {**own, **neck}, ignore=UNUSED_KEYS)
    return model


def _from_timm(key: str) -> str:
    parts = key.replace(".conv.", ".c.").split(".")
    if parts[0] == "patch_embed":  # conv1, conv2 -> seq.0, seq.2 (the GELU is seq.1)
        parts[1:2] = ["seq", {"conv1": "0", "conv2": "2"}.get(parts[1], parts[1])]
    elif parts[0] == "stages":
        # timm merges patches at the start of a stage, the official code at the end of the one before
        parts[:2] = ["layers", str(int(parts[1]) - (parts[2] == "downsample"))]
    return ".".join(parts)
