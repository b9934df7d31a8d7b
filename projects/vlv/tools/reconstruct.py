"""Picture -> embeddings -> picture, and picture -> caption -> picture, side by side with the original.

python -m projects.vlv.tools.reconstruct photo.jpg folder/ --run runs/vlv/paper/describe-1a2b3c4d5e/seed0 --out drawn/
python -m projects.vlv.tools.reconstruct photo.jpg --weights lambertxiao/Vision-Language-Vision-Captioner-Qwen2.5-3B \\
    --bf16 --drawer stabilityai/stable-diffusion-3.5-medium --out drawn/

Writes <name>.png for each picture: the original, what the diffusion model draws from its embeddings (DDPM, 50 steps,
guidance 2, as in the paper), and, with a captioner, what is drawn from its caption; and captions.json. A run of stage 1
has no captions. The text encoder of Stable Diffusion 2.1 reads 77 tokens of a caption, the end of a long one is lost;
`--drawer` draws captions with Stable Diffusion 3.5, which reads 512.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from common.console import printable
from common.data.files import write_atomic
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.vlv.captions import clean_up
from projects.vlv.tools.models import Networks, Readable, load, source_options

if TYPE_CHECKING:
    from torch import Tensor

    from common.models.text_to_image import TextToImage

GAP = 8  # white pixels between pictures


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.vlv.tools.reconstruct",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    source_options(command, "stage 1 (reconstruct) or 2 (describe)")
    command.add_argument(
        "--out", type=given_path, required=True, help="folder for the pictures; made where it is not there"
    )
    command.add_argument("--drawer", metavar="ID", help="a Stable Diffusion 3 or 3.5 that draws the captions")
    drawing_options(command)
    command.add_argument("--beams", type=int, default=4, help="of the beam search (default: 4)")
    command.add_argument("--max-tokens", type=int, default=300, help="longest caption (default: 300)")
    return command


def drawing_options(command: argparse.ArgumentParser) -> None:
    """Add what the paper's settings of the diffusion model can be changed by."""
    command.add_argument("--steps", type=int, default=50, help="of the solver (default: 50)")
    command.add_argument("--guidance", type=float, default=2.0, help="scale of the guidance (default: 2)")
    command.add_argument("--seed", type=int, default=0, help="of the noise that drawing starts from (default: 0)")


def draw(t2i: TextToImage, context: Tensor, size: int, options: argparse.Namespace) -> np.ndarray:
    """The picture, uint8 [size, size, 3], for a context [1, N, d]."""
    import torch

    from common.data.images import to_uint8

    noise = torch.Generator().manual_seed(options.seed)
    return to_uint8(t2i.sample(context, options.steps, options.guidance, "ddpm", size, noise))[0]


def caption_drawer(t2i: TextToImage, networks: Networks, options: argparse.Namespace) -> Callable[[str], np.ndarray]:
    """How a caption is drawn: by the encoder's own diffusion model, or by `--drawer`."""
    if options.drawer is None:
        return lambda caption: draw(t2i, t2i.encode_text([caption]), networks.size, options)
    import torch

    from projects.vlv.evaluate import load_pipeline

    pipeline = load_pipeline(options.drawer).to(networks.encoder.queries.device)
    side = 16 * max(1, networks.size // 16)  # of which its patches are a part

    def with_pipeline(caption: str) -> np.ndarray:
        noise = torch.Generator().manual_seed(options.seed)
        settings = {"num_inference_steps": options.steps, "guidance_scale": options.guidance, "generator": noise}
        drawn = pipeline(caption, height=side, width=side, max_sequence_length=512, output_type="np", **settings)
        return (np.asarray(drawn.images[0]) * 255 + 0.5).clip(0, 255).astype(np.uint8)

    return with_pipeline


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures in a row, each as high as the first; uint8 [H, W', 3]."""
    height = len(pictures[0])
    row: list[np.ndarray] = []
    for picture in pictures:
        width = round(picture.shape[1] * height / len(picture))
        scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
        row += [np.asarray(scaled), np.full((height, GAP, 3), 255, np.uint8)]
    return np.concatenate(row[:-1], 1)


def free_name(folder: Path, stem: str, taken: set[str]) -> Path:
    """`<stem>.png`, or with a number where another picture of this call has that name."""
    names = chain([stem], (f"{stem}-{number}" for number in range(2, len(taken) + 3)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return folder / f"{name}.png"


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if min(options.beams, options.max_tokens, options.steps) < 1:
        raise UserError("--beams, --max-tokens and --steps are at least 1")
    readable = Readable(options.images)
    images = readable.begin()
    if images is None:
        return 2
    make_folder(options.out)
    networks = load(options, words=False)
    if networks.captioner is None and options.drawer:
        raise UserError(f"{options.run} is a run of stage 1, which has no captions for --drawer to draw: leave it out")
    import torch

    t2i = networks.drawer()
    draw_caption = caption_drawer(t2i, networks, options)
    captions: dict[str, str] = {}
    taken: set[str] = set()
    for path, image in images:
        pixels = networks.pixels(image)
        with torch.no_grad():
            context = t2i.encode_embeddings(networks.encoder(pixels))
            row = [(pixels[0].permute(1, 2, 0).cpu().numpy() * 255 + 0.5).astype(np.uint8)]
            row.append(draw(t2i, context, networks.size, options))
            if networks.captioner is not None:
                [text] = networks.captioner.generate(pixels, options.beams, options.max_tokens)
                captions[printable(path)] = clean_up(text)
                row.append(draw_caption(captions[printable(path)]))
                write_atomic(
                    options.out / "captions.json", (json.dumps(captions, indent=1, ensure_ascii=False) + "\n").encode()
                )
        file = free_name(options.out, path.stem, taken)
        Image.fromarray(side_by_side(row)).save(file)
        said = f": {captions[printable(path)]}" if networks.captioner is not None else ""
        print(f"{printable(file)}{said}", flush=True)
    return 1 if readable.skipped else 0


def make_folder(folder: Path) -> None:
    """UserError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {printable(folder)}: {error.strerror or error}") from error


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
