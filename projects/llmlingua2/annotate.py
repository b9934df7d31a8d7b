"""From a teacher's compression to labels: chunks, the instruction, word alignment, quality control (section 3).

The teacher was told to delete words alone, and mostly did. Each of its words is looked for in the original, near the
place where the last one was found; what is found is to be kept, the rest to be dropped.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
COMMA = ","
"""Left out of the alignment: teachers drop and add commas at will."""
ENDS = (".", "\n")
"""Tokens with which a chunk may end."""

SYSTEM = "You shorten texts for a reader who has little room. You do so by leaving words out, and in no other way."
INSTRUCTION = """Shorten the text below as far as you can without losing what it says, so that you could write it out \
again afterwards. Keep to five rules:
1. Do nothing but delete words, those that matter least.
2. Leave the words that stay in their order.
3. Leave each of them as it is: no other form of it ("asked" stays "asked"), no other word for it.
4. Use no abbreviations and no emoji ("without" does not become "w/o").
5. Add nothing, neither words nor signs ("two hours for each part" may become "two hours each part", not "2h/part").
Answer with the shortened text alone.

{text}"""
"""Ours, with the five rules of the paper's (section 3.1, prompt 4 of the released ones); no rate is asked for."""


class Word(NamedTuple):
    """A word of a text, and where it stands."""

    text: str
    start: int
    end: int


class Quality(NamedTuple):
    """What an alignment says of a compression, shares of words.

    Attributes:
        compression: the compression's words, of the original's.
        variation: the compression's words that are not in the original, of its own; 1 where it is empty.
        hitting: the compression's words that are in the original, of the original's.
        matching: labels that are True.
        gap: hitting - matching, words that are there but were not aligned.
    """

    compression: float
    variation: float
    hitting: float
    matching: float
    gap: float


def split_words(text: str) -> list[Word]:
    """Words and single signs of a text, without commas.

    The released code has spaCy's lemmas in their place, and trains on them; ours are the words as they stand.
    """
    return [Word(m.group(), *m.span()) for m in WORD.finditer(text) if m.group() != COMMA]


def messages(text: str) -> list[dict[str, str]]:
    """What a teacher is asked, in the form of chat templates."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": INSTRUCTION.format(text=text)}]


def chunk_lengths(tokens: Sequence[str], limit: int, ends: Sequence[str] = ENDS) -> list[int]:
    """Tokens of each chunk: as many as fit, ended by the last end token among them where there is one.

    As in the released code a chunk may have `limit` + 1 tokens.
    """
    lengths, start = [], 0
    while start + limit < len(tokens):
        last = start + limit
        end = next((k for k in range(last, start, -1) if tokens[k] in ends), last)
        lengths.append(end + 1 - start)
        start = end + 1
    return [*lengths, len(tokens) - start] if start < len(tokens) else lengths


def annotate(original: Sequence[str], compressed: Sequence[str], window: int) -> tuple[list[bool], Quality]:
    """Which words of the original a compression has kept (Algorithm 1, as released).

    Args:
        original: words.
        compressed: the teacher's words.
        window: how many words from the last match are looked at on either side, the nearest first and forward before
            backward. The search moves on to each match, forward by at most half a window.

    Returns:
        A label for each word of the original, and the quality of the alignment.
    """
    if not original:
        raise ValueError("a text without words cannot be annotated")
    words, wanted = [w.lower() for w in original], [w.lower() for w in compressed]
    labels = [False] * len(words)
    here = 0
    for word in wanted:
        for step in range(window):
            ahead, behind = min(here + step, len(words) - 1), max(here - step, 0)
            if words[ahead] == word and not labels[ahead]:
                labels[ahead] = True
                here = min(ahead, here + window // 2)
                break
            if words[behind] == word and not labels[behind]:
                labels[behind] = True
                here = behind
                break
    known = set(words)
    found = sum(word in known for word in wanted)
    hitting, matching = found / len(words), sum(labels) / len(words)
    variation = 1 - found / len(wanted) if wanted else 1.0
    return labels, Quality(len(wanted) / len(words), variation, hitting, matching, hitting - matching)


def kept_samples(variation: Sequence[float], gap: Sequence[float], percentile: float = 90) -> list[int]:
    """Indices of the samples that pass quality control: the variation rate lies below its percentile, and then the
    alignment gap of what is left below its own.

    Where nothing lies below, for nearly all are as good as the best, those at the percentile pass as well; the released
    code would drop every sample.
    """
    kept = np.arange(len(variation))
    for rates in (np.asarray(variation), np.asarray(gap)):
        if len(kept):
            bar = np.percentile(rates[kept], percentile)
            below = rates[kept] < bar
            kept = kept[below if below.any() else rates[kept] <= bar]
    return kept.tolist()
