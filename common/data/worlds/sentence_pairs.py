"""A world of sentences about small scenes, and of pairs of them with known similarity. No download.

    indeed the old hound chases the boy in gardens
    the lad is pursued by the ancient dog in woods        0.92

A scene says who of what kind does what to whom, and where. A sentence puts it into words: each meaning has two or
three, the frequent first; the order is active, passive or fronted; some words mean nothing. Who does what follows
habits (dogs chase, nurses help), so that words of one meaning keep the same company, which is how a language model can
learn that they mean the same. The similarity of two sentences is that of their scenes, slot by slot, whatever their
words.
"""

from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random

import numpy as np

from common.data.pairs import Pair, PairSource
from common.data.text import Split

# meanings of a kind, by family; a meaning's words, the most frequent first; a verb's two forms
THINGS = [
    ["dog hound", "cat kitten", "horse pony mare", "bird sparrow"],
    ["boy lad", "girl lass", "baby infant toddler", "student pupil"],
    ["nurse medic", "farmer grower peasant", "teacher tutor", "soldier warrior"],
]
ACTIONS = [
    [
        "chases/chased pursues/pursued hunts/hunted",
        "catches/caught grabs/grabbed",
        "frightens/frightened scares/scared",
    ],
    ["helps/helped assists/assisted aids/aided", "guards/guarded protects/protected", "feeds/fed nourishes/nourished"],
    ["watches/watched observes/observed", "greets/greeted welcomes/welcomed", "pushes/pushed shoves/shoved"],
]
PLACES = [
    ["in:gardens in:yards", "in:forests in:woods", "by:lakes by:ponds"],
    ["in:kitchens in:galleys", "in:bedrooms in:chambers", "in:cellars in:basements"],
    ["at:markets at:bazaars", "on:streets on:roads", "at:stations at:stops"],
]
QUALITIES = [
    ["old ancient", "young juvenile"],
    ["big large huge", "small little tiny"],
    ["tired weary", "happy cheerful"],
]
BEFORE = ["", "", "", "today", "indeed", "reportedly", "meanwhile", "perhaps"]
ZIPF = list(accumulate(k**-1.2 for k in (1, 2, 3)))  # cumulated odds of a meaning's words
KEPT = 0.8  # probability that a story keeps its word for a meaning
CHANGED = 0.2  # probability that a slot changes from one sentence of a story to the next
ABSENT = 0.3  # probability that a scene has no quality; no place
WEIGHTS = {"agent": 0.28, "action": 0.26, "target": 0.22, "place": 0.14, "quality": 0.1}
KIN, ONE_ABSENT = 0.4, 0.3  # credit for two meanings of one family; for a slot that only one of the scenes has
EDITS: dict[int | str, float] = {
    0: 0.15,
    1: 0.2,
    2: 0.2,
    3: 0.15,
    4: 0.1,
    "swap": 0.05,
    "other": 0.15,
}  # how a pair's second scene arises


class Slot:
    """The meanings of one kind: words and family of each."""

    def __init__(self, families: list[list[str]]):
        self.words = [words.split() for family in families for words in family]
        self.family = [k for k, family in enumerate(families) for _ in family]

    def __len__(self) -> int:
        return len(self.words)

    def kin(self, meaning: int) -> list[int]:
        return [k for k, family in enumerate(self.family) if family == self.family[meaning] and k != meaning]


SLOTS = {name: Slot(kind) for name, kind in (
    ("agent", THINGS), ("action", ACTIONS), ("target", THINGS), ("quality", QUALITIES), ("place", PLACES)
)}  # fmt: skip


def _habits(given: str, of: str) -> list[list[float]]:
    """Cumulated odds of the meanings of one slot, for each meaning of another: a few are much likelier."""
    seed = [*SLOTS].index(given), [*SLOTS].index(of)
    draws = np.random.default_rng(seed).gamma(0.3, size=(len(SLOTS[given]), len(SLOTS[of]))) + 0.01
    return draws.cumsum(1).tolist()


HABITS = {
    "action": _habits("agent", "action"),
    "target": _habits("action", "target"),
    "place": _habits("action", "place"),
}
HABITS |= {"quality": _habits("agent", "quality")}


@dataclass(frozen=True)
class Scene:
    """Meanings by slot; None where the scene says nothing."""

    agent: int
    action: int
    target: int
    quality: int | None
    place: int | None


def draw_scene(rng: Random) -> Scene:
    """A scene that keeps to the habits."""

    def draw(slot: str, given: int) -> int:
        return rng.choices(range(len(SLOTS[slot])), cum_weights=HABITS[slot][given])[0]

    def maybe(slot: str, given: int) -> int | None:
        return None if rng.random() < ABSENT else draw(slot, given)

    agent = rng.randrange(len(SLOTS["agent"]))
    action = draw("action", agent)
    target = agent
    while target == agent:
        target = draw("target", action)
    return Scene(agent, action, target, maybe("quality", agent), maybe("place", action))


def similarity(first: Scene, second: Scene) -> float:
    """From 0 to 1: the weights of the slots that agree, and a part of it for kin. Agent and target do not mix."""
    total = 0.0
    for name, weight in WEIGHTS.items():
        a, b = getattr(first, name), getattr(second, name)
        if a == b:
            total += weight
        elif a is None or b is None:
            total += ONE_ABSENT * weight
        elif SLOTS[name].family[a] == SLOTS[name].family[b]:
            total += KIN * weight
    return total


def edit(scene: Scene, slots: list[str], rng: Random) -> Scene:
    """The scene with other meanings in some slots, half of them kin of the old ones."""
    for name in slots:
        old = getattr(scene, name)
        taken = {old, scene.agent, scene.target} if name in ("agent", "target") else {old}
        near = SLOTS[name].kin(old) if old is not None and rng.random() < 0.5 else range(len(SLOTS[name]))
        choices = [k for k in near if k not in taken] or [k for k in range(len(SLOTS[name])) if k not in taken]
        scene = replace(scene, **{name: rng.choice(choices)})
    return scene


def say(scene: Scene, rng: Random, told: dict[tuple[str, int], str] | None = None) -> str:
    """A sentence that describes the scene.

    Args:
        told: the words that a story has for meanings so far; it keeps most of them, and gets the new ones.
    """
    told = {} if told is None else told

    def word(slot: str) -> str:
        meaning = getattr(scene, slot)
        if meaning is None:
            return ""
        if (slot, meaning) not in told or rng.random() > KEPT:
            told[slot, meaning] = draw(slot, meaning)
        return told[slot, meaning]

    def draw(slot: str, meaning: int) -> str:
        words = SLOTS[slot].words[meaning]
        return rng.choices(words, cum_weights=ZIPF[: len(words)])[0].replace(":", " ")

    active, passive = word("action").split("/")
    agent, target = f"the {word('quality')} {word('agent')}", f"the {word('target')}"
    place = word("place")
    order = rng.choices(["active", "passive", "fronted"], [0.45, 0.35, 0.2])[0]
    if order == "active":
        said = f"{agent} {active} {target} {place}"
    elif order == "passive":
        said = f"{target} is {passive} by {agent} {place}"
    else:
        said = f"{place} {agent} {active} {target}"
    return " ".join(f"{rng.choice(BEFORE)} {said}".split())


class SentencePairs(PairSource):
    """Pairs of sentences with the similarity of their scenes; pair k of a split is the same whatever the split's size.

    Args:
        train: pairs to train on.
        val: pairs to validate on.
        test: pairs to test on.
    """

    def __init__(self, train: int = 4000, val: int = 300, test: int = 1000):
        self.sizes: dict[Split, int] = {"train": train, "val": val, "test": test}

    def read(self, split: Split) -> list[Pair]:
        return [draw_pair(Random(f"{split} {k}")) for k in range(self.sizes[split])]


def draw_pair(rng: Random) -> Pair:
    """Two sentences: of one scene, of one with up to four slots changed or agent and target swapped, of two scenes."""
    first = draw_scene(rng)
    kind = rng.choices([*EDITS], [*EDITS.values()])[0]
    if isinstance(kind, int):
        second = edit(first, rng.sample([*WEIGHTS], kind), rng)
    elif kind == "swap":
        second = replace(first, agent=first.target, target=first.agent)
    else:
        second = draw_scene(rng)
    return Pair(say(first, rng), say(second, rng), similarity(first, second))


class Stories(PairSource):
    """Two sentences that follow each other in a text, without a score: what a language model reads.

    A story stays with its people and its place: few slots of the scene change, and most words stay, too. So whether one
    sentence follows another shows in what they share, which teaches a language model to compare two sentences.

    Args:
        size: stories; the same for every split.
    """

    def __init__(self, size: int = 20000):
        self.size = size

    def read(self, split: Split) -> list[Pair]:
        return [_story(Random(f"story {k}")) for k in range(self.size)]


def _story(rng: Random) -> Pair:
    first = draw_scene(rng)
    second = edit(first, [name for name in WEIGHTS if rng.random() < CHANGED], rng)
    told: dict[tuple[str, int], str] = {}
    return Pair(say(first, rng, told), say(second, rng, told))
