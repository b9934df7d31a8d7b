"""Put the embeddings of two pictures together, and draw what they say (§4.4).

python -m projects.vlv.tools.compose man.jpg beach.jpg --run runs/vlv/paper/reconstruct-1a2b3c4d5e/seed0 --out both.png
python -m projects.vlv.tools.compose man.jpg beach.jpg --run <folder> --first 20 --out both.png

Of the first picture's N_q embeddings the first ones are kept, `--first` of them (default: half), and of the second's as
many as then fill the text encoder's positions. The result shows both pictures and, beside them, their composition.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from common.console import printable
from common.data.pictures import read_picture
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.vlv.tools.models import load, source_options
from projects.vlv.tools.reconstruct import draw, drawing_options, side_by_side

if TYPE_CHECKING:
    from torch import Tensor


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.vlv.tools.compose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("images", type=Path, nargs=2, metavar="IMAGE", help="two pictures")
    source_options(command, "stage 1 (reconstruct) or 2 (describe)")
    command.add_argument("--first", type=int, help="embeddings that are kept of the first picture (default: half)")
    command.add_argument("--out", type=given_path, required=True, help="a file, <name>.png")
    drawing_options(command)
    return command


def compose(one: Tensor, other: Tensor, first: int) -> Tensor:
    """The first `first` embeddings of one picture, then the first N_q - first of another: [1, N_q, d] each."""
    import torch

    return torch.cat([one[:, :first], other[:, : other.shape[1] - first]], 1)


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.steps < 1:
        raise UserError("--steps is at least 1")
    if options.out.suffix != ".png" or not options.out.parent.is_dir():
        raise UserError(f"--out {printable(options.out)}: give a .png in a folder that is there")
    images = [read_picture(path) for path in options.images]
    networks = load(options, words=False)
    import torch

    t2i = networks.drawer()
    pixels = [networks.pixels(image) for image in images]
    queries = networks.encoder.queries.shape[1]
    first = queries // 2 if options.first is None else options.first
    if not 0 < first < queries:
        raise UserError(f"--first {first}: there are {queries} embeddings; keep at least one of each picture")
    with torch.no_grad():
        one, other = (networks.encoder(picture) for picture in pixels)
        drawn = draw(t2i, t2i.encode_embeddings(compose(one, other, first)), networks.size, options)
    shown = [(picture[0].permute(1, 2, 0).cpu().numpy() * 255 + 0.5).astype(np.uint8) for picture in pixels]
    Image.fromarray(side_by_side([*shown, drawn])).save(options.out)
    print(printable(options.out))
    return 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
