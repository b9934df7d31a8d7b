"""Describe pictures with a captioner that this recipe has trained.

python -m projects.vlv.tools.caption photo.jpg other.png --run runs/vlv/paper/describe-1a2b3c4d5e/seed0
python -m projects.vlv.tools.caption holiday/ *.jpg --run <folder> --json captions.json

Pictures of every kind, upright, transparent ones over white (see common/data/pictures.py), one after the other: each
caption is printed as it is found. One that cannot be read is named and left out; the exit code is then 1, or 2 where
none could be read.

`--run` is a run folder of stage 2: its config.yaml says which models, its weights.safetensors hold what they learned.
Beam search with 4 beams; then, as in the paper, an unfinished last sentence and repeated sentences are dropped.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.console import printable
from common.data.files import write_atomic
from common.data.pictures import picture_files, read_picture
from common.errors import UserError, user_errors
from common.paths import given_path
from common.training.runs import settings_of
from projects.vlv.captions import clean_up

if TYPE_CHECKING:
    from projects.vlv.model import Captioner


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.vlv.tools.caption",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    command.add_argument("--run", type=given_path, required=True, help="a run folder of stage 2 (describe)")
    command.add_argument("--beams", type=int, default=4, help="of the beam search (default: 4)")
    command.add_argument("--max-tokens", type=int, default=300, help="longest caption (default: 300)")
    command.add_argument("--raw", action="store_true", help="as the language model says it, without the clean-up")
    command.add_argument("--json", type=given_path, help="also write {file: caption} to this file")
    command.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is a GPU, else cpu")
    return command


class Readable:
    """Decodes one picture at a time; names those that cannot be read, and counts them in `skipped`."""

    def __init__(self, paths: Sequence[Path]):
        self.paths, self.skipped = paths, 0

    def __iter__(self) -> Iterator[tuple[Path, np.ndarray]]:
        for path in self.paths:
            try:
                image = read_picture(path)
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                self.skipped += 1
            else:
                yield path, image


def load(run: Path) -> tuple[Captioner, int]:
    """A run folder's captioner, and the side in pixels of the pictures it was trained on.

    Raises:
        UserError: no finished run of stage 2 there.
    """
    config, weights = run / "config.yaml", run / "weights.safetensors"
    if not config.is_file() or not weights.is_file():
        missing = "config.yaml" if not config.is_file() else "weights.safetensors: the run is not finished"
        raise UserError(f"{run} has no {missing}; give a run folder of stage 2, as runs/vlv/mini/describe-.../seed0")
    from common.training.weights import load_tied
    from projects.vlv.model import Florence, build_captioner

    with settings_of(run) as settings:
        model, size = settings["model"], int(settings["data"]["image_size"])
        if "unfrozen" not in model:
            raise UserError(
                f"{run} is a run of another stage; give one of stage 2, as runs/vlv/mini/describe-.../seed0"
            )
        florence = Florence(**model["florence"])
        parts = str(model["text_to_image"]), str(model["language_model"]), int(model["queries"])
    captioner = build_captioner(florence, *parts, pretrained=False)
    load_tied(captioner, weights)
    return captioner.eval(), size


def describe(captioner: Captioner, size: int, image: np.ndarray, beams: int, max_tokens: int) -> str:
    """What the language model says of a picture, uint8 RGB [H, W, 3]."""
    import torch

    from common.data.images import square

    device = next(captioner.parameters()).device
    pixels = torch.tensor(square(image, size)).permute(2, 0, 1)[None].float() / 255
    return captioner.generate(pixels.to(device), beams, max_tokens)[0]


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.beams < 1 or options.max_tokens < 1:
        raise UserError("--beams and --max-tokens are at least 1")
    paths = picture_files(options.images)
    readable = Readable(paths)
    images = iter(readable)
    first = next(images, None)  # before minutes go into loading the model
    if first is None:
        return 2
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; leave --device out to run on the CPU")
    captioner, size = load(options.run)
    captioner.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    captions: dict[str, str] = {}
    try:
        for path, image in chain([first], images):
            text = describe(captioner, size, image, options.beams, options.max_tokens)
            name = printable(path)
            captions[name] = text if options.raw else clean_up(text)
            print(f"{name}: {captions[name]}" if len(paths) > 1 else captions[name], flush=True)
    finally:  # an interrupt leaves what has been found
        if options.json is not None:
            write_atomic(options.json, (json.dumps(captions, indent=1, ensure_ascii=False) + "\n").encode())
    return 1 if readable.skipped else 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
