"""The world's own BERT: pretrained once on texts of the training domains; every encoder of the world starts from it.

    python -m projects.anncur.pretrain fit --config projects/anncur/configs/mini/bert.yaml

Leaves net and tokenizer in the run folder's `model/`. At paper scale this is bert-base-uncased.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from common.cli import main
from common.data.stream import stream_loader
from common.foundations.masked_lm import DROPOUTS, FOLLOWS, IGNORED, Pretraining
from common.hub import from_pretrained
from projects.anncur.data import LinkingData
from projects.anncur.encoders import pair_inputs
from projects.anncur.linking import Corpus, item_ids, padded

MASKED, REPLACED = 0.3, 0.5  # of the words that are hidden; the others stay


class PairReading(Pretraining):
    """BERT's two tasks, and ELECTRA's (Clark et al. 2020): which words have been replaced by another.

    By BERT's tasks alone a net this small may stay at chance in the second for thousands of steps, and then finetuning
    makes no good cross-encoder of it. An answer for each word, not one for a pair, makes it look words up in the other
    text.

    Args:
        start: folder of such a model, to go on from; None for random weights.
        kwargs: see `Pretraining`.
    """

    def __init__(self, start: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.replaced = nn.Linear(self.net.config.hidden_size, 2)
        if start is not None:
            self.net = from_pretrained(type(self.net), start, **dict.fromkeys(DROPOUTS, 0.0)).train()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        labels, replaced, follows = (batch.pop(name) for name in ("labels", "replaced", "next_sentence_label"))
        found = self.net.bert(**batch)
        hidden, told, seen = found.last_hidden_state, labels != IGNORED, replaced != IGNORED
        losses = {
            "cloze": mean_loss(self.net.cls.predictions(hidden[told]), labels[told]),
            "following": mean_loss(self.net.cls.seq_relationship(found.pooler_output), follows),
            "replaced": mean_loss(self.replaced(hidden[seen]), replaced[seen]),
        }
        loss = torch.stack([*losses.values()]).sum()
        self.log_dict({"train/loss": loss, **{f"train/{task}": value for task, value in losses.items()}})
        return loss


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits [N, C] and labels [N], the mean; 0 where there are none."""
    return F.cross_entropy(logits, labels, reduction="sum") / max(1, len(labels))


class TextPairs(LinkingData):
    """A mention in its context, and behind it the text of the entity that is meant (half of them) or of any other.

    That is BERT's second task, with two texts about one thing in the place of two sentences that follow each other. For
    the others words of the mention's side are hidden; the entity's text, where to look them up, is left as it is.

    Args:
        copies: the entity is made up of the words of a mention in its context, in another order: an easier text to
            begin with, in which every word is to be found.
        hidden: share of the mention's words that are to be told (see `hide`).
        whole: share of the pairs in which none is.
        kwargs: see `LinkingData`.
    """

    def __init__(self, copies: bool = False, hidden: float = 0.4, whole: float = 0.3, **kwargs: Any):
        super().__init__(**kwargs)
        self.copies, self.hidden, self.whole = copies, hidden, whole

    def __len__(self) -> int:
        return len(self.corpus.queries)

    @property
    def corpus(self) -> Corpus:
        """The texts of the training domains."""
        return self.train

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """One sample, unpadded tensors [L] and whether the texts belong together."""
        corpus, follows = self.corpus, int(rng.integers(2))
        query = corpus.queries[index].numpy()
        if self.copies:
            entity = self.made_up(index if follows == FOLLOWS else int(rng.integers(len(self))), rng)
        else:
            first, size = corpus.ranges[index].tolist()
            item = int(corpus.gold[index]) if follows == FOLLOWS else first + int(rng.integers(size))
            entity = corpus.items[item].numpy()
        tokens = np.concatenate([query, entity[1:]])
        words = np.pad(query >= first_word(self.tokenizer), (0, len(entity) - 1))
        share = 0.0 if rng.random() < self.whole else self.hidden
        hidden = hide(tokens, words, share, follows == FOLLOWS, self.tokenizer, rng)
        return {**hidden, "next_sentence_label": follows}

    def made_up(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """An entity with the words of a mention in its context, in any order: tokens [L_i]."""
        query = self.corpus.queries[index].numpy()
        words = rng.permutation(query[query >= first_word(self.tokenizer)]).tolist()
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        return padded([item_ids(words[:2], words[2:], self.item_length, cls, sep)], self.item_length)[0].numpy()

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self, self.batch_size, self.trainer, self.seed, self.num_workers, self._batch)

    def _batch(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        parts = {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}
        return {
            **pair_inputs(parts["input_ids"], self.query_length),
            **{k: parts[k] for k in parts if k != "input_ids"},
        }


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


def links(parser: Any) -> None:
    """One seed; the tokenizer is the world's."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")


if __name__ == "__main__":
    main(PairReading, TextPairs, links=links)
