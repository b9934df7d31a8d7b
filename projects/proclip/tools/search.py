"""Classify pictures by any labels, and find pictures by texts of any length and language, with a tuned CLIP.

python -m projects.proclip.tools.search classify holiday/ --labels "a red star,a blue ring" --run <run folder of tune>
python -m projects.proclip.tools.search classify *.jpg --labels labels.txt --run <folder> --csv labels.csv
python -m projects.proclip.tools.search retrieve "a long text about the picture" --images holiday/ --run <folder>

The run folder of a finished `projects.proclip.tune` says which CLIP and which language model it was trained with;
--clip, --model and --weights name others, where these have moved. Pictures of every kind, upright; folders stand for
the pictures in them. One that cannot be read is named and left out; the exit code is then 1, or 2 where none is left.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from common.console import printable
from common.data.files import is_file, lines_of, write_atomic
from common.data.images import square
from common.data.pictures import picture_files, read_picture
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 64


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.proclip.tools.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = command.add_subparsers(dest="command", required=True)
    classify = commands.add_parser("classify", help="the best of some labels for each picture")
    classify.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    classify.add_argument("--labels", required=True, help="labels with commas between them, or a .txt with one a line")
    classify.add_argument("--template", default="{}", help="what is read in place of a label (default: the label, {})")
    retrieve = commands.add_parser("retrieve", help="the best pictures for each text")
    retrieve.add_argument("texts", nargs="+", metavar="TEXT", help="a text, or a .txt file that is one text")
    retrieve.add_argument("--images", type=Path, nargs="+", required=True, help="pictures, or folders of pictures")
    for one in (classify, retrieve):
        one.add_argument("--run", type=given_path, required=True, help="run folder of a finished stage 2 (tune)")
        one.add_argument("--clip", help="the CLIP it was tuned from: name and tag, or a folder (default: as it says)")
        one.add_argument("--model", help="the language model: hub id or folder (default: as the embeddings' run says)")
        one.add_argument("--weights", type=given_path, help="weights of stage 2 (default: those of the run folder)")
        one.add_argument("--top", type=int, default=5, help="how many are shown (default: 5)")
        one.add_argument("--csv", type=given_path, help="also write a table: picture or text, what was found, cosine")
        device_option(one)
    return command


def labels_of(given: str) -> list[str]:
    """Labels of a command line, or of a file."""
    lines = lines_of(given_path(given)) if given.endswith(".txt") else given.split(",")
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(found) < 2:
        raise UserError("--labels: give two labels at least, with commas between them, or a .txt with one a line")
    return found


def text_of(given: str) -> str:
    """A text, or a file's."""
    text = " ".join(lines_of(given_path(given))) if given.endswith(".txt") else given
    if not text.strip():
        raise UserError("a text is empty")
    return text.strip()


def settings(run: Path) -> dict[str, Any]:
    """The config of a run folder."""
    file = run / "config.yaml"
    if not is_file(file):
        raise UserError(f"{printable(run)} is no run folder: it has no config.yaml")
    try:
        return dict(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UserError(f"{printable(file)} is damaged: give another run folder") from error


class Search:
    """The networks of a finished training.

    Args:
        given: the command line.
    """

    def __init__(self, given: argparse.Namespace):
        from common.models.clip import load_clip
        from projects.proclip.embedder import Embedder, Reading
        from projects.proclip.model import load_adapter, load_visual

        config = settings(given.run)
        try:
            clip, embeddings = config["model"]["clip"], Path(config["data"]["embeddings"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{printable(given.run)} is no run folder of stage 2 (projects.proclip.tune)") from error
        reading: dict[str, Any] = {}
        if is_file(embeddings.parent / "config.yaml"):
            reading = dict(settings(embeddings.parent).get("model", {}).get("embedder", {}))
        if given.model is not None:
            reading["source"] = given.model
        if "source" not in reading:
            raise UserError(f"the run that wrote {printable(embeddings)} is gone: name the language model with --model")
        weights = given.weights or given.run / "weights.safetensors"
        self.device = device_of(given.device)
        self.clip = load_clip(given.clip or clip)
        self.adapter = load_adapter(weights).to(self.device).requires_grad_(False).eval()
        load_visual(self.clip.net.visual, weights)
        self.clip = self.clip.to(self.device).requires_grad_(False).eval()
        self.embedder = Embedder(Reading(**reading)).to(self.device)
        if self.embedder.width != self.adapter.dim:
            raise UserError(
                f"the adapter reads embeddings of {self.adapter.dim} numbers, {reading['source']} has "
                f"{self.embedder.width}: name the language model that it was trained with, --model"
            )

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit rows [N, D]."""
        import torch

        parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        return torch.cat([self.adapter(self.embedder(part)) for part in parts])

    def images(self, files: Sequence[Path]) -> tuple[list[Path], Tensor]:
        """The pictures that can be read, and unit rows [N, D]; the others are named."""
        import torch

        kept: list[Path] = []
        found: list[Tensor] = []
        for start in range(0, len(files), BATCH):
            pixels = []
            for file in files[start : start + BATCH]:
                try:
                    pixels.append(torch.from_numpy(square(read_picture(file), self.clip.image_size)))
                    kept.append(file)
                except UserError as error:
                    print(f"left out: {error}", file=sys.stderr)
            if pixels:
                batch = torch.stack(pixels).permute(0, 3, 1, 2).float().to(self.device) / 255
                found.append(self.clip.images(batch))
        if not kept:
            raise UserError("none of the pictures could be read")
        return kept, torch.cat(found)


def table(rows: Sequence[tuple[str, str, float]]) -> bytes:
    """As CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([("query", "found", "cosine"), *((query, found, f"{score:.4f}") for query, found, score in rows)])
    return out.getvalue().encode()


def run(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    if given.top < 1:
        raise UserError("--top is at least 1")
    if given.csv is not None and (given.csv.suffix != ".csv" or not given.csv.absolute().parent.is_dir()):
        raise UserError(f"--csv {printable(given.csv)}: give a .csv in a folder that is there")
    classify = given.command == "classify"
    if classify and "{}" not in given.template:
        raise UserError("--template holds no {}, where the label goes")
    texts = labels_of(given.labels) if classify else [text_of(text) for text in given.texts]
    files = picture_files(given.images)
    search = Search(given)
    kept, images = search.images(files)
    said = [given.template.replace("{}", text) for text in texts] if classify else texts
    scores = (images @ search.texts(said).T).cpu().numpy()
    names = [printable(file) for file in kept]
    queries, candidates, scores = (names, texts, scores) if classify else (texts, names, scores.T)
    rows = []
    for query, row in zip(queries, scores, strict=True):
        best = np.argsort(-row, kind="stable")[: given.top]
        rows += [(query, candidates[k], float(row[k])) for k in best]
        print(f"{printable(query)}: " + ", ".join(f"{printable(candidates[k])} ({row[k]:.2f})" for k in best))
    if given.csv is not None:
        write_atomic(given.csv, table(rows))
    return 0 if len(kept) == len(files) else 1


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
