"""ModularStarEncoder: StarCoder-2 blocks that see in both directions, and what stands at their exits."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from einops import repeat
from torch import Tensor, nn
from transformers import Starcoder2Config, Starcoder2Model
from transformers.masking_utils import create_bidirectional_mask

from common.errors import UserError
from common.paths import expand
from common.training.weights import load_state, load_weights

HEADS = "projection_heads"  # of the released fine-tuned models
RELEASED_EXITS = (4, 9, 18, 27, 36)

Attention = Literal["sdpa", "eager", "flash_attention_2"]


@dataclass(frozen=True)
class TrunkSizes:
    """Sizes of the whole trunk; the defaults are the paper's (its vocabulary of 49,156 follows from the tokenizer).

    Attributes:
        hidden: width D.
        feed_forward: width of a block's MLP.
        layers: blocks of the whole trunk, n.
        heads: attention heads.
        kv_heads: heads of keys and values, each shared by heads / kv_heads queries.
        rope_theta: base of the rotary positions.
        max_length: positions.
        dropout: of attention, residuals and embeddings.
        init_std: of the initial weights.
        attention: which of transformers' implementations; all give the same.
        recompute: let the backward pass compute a layer's activations anew instead of keeping them.
    """

    hidden: int = 1024
    feed_forward: int = 12288
    layers: int = 36
    heads: int = 16
    kv_heads: int = 4
    rope_theta: float = 999999.4420358813
    max_length: int = 2048
    dropout: float = 0.1
    init_std: float = 0.018042
    attention: Attention = "sdpa"
    recompute: bool = False

    def config(self, tokens: int) -> Starcoder2Config:
        """The same for transformers; `tokens` is the size of the vocabulary."""
        return Starcoder2Config(
            vocab_size=tokens,
            hidden_size=self.hidden,
            intermediate_size=self.feed_forward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.max_length,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            initializer_range=self.init_std,
            attention_dropout=self.dropout,
            residual_dropout=self.dropout,
            embedding_dropout=self.dropout,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation=self.attention,
        )


class Trunk(Starcoder2Model):
    """StarCoder-2 without its causal mask, whole or cut after a layer; parameters are named as in the library.

    Args:
        config: of the whole trunk.
        layers: keep this many blocks; None keeps all. Only the whole trunk has a final LayerNorm: a cut one ends with
            the residual stream, just as the layers above would have received it.
        recompute: keep no activations for the backward pass but each layer's input.
    """

    def __init__(self, config: Starcoder2Config, layers: int | None = None, recompute: bool = False):
        super().__init__(config)
        if recompute:
            self.gradient_checkpointing_enable()
        if layers is not None and layers < config.num_hidden_layers:
            del self.layers[layers:]
            self.norm = nn.Identity()
        for layer in self.layers:
            layer.self_attn.is_causal = False  # what sdpa and flash attention follow where nothing is padded

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> list[Tensor]:
        """States [B, N, D] of the embeddings and after each layer; the whole trunk's last one is normalised.

        Args:
            input_ids: [B, N].
            attention_mask: [B, N], 1 for tokens, 0 for padding on whichever side; None where there is none.
        """
        hidden = self.embed_tokens(input_ids)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=attention_mask)
        states = [hidden]
        hidden = nn.functional.dropout(hidden, self.embedding_dropout, self.training)
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        rotary = self.rotary_emb(hidden, position_ids=positions)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
            states.append(hidden)
        states[-1] = self.norm(hidden)
        return states


def pool(hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """The last token that is no padding, here <cls>: [B, N, D] -> [B, D].

    Padding may be on either side: on the left the last position is that token's, on the right it is not.
    """
    if attention_mask is None:
        return hidden[:, -1]
    places = torch.arange(hidden.shape[1], device=hidden.device)
    last = (attention_mask * places).argmax(1)
    return hidden.gather(1, repeat(last, "b -> b 1 d", d=hidden.shape[-1])).squeeze(1)


def at_most_unit(x: Tensor) -> Tensor:
    """x / max(|x|, 1), along the last axis: vectors shorter than 1 stay as they are, as in the ancestor StarEncoder."""
    return x / x.norm(dim=-1, keepdim=True).clamp(min=1)


def projection(width: int) -> nn.Sequential:
    """A head for retrieval. Two square layers are what the released files' sizes leave room for."""
    return nn.Sequential(nn.Linear(width, width), nn.GELU(approximate="tanh"), nn.Linear(width, width))


class MultiExitEncoder(nn.Module):
    """Embeddings at several depths of one trunk, cut after the deepest, with a projection for each.

    Args:
        sizes: of the whole trunk.
        tokens: size of the vocabulary.
        exits: layers, counted from 1, after which an embedding is taken.
    """

    def __init__(self, sizes: TrunkSizes, tokens: int, exits: Sequence[int]):
        super().__init__()
        check_exits(exits, sizes.layers)
        self.exits, self.layers = tuple(exits), sizes.layers
        self.trunk = Trunk(sizes.config(tokens), max(exits), sizes.recompute)
        self.projections = nn.ModuleDict({str(i): projection(sizes.hidden) for i in exits})
        for linear in (m for m in self.projections.modules() if isinstance(m, nn.Linear)):
            nn.init.normal_(linear.weight, std=sizes.hidden**-0.5)  # keeps the length of what comes in, at any width
            nn.init.zeros_(linear.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[int, Tensor]:
        """Embeddings [B, D] by exit: p_i of <cls>, at most unit length.

        The paper projects every token and then takes <cls>. A projection sees one token at a time: this is the same.
        """
        states = self.trunk(input_ids, attention_mask)
        return {i: at_most_unit(self.projections[str(i)](pool(states[i], attention_mask)).float()) for i in self.exits}


class PretrainingHeads(nn.Module):
    """Heads that all exits share; which exit it is they learn from an embedding, appended to the features.

    Args:
        width: D.
        tokens: size of the vocabulary.
        exits: number of exits.
        context: with the head that tells whether the parts of a text belong together.
        condition: size of the exit's embedding.
    """

    def __init__(self, width: int, tokens: int, exits: int, context: bool = True, condition: int = 4):
        super().__init__()
        self.exit = nn.Embedding(exits, condition)
        self.transform = nn.Sequential(
            nn.Linear(width + condition, width), nn.GELU(approximate="tanh"), nn.LayerNorm(width)
        )
        self.decoder = nn.Linear(width, tokens)
        self.context = nn.Linear(width + condition, 2) if context else None

    def words(self, hidden: Tensor, number: int) -> Tensor:
        """Logits of the hidden tokens, [M, D] at exit `number` -> [M, V]."""
        return self.decoder(self.transform(self._told(hidden, number)))

    def belongs(self, pooled: Tensor, number: int) -> Tensor:
        """Logits of "belong together" and "do not", [B, D] at exit `number` -> [B, 2]."""
        assert self.context is not None
        return self.context(self._told(pooled, number))

    def _told(self, features: Tensor, number: int) -> Tensor:
        """Features with the exit's embedding: [R, D] -> [R, D + 4]."""
        return torch.cat([features, repeat(self.exit.weight[number], "c -> r c", r=len(features))], -1)


def exit_weights(exits: Sequence[int], layers: int) -> list[float]:
    """alpha_i = i / n: an exit's share of the loss grows with its depth, over all n layers of the whole trunk."""
    return [i / layers for i in exits]


def check_exits(exits: Sequence[int], layers: int) -> None:
    """UserError unless exits are layers of the trunk, each once, from the lowest to the highest."""
    if not exits or list(exits) != sorted(set(exits)) or exits[0] < 1 or exits[-1] > layers:
        raise UserError(f"exits {list(exits)} are not rising layers of 1 to {layers}: correct --model.exits")


def load_trunk(trunk: Trunk, file: str, what: str) -> None:
    """Fill a trunk, cut or not, with a whole trunk's weights: our own, or those released on the hub.

    Of the released file only the names of the trunk's parameters are relied on, which are the library's. Whatever
    stands before them is found out; heads beside the trunk, and layers above the cut, are left.

    Raises:
        UserError: there is no such trunk in the file, or one of another size.
    """
    path = expand(file, what)
    state = load_state(path)
    word = next((key for key in state if key.endswith("embed_tokens.weight")), None)
    if word is None:
        raise UserError(f"{path} holds no trunk: none of its keys ends with embed_tokens.weight")
    prefix = word.removesuffix("embed_tokens.weight")
    load_weights(trunk, path, prefix, ignore=[*_beyond(trunk), f"{HEADS}.*"])


def _beyond(trunk: Trunk) -> list[str]:
    """Patterns of what a whole trunk has and this one, if it is cut, has not."""
    if not isinstance(trunk.norm, nn.Identity):
        return []
    return ["norm.*", *(f"layers.{k}.*" for k in range(len(trunk.layers), trunk.config.num_hidden_layers))]


def as_ours(state: Mapping[str, Tensor], layers: int) -> Mapping[str, Tensor]:
    """The state of an encoder under our names: our own as it is, a released fine-tuned one renamed.

    The released files keep trunk and heads together ("starEncoder2.layers...", "starEncoder2.projection_heads..."). How
    a head's two linear layers are called is not documented: they are taken in the order of the file's sorted names.
    Heads belong to the exits in rising order: all five, or the last of a trunk that was cut.

    Raises:
        UserError: heads that are not two square linear layers each.
    """
    heads = sorted({int(k) for key in state if (k := _head(key)) is not None})
    word = next((key for key in state if key.endswith("embed_tokens.weight")), "")
    if not heads or not word:
        return state
    prefix = word.removesuffix("embed_tokens.weight")
    depth = 1 + max(int(found[1]) for key in state if (found := re.search(r"\.?layers\.(\d+)\.", key)))
    exits = RELEASED_EXITS if depth == layers else [i for i in RELEASED_EXITS if i <= depth]
    exits = exits[-len(heads) :]
    renamed = {
        f"trunk.{key.removeprefix(prefix)}": value
        for key, value in state.items()
        if key.startswith(prefix) and _head(key) is None
    }
    for number, layer in zip(heads, exits, strict=True):
        for kind in ("weight", "bias"):
            parts = [v for k, v in sorted(state.items()) if _head(k) == str(number) and k.endswith(kind)]
            if len(parts) != 2:
                raise UserError(f"head {number} of the released file has {len(parts)} {kind}s, not those of two layers")
            renamed |= {f"projections.{layer}.{2 * place}.{kind}": value for place, value in enumerate(parts)}
    return renamed


def _head(key: str) -> str | None:
    """The number of the head that a key of a released file belongs to."""
    found = re.search(rf"{HEADS}\.(\d+)\.", key)
    return found[1] if found else None


def load_encoder(encoder: MultiExitEncoder, file: str | Path) -> MultiExitEncoder:
    """Fill an encoder with the weights of one that has the same exits or more, in evaluation mode.

    Raises:
        UserError: the file lacks one of its exits, or is of another size.
    """
    raw = load_state(file)
    state = as_ours(raw, encoder.layers)
    known = sorted({int(found[1]) for key in state if (found := re.match(r"projections\.(\d+)\.", key))})
    if missing := sorted(set(encoder.exits) - set(known)):
        raise UserError(f"{file} has no exit {missing[0]}; its exits: {', '.join(map(str, known)) or 'none'}")
    others = [f"projections.{i}.*" for i in known if i not in encoder.exits]
    above = [f"trunk.{pattern}" for pattern in _beyond(encoder.trunk)]
    load_weights(encoder, file if state is raw else state, ignore=[*others, *above])  # a file is named in errors
    return encoder.requires_grad_(False).eval()
