"""A world of stories, and a grammar that answers the pipeline's prompts about them as a language model would.

It has a language model's faults too: it names a character who is not in the plot, grades emotions that are not there,
has words of its own for some of them, and repeats itself where there is no plot to hold on to. The gold domain is
another register: other things, other sentences, and half of the words for emotions.
"""

import random
import re
import zlib
from collections.abc import Sequence

from common.data.text import LabelledText, Split, TextSource, scored
from projects.emo_pillars.language import LanguageModel
from projects.emo_pillars.prompts import EMOTIONAL, NEUTRAL, sections_of


def listed(words: str) -> list[str]:
    return words.split()


EMOTIONS = ("joy", "gratitude", "pride", "surprise", "fear", "anger", "sadness", "disgust", "neutral")
FELT = EMOTIONS[:-1]
BESIDE = {a: b for x, y in zip(FELT[::2], FELT[1::2], strict=True) for a, b in ((x, y), (y, x))}
"""The emotion that an emotion is confused with, and often comes with."""
CUES = {
    "joy": "happy glad cheerful merry delighted jolly joyful sunny laughing",
    "gratitude": "grateful thankful indebted obliged blessed appreciative thanks beholden owing",
    "pride": "proud triumphant victorious splendid mighty accomplished boastful winning superb",
    "surprise": "astonished startled amazed stunned baffled speechless shook wow unbelievable",
    "fear": "afraid scared frightened terrified trembling shivering spooked creeped panicking",
    "anger": "furious angry enraged fuming raging bitter mad pissed livid",
    "sadness": "sad sorrowful weeping heartbroken gloomy mournful crying down sobbing",
    "disgust": "disgusted sickened revolted nauseous repelled queasy gross yuck barf",
}
STORY = {emotion: words.split()[:6] for emotion, words in CUES.items()}
GOLD = {emotion: words.split()[3:] for emotion, words in CUES.items()}
"""Words for emotions in stories and in the gold domain: three are shared."""
VAGUE = listed("strange odd different unsettled unlike quiet restless moved")
OWN_WORDS = {"fear": "terror", "surprise": "astonishment"}
"""What the grammar calls some emotions, mostly."""
NAMES = listed("Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Leo Mara Nils Olga Paul Rosa Simon Tilda")
TRADES = listed("baker sailor weaver smith farmer singer painter miller hunter tailor")
TRAITS = {"timid": listed("timid shy gentle meek"), "bold": listed("bold fierce stubborn brave")}
THINGS = listed("ring letter horse lantern violin map crown coat boat key book bell mirror sword basket candle clock")
PLACES = listed("market castle harbour forest mill church tower garden inn bridge cellar meadow")
SITUATIONS = (
    ("{other} steals the {thing} of {actor}", "sadness", "anger"),
    ("{other} gives {actor} the {thing}", "gratitude", "joy"),
    ("a stranger follows {actor} into the {place}", "fear", "anger"),
    ("{actor} wins the {thing} in a contest", "surprise", "pride"),
    ("{actor} loses the {thing} on the way to the {place}", "sadness", "anger"),
    ("{other} saves {actor} from the burning {place}", "gratitude", "surprise"),
    ("the crowd at the {place} calls for {actor}", "fear", "pride"),
    ("{other} comes back to the {place} after many years", "surprise", "joy"),
    ("the lights go out in the {place}", "fear", "surprise"),
    ("{other} spits on the {thing}", "sadness", "disgust"),
    ("{other} breaks the {thing} of {actor}", "sadness", "anger"),
    ("{actor} mends the old {thing}", "joy", "pride"),
    ("{actor} has to sleep beside rats in the {place}", "fear", "disgust"),
    ("{other} asks {actor} to dance at the {place}", "joy", "joy"),
    ("{other} pays the debts of {actor}", "gratitude", "gratitude"),
    ("{other} praises the {thing} that {actor} has made", "pride", "pride"),
    ("{actor} finds a coin inside the {thing}", "surprise", "surprise"),
    ("the ice breaks under {actor} near the {place}", "fear", "fear"),
    ("{other} beats a child at the {place}", "anger", "anger"),
    ("word comes that the {thing} is gone for ever", "sadness", "sadness"),
    ("{actor} bites into a rotten apple at the {place}", "disgust", "disgust"),
)
"""What happens, and what a timid and a bold character feel about it."""
PLAIN = ("{actor} carries the {thing} to the {place}", "{actor} waits at the {place} with {other}")
SPOKEN = (
    "oh , the {thing} makes me so {cue} !",
    "i am {cue} , and all because of the {thing} .",
    "how {cue} i feel here at the {place} .",
    "look at me , {cue} in the middle of the {place} !",
    "who would not be {cue} with such a {thing} ?",
    "{name} should see how {cue} i am .",
    "ever since the {place} i have been {cue} .",
    "that {thing} of {name} leaves me {cue} .",
)
UNMOVED = ("i shall take the {thing} to the {place} .", "the {thing} is at the {place} .")
ONLINE_THINGS = listed("game movie boss dog team phone pizza update meme album teacher sequel")
ONLINE = (
    "ngl this {thing} got me {cue}",
    "{cue} rn , just saw the {thing} again",
    "anyone else {cue} about that {thing} ?",
    "op 's {thing} ... {cue} does not cover it",
    "me reading about the {thing} : {cue}",
    "so {cue} , that {thing} though",
)
ONLINE_PLAIN = ("the {thing} came out on {day}", "is there a link to the {thing} ?", "my {thing} is the {day} one")
DAYS = listed("monday tuesday friday sunday")
SECOND, OVER, OFF, STRAY, ASTRAY, SLIP = 0.35, 0.5, 0.6, 0.05, 0.15, 0.1
"""How often an utterance has a second emotion, the grammar sees one that is not there, has its own word for one that it
does so with, names a character who is not there or grades a word that is no emotion, explains an utterance by what has
nothing to do with it; and how often a person who labels the gold domain slips."""


def generator(*key: object) -> random.Random:
    """What follows is a function of the key alone."""
    return random.Random(zlib.crc32(repr(key).encode()))


def plot(rng: random.Random, characters: int = 4) -> str:
    """A story of as many characters, with an event for each."""
    cast, place = rng.sample(NAMES, characters), rng.choice(PLACES)
    told = []
    for k, actor in enumerate(cast):
        trait = rng.choice(TRAITS[rng.choice(list(TRAITS))])
        event = rng.choice(SITUATIONS)[0]
        filled = event.format(actor=actor, other=cast[k - 1], thing=rng.choice(THINGS), place=place)
        told.append(f"{actor} is a {trait} {rng.choice(TRADES)} . {filled} .")
    return " ".join(told)


class StoryGrammar(LanguageModel):
    """Answers all of the pipeline's prompts, about plots of this world or about none."""

    def answers(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        return [self._answer(text) for text in prompts]

    def _answer(self, text: str) -> str:
        parts = sections_of(text)
        rng = generator(text)
        if parts["task"] == "levels":
            return graded(parts["utterance"], rng)
        if parts["task"] == "clean":
            return ". ".join(part for part in parts["context"].split(". ") if " feels " not in part).strip()
        if parts["task"] == "rewrite":
            return veiled(parts["utterance"], rng)
        told = parts.get("plot", "")
        cast = re.findall(r"(\w+) is a (\w+) (\w+) \.", told)
        if parts["task"] == "characters":
            named = [f"{k}. {name} ({trait} {trade})" for k, (name, trait, trade) in enumerate(cast, start=1)]
            return "\n".join([*named, f"{len(named) + 1}. Narrator"] if rng.random() < 4 * STRAY else named)
        if parts["task"] == "utterances":
            return monologue(told, [name for name, _, _ in cast], rng)
        return told_context(parts, cast, rng)


def monologue(told: str, cast: Sequence[str], rng: random.Random) -> str:
    """Eight utterances with an emotion each and two without; where there is no plot, always much the same ones."""
    words = set(told.split())
    things = [thing for thing in THINGS if thing in words] or [THINGS[0]]
    places = [place for place in PLACES if place in words] or [PLACES[0]]
    shown, cues = (SPOKEN, 6) if told else (SPOKEN[:2], 2)
    answer = []
    for emotion in rng.sample(FELT, EMOTIONAL):
        thing = rng.choice(THINGS if told and rng.random() < 0.5 else things)
        said = rng.choice(shown).format(
            cue=rng.choice(STORY[emotion][:cues]),
            thing=thing,
            place=rng.choice(places),
            name=rng.choice(cast or ["Anna"]),
        )
        if rng.random() < SECOND:
            said += f" and a little {rng.choice(STORY[BESIDE[emotion]][:cues])} ."
        answer.append(f"({emotion}) {said}")
    for k in range(NEUTRAL):
        answer.append(f"(neutral) {UNMOVED[k].format(thing=things[0], place=places[0])}")
    return "\n".join(f"{k}. {line}" for k, line in enumerate(answer, start=1))


def felt(text: str, cues: dict[str, list[str]]) -> list[str]:
    """The emotions for which a text has a word, in the order of the words."""
    of = {word: emotion for emotion, words in cues.items() for word in words}
    return list(dict.fromkeys(of[word] for word in text.split() if word in of))


def graded(text: str, rng: random.Random) -> str:
    """Levels of an utterance's emotions, with what a language model adds."""
    found = {}
    for k, emotion in enumerate(felt(text, STORY)[:2]):
        found[emotion] = rng.randint(7, 10) / 10 if k == 0 else rng.randint(4, 7) / 10
    levels = {OWN_WORDS[name] if name in OWN_WORDS and rng.random() < OFF else name: x for name, x in found.items()}
    if found and rng.random() < OVER:
        levels.setdefault(BESIDE[next(iter(found))], rng.randint(1, 2) / 10)
    if rng.random() < STRAY:
        levels["weariness"] = 0.4
    levels = levels if found else levels | {"neutral": 0.9}
    return "\n".join(f"{name}: {level:.1f}" for name, level in levels.items())


def veiled(text: str, rng: random.Random) -> str:
    """An utterance with vague words in place of those for emotions."""
    telling = {word for words in STORY.values() for word in words}
    return " ".join(rng.choice(VAGUE) if word in telling else word for word in text.split())


def told_context(parts: dict[str, str], cast: Sequence[tuple[str, str, str]], rng: random.Random) -> str:
    """Who the actor is, what happened, and a sentence about somebody's emotion: the actor's or another's."""
    actor = parts["actor"]
    trait, trade = next(
        ((trait, trade) for name, trait, trade in cast if name == actor), (TRAITS["bold"][0], TRADES[0])
    )
    others = [name for name, _, _ in cast if name != actor] or [NAMES[0]]
    other, said = rng.choice(others), parts["utterance"].split()
    emotion = parts["emotions"].split(", ")[0]
    kind = 1 if trait in TRAITS["timid"] else 2
    fitting = [situation[0] for situation in SITUATIONS if situation[kind] == emotion] or PLAIN
    if rng.random() < ASTRAY:
        fitting = [situation[0] for situation in SITUATIONS]
    thing = next((word for word in said if word in THINGS), rng.choice(THINGS))
    place = next((word for word in said if word in PLACES), rng.choice(PLACES))
    event = rng.choice(fitting).format(actor=actor, other=other, thing=thing, place=place)
    whose, which = (actor, emotion) if rng.random() < 0.5 else (other, rng.choice(FELT))
    feels = f" {whose} feels {rng.choice(STORY[which])} ." if which in STORY else ""
    return f"{actor} is a {trait} {trade} . {event} .{feels}"


class OnlineRemarks(TextSource):
    """The gold domain: short remarks in another register, labelled by people who slip now and then.

    Args:
        train: remarks to tune on.
        val: remarks to choose thresholds on.
        test: remarks to test on.
    """

    def __init__(self, train: int = 300, val: int = 1000, test: int = 2000):
        self.sizes: dict[Split, int] = {"train": train, "val": val, "test": test}

    @property
    def classes(self) -> tuple[str, ...]:
        return EMOTIONS

    def read(self, split: Split) -> list[LabelledText]:
        return [remark(generator("remark", split, k)) for k in range(self.sizes[split])]


def remark(rng: random.Random) -> LabelledText:
    """A remark with one emotion, with two, or with none."""
    thing, labels = rng.choice(ONLINE_THINGS), {EMOTIONS[-1]}
    text = rng.choice(ONLINE_PLAIN).format(thing=thing, day=rng.choice(DAYS))
    if rng.random() > 1 / len(EMOTIONS):
        emotion = rng.choice(FELT)
        text, labels = rng.choice(ONLINE).format(thing=thing, cue=rng.choice(GOLD[emotion])), {emotion}
        if rng.random() < SECOND:
            text, labels = f"{text} , kinda {rng.choice(GOLD[BESIDE[emotion]])}", {emotion, BESIDE[emotion]}
    if rng.random() < SLIP:
        labels = {rng.choice(EMOTIONS)}
    return scored(text, None, tuple(float(name in labels) for name in EMOTIONS))
