"""A small causal language model of a published architecture, trained once on texts and cached: recipes start from it.

    python -m common.foundations.causal_lm fit --config common/foundations/configs/mini/glyph_qwen2.yaml

Leaves net and tokenizer in the run folder's `model/`, as transformers' `from_pretrained` reads them. At paper scale the
foundation is a published checkpoint, and this script is not run.
"""

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
import transformers
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from common.cli import main
from common.data.plain_texts import PlainTexts
from common.data.stream import stream_loader
from common.errors import UserError
from common.training.schedules import adamw, optimizer_steps

Kind = Literal["gpt2", "llama", "mistral", "qwen2", "phi3"]
Objective = Literal["next", "masked_next"]
Batch = dict[str, Tensor]
NAMES = {"gpt2": "GPT2", "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "phi3": "Phi3"}
IGNORED = -100


class LanguageTraining(L.LightningModule):
    """Predicts every next token, or hidden ones among all others.

    `next` is the usual objective. `masked_next` (BehnamGhader et al. 2024, section 2.2) makes an encoder of the
    decoder: attention goes both ways, and a hidden token is told by the position before it, where a causal model would
    tell it, too. A net so trained has `is_causal: false` in its config, which transformers heeds.

    Args:
        kind: whose architecture; follows from the data.
        objective: what is learnt; follows from the data.
        tokenizer: follows from the data.
        hidden: width; the feed-forward layers have twice as much.
        layers: of the decoder.
        heads: of the queries; keys and values have half as many, except in GPT-2.
        positions: the longest text that the net can ever read, in tokens.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    run_dir: Path

    def __init__(
        self,
        kind: Kind,
        objective: Objective,
        tokenizer: PreTrainedTokenizerBase,
        hidden: PositiveInt = 64,
        layers: PositiveInt = 2,
        heads: PositiveInt = 4,
        positions: PositiveInt = 512,
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        warmup_steps: NonNegativeInt = 30,
    ):
        super().__init__()
        self.tokenizer = tokenizer
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        if heads % 2 or hidden % (2 * heads):
            raise UserError(
                f"model.heads is {heads} and model.hidden {hidden}: heads come in pairs of an even width each"
            )
        self.net = build_decoder(kind, tokenizer, hidden, layers, heads, positions)
        if objective == "masked_next":
            self.net.config.is_causal = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy in nats, averaged over the tokens of the batch that have a label."""
        labels = batch["labels"][:, 1:]
        given = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits = self.net(**given, use_cache=False).logits[:, :-1]
        total = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        loss = total / (labels != IGNORED).sum().clamp(min=1)
        self.log("train/loss", loss, batch_size=len(labels))
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.net.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.net.save_pretrained(self.run_dir / "model")
            self.tokenizer.save_pretrained(self.run_dir / "model")

    def exported(self) -> PreTrainedModel:
        return self.net


class ReadingData(L.LightningDataModule):
    """Texts as token ids: a start token, the text, the end token.

    Args:
        texts: what is read.
        kind: whose architecture the model has.
        objective: tell the next token, or hidden ones.
        vocabulary: size of the tokenizer, which is trained on the texts, at most.
        max_length: longer texts are cut to this many tokens, the end token among them.
        masked: share of the tokens that `masked_next` hides.
        batch_size: texts per step and process.
        seed: order of the texts, and what is hidden.
    """

    def __init__(
        self,
        texts: PlainTexts,
        kind: Kind,
        objective: Objective = "next",
        vocabulary: PositiveInt = 500,
        max_length: PositiveInt = 64,
        masked: float = 0.2,
        batch_size: PositiveInt = 64,
        seed: int = 0,
    ):
        super().__init__()
        if not 0 < masked < 1:
            raise UserError(f"data.masked is {masked}: a share between 0 and 1 is needed")
        self.objective, self.max_length, self.masked = objective, max_length, masked
        self.batch_size, self.seed = batch_size, seed
        self.texts = texts.read("train")
        self.tokenizer = train_tokenizer(kind, self.texts, vocabulary)
        if objective == "masked_next":
            self.tokenizer.add_special_tokens({"mask_token": "<mask>"})

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Ids and labels of a text, [1 + L] each; the first label is never asked for."""
        end = self.tokenizer.eos_token_id
        start = end if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id
        tokens = [*self.tokenizer(self.texts[index], add_special_tokens=False).input_ids, end][: self.max_length]
        ids = torch.tensor([start, *tokens])
        if self.objective == "next":
            return ids, ids
        hidden = torch.from_numpy(rng.random(len(ids)) < self.masked)
        hidden[0] = False
        return ids.masked_fill(hidden, self.tokenizer.mask_token_id), ids.masked_fill(~hidden, IGNORED)

    def collate(self, drawn: list[tuple[Tensor, Tensor]]) -> Batch:
        """Padded at the right; the mask says what is padding, whose id may be the end token's."""
        ids, labels = ([row[k] for row in drawn] for k in (0, 1))

        def pad(rows: list[Tensor], value: int) -> Tensor:
            return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

        seen = pad([torch.ones_like(row) for row in ids], 0)
        return {
            "input_ids": pad(ids, self.tokenizer.pad_token_id),
            "labels": pad(labels, IGNORED),
            "attention_mask": seen,
        }

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self, self.batch_size, self.trainer, self.seed, collate=self.collate)


def train_tokenizer(kind: Kind, texts: list[str], size: int) -> PreTrainedTokenizerBase:
    """Byte-level BPE of at most `size` pieces, Qwen's or GPT-2's; same texts, same pieces.

    Llama's kin have another tokenizer when released: its BPE merges across blanks, which makes a word of every
    frequent sentence of a small world.
    """
    untrained = transformers.Qwen2Tokenizer() if kind == "qwen2" else transformers.GPT2Tokenizer()
    tokenizer = untrained.train_new_from_iterator(texts, size, show_progress=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_decoder(
    kind: Kind, tokenizer: PreTrainedTokenizerBase, hidden: int, layers: int, heads: int, positions: int
) -> PreTrainedModel:
    """An untrained net of transformers' own class without dropout, its output tied to its input embeddings."""
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "tie_word_embeddings": True}
    sizes |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes["initializer_range"] = hidden**-0.5 / 2  # the published 0.02 suits wide nets, and stalls narrow ones
    if kind == "gpt2":
        sizes |= {"n_embd": hidden, "n_inner": 2 * hidden, "n_layer": layers, "n_head": heads, "n_positions": positions}
        sizes |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    else:
        sizes |= {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
        sizes |= {"num_attention_heads": heads, "num_key_value_heads": heads // 2}
        sizes["max_position_embeddings"] = positions
    if kind == "mistral":
        sizes["sliding_window"] = None
    config = getattr(transformers, f"{NAMES[kind]}Config")(**sizes)
    return transformers.AutoModelForCausalLM.from_config(config)


def links(parser: Any) -> None:
    """One architecture, one objective and one tokenizer."""
    for name in ("kind", "objective"):
        parser.link_arguments(f"data.{name}", f"model.{name}")
    parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


if __name__ == "__main__":
    main(LanguageTraining, ReadingData, links=links)
