"""Captions rewritten into false ones that are near them: by rules, or by any causal language model.

Five kinds, as the paper has them: words in another order, nouns swapped, adjectives swapped, an adjective replaced, a
noun replaced. The rules know the words below; a model knows more.
"""

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

NOUNS = tuple(
    words.split()
    for words in (
        "man woman boy girl",
        "men women boys girls",
        "dog cat horse cow sheep elephant bear zebra giraffe duck goat",
        "car bus truck train bicycle/bike motorcycle boat airplane/plane",
        "chair couch/sofa bed table/desk bench shelf",
        "apple orange banana pizza sandwich cake donut carrot salad",
        "cup bowl bottle plate glass fork knife spoon",
        "laptop/computer phone television keyboard camera clock",
        "street/road beach field/park river forest mountain",
        "kitchen bathroom bedroom office",
        "shirt hat jacket/coat dress tie umbrella bag",
        "ball frisbee kite skateboard surfboard racket snowboard",
        "tree flower house/building wall window door sign fence",
        "circle square triangle cross ring star heart moon",
    )
)
ADJECTIVES = tuple(
    words.split()
    for words in (
        "red blue green yellow orange purple pink brown black white gray/grey",
        "large/big/huge small/little/tiny",
        "old young/new",
        "long/tall short",
        "wooden metal plastic glass stone",
        "empty full",
        "open closed",
        "clean dirty",
        "wet dry",
        "hot cold",
        "dark bright",
        "striped plain",
        "one two three four five six",
    )
)
"""Families: one member takes another's place, but for what may be said of the same thing ("/"): that would be true."""
WRONG = {"sheeps", "buss", "benchs", "shelfs", "sandwichs", "glasss", "knifes", "beachs", "dresss", "crosss"}
"""Plurals that are none."""
SYMMETRIC = {"a", "an", "and", "beside", "near", "next", "or", "the", "to", "with"}
"""Words across which a swap may leave a caption true: "a dog and a cat", "a large brown dog"."""
TRIES = 20  # before a caption is given up
TASKS = {
    "reshuffled": ("Reorder the words", "a man in a hat feeds two ducks", "a hat in two ducks feeds a man"),
    "nouns swapped": ("Swap two nouns", "a dog sleeps under a wooden table", "a table sleeps under a wooden dog"),
    "adjectives swapped": ("Swap two adjectives", "a red kite over a white house", "a white kite over a red house"),
    "adjective replaced": (
        "Replace an adjective",
        "an old woman waits at a station",
        "a young woman waits at a station",
    ),
    "noun replaced": ("Replace a noun", "a boy eats an apple in the kitchen", "a boy eats a sandwich in the kitchen"),
}
"""Kinds of negatives: what a language model is told, with a caption and the answer."""


def by_rules(caption: str, count: int, seed: int = 0) -> list[str]:
    """Up to `count` different negatives, one of each kind that is possible, then more of them.

    Fewer come back where a caption has no words that the rules know and too few to reorder.
    """
    rng, found = random.Random(f"{seed} {caption}"), list[str]()
    for rule in _turns(TRIES):
        made = rule(caption, rng)
        if made and made.lower() != caption.lower() and made not in found:
            found.append(made)
        if len(found) == count:
            break
    return found


def _turns(rounds: int) -> Iterator[Callable[[str, random.Random], str | None]]:
    """Every kind once with the reordering last, so that it is not the only kind where the other four are possible."""
    for _ in range(rounds):
        yield lambda text, rng: swapped(text, NOUNS, rng)
        yield lambda text, rng: swapped(text, ADJECTIVES, rng)
        yield lambda text, rng: replaced(text, NOUNS, rng)
        yield lambda text, rng: replaced(text, ADJECTIVES, rng)
        yield reshuffled


def reshuffled(caption: str, rng: random.Random) -> str | None:
    """The same words in another order; None where there are fewer than two."""
    parts, places = _words(caption)
    if len({parts[k].lower() for k in places}) < 2:
        return None
    words = [parts[k] for k in places]
    rng.shuffle(words)
    for k, word in zip(places, words, strict=True):
        parts[k] = word
    return "".join(parts)


def swapped(caption: str, families: tuple[list[str], ...], rng: random.Random) -> str | None:
    """Two different known words in each other's place; None where there are no two, or it would stay true."""
    parts, places = _words(caption)
    known = [k for k in places if _family(parts[k], families)]
    pairs = [
        (i, j)
        for n, i in enumerate(known)
        for j in known[n + 1 :]
        if parts[i].lower() != parts[j].lower() and not {parts[k].lower() for k in places if i < k < j} <= SYMMETRIC
    ]
    if not pairs:
        return None
    i, j = rng.choice(pairs)
    parts[i], parts[j] = parts[j], parts[i]
    return _with_articles(parts, places)


def replaced(caption: str, families: tuple[list[str], ...], rng: random.Random) -> str | None:
    """A known word replaced by another of its family; None where there is none."""
    parts, places = _words(caption)
    known = [k for k in places if _family(parts[k], families)]
    if not known:
        return None
    place = rng.choice(known)
    others, ending = _family(parts[place], families) or ([], "")
    parts[place] = rng.choice(others) + ending
    return _with_articles(parts, places)


def _words(caption: str) -> tuple[list[str], list[int]]:
    """A caption in parts, words and what is between them, and where the words are."""
    parts = re.findall(r"\w[\w'-]*|[^\w]+", caption)
    return parts, [k for k, part in enumerate(parts) if part[0].isalnum()]


def _family(word: str, families: tuple[list[str], ...]) -> tuple[list[str], str] | None:
    """What makes a caption false in a word's place, and the ending of its plural ("s" or nothing)."""
    lower = word.lower()
    for singular, ending in ((lower, ""), *([(lower[:-1], "s")] if lower.endswith("s") else [])):
        for family in families:
            if any(singular in member.split("/") for member in family):
                others = [name for member in family for name in member.split("/") if singular not in member.split("/")]
                return [name for name in others if not ending or name + ending not in WRONG], ending
    return None


def _with_articles(parts: list[str], places: list[int]) -> str:
    """The text with a and an as the words after them want it."""
    for here, following in zip(places, places[1:], strict=False):
        if parts[here].lower() in ("a", "an"):
            article = "an" if parts[following][0].lower() in "aeiou" else "a"
            parts[here] = article.capitalize() if parts[here][0].isupper() else article
    return "".join(parts)


def by_model(captions: list[str], count: int, model: Any, tokenizer: Any) -> list[list[str]]:
    """Negatives of each caption by a causal language model, a kind after the other; too few where its answers are none.

    Args:
        model, tokenizer: of transformers, as `AutoModelForCausalLM` loads them.
    """
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    found: list[list[str]] = [[] for _ in captions]
    for kind in TASKS:
        prompts = [prompt(kind, caption) for caption in captions]
        words = tokenizer(prompts, return_tensors="pt", padding=True).to(model.device)
        made = model.generate(**words, max_new_tokens=60, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        answers = tokenizer.batch_decode(made[:, words.input_ids.shape[1] :], skip_special_tokens=True)
        for caption, answer, kept in zip(captions, answers, found, strict=True):
            if len(kept) < count and (line := answered(answer, kind, caption)) and line not in kept:
                kept.append(line)
    return found


def prompt(kind: str, caption: str) -> str:
    """The task, an example, and the caption."""
    task, shown, answer = TASKS[kind]
    example = f"Caption: {shown}\nFalse caption: {answer}"
    return f"{task} of the caption, so that it becomes false.\n\n{example}\n\nCaption: {caption}\nFalse caption:"


def answered(answer: str, kind: str, caption: str) -> str | None:
    """A model's answer as a negative: its first line; None where it says the same, nothing, or reorders other words."""
    lines = answer.strip().splitlines()
    line = lines[0].strip().strip('"') if lines else ""
    if not line or line.lower().rstrip(".") == caption.lower().rstrip("."):
        return None
    same = sorted(re.findall(r"\w+", line.lower())) == sorted(re.findall(r"\w+", caption.lower()))
    return line if same or kind == "adjective replaced" or kind == "noun replaced" else None
