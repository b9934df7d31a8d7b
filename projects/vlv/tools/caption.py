"""Describe pictures with a captioner that this recipe has trained.

python -m projects.vlv.tools.caption photo.jpg other.png --run runs/vlv/paper/describe-1a2b3c4d5e/seed0
python -m projects.vlv.tools.caption *.jpg --run <folder> --json captions.json

`--run` is a run folder of stage 2: its config.yaml says which models, its weights.safetensors hold what they learned.
Beam search with 4 beams; then, as in the paper, an unfinished last sentence and repeated sentences are dropped.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from common.data.files import write_atomic
from common.errors import UserError, user_errors
from common.training.runs import run_config
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
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="JPEG, PNG or other pictures")
    command.add_argument("--run", type=Path, required=True, help="a run folder of stage 2 (describe)")
    command.add_argument("--beams", type=int, default=4, help="of the beam search (default: 4)")
    command.add_argument("--max-tokens", type=int, default=300, help="longest caption (default: 300)")
    command.add_argument("--raw", action="store_true", help="as the language model says it, without the clean-up")
    command.add_argument("--json", type=Path, help="also write {file: caption} to this file")
    command.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is a GPU, else cpu")
    return command


def read_image(path: Path) -> Image.Image:
    """A picture in RGB, turned as its EXIF orientation says.

    Raises:
        UserError: it is missing, or no picture.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        with Image.open(BytesIO(content)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UserError(
            f"{path} cannot be decoded as an image ({error}): give a JPEG, PNG or another picture"
        ) from error


def load(run: Path) -> tuple[Captioner, int]:
    """A run folder's captioner, and the side in pixels of the pictures it was trained on.

    Raises:
        UserError: no finished run of stage 2 there.
    """
    config, weights = run / "config.yaml", run / "weights.safetensors"
    if not config.is_file() or not weights.is_file():
        missing = "config.yaml" if not config.is_file() else "weights.safetensors: the run is not finished"
        raise UserError(f"{run} has no {missing}; give a run folder of stage 2, as runs/vlv/mini/describe-.../seed0")
    settings = run_config(run)
    model = settings.get("model", {})
    if "unfrozen" not in model:
        raise UserError(f"{run} is a run of another stage; give one of stage 2, as runs/vlv/mini/describe-.../seed0")
    from projects.vlv.model import Florence, build_captioner, load_tied

    florence = Florence(**model["florence"])
    captioner = build_captioner(
        florence, model["text_to_image"], model["language_model"], model["queries"], pretrained=False
    )
    load_tied(captioner, weights)
    return captioner.eval(), settings["data"]["image_size"]


def describe(captioner: Captioner, size: int, images: Sequence[Image.Image], beams: int, max_tokens: int) -> list[str]:
    """What the language model says of each picture."""
    import torch

    from common.data.images import square

    device = next(captioner.parameters()).device
    captions = []
    for image in images:
        pixels = torch.tensor(square(np.array(image), size)).permute(2, 0, 1)[None].float() / 255
        captions += captioner.generate(pixels.to(device), beams, max_tokens)
    return captions


def run(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    if options.beams < 1 or options.max_tokens < 1:
        raise UserError("--beams and --max-tokens are at least 1")
    images = [read_image(path) for path in options.images]  # before minutes go into loading the model
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; leave --device out to run on the CPU")
    captioner, size = load(options.run)
    captioner.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    captions = describe(captioner, size, images, options.beams, options.max_tokens)
    captions = captions if options.raw else [clean_up(text) for text in captions]
    for path, caption in zip(options.images, captions, strict=True):
        print(f"{path}: {caption}" if len(images) > 1 else caption)
    if options.json is not None:
        named = {str(path): caption for path, caption in zip(options.images, captions, strict=True)}
        write_atomic(options.json, (json.dumps(named, indent=1, ensure_ascii=False) + "\n").encode())


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
