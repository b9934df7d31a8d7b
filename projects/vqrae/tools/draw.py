"""Draw pictures for prompts with a prior that this recipe has trained.

python -m projects.vqrae.tools.draw "a red star" "a blue ring" --run <folder> --out drawn/
python -m projects.vqrae.tools.draw --prompts prompts.txt --count 4 --guidance 3 --run <folder> --out drawn/

`--run` is a run folder of projects.vqrae.prior; its config.yaml names the tokenizer. `--prompts` is a text file with a
prompt a line. Files are called <number of the prompt>-<number of the picture>.png. The same seed draws the same
pictures on the same machine.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from common.console import printable
from common.data.files import lines_of
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.vqrae.tools.loading import add_batch, add_run, load_drawing, results_folder, write_png


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.vqrae.tools.draw",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to draw")
    command.add_argument("--prompts", dest="file", type=given_path, help="a file with a prompt a line")
    add_run(command, "projects.vqrae.prior")
    command.add_argument("--out", type=given_path, required=True, help="folder of the pictures")
    command.add_argument("--count", type=int, default=1, help="pictures for each prompt (default: 1)")
    command.add_argument("--temperature", type=float, default=1.0, help="of sampling (default: 1)")
    command.add_argument("--top-k", type=int, help="draw from the so many likeliest codes (default: all)")
    command.add_argument(
        "--guidance", type=float, default=1.0, help="how much the prompt counts (default: 1, as it is)"
    )
    command.add_argument("--seed", type=int, default=0, help="another one draws others (default: 0)")
    add_batch(command)
    return command


def check(options: argparse.Namespace) -> list[str]:
    """The prompts; UserError for numbers that mean nothing."""
    if options.count < 1 or options.batch < 1 or (options.top_k is not None and options.top_k < 1):
        raise UserError("--count, --batch and --top-k are at least 1")
    if not 0 < options.temperature < float("inf"):
        raise UserError("--temperature is above 0: near 0 the likeliest code is always taken, 1 draws as was learned")
    if not 0 <= options.guidance < float("inf"):
        raise UserError("--guidance is 0 or more: 1 draws as was learned, more what the prompt alone makes likely")
    prompts = [*options.prompts, *(lines_of(options.file) if options.file is not None else [])]
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UserError('nothing to draw: give prompts that say something, as "a red star", or --prompts <file>')
    return prompts


def run(options: argparse.Namespace) -> int:
    """Draw, batch after batch."""
    prompts = check(options)
    wanted = [(f"{number:03d}-{k}", prompt) for number, prompt in enumerate(prompts) for k in range(options.count)]
    files = results_folder(options.out, (name for name, _ in wanted))
    import torch

    from common.data.images import to_uint8

    trained, prior = load_drawing(options.run, options.device)
    torch.manual_seed(options.seed)
    for start in range(0, len(wanted), options.batch):
        part = [prompt for _, prompt in wanted[start : start + options.batch]]
        with torch.no_grad():
            codes = prior.sample(part, trained.length, options.temperature, options.top_k, options.guidance)
            images = to_uint8(trained.tokenizer.decode_indices(codes))
        for file, prompt, image in zip(files[start:], part, images, strict=False):
            write_png(file, image)
            print(f"{printable(prompt)} -> {printable(file)}", flush=True)
    return 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
