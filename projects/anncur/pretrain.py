"""The world's own BERT: pretrained once on texts of the training domains; every encoder of the world starts from it.

    python -m projects.anncur.pretrain fit --config projects/anncur/configs/mini/bert.yaml

Leaves net and tokenizer in the run folder's `model/`. At paper scale this is bert-base-uncased.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.cli import main
from common.data.stream import stream_loader
from common.foundations.masked_lm import FOLLOWS, Pretraining, first_word, hide
from projects.anncur.data import LinkingData
from projects.anncur.encoders import pair_inputs
from projects.anncur.linking import Corpus, item_ids, padded


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


def links(parser: Any) -> None:
    """One seed; the tokenizer is the world's."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")


if __name__ == "__main__":
    main(Pretraining, TextPairs, links=links)
