"""Describe pictures with a captioner: one that this recipe has trained, or the authors'.

python -m projects.vlv.tools.caption photo.jpg other.png --run runs/vlv/paper/describe-1a2b3c4d5e/seed0
python -m projects.vlv.tools.caption holiday/ --weights lambertxiao/Vision-Language-Vision-Captioner-Qwen2.5-3B --bf16
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
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.console import printable
from common.data.files import write_atomic
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.vlv.captions import clean_up
from projects.vlv.tools.models import Networks, Readable, load, source_options


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.vlv.tools.caption",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    source_options(command, "stage 2 (describe)")
    command.add_argument("--beams", type=int, default=4, help="of the beam search (default: 4)")
    command.add_argument("--max-tokens", type=int, default=300, help="longest caption (default: 300)")
    command.add_argument("--raw", action="store_true", help="as the language model says it, without the clean-up")
    command.add_argument("--json", type=given_path, help="also write {file: caption} to this file")
    return command


def describe(networks: Networks, image: np.ndarray, beams: int, max_tokens: int) -> str:
    """What the language model says of a picture, uint8 RGB [H, W, 3]."""
    assert networks.captioner is not None
    return networks.captioner.generate(networks.pixels(image), beams, max_tokens)[0]


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.beams < 1 or options.max_tokens < 1:
        raise UserError("--beams and --max-tokens are at least 1")
    readable = Readable(options.images)
    images = readable.begin()
    if images is None:
        return 2
    networks = load(options, words=True)
    captions: dict[str, str] = {}
    try:
        for path, image in images:
            text = describe(networks, image, options.beams, options.max_tokens)
            name = printable(path)
            captions[name] = text if options.raw else clean_up(text)
            print(f"{name}: {captions[name]}" if len(readable.paths) > 1 else captions[name], flush=True)
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
