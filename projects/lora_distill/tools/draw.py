"""Draw with a distilled student: one evaluation a step, at the guidance that it has taken over.

python -m projects.lora_distill.tools.draw "a lighthouse at dusk" --adapter mine/ --out lighthouse.png --compare
python -m projects.lora_distill.tools.draw "red block blue slash" --run runs/lora_distill/mini/distill-1a2b/seed0 \\
    --out glyphs.png --compare

`--compare` puts beside it what the teacher draws from the same noise with guidance and without, and prints what each of
them took. Several prompts make several rows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from common.console import printable
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.lora_distill.tools.students import (
    chosen,
    load_teacher,
    refuse_numbers,
    student_options,
)

if TYPE_CHECKING:
    from common.models.text_to_image import TextToImage

GAP = 4  # white pixels between pictures
SMALLEST = 64  # pixels that a picture is enlarged to


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.lora_distill.tools.draw",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("prompts", nargs="+", metavar="PROMPT", help="what to draw")
    student_options(command)
    command.add_argument("--out", type=given_path, required=True, help="the picture, a .png or .jpg")
    command.add_argument("--compare", action="store_true", help="with the guided and the unguided teacher beside it")
    command.add_argument("--steps", type=int, default=50, help="of DDIM (default: 50)")
    command.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    device_option(command)
    return command


def drawn(model: TextToImage, prompt: str, guidance: float, options: argparse.Namespace) -> np.ndarray:
    """uint8 [S, S, 3]."""
    import torch

    from common.data.images import to_uint8

    noise = torch.Generator().manual_seed(options.seed)
    with torch.no_grad():
        context = model.encode_text([prompt])
    return to_uint8(model.sample(context, options.steps, guidance, "ddim", generator=noise))[0]


def side_by_side(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Rows of pictures of one size, with gaps; small ones are enlarged by whole multiples."""
    factor = max(1, SMALLEST // len(rows[0][0]))
    height, width = (factor * side for side in rows[0][0].shape[:2])
    sheet = np.full((len(rows) * (height + GAP) - GAP, len(rows[0]) * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            y, x = i * (height + GAP), j * (width + GAP)
            sheet[y : y + height, x : x + width] = picture.repeat(factor, 0).repeat(factor, 1)
    return sheet


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    refuse_numbers(options, "steps")
    if options.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out {printable(options.out)}: give a .png or .jpg")
    if options.out.is_dir():
        raise UserError(f"--out {printable(options.out)}: that is a folder; name a file")
    if not options.out.parent.is_dir():
        raise UserError(f"--out {printable(options.out)}: there is no folder {printable(options.out.parent)}")
    student = chosen(options)
    device = device_of(options.device)
    models = [("student, 1 evaluation a step", student.load().to(device), 1.0)]
    if options.compare:
        teacher = load_teacher(student.model).to(device)
        models += [(f"teacher, guidance {student.guidance:g}, 2 evaluations", teacher, student.guidance)]
        models += [("teacher without guidance, 1 evaluation", teacher, 1.0)]
    rows: list[list[np.ndarray]] = [[] for _ in options.prompts]
    for name, model, guidance in models:
        started = time.perf_counter()
        for row, prompt in zip(rows, options.prompts, strict=True):
            row.append(drawn(model, prompt, guidance, options))
        seconds = (time.perf_counter() - started) / len(rows)
        calls = options.steps * (1 if guidance == 1 else 2)
        print(f"{name}: {calls} calls of the U-Net and {seconds:.2f} s a picture", flush=True)
    Image.fromarray(side_by_side(rows)).save(options.out)
    print(f"{printable(options.out)}: {' | '.join(name for name, *_ in models)}")
    return 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
