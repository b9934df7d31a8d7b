"""What the language model is asked, step by step (Shvets 2025, section 3; the wording is ours), and how its answers
are read."""

import re
from collections.abc import Sequence

EMOTIONAL, NEUTRAL = 8, 2
"""Utterances of an actor."""
MAX_TOKENS = {"characters": 300, "utterances": 500, "levels": 100, "context": 300, "clean": 300, "rewrite": 300}
TASKS = {
    "characters": "Who acts in this plot? Name every character, one a line, and nothing else.",
    "utterances": f"Imagine the actor thinking aloud in this story. Write {EMOTIONAL} utterances, each with another of "
    f"the emotions, and {NEUTRAL} neutral ones. One a line, as: number. (emotion) utterance",
    "levels": "Which emotions does the utterance express? Choose the five strongest from the list and grade each from "
    "0 to 1 in steps of 0.1. One a line, as: emotion: level",
    "context": "Explain in a few short sentences who the actor is and what has led to this utterance, up to the moment "
    "in which it was said and not further.",
    "clean": "Repeat the context without the clauses and sentences that speak of emotions. Change nothing else.",
    "rewrite": "Rewrite the utterance with as few changes as possible, so that its emotion cannot be told without the "
    "context.",
}
_NUMBERED = re.compile(r"^\s*(?:\d+\s*[.)]|[-*•])?\s*")
_UTTERANCE = re.compile(r"^\W*\(?([A-Za-z]+)\)?\W+(.*\w.*)$")


def prompt(task: str, **sections: str) -> str:
    """A prompt: named sections of text, and then the task. Empty sections are left out."""
    parts = [f"{name.capitalize()}:\n{text}" for name, text in sections.items() if text]
    return "\n\n".join([*parts, f"Task:\n{TASKS[task]}"])


def sections_of(text: str) -> dict[str, str]:
    """A prompt's sections by their names, and under "task" which one it is."""
    parts = re.split(r"(?:^|\n\n)([A-Z][a-z]+):\n", text)
    found = {name.lower(): part for name, part in zip(parts[1::2], parts[2::2], strict=True)}
    return found | {"task": next(name for name, wanted in TASKS.items() if wanted == found["task"])}


def lines(answer: str) -> list[str]:
    """An answer's lines without their numbers, dashes and quotation marks; each once."""
    found = [_NUMBERED.sub("", line).strip().strip("\"'").strip() for line in answer.splitlines()]
    return list(dict.fromkeys(line for line in found if line))


def names(answer: str) -> list[str]:
    """Characters of an answer; what is said of them after a dash, a colon or a bracket is left out."""
    found = (re.split(r"\s+[-–]\s|[:(]", line)[0].strip(" .") for line in lines(answer))
    return list(dict.fromkeys(name for name in found if name))


def utterances(answer: str, emotions: Sequence[str]) -> list[tuple[str, str]]:
    """(emotion, utterance) of every line that begins with a word for an emotion, whether it is in the taxonomy or not.
    A line without an utterance is left out."""
    found = []
    for line in lines(answer):
        if match := _UTTERANCE.match(line):
            word, said = match[1].lower(), match[2].strip().strip("\"'").strip()
            if line.lstrip().startswith("(") or word in emotions:
                found.append((word, said))
    return found


def grounded(actor: str, plot: str) -> bool:
    """Whether a character stands in the plot: one word of the name does, articles apart."""
    words = {word for word in re.findall(r"\w+", actor.lower()) if word not in ("the", "a", "an", "of")}
    return bool(words & set(re.findall(r"\w+", plot.lower())))
