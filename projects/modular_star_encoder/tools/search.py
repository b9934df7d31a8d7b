"""Search a folder of Python code in words, with a trained encoder and at the exit of your choice.

    python -m projects.modular_star_encoder.tools.search FOLDER "copy a file to another place" --exit 2
    python -m projects.modular_star_encoder.tools.search FOLDER "copy a file" "send a mail" --json
    python -m projects.modular_star_encoder.tools.search FOLDER "copy a file" \\
        --hub modularStarEncoder/ModularStarEncoder-finetuned

Prints the best functions for each query, with file and line. Without `--run` or `--hub` it takes the run of the paper's
method (or of `--arm`) that `make reproduce PAPER=modular_star_encoder DATA=stdlib` left. Embeddings are kept in the
run's folder by the functions' sources: a second search computes those of new and changed functions alone, and an
interrupted one goes on where it stopped. Where nothing can be written there, they are not kept.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.data.readers.python_functions import PythonFunction, read_folder
from common.errors import UserError, unknown, user_errors
from common.hub import hub_file
from common.paths import runs_folder, user_path
from common.training.runs import settings_of
from projects.modular_star_encoder.model import MultiExitEncoder, TrunkSizes, load_encoder
from projects.modular_star_encoder.pairs import CODE, TEXT
from projects.modular_star_encoder.tokens import Formatter, load_marked_tokenizer

PAPER = "modular_star_encoder"
LABELS = ("mini-stdlib", "paper")  # runs whose encoders have seen real code
METHOD = "multi_exit"
HUB_CONFIG = Path(__file__).parents[1] / "configs/paper/encoder.yaml"
BATCH, SAVED = 64, 20  # functions embedded at a time; batches between two savings of the index


def tell(words: str) -> None:
    """Say something beside the results."""
    print(words, file=sys.stderr)


class Result(NamedTuple):
    function: PythonFunction
    score: float


class Reading(NamedTuple):
    """How an encoder reads code and words; see `Formatter`."""

    tokenizer: str
    max_length: int
    code_instruction: str
    text_instruction: str


class Encoder(NamedTuple):
    """What a search needs to know of a trained encoder: its settings, its weights, where embeddings are kept."""

    sizes: TrunkSizes
    exits: list[int]
    reading: Reading
    weights: Path
    index: Path
    name: str


class Searcher:
    """A fine-tuned encoder, cut at one of its exits, and the embeddings it has computed.

    Args:
        trained: of a run, or of the hub.
        layer: the exit; None takes the deepest.
    """

    def __init__(self, trained: Encoder, layer: int | None = None):
        exits, reading = trained.exits, trained.reading
        if layer is not None and layer not in exits:
            raise UserError(f"{trained.name} has no exit after layer {layer}; its exits: {', '.join(map(str, exits))}")
        self.layer: int = layer or exits[-1]
        tokenizer = load_marked_tokenizer(reading.tokenizer)
        self.formatter = Formatter(tokenizer, *reading[1:])
        encoder = MultiExitEncoder(trained.sizes, len(tokenizer), [self.layer])
        self.encoder = load_encoder(encoder, trained.weights)
        self.index = trained.index / f"exit{self.layer}.safetensors"

    @torch.no_grad()
    def embed(self, rows: list[list[int]]) -> Tensor:
        """Embeddings [R, D] of formatted inputs."""
        return self.encoder(**self.formatter.batch(rows))[self.layer]

    def embed_functions(self, functions: list[PythonFunction], told: Callable[[str], Any] = tell) -> Tensor:
        """Embeddings [F, D] of functions, from the index where it has them; `told` hears of progress."""
        known = self._known()
        keys = [hashlib.sha256(function.code.encode()).hexdigest()[:32] for function in functions]
        new = {key: function.code for key, function in zip(keys, functions, strict=True) if key not in known}
        todo = list(new.items())
        for number, start in enumerate(range(0, len(todo), BATCH), start=1):
            part = todo[start : start + BATCH]
            rows = self.formatter.code([code for _, code in part], ["Python"] * len(part))
            known |= zip((key for key, _ in part), self.embed(rows), strict=True)
            if number % SAVED == 0:
                self._save(known, told)
                told(f"{start + len(part)} of {len(todo)} functions embedded")
        if todo:
            self._save(known, told)
        return torch.stack([known[key] for key in keys])

    def search(self, queries: Sequence[str], functions: list[PythonFunction], top: int = 5) -> list[list[Result]]:
        """For each query the functions whose embeddings are nearest to its own, best first."""
        embeddings = self.embed_functions(functions)
        found = []
        for words in queries:
            scores = embeddings @ self.query(words)
            order = scores.argsort(descending=True, stable=True)[:top].tolist()
            found.append([Result(functions[k], scores[k].item()) for k in order])
        return found

    def query(self, words: str) -> Tensor:
        """The embedding [D] of a query."""
        return self.embed(self.formatter.text([words]))[0]

    def _known(self) -> dict[str, Tensor]:
        """Embeddings by hash of the source; a damaged index is made anew."""
        try:
            found = load_file(self.index) if self.index.exists() else {}
        except (SafetensorError, OSError):
            return {}
        keys, kept = found.get("keys", torch.empty(0)), found.get("embeddings", torch.empty(0))
        width = self.encoder.trunk.config.hidden_size
        if keys.ndim != 2 or kept.shape != (len(keys), width) or not torch.isfinite(kept).all():
            return {}
        names = [bytes(row).hex() for row in keys.numpy().astype(np.uint8)]
        return dict(zip(names, kept.float(), strict=True))

    def _save(self, known: dict[str, Tensor], told: Callable[[str], Any]) -> None:
        keys = torch.tensor([list(bytes.fromhex(key)) for key in known], dtype=torch.uint8)
        temporary = self.index.with_suffix(f".{os.getpid()}")
        try:
            self.index.parent.mkdir(parents=True, exist_ok=True)
            save_file({"keys": keys, "embeddings": torch.stack(list(known.values()))}, temporary)
            os.replace(temporary, self.index)
        except (OSError, SafetensorError) as error:  # a read-only folder, a full disk: the search itself goes on
            told(f"embeddings are not kept: {error}")


def of_run(run: Path) -> Encoder:
    """The encoder of a run of `finetune`, wherever its folder has been moved or copied to.

    Raises:
        UserError: not a finished run of `finetune`.
    """
    for name in ("config.yaml", "weights.safetensors", "done.json"):
        if not (run / name).is_file():
            raise UserError(f"{run} is no finished run: {name} is missing. Give the folder of a `finetune` run.")
    with settings_of(run) as config:
        model, data = config["model"], config["data"]
        if "trunk" not in model:
            raise UserError(f"{run} is no run of `finetune`, but of another stage")
        own = run / "tokenizer"
        reading = Reading(
            str(own if own.is_dir() else data["tokenizer"]),
            int(data["max_length"]),
            str(data["code_instruction"]),
            str(data["text_instruction"]),
        )
        sizes, exits = TrunkSizes(**model["sizes"]), [int(layer) for layer in model["exits"]]
    return Encoder(sizes, exits, reading, run / "weights.safetensors", run / "search", str(run))


def of_hub(name: str) -> Encoder:
    """A released fine-tuned encoder; its code is not needed.

    Raises:
        UserError: the hub has no such weights, or cannot be reached.
    """
    config = yaml.safe_load(HUB_CONFIG.read_text(encoding="utf-8"))
    model, data = config["model"], config["data"]
    weights = hub_file(name, "model.safetensors")
    layers = re.search(r"-(\d+)$", name)  # "-9": cut at this exit, with its head alone
    exits = [int(layers[1])] if layers else model["exits"]
    reading = Reading(data["tokenizer"], data["max_length"], CODE, TEXT)
    kept = Path.home() / ".cache/distillery" / name.replace("/", "--")
    return Encoder(TrunkSizes(**model["sizes"]), exits, reading, weights, kept, name)


def run_of(arm: str, runs: Path) -> Path:
    """The run of an arm, by the results that its reproduction left: the first seed's.

    Raises:
        UserError: nothing was reproduced, or no such arm.
    """
    for label in LABELS:
        file = runs / PAPER / label / "results.json"
        if not file.is_file():
            continue
        try:
            arms = json.loads(file.read_text(encoding="utf-8"))["arms"]
            if arm not in arms:
                raise unknown("arm", arm, arms)
            stages = [stage["fingerprint"] for stage in arms[arm]["stages"] if stage["stage"] == "finetune"]
            folders = [file.parent / f"finetune-{f}" / f"seed{k}" for f in stages for k in sorted(arms[arm]["seeds"])]
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            raise UserError(f"{file} is damaged ({error!r}): delete it; `make reproduce` writes it again") from None
        if finished := [folder for folder in folders if (folder / "done.json").is_file()]:
            return finished[0]
        raise UserError(f"arm {arm} of {label} has no fine-tuned encoder in {runs}: give a run as --run")
    raise UserError(
        f"no encoder of real code in {runs}: run `make reproduce PAPER={PAPER} DATA=stdlib`, "
        "or give a run as --run, or a released model as --hub"
    )


@user_errors
def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m projects.modular_star_encoder.tools.search",
        description="Search a folder of Python code in words.",
    )
    parser.add_argument("folder", type=Path, help="folder with Python files")
    parser.add_argument("queries", nargs="+", metavar="query", help="what the function does; one or several")
    parser.add_argument("--exit", type=int, help="layer whose exit is used; the deepest by default")
    parser.add_argument("--top", type=int, default=5, help="functions that are printed for each query")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of lines for people")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--arm", default=METHOD, help=f"arm whose run is used, {METHOD} by default")
    chosen.add_argument("--run", type=user_path, help="folder of a finished `finetune` run")
    chosen.add_argument("--hub", help="a released model, as modularStarEncoder/ModularStarEncoder-finetuned")
    given = parser.parse_args(None if arguments is None else list(arguments))
    if not all(query.strip() for query in given.queries):
        raise UserError("a query is empty: say in words what the function does")
    if given.top < 1:
        raise UserError(f"--top {given.top}: at least one function has to be printed")
    folder = user_path(given.folder)
    found = read_folder(folder)
    if found.skipped:
        first, why = next(iter(found.skipped.items()))
        tell(f"{len(found.skipped)} files skipped, the first: {first} ({why})")
    functions = [function for function in found.functions if function.statements]
    if not functions:
        raise UserError(f"no function in the {len(found.texts)} Python files of {given.folder}")
    if given.hub:
        trained = of_hub(given.hub)
    else:
        trained = of_run(given.run or run_of(given.arm, runs_folder()))
    answers = Searcher(trained, given.exit).search(given.queries, functions, given.top)
    if given.json:
        print(json.dumps([as_json(q, a, folder) for q, a in zip(given.queries, answers, strict=True)], indent=1))
        return 0
    for query, best in zip(given.queries, answers, strict=True):
        if len(given.queries) > 1:
            print(f"{query}:")
        for function, score in best:
            print(f"{score:6.3f}  {given.folder / function.file}:{function.line}  {function.name}")
            if function.text:
                print(f"        {function.text}")
    return 0


def as_json(query: str, best: list[Result], folder: Path) -> dict[str, Any]:
    """A query's results as plain data."""
    return {
        "query": query,
        "results": [
            {"score": round(score, 4), "file": str(folder / f.file), "line": f.line, "name": f.name, "text": f.text}
            for f, score in best
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
