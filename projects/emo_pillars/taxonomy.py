"""Emotions, and how a language model's graded answers become a classifier's labels."""

import re
from collections.abc import Iterable, Mapping

GOEMOTIONS = (
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
    "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy",
    "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral",
)  # fmt: skip
"""The paper's 28 classes, in the order of GoEmotions' files and of the released data; released networks have others."""

REMAP = {
    "amazement": "surprise", "amused": "amusement", "angry": "anger", "anguish": "grief", "annoyed": "annoyance",
    "anticipation": "excitement", "anxiety": "nervousness", "anxious": "nervousness", "apprehension": "nervousness",
    "astonishment": "surprise", "awe": "admiration", "bitterness": "disappointment", "compassion": "caring",
    "concern": "caring", "confused": "confusion", "contempt": "disgust", "contentment": "joy", "curious": "curiosity",
    "delight": "joy", "despair": "grief", "determination": "optimism", "disbelief": "surprise", "disdain": "disgust",
    "envy": "desire", "excited": "excitement", "fascination": "admiration", "frustration": "annoyance", "fury": "anger",
    "grateful": "gratitude", "guilt": "remorse", "happiness": "joy", "happy": "joy", "hate": "anger",
    "hatred": "anger", "hope": "optimism", "hopefulness": "optimism", "horror": "fear", "indignation": "anger",
    "irritation": "annoyance", "longing": "desire", "nervous": "nervousness", "outrage": "anger", "panic": "fear",
    "pity": "caring", "proud": "pride", "rage": "anger", "regret": "remorse", "resentment": "anger", "sad": "sadness",
    "satisfaction": "joy", "shame": "embarrassment", "shock": "surprise", "sorrow": "sadness", "surprised": "surprise",
    "sympathy": "caring", "terror": "fear", "thankfulness": "gratitude", "wonder": "admiration", "worry": "nervousness",
}  # fmt: skip
"""Words that language models answer with outside the 28. Of the paper's table three entries are known (anxiety, hope,
indignation); the others are ours, for words that its released data have."""

CUT, TOP = 0.3, 5
_PART = re.compile(r"[\n;]|,\s+(?=[A-Za-z])")
_NAME = re.compile(r"[A-Za-z](?:[A-Za-z'-]| (?=[A-Za-z]))*")
_NUMBER = re.compile(r"(?<![\d.,])\d*[.,]?\d+")


def parse_levels(answer: str) -> list[tuple[str, float]]:
    """The emotions that an answer names with a level from 0 to 1 ("1. Joy: 0.8", "fear (level 0.3), love (0.2)"), as
    they stand; five at most. A part without a word or without a level is left out."""
    found = []
    for part in _PART.split(answer):
        if name := _NAME.search(part):
            levels = [float(number.replace(",", ".")) for number in _NUMBER.findall(part[name.end() :])]
            if levels and levels[0] <= 1:  # the first: of "0.8/1.0" or "0.8 of 1" the second is the scale
                found.append((name[0].strip("-' ").lower(), levels[0]))
    return found[:TOP]


def mapped(
    levels: Iterable[tuple[str, float]], emotions: Iterable[str], remap: Mapping[str, str] = REMAP
) -> dict[str, float]:
    """Levels of the taxonomy's emotions: other words are remapped or dropped; of an emotion named twice the highest."""
    known, found = set(emotions), dict[str, float]()
    for name, level in levels:
        name = name if name in known else remap.get(name, "")
        if name in known:
            found[name] = max(level, found.get(name, 0.0))
    return found


def targets(levels: Mapping[str, float], emotions: Iterable[str], cut: float | None = CUT) -> tuple[float, ...]:
    """1 for every emotion of at least the cut (the paper: from 0.3 on), else 0; without a cut the levels themselves."""
    if cut is None:
        return tuple(levels.get(name, 0.0) for name in emotions)
    return tuple(float(levels.get(name, 0.0) >= cut - 1e-9) for name in emotions)
