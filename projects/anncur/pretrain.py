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
from common.foundations.masked_lm import FOLLOWS, IGNORED, MASKED, REPLACED, Pretraining
from projects.anncur.data import LinkingData
from projects.anncur.encoders import pair_inputs, pair_tokens
from projects.anncur.linking import Corpus


class TextPairs(LinkingData):
    """A mention in its context, and behind it the text of the entity that is meant (half of them) or of any other.

    That is BERT's second task, with two texts about one thing in the place of two sentences that follow each other; in
    the first one, hidden words are to be told.

    Args:
        hidden: share of the words that are to be told, of which most are masked or another word (see `masked_lm`).
        kwargs: see `LinkingData`.
    """

    def __init__(self, hidden: float = 0.3, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden = hidden

    def __len__(self) -> int:
        return len(self.corpus.queries)

    @property
    def corpus(self) -> Corpus:
        """The texts of the training domains."""
        return self.train

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """One sample, unpadded tensors [L] and whether the texts belong together."""
        corpus, follows = self.corpus, int(rng.integers(2))
        first, size = corpus.ranges[index].tolist()
        item = int(corpus.gold[index]) if follows == FOLLOWS else first + int(rng.integers(size))
        tokens = pair_tokens(corpus.queries[index : index + 1], corpus.items[item : item + 1])[0]
        inputs, labels = hide(tokens.numpy(), self.hidden, self.tokenizer.mask_token_id, self.words, rng)
        return {"input_ids": inputs, "labels": labels, "next_sentence_label": follows}

    @property
    def words(self) -> tuple[int, int]:
        """First and last but one id of what is a word: BERT's special tokens come before."""
        return max(self.tokenizer.all_special_ids) + 1, len(self.tokenizer)

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self, self.batch_size, self.trainer, self.seed, self.num_workers, self._batch)

    def _batch(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        parts = {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}
        return {
            **pair_inputs(parts["input_ids"], self.query_length),
            **{k: parts[k] for k in parts if k != "input_ids"},
        }


def hide(
    tokens: np.ndarray, share: float, mask: int, words: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hide a share of a text's words [L]: inputs and labels, int64 [L]; a label is IGNORED where none is hidden."""
    tokens = tokens.astype(np.int64)
    chosen = (tokens >= words[0]) & (rng.random(len(tokens)) < share)
    how, other = rng.random(len(tokens)), rng.integers(*words, len(tokens))
    inputs = np.where(chosen & (how < MASKED), mask, tokens)
    inputs = np.where(chosen & (how >= MASKED) & (how < MASKED + REPLACED), other, inputs)
    return inputs, np.where(chosen, tokens, IGNORED)


def links(parser: Any) -> None:
    """One seed; the tokenizer is the world's."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")


if __name__ == "__main__":
    main(Pretraining, TextPairs, links=links)
