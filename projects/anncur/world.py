"""A procedural world for zero-shot entity linking: invented entities, and mentions that paraphrase their texts.

Names are shared, so that a mention alone fits many entities; the context decides. A quarter of the mentions use
nicknames, which share no word with the title. Who is related to whom in which way matters, too: that takes a
comparison of word with word, which two separate encoders find hard.
"""

import zlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from transformers import BertTokenizer, PreTrainedTokenizerBase

from common.data.linking import Domain, Entity, LinkingSource, Mention

TYPES = [
    ("knight", "warrior", "soldier"), ("wizard", "mage", "sorcerer"), ("merchant", "trader", "seller"),
    ("dragon", "wyrm", "serpent"), ("ship", "vessel", "boat"), ("sword", "blade", "weapon"),
    ("city", "town", "village"), ("river", "stream", "creek"), ("robot", "machine", "automaton"),
    ("thief", "rogue", "burglar"), ("poet", "singer", "bard"), ("queen", "ruler", "empress"),
]  # fmt: skip
COLOURS = [
    ("red", "crimson"), ("blue", "azure"), ("green", "emerald"), ("black", "dark"), ("white", "pale"),
    ("golden", "yellow"), ("grey", "silver"), ("brown", "bronze"),
]  # fmt: skip
PLACES = [
    ("north", "arctic"), ("south", "tropics"), ("coast", "shore"), ("desert", "dunes"), ("forest", "woods"),
    ("mountain", "peaks"), ("island", "isle"), ("swamp", "marsh"), ("moon", "lunar"), ("capital", "metropolis"),
    ("valley", "dale"), ("cave", "cavern"),
]  # fmt: skip
RELATIONS = [
    ("friend", "ally"), ("enemy", "rival"), ("child", "heir"), ("teacher", "mentor"), ("servant", "vassal"),
    ("maker", "creator"),
]  # fmt: skip
FILLERS = [
    "the",
    "a",
    "was",
    "then",
    "and",
    "of",
    "who",
    "seen",
    "once",
    "said",
    "very",
    "old",
    "long",
    "great",
    "near",
]
SPECIAL = ["[PAD]", "[unused0]", "[unused1]", "[unused2]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def invented(count: int) -> list[str]:
    """Pronounceable words, each another one, none of them real: "kadu", "kafe", ..."""
    syllables = [consonant + vowel for consonant in "kdfgbmnprstvlz" for vowel in "aeiou"]
    pairs = [first + second for first in syllables for second in syllables]
    return [pairs[i] for i in np.random.default_rng(7).permutation(len(pairs))[:count]]


class LinkingWorld(LinkingSource):
    """Domains by name: the same name and sizes give the same domain.

    Args:
        entities: items of a domain.
        mentions: queries of a domain.
        names: words that titles are made of, the same in every domain; each has a nickname.
    """

    def __init__(self, entities: int = 1000, mentions: int = 400, names: int = 30):
        self.entities, self.mentions = entities, mentions
        words = invented(2 * names)
        self.names, self.nicknames = words[:names], words[names:]

    @cached_property
    def vocabulary(self) -> list[str]:
        words = [word for table in (TYPES, COLOURS, PLACES, RELATIONS) for synonyms in table for word in synonyms]
        return [*SPECIAL, *words, *FILLERS, *self.names, *self.nicknames]

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """BERT's, a word a token."""
        return BertTokenizer(vocab={word: i for i, word in enumerate(self.vocabulary)})

    def domain(self, name: str) -> Domain:
        """The domain of that name; each has habits of its own in how often it uses a type, a place, a name."""
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        habits = [np.cumsum(rng.dirichlet(np.full(len(table), 3.0))) for table in (TYPES, COLOURS, PLACES, RELATIONS)]
        favourites = rng.dirichlet(np.full(len(self.names), 2.0))

        def pick(habit: np.ndarray) -> int:
            return min(int(np.searchsorted(habit, rng.random())), len(habit) - 1)

        def one_of(words: Sequence[str]) -> str:
            return words[int(rng.integers(len(words)))]

        def say(table: list[tuple[str, ...]], meaning: int) -> str:
            return one_of(table[meaning])

        def fill(words: list[str], count: int) -> list[str]:
            for _ in range(count):
                words.insert(int(rng.integers(len(words) + 1)), one_of(FILLERS))
            return words

        titles, facts, entities = [], [], []
        for _ in range(self.entities):
            titles.append(rng.choice(len(self.names), 2, replace=False, p=favourites))
            related = rng.choice(len(self.names), 2, replace=False, p=favourites)
            kind, colour, place = (pick(habit) for habit in habits[:3])
            facts.append((kind, colour, place, [(pick(habits[3]), int(who)) for who in related]))
        for title, (kind, colour, place, related) in zip(titles, facts, strict=True):
            parts = [[say(COLOURS, colour), say(TYPES, kind)], [say(PLACES, place)]]
            parts += [[say(RELATIONS, relation), self.names[who]] for relation, who in related]
            text = [word for i in rng.permutation(len(parts)) for word in parts[i]]
            entities.append(Entity(" ".join(self.names[i] for i in title), " ".join(fill(text, 1))))

        mentions = []
        for entity in rng.choice(self.entities, self.mentions, replace=self.mentions > self.entities).tolist():
            kind, colour, place, related = facts[entity]
            relation, who = related[int(rng.integers(2))]
            parts = [[say(TYPES, kind)], [say(COLOURS, colour)], [say(PLACES, place)]]
            parts += [[say(RELATIONS, relation), self.names[who]]]
            kept = [parts[i] for i in rng.permutation(4)[: int(rng.integers(2, 5))]]
            cut = int(rng.integers(len(kept) + 1))
            sides = [" ".join(fill([w for part in half for w in part], 1)) for half in (kept[:cut], kept[cut:])]
            words = self.nicknames if rng.random() < 0.25 else self.names
            shown = titles[entity] if rng.random() < 0.5 else titles[entity][:1]
            mentions.append(Mention(sides[0], " ".join(words[i] for i in shown), sides[1], entity))
        return Domain(name, entities, mentions)
