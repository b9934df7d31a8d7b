"""Name pictures with a student that `adapt` has left.

python -m projects.promptkd.tools.classify mine/ photo.jpg holiday/ --csv answers.csv

Prints a line for each picture: its file, the class and its probability. `--top 3` shows the likeliest three. Of several
pictures those that cannot be read are said and passed over.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence

from common.console import printable
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.promptkd.tools.classify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("student", type=given_path, help="folder that adapt has written")
    command.add_argument("pictures", nargs="+", type=given_path, help="pictures, or folders of them")
    command.add_argument("--top", type=int, default=1, help="so many classes of each picture (default: 1)")
    command.add_argument("--csv", type=given_path, help="write file, class and probability here, too")
    device_option(command)
    return command


def run(given: argparse.Namespace) -> None:
    from common.data.pictures import picture_files, read_picture

    if given.top < 1:
        raise UserError(f"--top {given.top}: at least 1")
    if given.csv and not given.csv.parent.is_dir():
        raise UserError(f"--csv {printable(given.csv)}: there is no folder {printable(given.csv.parent)}")
    files = picture_files(given.pictures)
    device = device_of(given.device)
    import torch

    from common.data.images import square
    from projects.promptkd.tools.adapted import load_adapted

    student, names = load_adapted(given.student)
    student.to(device)
    rows = []
    for file in files:
        try:
            pixels = square(read_picture(file), student.clip.image_size)
        except UserError as error:
            if len(files) == 1:
                raise
            print(f"passed over: {error}", file=sys.stderr)
            continue
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        with torch.no_grad():
            chances = student(image.float().to(device) / 255).softmax(-1)[0]
        best = chances.topk(min(given.top, len(names)))
        answers = [(names[k], chance) for chance, k in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
        print(
            f"{printable(file)}: {', '.join(f'{printable(name)} {chance:.3f}' for name, chance in answers)}", flush=True
        )
        rows += [(str(file), name, f"{chance:.4f}") for name, chance in answers]
    if given.csv:
        try:
            with given.csv.open("w", newline="", encoding="utf-8") as handle:
                csv.writer(handle).writerows([("file", "class", "probability"), *rows])
        except OSError as error:
            raise UserError(f"cannot write {printable(given.csv)}: {error.strerror}") from error


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    run(parser().parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
