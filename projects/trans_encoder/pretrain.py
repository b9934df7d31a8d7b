"""The mini scale's language models: pretrained once on stories; every encoder of that scale starts from one of them.

    python -m projects.trans_encoder.pretrain fit --config projects/trans_encoder/configs/mini/sentence_bert.yaml

Leaves net and tokenizer in the run folder's `model/`. At paper scale these are published checkpoints.
"""

from typing import Any

import numpy as np

from common.cli import main
from common.data.hiding import hide_tokens, padding
from common.foundations.masked_lm import FOLLOWS, MASKED, REPLACED, Pretraining, TextData, links

BELONGS, ALONE = (1.0, 0.0), (0.0, 0.0)  # labels of BERT's second task as shares; of a sentence alone none is told


class ComparedTexts(TextData):
    """BERT's samples, and among them sentences beside a copy of themselves in which some words have been replaced.

    That makes BERT's second task one of degrees: which share of the second sentence's words is the first's. Whether two
    sentences follow each other is one bit that needs all words at once, and a net of this size does not learn it for
    thousands of steps; then it does not compare sentences, and finetuning with a few thousand pairs makes no
    cross-encoder of it. Here every word that recurs is a part of the answer. Nobody's scores are looked at, and words
    of one meaning count as different ones.

    Args:
        copies: share of the samples with two sentences that are of that kind.
        hidden: share of the tokens that are to be told.
        kwargs: see `TextData`.
    """

    def __init__(self, copies: float = 0.6, hidden: float = 0.3, **kwargs: Any):
        super().__init__(hidden=hidden, **kwargs)
        self.copies, self.hidden = copies, hidden
        self.hide = padding(self.tokenizer)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        first, second, shares = self.pairs[index].a, None, ALONE
        if rng.random() > self.alone:
            if rng.random() < self.copies:
                second, kept = mixed(first, self.pairs[int(rng.integers(len(self)))].a, rng)
                shares = (kept, 1 - kept)
            else:
                follows = int(rng.integers(2)) == FOLLOWS
                second = self.pairs[index if follows else int(rng.integers(len(self)))].b
                shares = BELONGS if follows else BELONGS[::-1]
        tokens = self.tokenizer(
            first, second, truncation=True, max_length=self.max_length, return_special_tokens_mask=True
        )
        hidden = hide_tokens(dict(tokens), rng, self.tokenizer, self.hidden, MASKED, REPLACED)
        return {**hidden, "next_sentence_label": shares}


def mixed(sentence: str, other: str, rng: np.random.Generator) -> tuple[str, float]:
    """A sentence with some words replaced by another's, begun anywhere; and the share of its words that stayed."""
    words, others = sentence.split(), other.split()
    replaced = rng.random(len(words)) < rng.random()
    said = [str(rng.choice(others)) if out else word for word, out in zip(words, replaced, strict=True)]
    kept = sum(word == new for word, new in zip(words, said, strict=True)) / len(words)
    begin = int(rng.integers(len(said)))
    return " ".join(said[begin:] + said[:begin]), kept


if __name__ == "__main__":
    main(Pretraining, ComparedTexts, links=links)
