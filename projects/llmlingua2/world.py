"""A world of meetings: what was said, what of it matters, and what one may ask. No download, exact ground truth.

    good evening everyone . mira says the lamp costs 30 no sorry 45 . i met the quiet tamor of velun near the gate . ...

Facts are prices and votes. What predicts nothing is not the same as what matters: rare words and numbers without a fact
surprise a language model most, a vote's outcome hardly. Some facts are corrected: which of two numbers counts shows in
the words after the first. Reports speak of the same things in another grammar, with other people and other words for
all that does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from common.data.pairs import Pair, PairSource
from common.data.plain_texts import PlainTexts
from common.data.text import Split
from projects.llmlingua2.annotate import chunk_lengths
from projects.llmlingua2.data import Compressed, Compressions, Document, Documents, Question

Style = Literal["meetings", "reports"]
OUTCOMES = ("passed", "rejected", "tabled", "amended", "deferred", "withdrawn")
NUMBERS = [str(n) for n in range(10, 100)]
PRICES, VOTES, FILLERS, IDLE = 4, 2, 2, 4  # sentences of a transcript, in which every other one is a fact
CORRECTED = 0.4  # share of facts that are corrected at once
KEPT_KEY, KEPT_MORE, KEPT_LESS, KEPT_IDLE = 1.0, 0.7, 0.15, 0.25
"""Probabilities that a teacher leaves a word: what may be asked about, the others of a fact (those with "~" seldom),
and those of any other sentence. What is corrected and the correction go."""
REPLACED, SWAPPED = 0.05, 0.05  # of the teacher's words: another one in its place, its neighbour's place
FOREIGN = ("item", "matter", "regarding", "noted", "approx", "respectively", "thus")
"""What a teacher writes that was never said."""


def _made(count: int, seed: int, tails: Sequence[str]) -> list[str]:
    """Different made-up words, the same ones every time."""
    rng = Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        syllables = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(2)]
        found["".join(syllables) + rng.choice(tails)] = None
    return list(found)


@dataclass(frozen=True)
class Grammar:
    """How a style says things: `{n}` is a number, `{o}` an outcome, `{r}` a rare word without meaning.

    Words with "~" matter less.
    """

    people: list[str]
    things: list[str]
    topics: list[str]
    rare: list[str]
    prices: tuple[str, ...]
    votes: tuple[str, ...]
    corrections: tuple[str, ...]
    fillers: tuple[str, ...]
    idle: tuple[str, ...]


GOODS, ISSUES = _made(40, 2, ["k", "t", "r"]), _made(24, 3, ["ing", "ade"])
GRAMMARS: dict[Style, Grammar] = {
    "meetings": Grammar(
        _made(24, 1, ["n", "s", "la"]),
        GOODS,
        ISSUES,
        _made(400, 4, ["x", "th", "mp", "sk"]),
        (
            "{p} says ~the {t} costs {n}", "{p} ~: ~the price of ~the {t} is {n}",
            "~the {t} will cost us {n} ~, says {p}",
        ),
        ("~the motion on {t} was {o}", "~we voted on {t} ~and ~it was {o}", "~as for {t} ~, ~the motion is {o}"),
        ("no sorry", "i mean", "no wait"),
        (
            "good evening everyone and welcome", "um so you know let us move on", "thank you very much",
            "is there anything else", "all right then", "let us go on to the next point",
        ),
        (
            "i met the {r} {r} of {r} near the {r}", "page {n} please , the {r} one", "{r} came {n} minutes late again",
            "it was a {r} {r} day in {r}", "my {r} and my {r} send their {r}", "room {n} smells of {r} and {r}",
        ),
    ),
    "reports": Grammar(
        _made(24, 11, ["m", "d", "ra"]),
        GOODS,
        ISSUES,
        _made(400, 14, ["ff", "nd", "lk", "sh"]),
        (
            "{p} quotes ~the {t} at {n}", "for ~the {t} ~a fee of {n} ~is due to {p}",
            "{p} wants ~the {t} priced {n}",
        ),
        ("~the bill about {t} got {o}", "after debate {t} ended up {o}", "council file {t} ~: {o}"),
        ("rather", "correction", "make that"),
        (
            "dear readers here is the news", "more of this below", "we thank all who wrote",
            "as usual nothing is certain", "so much for now", "turn the leaf for the rest",
        ),
        (
            "the {r} {r} was seen by a {r}", "see leaf {n} about {r}", "{n} days of {r} and of {r} lie behind us",
            "some {r} brought a {r} to the {r}", "gate {n} stays {r}", "letters on {r} , {r} and {r} came in",
        ),
    ),
}  # fmt: skip
CUES = {cue for grammar in GRAMMARS.values() for text in grammar.corrections for cue in text.split()}


Sentence = list[tuple[str, float]]
"""Words, each with the probability that a teacher leaves it."""


def transcript(style: Style, rng: Random) -> tuple[list[Sentence], list[Question]]:
    """A transcript's sentences, every other one a fact, and questions about the facts."""
    grammar = GRAMMARS[style]

    def fact(templates: Sequence[str], values: Sequence[str], **words: str) -> tuple[Sentence, str]:
        """A sentence that says one of the values in the end, and that value."""
        right, wrong = rng.sample(values, 2)
        said: Sentence = []
        for word in rng.choice(templates).split():
            if word not in ("{n}", "{o}"):
                p = KEPT_KEY if word == "{t}" else KEPT_LESS if word.startswith("~") else KEPT_MORE
                said.append((word.removeprefix("~").format(**words), p))
            elif rng.random() < CORRECTED:
                cue = rng.choice(grammar.corrections).split()
                said += [(wrong, 0.0), *((part, 0.0) for part in cue), (right, KEPT_KEY)]
            else:
                said.append((right, KEPT_KEY))
        return said, right

    facts, questions = [], []
    for thing in rng.sample(grammar.things, PRICES):
        said, right = fact(grammar.prices, NUMBERS, p=rng.choice(grammar.people), t=thing)
        facts.append(said)
        questions.append(Question(f"price {thing}", right))
    for topic in rng.sample(grammar.topics, VOTES):
        said, right = fact(grammar.votes, OUTCOMES, t=topic)
        facts.append(said)
        questions.append(Question(f"vote {topic}", right))
    others = rng.sample(grammar.fillers, FILLERS) + rng.choices(grammar.idle, k=IDLE)
    rng.shuffle(facts)
    rng.shuffle(others)
    sentences = []
    for said, other in zip(facts, others, strict=True):
        words = [w.format(r=rng.choice(grammar.rare), n=rng.choice(NUMBERS)) for w in other.split()]
        sentences += [[*said, (".", 0.0)], [*((word, KEPT_IDLE) for word in words), (".", 0.0)]]
    return sentences, questions


def plain(sentences: Sequence[Sentence]) -> str:
    """What is said."""
    return " ".join(word for sentence in sentences for word, _ in sentence)


def draw(style: Style, rng: Random) -> Document:
    """A transcript with its questions, and what a perfect teacher leaves of it: the likelier words."""
    sentences, questions = transcript(style, rng)
    left = [word for sentence in sentences for word, p in sentence if p > 0.5]
    return Document(plain(sentences), tuple(questions), " ".join(left))


class Meetings(Documents):
    """Transcripts with questions; document k of a split and seed is the same whatever the split's size.

    Args:
        style: whose grammar.
        val: transcripts to validate on.
        test: transcripts to test on.
    """

    def __init__(self, style: Style = "meetings", val: int = 100, test: int = 400):
        self.style: Style = style
        self.sizes: dict[Split, int] = {"train": 0, "val": val, "test": test}

    def read(self, split: Split, seed: int = 0) -> list[Document]:
        return [draw(self.style, Random(f"{split} {seed} {k}")) for k in range(self.sizes[split])]


class TaughtMeetings(Compressions):
    """Transcripts in chunks with a teacher's compressions: what matters and, by whim, some of the rest, with words that
    were never said and words out of place.

    Args:
        size: transcripts.
        chunk: words of a chunk, at most one more; it ends with a sentence.
    """

    def __init__(self, size: int = 1500, chunk: int = 30):
        self.size, self.chunk = size, chunk

    def read(self, seed: int = 0) -> list[Compressed]:
        found = []
        for k in range(self.size):
            rng = Random(f"train {seed} {k}")
            said, _ = transcript("meetings", rng)
            rest, words = iter(said), plain(said).split()
            for length in chunk_lengths(words, self.chunk):
                part = [next(rest) for _ in range(words[:length].count("."))]
                words = words[length:]
                left = [word for sentence in part for word, p in sentence if rng.random() < p]
                found.append(Compressed(plain(part), flawed(left, rng)))
        return found


def flawed(words: list[str], rng: Random) -> str:
    """A compression as a teacher writes it who does not quite keep to the rules."""
    words = [rng.choice(FOREIGN) if rng.random() < REPLACED else word for word in words]
    for k in range(len(words) - 1):
        if rng.random() < SWAPPED:
            words[k], words[k + 1] = words[k + 1], words[k]
    return " ".join(words)


class Library(PlainTexts):
    """What language models have read: transcripts of both styles, and pages that mix the words of both.

    Args:
        size: texts; the same for every split.
    """

    def __init__(self, size: int = 6000):
        self.size = size

    def read(self, split: Split) -> list[str]:
        return [page(Random(f"library {k}")) for k in range(self.size)]


class Neighbours(PairSource):
    """Sentences of the library with what follows them, a sentence or two each.

    Args:
        size: texts of the library.
    """

    def __init__(self, size: int = 6000):
        self.size = size

    def read(self, split: Split) -> list[Pair]:
        found = []
        for text in Library(self.size).read(split):
            said = [f"{sentence} ." for sentence in text.removesuffix(" .").split(" . ")]
            found += [Pair(said[k], " ".join(said[k + 1 : k + 3])) for k in range(0, len(said) - 2, 3)]
        return found


def page(rng: Random) -> str:
    """A transcript of either style, or a page of plain sentences in which the words of both keep the same company."""
    kind = rng.choice(["meetings", "reports", "plain"])
    if kind != "plain":
        return draw(kind, rng).text  # type: ignore[arg-type]
    either = [*GRAMMARS.values()]

    def word(kind: str) -> str:
        return rng.choice(getattr(rng.choice(either), kind))

    said = [
        rng.choice([
            f"{word('people')} and {word('people')} sit here", f"the {word('things')} stands by the {word('things')}",
            f"{word('people')} carries a {word('things')}", f"they talk about {word('topics')} and {word('topics')}",
            f"a {word('rare')} is a kind of {word('rare')}",
            f"{rng.choice(NUMBERS)} and {rng.choice(NUMBERS)} are numbers",
        ])
        for _ in range(10)
    ]  # fmt: skip
    return " ".join(f"{sentence} ." for sentence in said)
