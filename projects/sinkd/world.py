"""A world of sentences about topics: what is said of whom decides the class. No download, exact knowledge of the noise.

    the tarivo is not selu but the bemika was quite doram and the tarivo was doram

Three clauses say something good or bad of a thing. A sentence's class is its topic and its stance, 2 x `TOPICS` in
all. Most clauses keep to both; the others are about another topic, or take the other side, so that no reader is always
right. "not" turns a word round, so stance needs more than a bag of words. Words are Zipf distributed: a reader of few
sentences has never seen the rare ones, and has to learn them from someone who has.
"""

import numpy as np

from common.data.text import LabelledText, Split, TextSource

TOPICS, NOUNS, ADJECTIVES = 6, 16, 16
ON_TOPIC, ON_SIDE, NEGATED = 0.8, 0.9, 0.1  # probabilities for each clause
CLAUSES = 3
_SPLITS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


def _words(count: int) -> list[str]:
    """Different made-up words of two or three syllables, the same ones every time."""
    rng = np.random.default_rng(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    made: dict[str, None] = {}
    while len(made) < count:
        made["".join(rng.choice(syllables, rng.integers(2, 4)))] = None
    return list(made)


WORDS = _words(TOPICS * NOUNS + 2 * ADJECTIVES)
THINGS = np.array(WORDS[: TOPICS * NOUNS]).reshape(TOPICS, NOUNS)
QUALITIES = np.array(WORDS[TOPICS * NOUNS :]).reshape(2, ADJECTIVES)  # bad, good
_zipf = 1 / np.arange(1, NOUNS + 1)
ZIPF = _zipf / _zipf.sum()


class Sentences(TextSource):
    """Sentences of the world; training sentence k is the same whatever the size of the split.

    Args:
        train: sentences to train on.
        val: sentences to validate on.
        test: sentences to test on.
    """

    def __init__(self, train: int = 1000, val: int = 1000, test: int = 2000):
        self.sizes: dict[Split, int] = {"train": train, "val": val, "test": test}

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"topic {topic}, {stance}" for topic in range(TOPICS) for stance in ("bad", "good"))

    def read(self, split: Split) -> list[LabelledText]:
        return [sentence(np.random.default_rng((_SPLITS[split], k))) for k in range(self.sizes[split])]


def sentence(rng: np.random.Generator) -> LabelledText:
    """A sentence of a random class."""
    topic, good = int(rng.integers(TOPICS)), int(rng.integers(2))
    clauses = [_clause(topic, good, rng) for _ in range(CLAUSES)]
    text = clauses[0] + "".join(f" {rng.choice(['and', 'but'])} {clause}" for clause in clauses[1:])
    return LabelledText(text, None, 2 * topic + good)


def _clause(topic: int, good: int, rng: np.random.Generator) -> str:
    if rng.random() > ON_TOPIC:
        topic = int(rng.integers(TOPICS))
    side = good if rng.random() < ON_SIDE else 1 - good
    negated = rng.random() < NEGATED
    thing, quality = rng.choice(THINGS[topic], p=ZIPF), rng.choice(QUALITIES[side ^ negated], p=ZIPF)
    return " ".join(
        ["the", thing, rng.choice(["is", "was"]), *["not"][: int(negated)], *["quite"][: rng.integers(2)], quality]
    )
