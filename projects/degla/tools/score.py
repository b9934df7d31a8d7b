"""Which caption of a picture is true? Captions in the order of their probability, by a finetuned CLIP or any other.

python -m projects.degla.tools.score photo.jpg --caption "a dog chases a cat" --caption "a cat chases a dog" \\
    --weights DeGLA.pt
python -m projects.degla.tools.score photos/ --captions captions.txt --run runs/degla/mini/finetune-1a2b/seed0
python -m projects.degla.tools.score photos/ --captions classes.txt --template "a photo of a {}." --csv found.csv

With --template the lines are names of classes: that is zero-shot classification.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.console import printable
from common.data.files import is_file, lines_of, write_atomic
from common.data.pictures import picture_files, read_picture
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from common.models.clip import Clip

PUBLISHED = "ViT-B-32-quickgelu:openai"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.degla.tools.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("pictures", nargs="+", type=given_path, metavar="PICTURE", help="pictures, or folders of them")
    command.add_argument("--caption", action="append", default=[], help="a caption; may be repeated")
    command.add_argument("--captions", type=given_path, metavar="FILE", help="captions, one a line")
    command.add_argument("--template", help="a sentence with {} in which each line is put")
    source = command.add_mutually_exclusive_group()
    source.add_argument("--run", type=given_path, metavar="FOLDER", help="a run folder of the stage finetune")
    source.add_argument(
        "--weights", type=given_path, metavar="FILE", help="finetuned weights, as the official DeGLA.pt"
    )
    command.add_argument(
        "--clip", help=f"what was finetuned: open_clip's name:tag, hf-hub:<id> or a folder (default: {PUBLISHED})"
    )
    command.add_argument("--top", type=int, default=5, help="captions to print for each picture (default: 5)")
    command.add_argument(
        "--csv", type=given_path, metavar="FILE", help="write all of them: picture, caption, cosine, share"
    )
    device_option(command)
    return command


def captions_of(options: argparse.Namespace) -> list[str]:
    """The captions as they are given, without empty and repeated ones."""
    found = list(options.caption)
    if options.captions:
        if not is_file(options.captions):
            raise UserError(f"--captions {printable(options.captions)}: there is no such file")
        found += lines_of(options.captions)
    found = list(dict.fromkeys(text.strip() for text in found if text.strip()))
    if len(found) < 2:
        raise UserError(f"{len(found)} captions: give two or more with --caption, or --captions FILE with one a line")
    if options.template is not None and "{}" not in options.template:
        raise UserError(f"--template '{options.template}': {{}} has to stand where the line goes")
    return found


def load(options: argparse.Namespace) -> Clip:
    """The CLIP that the options name."""
    from common.training.runs import settings_of
    from projects.degla.model import load_finetuned

    if options.run is None:
        weights = None if options.weights is None else str(options.weights)
        return load_finetuned(options.clip or PUBLISHED, weights)
    file = options.run / "weights.safetensors"
    if not file.is_file():
        raise UserError(f"{printable(options.run)} is no run folder of a finished finetuning: there is no {file.name}")
    with settings_of(options.run) as settings:
        source = str(settings["model"]["clip"])
    return load_finetuned(options.clip or source, str(file))


def scored(clip: Clip, image: np.ndarray, texts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of a picture uint8 [H, W, 3] to vectors [T, D], [T], and the shares that CLIP's softmax gives them."""
    import torch

    from common.data.images import square

    pixels = torch.from_numpy(square(image, clip.image_size)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        [cosines] = clip.images(pixels.to(clip.mean.device)) @ texts.T
        shares = (clip.scale * cosines).softmax(-1)
    return cosines.cpu().numpy(), shares.cpu().numpy()


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.top < 1:
        raise UserError(f"--top {options.top}: at least one caption is to be printed")
    captions, pictures = captions_of(options), picture_files(options.pictures)
    if absent := [path for path in pictures if not path.exists()]:
        raise UserError(f"{printable(absent[0])}: there is no such picture or folder")
    if options.csv and (not options.csv.parent.is_dir() or options.csv.is_dir()):
        raise UserError(f"--csv {printable(options.csv)}: give a file in a folder that is there")

    import torch

    clip = load(options).eval().to(device_of(options.device))
    texts = [options.template.replace("{}", text) for text in captions] if options.template else captions
    with torch.no_grad():
        vectors = clip.texts(texts)
    rows, failed = [], 0
    for path in pictures:
        try:
            image = read_picture(path)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        cosines, shares = scored(clip, image, vectors)
        print(printable(path))
        for k in cosines.argsort()[::-1][: options.top]:
            print(f"  {100 * shares[k]:5.1f} %  {cosines[k]:+.3f}  {captions[k]}", flush=True)
        rows += [
            [str(path), text, f"{c:.4f}", f"{s:.4f}"] for text, c, s in zip(captions, cosines, shares, strict=True)
        ]
    if options.csv:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([["picture", "caption", "cosine", "share"], *rows])
        write_atomic(options.csv, table.getvalue().encode("utf-8", "surrogateescape"))
    if failed == len(pictures):
        raise UserError("none of the pictures could be read")
    return 1 if failed else 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
