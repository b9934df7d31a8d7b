"""Search a folder of Python code in words, with a trained encoder and at the exit of your choice.

    python -m projects.modular_star_encoder.tools.search FOLDER "copy a file to another place" --exit 2

Prints the best functions with file and line. Embeddings are kept in the run's folder by the functions' sources: a
second search computes those of new and changed functions alone, and an interrupted one goes on where it stopped.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.data.readers.python_functions import PythonFunction, read_folder
from common.errors import UserError, user_errors
from projects.modular_star_encoder.model import MultiExitEncoder, TrunkSizes, load_encoder
from projects.modular_star_encoder.tokens import Formatter, load_marked_tokenizer

RUNS = Path("runs/modular_star_encoder")
BATCH, SAVED = 64, 20  # functions embedded at a time; batches between two savings of the index


class Result(NamedTuple):
    function: PythonFunction
    score: float


class Searcher:
    """A fine-tuned encoder, cut at one of its exits, and the embeddings it has computed.

    Args:
        run: folder of a finished `finetune` run.
        layer: the exit; None takes the run's deepest.
    """

    def __init__(self, run: Path, layer: int | None = None):
        model, data = settings(run)
        exits = model["exits"]
        if layer is not None and layer not in exits:
            raise UserError(f"{run} has no exit after layer {layer}; its exits: {', '.join(map(str, exits))}")
        self.layer: int = layer or exits[-1]
        tokenizer = load_marked_tokenizer(data["tokenizer"])
        self.formatter = Formatter(tokenizer, data["max_length"], data["code_instruction"], data["text_instruction"])
        encoder = MultiExitEncoder(TrunkSizes(**model["sizes"]), len(tokenizer), [self.layer])
        self.encoder = load_encoder(encoder, run / "weights.safetensors")
        self.index = run / "search" / f"exit{self.layer}.safetensors"

    @torch.no_grad()
    def embed(self, rows: list[list[int]]) -> Tensor:
        """Embeddings [R, D] of formatted inputs."""
        return self.encoder(**self.formatter.batch(rows))[self.layer]

    def embed_functions(self, functions: list[PythonFunction], told: Callable[[str], Any] = print) -> Tensor:
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
                self._save(known)
                told(f"{start + len(part)} of {len(todo)} functions embedded")
        if todo:
            self._save(known)
        return torch.stack([known[key] for key in keys])

    def search(self, query: str, functions: list[PythonFunction], top: int = 5) -> list[Result]:
        """The functions whose embeddings are nearest to the query's, best first."""
        scores = self.embed_functions(functions, lambda words: print(words, file=sys.stderr)) @ self.query(query)
        order = scores.argsort(descending=True, stable=True)[:top].tolist()
        return [Result(functions[k], scores[k].item()) for k in order]

    def query(self, words: str) -> Tensor:
        """The embedding [D] of a query."""
        return self.embed(self.formatter.text([words]))[0]

    def _known(self) -> dict[str, Tensor]:
        """Embeddings by hash of the source; a damaged index is made anew."""
        try:
            found = load_file(self.index) if self.index.exists() else {}
        except (SafetensorError, OSError):
            return {}
        keys = found.pop("keys", None)
        if keys is None or found["embeddings"].shape[1] != self.encoder.trunk.config.hidden_size:
            return {}
        names = [bytes(row).hex() for row in keys.numpy().astype(np.uint8)]
        return dict(zip(names, found["embeddings"], strict=True))

    def _save(self, known: dict[str, Tensor]) -> None:
        keys = torch.tensor([list(bytes.fromhex(key)) for key in known], dtype=torch.uint8)
        self.index.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.index.with_suffix(f".{os.getpid()}")
        save_file({"keys": keys, "embeddings": torch.stack(list(known.values()))}, temporary)
        os.replace(temporary, self.index)


def settings(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run was trained with: the `model` and `data` parts of its config.

    Raises:
        UserError: not a finished run of `finetune`.
    """
    for name in ("config.yaml", "weights.safetensors", "done.json"):
        if not (run / name).is_file():
            raise UserError(f"{run} is no finished run: {name} is missing. Give the folder of a `finetune` run.")
    config = yaml.safe_load((run / "config.yaml").read_text())
    if "trunk" not in config.get("model", {}):
        raise UserError(f"{run} is no run of `finetune`, but of another stage")
    return config["model"], config["data"]


def newest_run(runs: Path = RUNS) -> Path:
    """The run that was finished last among those with the most exits."""
    found = []
    for done in runs.glob("*/finetune-*/seed*/done.json"):
        if done.parents[2].name != "rehearsal":
            model, _ = settings(done.parent)
            found.append((len(model["exits"]), model["weighting"] == "depth", done.stat().st_mtime, done.parent))
    if not found:
        raise UserError(
            f"no trained encoder in {runs}: run `make reproduce PAPER=modular_star_encoder`, or give a run as --run"
        )
    return max(found)[-1]


@user_errors
def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m projects.modular_star_encoder.tools.search",
        description="Search a folder of Python code in words.",
    )
    parser.add_argument("folder", type=Path, help="folder with Python files")
    parser.add_argument("query", help="what the function does")
    parser.add_argument("--exit", type=int, help="layer whose exit is used; the run's deepest by default")
    parser.add_argument("--top", type=int, default=5, help="functions that are printed")
    parser.add_argument("--run", type=Path, help=f"folder of a finished `finetune` run; by default one in {RUNS}")
    given = parser.parse_args(None if arguments is None else list(arguments))
    if not given.query.strip():
        raise UserError("the query is empty: say in words what the function does")
    if given.top < 1:
        raise UserError(f"--top {given.top}: at least one function has to be printed")
    found = read_folder(given.folder)
    if found.skipped:
        first, why = next(iter(found.skipped.items()))
        print(f"{len(found.skipped)} files skipped, the first: {first} ({why})", file=sys.stderr)
    functions = [function for function in found.functions if function.statements]
    if not functions:
        raise UserError(f"no function in the {len(found.texts)} Python files of {given.folder}")
    searcher = Searcher(given.run or newest_run(), given.exit)
    for function, score in searcher.search(given.query, functions, given.top):
        print(f"{score:6.3f}  {given.folder / function.file}:{function.line}  {function.name}")
        if function.text:
            print(f"        {function.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
