"""The adapter between a language model's embeddings and CLIP's space, and the tuned image encoder: what is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError
from common.models.clip import HIGHEST_SCALE, Clip
from common.training.weights import load_state, load_weights

VISUAL = "visual."
FIRST_SCALE = 1 / 0.07
"""Of the logits, where CLIP's training begins."""


class Block(nn.Module):
    """x + Linear(GELU(Linear(LayerNorm(x)))), as wide inside as `expansion` says."""

    def __init__(self, dim: int, expansion: int):
        super().__init__()
        # the third is the released code's dropout, which is 0: it keeps the layers' names
        self.fn = nn.Sequential(
            nn.Linear(dim, expansion * dim), nn.GELU(), nn.Identity(), nn.Linear(expansion * dim, dim)
        )
        self.ln = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(self.ln(x))


class Adapter(nn.Module):
    """A: embeddings of a language model [N, d] -> CLIP's space, unit rows [N, D].

    One residual block, a LayerNorm and a linear layer on the *normalised* embedding: its length does not matter.

    Args:
        dim: d.
        out: D.
        expansion: of the block.
        blocks: how many of them; the released code's default is one.
    """

    def __init__(self, dim: int, out: int, expansion: int = 8, blocks: int = 1):
        super().__init__()
        self.dim = dim
        self.text_adaptor = nn.Sequential(
            *(Block(dim, expansion) for _ in range(blocks)), nn.LayerNorm(dim), nn.Linear(dim, out)
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        return F.normalize(self.text_adaptor(F.normalize(embeddings, dim=-1)), dim=-1)


class Tuned(nn.Module):
    """Adapter, CLIP's image encoder and the logit scale: what a training of stage 2 leaves.

    Args:
        adapter: from stage 1, or fresh.
        clip: whose image encoder it is.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, adapter: Adapter, clip: Clip):
        super().__init__()
        self.adapter, self.visual = adapter, clip.net.visual
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_SCALE).log())
        self.register_buffer("mean", clip.mean.clone(), persistent=False)
        self.register_buffer("std", clip.std.clone(), persistent=False)

    def images(self, images: Tensor, encoder: nn.Module | None = None) -> Tensor:
        """Pictures [B, 3, S, S] in [0, 1] -> unit rows [B, D], of this encoder or of another one."""
        encoder = self.visual if encoder is None else encoder
        return F.normalize(encoder((images - self.mean) / self.std), dim=-1)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """As CLIP does after every step: the scale stays from 1 to 100."""
        self.logit_scale.clamp_(0, torch.tensor(HIGHEST_SCALE).log().item())


def load_adapter(path: Path) -> Adapter:
    """An adapter of the sizes that the file's tensors have: of either stage, or of the released weights.

    Raises:
        UserError: no adapter in the file.
    """
    state = _part(load_state(path), "text_adaptor.")
    blocks = 0
    while f"text_adaptor.{blocks}.fn.0.weight" in state:
        blocks += 1
    try:
        inner, dim = state["text_adaptor.0.fn.0.weight"].shape
        out = len(state[f"text_adaptor.{blocks + 1}.weight"])
    except KeyError:
        raise UserError(f"{path} holds no adapter: give what a stage of this recipe has left") from None
    adapter = Adapter(dim, out, inner // dim, blocks)
    load_weights(adapter, state)
    return adapter


def load_visual(visual: nn.Module, path: Path) -> None:
    """Fill CLIP's image encoder from what stage 2 has left, or from released weights, which lie in the same layout.

    Their joint space may be of another width (the released configs say 1280): the last projection takes the file's.

    Raises:
        UserError: no image encoder in the file, or another one's.
    """
    state = load_state(path)
    if not any(key.startswith(VISUAL) for key in state):
        raise UserError(f"{path} holds no image encoder: give what stage 2 (tune) has left")
    own, found = getattr(visual, "proj", None), state.get(f"{VISUAL}proj")
    if own is not None and found is not None and found.shape[:1] == own.shape[:1]:
        visual.proj = nn.Parameter(torch.zeros_like(found))
    load_weights(visual, state, prefix=VISUAL)


def _part(state: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    """The tensors whose names hold `start`, under names that begin with it."""
    return {start + key.partition(start)[2]: value for key, value in state.items() if start in key}


def decayed(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters as an optimiser's groups: matrices decay; biases, norms and single tokens do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    parts = (weight_decay, [p for p in trained if p.dim() > 1]), (0.0, [p for p in trained if p.dim() < 2])
    return [{"params": group, "weight_decay": decay} for decay, group in parts if group]


def check_width(adapter: Adapter, data: Any) -> None:
    """UserError where the data's embeddings are not as wide as the adapter reads them."""
    if adapter.dim != data.width:
        raise UserError(
            f"the adapter reads embeddings of {adapter.dim} numbers, these have {data.width}: set model.dim, or take "
            "the adapter and the embeddings of one language model"
        )
