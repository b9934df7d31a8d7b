"""A small BERT or RoBERTa, pretrained once on texts as a masked language model and cached: text recipes start from it.

    python -m common.foundations.masked_lm fit --config common/foundations/configs/mini/sentence_bert.yaml

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
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from common.cli import main
from common.data.pairs import PairSource
from common.data.stream import stream_loader
from common.data.tokenizers import build_wordpieces
from common.hub import from_pretrained
from common.training.schedules import adamw, optimizer_steps

Kind = Literal["bert", "roberta"]
Batch = dict[str, Tensor]
FOLLOWS, IGNORED = 0, -100  # labels of BERT's second task
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
MASKED, REPLACED = 0.3, 0.5  # of the tokens that are to be told; BERT has 0.8 and 0.1


class Pretraining(L.LightningModule):
    """BERT's two tasks (Devlin et al. 2019, section 3.1): tell hidden tokens from the others, and whether a second
    sentence follows the first in a text. And ELECTRA's (Clark et al. 2020): which tokens have been replaced by another.

    RoBERTa gave the second task up. A net as small as this one needs it to look at both sentences at once, whatever its
    kind, and the third one to learn it in time: one answer a pair leaves it at chance for thousands of steps, where an
    answer a token makes it look words up in the other sentence. Nothing is dropped out, as in ALBERT: so few parameters
    do not overfit. The saved configuration has BERT's dropout again, for what comes after.

    Args:
        kind: whose architecture; follows from the data.
        tokenizer: follows from the data.
        start: folder of such a model, to go on from; None for random weights.
        hidden: width; the feed-forward layers have four times as much.
        layers: transformer blocks.
        heads: attention heads.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    run_dir: Path
    net: PreTrainedModel

    def __init__(
        self,
        kind: Kind,
        tokenizer: PreTrainedTokenizerBase,
        start: str | None = None,
        hidden: int = 64,
        layers: int = 2,
        heads: int = 4,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
    ):
        super().__init__()
        self.tokenizer = tokenizer
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        sizes: dict[str, Any] = {"hidden_size": hidden, "intermediate_size": 4 * hidden}
        sizes |= {"num_hidden_layers": layers, "num_attention_heads": heads, **dict.fromkeys(DROPOUTS, 0.0)}
        sizes |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        sizes["initializer_range"] = hidden**-0.5 / 2  # the published 0.02 suits a width of 768, and stalls narrow nets
        self.follows: nn.Module | None = None
        self.replaced = nn.Linear(hidden, 2)
        if kind == "bert":
            self.net = transformers.BertForPreTraining(transformers.BertConfig(max_position_embeddings=128, **sizes))
        else:
            sizes |= {"type_vocab_size": 1, "max_position_embeddings": 130}
            sizes |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
            self.net = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**sizes))
            self.follows = nn.Linear(hidden, 2)
        if start is not None:
            self.net = from_pretrained(type(self.net), start, **dict.fromkeys(DROPOUTS, 0.0)).train()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        labels, replaced, follows = (batch.pop(name) for name in ("labels", "replaced", "next_sentence_label"))
        found, told = self.net.base_model(**batch), labels != IGNORED
        hidden = found.last_hidden_state
        if self.follows is None:
            words, sentence = self.net.cls.predictions(hidden[told]), self.net.cls.seq_relationship(found.pooler_output)
        else:
            words, sentence = self.net.lm_head(hidden[told]), self.follows(hidden[:, 0])
        seen = replaced != IGNORED
        losses = {
            "cloze": mean_loss(words, labels[told]),
            "following": mean_loss(sentence, follows),
            "replaced": mean_loss(self.replaced(hidden[seen]), replaced[seen]),
        }
        loss = torch.stack([*losses.values()]).sum()
        self.log_dict({"train/loss": loss, **{f"train/{task}": value for task, value in losses.items()}})
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.net.config.update(dict.fromkeys(DROPOUTS, 0.1))
            self.net.save_pretrained(self.run_dir / "model")
            self.tokenizer.save_pretrained(self.run_dir / "model")

    def exported(self) -> PreTrainedModel:
        return self.net


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits [N, C], mean over the labels [N] that are not IGNORED; 0 where there are none."""
    return F.cross_entropy(logits, labels, reduction="sum") / (labels != IGNORED).sum().clamp(min=1)


class TextData(L.LightningDataModule):
    """Texts with hidden tokens: one sentence alone, or two, of which the second follows the first or is any other.

    Of two sentences one has hidden tokens, and the other, which it is to be compared with, is left as it is. In some
    pairs the second sentence is a copy with its words in another order, so that every word is to be found there. Where
    the sentences do not belong together nothing is: no token is to be told, and all of a sentence counts as replaced.

    Args:
        texts: pairs of sentences that follow each other; scores are not looked at.
        kind: BERT's WordPiece of whole words and characters, or RoBERTa's byte-level BPE.
        vocabulary: size of the tokenizer, at most.
        alone: share of the samples with the first sentence alone; half of the others do not belong together.
        copies: the second sentence is a copy of the first, or of any other first one, with its words in another order:
            an easier text to begin with, in which every word is to be found.
        hidden: share of a sentence's tokens that are to be told (see `hide`).
        whole: share of the pairs in which none is.
        max_length: longer samples are cut to this many tokens.
        batch_size: samples per step and process.
        seed: order of the samples, and what becomes of each.
    """

    def __init__(
        self,
        texts: PairSource,
        kind: Kind = "bert",
        vocabulary: int = 400,
        alone: float = 0.25,
        copies: bool = False,
        hidden: float = 0.4,
        whole: float = 0.3,
        max_length: int = 64,
        batch_size: int = 64,
        seed: int = 0,
    ):
        super().__init__()
        self.kind, self.alone, self.copies, self.hidden, self.whole = kind, alone, copies, hidden, whole
        self.max_length, self.batch_size, self.seed = max_length, batch_size, seed
        self.pairs = texts.read("train")
        self.tokenizer = build_tokenizer(kind, [text for pair in self.pairs for text in (pair.a, pair.b)], vocabulary)

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        first, second, follows, told = self.pairs[index].a, None, IGNORED, 0
        if rng.random() > self.alone:
            follows, told = (int(drawn) for drawn in rng.integers(2, size=2))
            other = self.pairs[index if follows == FOLLOWS else int(rng.integers(len(self)))]
            second = " ".join(rng.permutation(other.a.split())) if self.copies else other.b
        tokens = self.tokenizer(first, second, truncation=True, max_length=self.max_length)
        words = np.array([part == told for part in tokens.sequence_ids()])
        share = 0.0 if second is not None and rng.random() < self.whole else self.hidden
        belongs = follows in (FOLLOWS, IGNORED)
        hidden = hide(np.array(tokens["input_ids"]), words, share, belongs, self.tokenizer, rng)
        return {**tokens, **hidden, "next_sentence_label": follows}

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Samples of any length -> [B, L], and the second task's labels [B]."""
        fill = {"input_ids": self.tokenizer.pad_token_id, "labels": IGNORED, "replaced": IGNORED}
        columns = {key: [torch.as_tensor(sample[key]) for sample in samples] for key in samples[0]}
        return {
            key: pad_sequence(column, batch_first=True, padding_value=fill.get(key, 0))
            if column[0].ndim
            else torch.stack(column)
            for key, column in columns.items()
        }

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self, self.batch_size, self.trainer, self.seed, collate=self.collate)


def hide(
    tokens: np.ndarray,
    words: np.ndarray,
    share: float,
    belongs: bool,
    tokenizer: PreTrainedTokenizerBase,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Hide a share of a text's words: of those 30 % are masked and 50 % another word, the others stay.

    Args:
        tokens: of the text and what is read with it, [L].
        words: which of them are the text's words, [L].
        share: of the words that are hidden.
        belongs: whether the text belongs to what is read with it. Else no word is to be told, and all are replaced.
        tokenizer: its special tokens have the first ids.

    Returns:
        input_ids; labels, the hidden words; replaced, whether a word is another one, of all words that are not masked;
        all int64 [L], and IGNORED where nothing is asked.
    """
    tokens = tokens.astype(np.int64)
    chosen = words & (rng.random(len(tokens)) < share)
    how, other = rng.random(len(tokens)), rng.integers(first_word(tokenizer), len(tokenizer), len(tokens))
    masked = chosen & (how < MASKED)
    inputs = np.where(chosen & ~masked & (how < MASKED + REPLACED), other, tokens)
    replaced = np.where(words & ~masked, (inputs != tokens) | (not belongs), IGNORED)
    labels = np.where(chosen & belongs, tokens, IGNORED)
    return {"input_ids": np.where(masked, tokenizer.mask_token_id, inputs), "labels": labels, "replaced": replaced}


def first_word(tokenizer: PreTrainedTokenizerBase) -> int:
    """The first id behind those of the special tokens."""
    return max(tokenizer.all_special_ids) + 1


def build_tokenizer(kind: Kind, texts: list[str], size: int) -> PreTrainedTokenizerBase:
    """BERT's lower-case WordPiece or RoBERTa's byte-level BPE of at most `size` pieces; same texts, same pieces."""
    if kind == "roberta":
        return transformers.RobertaTokenizer().train_new_from_iterator(texts, size, show_progress=False)
    return build_wordpieces(texts, size)


def links(parser: Any) -> None:
    """One architecture and one tokenizer."""
    parser.link_arguments("data.kind", "model.kind")
    parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


if __name__ == "__main__":
    main(Pretraining, TextData, links=links)
