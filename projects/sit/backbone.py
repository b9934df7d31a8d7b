"""LV-ViT, which the paper slims, and any other network of timm's."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError, unknown
from common.hub import explained

Stem = Literal["patch", "conv4", "conv6"]
STEMS: dict[Stem, tuple[tuple[int, int], ...]] = {
    "conv4": ((8, 2), (4, 2), (2, 2), (1, 2)),
    "conv6": ((8, 2), (8, 1), (8, 1), (4, 2), (2, 2), (1, 2)),
}
"""Of each convolution: by how much less channels than a token it has, and its stride."""


@dataclass(frozen=True)
class Net:
    """A network: an LV-ViT by its sizes, or one of timm's by its name.

    Attributes:
        name: of timm's, as "hf-hub:timm/deit_small_patch16_224.fb_in1k"; None is an LV-ViT, and what follows below
            `distilled` is looked at for that one alone.
        classes: C.
        drop_path: stochastic depth of the last block, from 0 at the first.
        distilled: a second token, with a head of its own, learns from another teacher (DIST in the paper's figure).
        image_size: side S of the pictures, pixels.
        patch: side of a token, pixels; convolutional stems have 16.
        dim: channels D of a token.
        depth: blocks L.
        heads: of the attention.
        stem: how pixels become tokens: one linear map, four or six convolutions.
        mlp_ratio: hidden channels of a block's MLP, over D.
        skip: residuals are divided by it.
        checkpointing: compute blocks anew in the backward pass, which saves memory.
    """

    name: str | None = None
    classes: int = 1000
    drop_path: float = 0.0
    distilled: bool = False
    image_size: int = 224
    patch: int = 16
    dim: int = 384
    depth: int = 16
    heads: int = 6
    stem: Stem = "conv4"
    mlp_ratio: float = 3.0
    skip: float = 2.0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.name is not None:
            if self.distilled:
                raise UserError("net.distilled is for LV-ViTs: name a network of timm's that has such a token")
            return
        if self.dim % self.heads or self.image_size % self.patch or (self.stem != "patch" and self.patch != 16):
            raise UserError(
                f"net: dim ({self.dim}) must be a multiple of heads ({self.heads}), image_size ({self.image_size}) of "
                f"patch ({self.patch}), and convolutional stems have a patch of 16"
            )


class ConvStem(nn.Module):
    """LV-ViT's patch embedding: convolutions 3x3, batch norm, GELU but after the last. [B, 3, S, S] -> [B, N, D].

    Follows PatchEmbed4CG and PatchEmbed6CG of the official code, whose weights it takes.
    """

    def __init__(self, stem: Stem, img_size: int, embed_dim: int, **_: Any):
        super().__init__()
        self.layers, before = len(STEMS[stem]), 3
        for k, (part, stride) in enumerate(STEMS[stem], start=1):
            self.add_module(f"conv{k}", nn.Conv2d(before, embed_dim // part, 3, stride, padding=1, bias=False))
            self.add_module(f"bn{k}", nn.BatchNorm2d(embed_dim // part))
            before = embed_dim // part
        self.img_size, self.grid_size = (img_size, img_size), (img_size // 16, img_size // 16)
        self.num_patches = self.grid_size[0] ** 2

    def forward(self, x: Tensor) -> Tensor:
        for k in range(1, self.layers + 1):
            x = self.get_submodule(f"bn{k}")(self.get_submodule(f"conv{k}")(x))
            x = F.gelu(x) if k < self.layers else x
        return x.flatten(2).transpose(1, 2)


class ScaledBlock(Block):
    """timm's pre-norm block with residuals divided by `skip`: x + attn(norm(x)) / s, then x + mlp(norm(x)) / s."""

    def __init__(self, *args: Any, skip: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.skip = skip

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Tokens [B, N, D], in and out."""
        x = x + self.drop_path1(self.attn(self.norm1(x))) / self.skip
        return x + self.drop_path2(self.mlp(self.norm2(x))) / self.skip


def build(net: Net, pretrained: bool = False) -> nn.Module:
    """The network; with weights of timm's if asked.

    Raises:
        UserError: timm has no such network, its weights cannot be had, or an LV-ViT is asked to have some.
    """
    if net.name is not None:
        return named(net.name, pretrained, num_classes=net.classes, drop_path_rate=net.drop_path)
    if pretrained:
        raise UserError(
            "LV-ViTs have no weights on the hub: give a file of them (model.teacher_weights, model.weights)"
        )
    kind = VisionTransformerDistilled if net.distilled else VisionTransformer
    stem = {} if net.stem == "patch" else {"embed_layer": partial(ConvStem, net.stem)}
    vit = kind(
        img_size=net.image_size,
        patch_size=net.patch,
        num_classes=net.classes,
        embed_dim=net.dim,
        depth=net.depth,
        num_heads=net.heads,
        mlp_ratio=net.mlp_ratio,
        qkv_bias=False,
        drop_path_rate=net.drop_path,
        norm_layer=nn.LayerNorm,
        block_fn=partial(ScaledBlock, skip=net.skip),  # type: ignore[arg-type]  # timm calls it, whatever it is
        **stem,  # type: ignore[arg-type]
    )
    vit.set_grad_checkpointing(net.checkpointing)
    return vit


def named(name: str, pretrained: bool, **settings: Any) -> nn.Module:
    """A network of timm's. UserError: there is none of that name, or its weights cannot be had."""
    known = name.partition(":")[0] in ("hf-hub", "local-dir") or timm.is_model(name.partition(".")[0])
    if not known:
        raise unknown("timm model", name, timm.list_models())
    with explained("timm model", name.removeprefix("hf-hub:").removeprefix("local-dir:")):
        return timm.create_model(name, pretrained=pretrained, **settings)


def as_vit(net: nn.Module) -> VisionTransformer:
    """UserError where a network is no plain vision transformer, whose tokens alone can be slimmed."""
    if not isinstance(net, VisionTransformer):
        raise UserError(
            f"{type(net).__name__} is no plain vision transformer: slimmed are those of timm's class VisionTransformer "
            "(vit_*, deit_*, deit3_*, ...)"
        )
    return net


def grow(vit: VisionTransformer, teacher: VisionTransformer) -> None:
    """Fill a network with its teacher's weights; a second token, its place and its head keep their own."""
    own, state = vit.state_dict(), teacher.state_dict()
    if "dist_token" in own and "dist_token" not in state:
        kept = {name: own[name] for name in ("dist_token", "head_dist.weight", "head_dist.bias")}
        first, place, rest = state["pos_embed"][:, :1], own["pos_embed"][:, 1:2], state["pos_embed"][:, 1:]
        state = {**state, **kept, "pos_embed": torch.cat([first, place, rest], 1)}
    vit.load_state_dict(state)
