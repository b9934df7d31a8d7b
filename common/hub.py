"""Models, configs and tokenizers of the Hugging Face hub, in one way for all of the project.

    from_pretrained(BertModel, "bert-base-uncased", add_pooling_layer=False)

A source is a hub id or a folder; `~` and variables in it are replaced. No code of the hub is ever run. Whatever goes
wrong ends in one sentence: nothing there, gated, removed, offline, damaged, and what to do about it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import constants, hf_hub_download
from huggingface_hub import errors as hub
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.records import FileName, json_file
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT

NOTES = Path(__file__).with_name("hub_notes.yaml")
NETWORK = ("httpx", "httpcore", "requests", "urllib3", "socket", "ssl")


@schema(config=STRICT, slots=True)
class WeightIndex:
    """Which file of a large model has which tensor."""

    weight_map: dict[str, FileName]


INDEX = TypeAdapter(WeightIndex)


def from_pretrained(kind: Any, source: str | os.PathLike[str], **settings: Any) -> Any:
    """`kind.from_pretrained(source, ...)` of transformers or diffusers.

    Raises:
        UserError: there is no such thing, or it cannot be had or read; which it is, and what to do.
    """
    place = str(expand(source, "the model"))
    if kind.__name__.startswith("Auto") or kind.__name__.endswith("Pipeline"):
        settings["trust_remote_code"] = False  # only these look for code; without a word they would ask at a prompt
    with explained(kind.__name__, place):
        return kind.from_pretrained(place, **settings)


def hub_file(source: str | os.PathLike[str], name: str) -> Path:
    """A single file of a hub id, fetched where it is not in the cache, or of a folder.

    Raises:
        UserError: as `from_pretrained`.
    """
    place = str(expand(source, "the model"))
    with explained(name, place):
        return _file(place, name)


def hub_file_if_any(source: str | os.PathLike[str], name: str) -> Path | None:
    """Such a file, or None where the model has none of that name, or the cache of a machine without a network."""
    place = str(expand(source, "the model"))
    with explained(name, place):
        try:
            return _file(place, name)
        except (FileNotFoundError, hub.EntryNotFoundError, hub.LocalEntryNotFoundError):
            return None


def weight_files(
    source: str | os.PathLike[str], holding: str = "", single: tuple[str, ...] = ("model.safetensors",)
) -> list[Path]:
    """The files of a model's weights: its parts, where it has an index of them, or a single file.

    Args:
        source: a hub id or a folder.
        holding: of the parts, only those with a tensor that has this in its name.
        single: names under which a single file is looked for, in this order.

    Raises:
        UserError: as `from_pretrained`; the index is damaged, or no part holds such a tensor.
    """
    if index := hub_file_if_any(source, "model.safetensors.index.json"):
        names = json_file(index, INDEX, f"{source}: the list of its weights' files").weight_map
        parts = sorted({file for name, file in names.items() if holding in name})
        if not parts:
            raise UserError(f"{index} names no tensor with '{holding}' in its name: is it another model?")
        return [hub_file(source, part) for part in parts]
    found = (hub_file_if_any(source, name) for name in single[:-1])
    return [next(filter(None, found), None) or hub_file(source, single[-1])]


def _file(place: str, name: str) -> Path:
    if not Path(place).is_dir():
        return Path(hf_hub_download(place, name))
    if not (Path(place) / name).is_file():
        raise FileNotFoundError(f"there is no {name} in it")
    return Path(place) / name


@contextmanager
def explained(what: str, source: str) -> Iterator[None]:
    """Turn whatever is raised while `what` is loaded from a hub id or folder into the user's error."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # libraries raise OSError, ValueError, KeyError, their own and those of the network
        raise UserError(explanation(what, source, error)) from error


def explanation(what: str, source: str, error: BaseException) -> str:
    """What is wrong with a source, and what to do."""
    causes = list(_causes(error))
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
    if "trust_remote_code" in str(error):
        return f"'{source}' wants code of its own to be run, which is never done: take a model that transformers knows"
    if Path(source).exists():
        return f"the folder {source} holds no {what} that can be read ({said}): write or copy it again"
    if source.startswith(("/", ".", "~")) or source.count("/") > 1:
        return f"no {_kind(what)} at '{source}', neither a folder nor a hub id: correct the path"
    page = f"https://huggingface.co/{source}"
    note = notes().get(source, {})
    if any(isinstance(cause, hub.GatedRepoError) for cause in causes):
        return (
            f"'{source}' is gated: accept its licence at {page}, then `hf auth login`, or set HF_TOKEN to a token of "
            "that account"
        )
    if note.get("removed"):
        return (
            f"'{source}' was removed from the hub by its owner ({note['removed']}): use '{note['mirror']}', a copy, "
            "or a folder that has it"
        )
    if any(isinstance(cause, hub.RevisionNotFoundError) for cause in causes):
        return f"'{source}' has no such revision: look at {page}/tree/main"
    unreachable = [cause for cause in causes if _of_the_network(cause)]
    missing = (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled)
    if constants.HF_HUB_OFFLINE or unreachable or any(isinstance(cause, missing) for cause in causes):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub does not answer"
        token = " It is gated: its licence has to be accepted first." if note.get("gated") else ""
        return (
            f"'{source}' ({what}) is not in {constants.HF_HUB_CACHE}, and {why}: fetch it where there is a network "
            f"(`hf download {source}`), point HF_HOME to a cache that has it, or give a folder.{token}"
        )
    if any(isinstance(cause, hub.RepositoryNotFoundError | hub.HFValidationError) for cause in causes):
        return (
            f"no {_kind(what)} at '{source}', neither a folder nor a hub id; if it is private, `hf auth login` or set "
            "HF_TOKEN"
        )
    return (
        f"'{source}' gives no {what} ({said}): look at {page}, or remove it from {constants.HF_HUB_CACHE} and try again"
    )


@cache
def notes() -> dict[str, dict[str, str]]:
    """What is known of hub ids that cannot simply be had."""
    return yaml.safe_load(NOTES.read_text(encoding="utf-8"))


def _kind(what: str) -> str:
    """For people: a tokenizer, or the class."""
    return "tokenizer" if "Tokenizer" in what else what


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those behind it, each once."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is other for other in seen):
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
            yield one


def _of_the_network(error: BaseException) -> bool:
    kind = type(error)
    named = kind.__module__.split(".")[0] in NETWORK and "Status" not in kind.__name__
    return named or isinstance(error, ConnectionError | TimeoutError) or "couldn't connect" in str(error).lower()
