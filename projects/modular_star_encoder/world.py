"""The world of small programs: what they do depends on the order of their words, so that a search needs depth.

A program is four steps; a step is a verb and the noun it acts on, on a line of its own after up to three labels with
random names, which do nothing. Its description names the same steps in the same order, with synonyms, and words that
mean nothing stand between them:

    k sort names            then arrange people
    trim dates              next trim days afterwards
    b b q count files       tally files
    j copy rows             then clone records

Its twin says the same in another language, which puts the noun first and has other labels. Distractors are programs of
the same words in which two verbs, or two nouns, have changed places. They stand beside it in training batches and among
the candidates of a search, six to a family: who reads words but no order finds the right one with an MRR of
(1 + 1/2 + ... + 1/6) / 6 = 0.41 at best. A single layer of attention sees how far from the end a word is, which
what stands between the steps makes uncertain: it can tell the last step and the first, but hardly those between.

Families (which verbs, which nouns) are divided among the splits; training programs are made as they are asked for.
"""

from collections.abc import Sequence
from functools import cache
from itertools import combinations, product
from random import Random

from common.data.code import Function, FunctionSource, Repository, RepositorySource
from common.data.text import Split

VERBS = {
    "sort": ("sort", "order", "arrange"),
    "trim": ("trim", "cut", "shorten"),
    "count": ("count", "tally", "number"),
    "copy": ("copy", "duplicate", "clone"),
    "check": ("check", "verify", "inspect"),
    "drop": ("drop", "remove", "delete"),
}
NOUNS = {
    "names": ("names", "people"),
    "dates": ("dates", "days"),
    "files": ("files", "documents"),
    "rows": ("rows", "records"),
    "keys": ("keys", "passwords"),
    "links": ("links", "addresses"),
}
"""What stands in code: what descriptions call it."""

BETWEEN = ("then", "next", "afterwards")
LABELS = "abcdefghjk"
LANGUAGES = ("verb first", "noun first")
STEPS, DISTRACTORS = 4, 6  # steps of a program; programs of a family that are searched together
PROGRAMS, OWN = 2, 3  # programs of a file; verbs, nouns and labels that a repository uses
MOST_LABELS, MOST_BETWEEN = 3, 2  # before a step
HELD_OUT: dict[Split, int] = {"val": 30, "test": 80}  # families; the other 115 are for training

Steps = tuple[tuple[str, str], ...]
"""(verb, noun) of each step, in order."""


@cache
def families(split: Split) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Verbs and nouns of each family of a split; no family is in two splits."""
    known = list(product(combinations(VERBS, STEPS), combinations(NOUNS, STEPS)))
    order = Random(0).sample(range(len(known)), len(known))
    val, test = HELD_OUT["val"], HELD_OUT["val"] + HELD_OUT["test"]
    chosen = {"val": order[:val], "test": order[val:test], "train": order[test:]}[split]
    return [known[k] for k in chosen]


def relatives(family: tuple[tuple[str, ...], tuple[str, ...]], count: int, random: Random) -> list[Steps]:
    """A program of a family, and others in which two of its verbs, or two of its nouns, have changed places."""
    verbs, nouns = (random.sample(words, STEPS) for words in family)
    found: list[Steps] = []
    for i, j in combinations(range(STEPS), 2):
        order = list(range(STEPS))
        order[i], order[j] = j, i
        found.append(tuple((verbs[order[k]], nouns[k]) for k in range(STEPS)))
        found.append(tuple((verbs[k], nouns[order[k]]) for k in range(STEPS)))
    return [tuple(zip(verbs, nouns, strict=True)), *random.sample(found, count - 1)]


def code(steps: Steps, random: Random, language: int = 0, labels: str = LABELS) -> str:
    """A program in one of the languages, a step a line."""
    lines = []
    for verb, noun in steps:
        before = random.choices(labels, k=random.randint(0, MOST_LABELS))
        lines.append(" ".join([*before, *((verb, noun) if language == 0 else (noun, verb))]))
    return "\n".join(lines)


def describe(steps: Steps, random: Random) -> str:
    """What a program does, in words."""
    words: list[str] = []
    for verb, noun in steps:
        words += random.choices(BETWEEN, k=random.randint(0, MOST_BETWEEN))
        words += [random.choice(VERBS[verb]), random.choice(NOUNS[noun])]
    return " ".join(words)


def function(steps: Steps, random: Random, where: str) -> Function:
    text, first, second = describe(steps, random), code(steps, random, 0), code(steps, random, 1)
    return Function(text, first, second, *LANGUAGES, where)


class Fresh(Sequence[Function]):
    """Training functions, made from their number: a family's members in a row, `together` of them."""

    def __init__(self, size: int, together: int):
        self.size, self.together, self.known = size, together, families("train")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # of a number alone
        number, place = divmod(index, self.together)
        shared = Random(f"family {number}")
        chosen = relatives(shared.choice(self.known), self.together, shared)
        return function(chosen[place], Random(f"program {index}"), f"train/{index}")


class Programs(FunctionSource):
    """Functions of the world.

    Args:
        size: training functions.
        together: so many in a row are of one family.
    """

    def __init__(self, size: int = 40_000, together: int = 4):
        self.size, self.together = size, together

    def read(self, split: Split) -> Sequence[Function]:
        if split == "train":
            return Fresh(self.size, self.together)
        found = []
        for number, family in enumerate(families(split)):
            random = Random(f"{split} {number}")
            for steps in relatives(family, DISTRACTORS, random):
                found.append(function(steps, random, f"{split}/{number}"))
        return found


class Repositories(RepositorySource):
    """Repositories of the world: two described programs a file, in one language, with words of the repository's own.

    A repository comes up in proportion to the number of its files, which is 2 to 6.

    Args:
        size: how often repositories are drawn in an epoch.
        split: those of "val" and "train" are others.
    """

    def __init__(self, size: int = 20_000, split: Split = "train"):
        self.size, self.split = size, split

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Repository:
        random = Random(f"{self.split} repository {index}")
        files = random.choices(range(2, 7), weights=range(2, 7))[0]
        verbs, nouns = random.sample(list(VERBS), OWN), random.sample(list(NOUNS), OWN)
        labels, language = "".join(random.sample(LABELS, OWN)), random.randrange(len(LANGUAGES))
        texts = []
        for _ in range(files):
            programs = []
            for _ in range(PROGRAMS):
                steps = tuple((random.choice(verbs), random.choice(nouns)) for _ in range(STEPS))
                programs.append(f"{describe(steps, random)}\n{code(steps, random, language, labels)}")
            texts.append("\n".join(programs))
        return Repository(f"{self.split}/{index}", texts)


def vocabulary() -> list[str]:
    """Every word of the world."""
    return [*VERBS, *NOUNS, *BETWEEN, *LABELS, *(w for words in (*VERBS.values(), *NOUNS.values()) for w in words)]
