"""The paper's modules: TSM merges tokens into fewer, RTSM blows them up again for the teacher's to be compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from timm.layers import Mlp, trunc_normal_
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from common.errors import UserError
from projects.sit.backbone import as_vit

Kind = Literal["tsm", "topk", "random", "pool"]


@dataclass(frozen=True)
class Slimming:
    """Where tokens are made fewer, and how.

    Attributes:
        after: blocks, counted from 1, after which it happens.
        keep: the i-th time int(N * keep^i) of the first N tokens are left, rounded down as in the official code.
        kept: these numbers, where they are to be others.
        kind: the paper's module, or what it is compared with: the tokens that the class token looks at most, tokens by
            chance, means of neighbours.
    """

    after: list[int]
    keep: float = 0.5
    kept: list[int] | None = None
    kind: Kind = "tsm"

    def counts(self, tokens: int, depth: int) -> list[int]:
        """How many are left each time, of so many. UserError where that cannot be."""
        left = self.kept or [int(tokens * self.keep**k) for k in range(1, len(self.after) + 1)]
        fewer = [tokens, *left]
        if len(left) != len(self.after) or min(left, default=1) < 1 or fewer != sorted(fewer, reverse=True):
            raise UserError(f"slimming leaves {left} of {tokens} tokens after blocks {self.after}: a number for each "
                            "block, none larger than the one before, none below 1")  # fmt: skip
        if self.after != sorted(set(self.after)) or not self.after or self.after[0] < 1 or self.after[-1] > depth:
            raise UserError(f"slimming.after is {self.after}: blocks from 1 to {depth}, each once and in order")
        return left


class TokenSlimming(nn.Module):
    """TSM: each of K tokens is a weighted mean of all, the weights a softmax over the tokens that come in.

    Weights are read from normed tokens, the mean is of the tokens themselves. [B, N, D] -> [B, K, D].
    """

    def __init__(self, dim: int, kept: int, ratio: float = 0.5):
        super().__init__()
        hidden = int(dim * ratio)
        self.weight = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, kept))
        self.scale = nn.Parameter(torch.ones(1, 1, 1))
        self.apply(initialise)

    def weights(self, tokens: Tensor) -> Tensor:
        """Each row sums to 1, [B, K, N]."""
        return F.softmax(self.weight(tokens) * self.scale, dim=1).transpose(1, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.weights(tokens) @ tokens


class HardSlimming(nn.Module):
    """Keeps K tokens as they are and drops the others. [B, N, D] -> [B, K, D], in their order."""

    def __init__(self, kept: int):
        super().__init__()
        self.kept = kept

    def scores(self, tokens: Tensor) -> Tensor:
        """By chance, [B, N]; those with the largest are kept."""
        return torch.rand(tokens.shape[:2], device=tokens.device)

    def chosen(self, tokens: Tensor) -> Tensor:
        return self.scores(tokens).topk(self.kept, 1).indices.sort(1).values

    def weights(self, tokens: Tensor) -> Tensor:
        """One 1 in each row, [B, K, N]."""
        return F.one_hot(self.chosen(tokens), tokens.shape[1]).to(tokens.dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.gather(1, self.chosen(tokens)[:, :, None].expand(-1, -1, tokens.shape[2]))


class TopSlimming(HardSlimming):
    """Keeps the tokens that the class token attends to most, in the block before, on average over heads (EViT).

    That block's queries and keys are watched while it computes, so that the scores cost nothing that it does not do.
    """

    def __init__(self, kept: int, attention: nn.Module, prefix: int):
        super().__init__(kept)
        self.prefix = prefix
        self.query = self.key = torch.zeros(0)
        attention.q_norm.register_forward_hook(self.see_query)  # type: ignore[union-attr]
        attention.k_norm.register_forward_hook(self.see_key)  # type: ignore[union-attr]

    def see_query(self, module: nn.Module, inputs: Any, found: Tensor) -> None:
        """[B, heads, N, d], of which the class token's is kept."""
        self.query = found[:, :, :1].detach()

    def see_key(self, module: nn.Module, inputs: Any, found: Tensor) -> None:
        self.key = found.detach()

    def scores(self, tokens: Tensor) -> Tensor:
        attention = (self.query @ self.key.transpose(-1, -2) * self.key.shape[-1] ** -0.5).softmax(-1)
        return attention[:, :, 0, self.prefix :].mean(1)


class Pooling(nn.Module):
    """Means of K runs of neighbouring tokens, row by row of the picture. [B, N, D] -> [B, K, D]."""

    def __init__(self, kept: int):
        super().__init__()
        self.kept = kept

    def weights(self, tokens: Tensor) -> Tensor:
        unit = torch.eye(tokens.shape[1], device=tokens.device, dtype=tokens.dtype)
        return F.adaptive_avg_pool1d(unit, self.kept).T.expand(len(tokens), -1, -1)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(tokens.transpose(1, 2), self.kept).transpose(1, 2)


class ReverseSlimming(nn.Module):
    """RTSM: K tokens become N again, mixed along the tokens and then along the channels. [B, K, D] -> [B, N, D].

    There is a residual around the second MLP, none around the first.
    """

    def __init__(self, dim: int, kept: int, recovered: int, ratio: float = 4.0):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp1 = Mlp(kept, int(recovered * ratio), recovered)
        self.mlp2 = Mlp(dim, int(dim * ratio), dim)
        self.apply(initialise)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.mlp1(self.norm1(tokens).transpose(1, 2)).transpose(1, 2)
        return tokens + self.mlp2(self.norm2(tokens))


class Seen(NamedTuple):
    """What a forward pass has seen.

    Attributes:
        logits: of the class token [B, C].
        hard: those of the second token; None where there is none.
        tokens: after each block, and the slimming that follows it: [B, N_i, D], without class token and final norm.
    """

    logits: Tensor
    hard: Tensor | None
    tokens: list[Tensor]

    @property
    def answer(self) -> Tensor:
        """Logits [B, C]; where two tokens have some, their mean."""
        return self.logits if self.hard is None else (self.logits + self.hard) / 2


class SlimViT(nn.Module):
    """A vision transformer whose tokens get fewer on the way; with all of them where `slimming` is None.

    Class tokens and registers are never slimmed and stay first.
    """

    def __init__(self, vit: nn.Module, slimming: Slimming | None):
        super().__init__()
        self.vit = as_vit(vit)
        self.all, depth = self.vit.patch_embed.num_patches, len(self.vit.blocks)
        self.after = slimming.after if slimming else []
        kept = slimming.counts(self.all, depth) if slimming else []
        self.counts = [([self.all, *kept])[sum(a <= block for a in self.after)] for block in range(1, depth + 1)]
        """Tokens that leave each block, slimming included."""
        self.tsm = nn.ModuleList(self.module(slimming, k, n) for k, n in enumerate(kept) if slimming)

    def module(self, slimming: Slimming, number: int, kept: int) -> nn.Module:
        """What makes tokens fewer for the `number`-th time."""
        if slimming.kind == "tsm":
            return TokenSlimming(self.vit.embed_dim, kept)
        if slimming.kind == "topk":
            attention = self.vit.blocks[slimming.after[number] - 1].attn
            return TopSlimming(kept, attention, self.vit.num_prefix_tokens)
        return HardSlimming(kept) if slimming.kind == "random" else Pooling(kept)

    def see(self, images: Tensor, mixing: list[Tensor] | None = None) -> Seen:
        """Pictures [B, 3, S, S], normalised, through the network.

        Args:
            mixing: a list that gets the slimming modules' weights [B, K, N], for pictures of what they look at.
        """
        vit, found, prefix = self.vit, [], self.vit.num_prefix_tokens
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        for number, block in enumerate(vit.blocks, start=1):
            x = checkpoint(block, x, use_reentrant=False) if vit.grad_checkpointing and self.training else block(x)
            if number in self.after:
                slim = self.tsm[self.after.index(number)]
                if mixing is None:
                    left = slim(x[:, prefix:])
                else:  # what is shown is what was used: some weights are drawn
                    mixing.append(slim.weights(x[:, prefix:]))
                    left = mixing[-1] @ x[:, prefix:]
                x = torch.cat([x[:, :prefix], left], 1)
            found.append(x[:, prefix:])
        x = vit.norm(x)
        if hasattr(vit, "head_dist"):
            return Seen(vit.head(x[:, 0]), vit.head_dist(x[:, 1]), found)
        return Seen(vit.forward_head(x), None, found)

    def forward(self, images: Tensor) -> Tensor:
        """The answer, [B, C]."""
        return self.see(images).answer


def reverse_modules(student: SlimViT) -> nn.ModuleList:
    """One module after each block: RTSM from the first slimming on, before it nothing."""
    dim, every = student.vit.embed_dim, student.all
    return nn.ModuleList(
        ReverseSlimming(dim, count, every) if count < every else nn.Identity() for count in student.counts
    )


def recovered(tokens: Sequence[Tensor], reverse: nn.ModuleList) -> list[Tensor]:
    """Tokens of each block as many as the teacher has, [B, N, D] each; they go to the loss alone."""
    return [module(x) for module, x in zip(reverse, tokens, strict=True)]


def initialise(module: nn.Module) -> None:
    """The official initialisation of linear layers."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the official code under our names, without what only trains (RTSM) or is not used (the aux head)."""
    unused = ("rtsm.", "aux_head.")
    kept = {name: value for name, value in state.items() if not name.startswith(unused)}
    if any(name.startswith("vit.") for name in kept):
        return kept  # our own
    return {name if name.startswith("tsm.") else f"vit.{name}": value for name, value in kept.items()}
