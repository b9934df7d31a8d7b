"""Adapt a small CLIP to your own pictures, without labels: a large CLIP teaches it the classes that you name.

    python -m projects.promptkd.tools.adapt pictures/ --classes names.txt --out mine/
    python -m projects.promptkd.tools.classify mine/ more_pictures/ --csv answers.csv

names.txt holds the name of a class on each line, as one would say it ("golden retriever"). The pictures should be of
these classes; which is which need not be known. CLIPs are named as open_clip names them, "<model>:<weights>", or
"hf-hub:<id>", or are a folder. `--prompts` takes a teacher that has learned from labels: a run folder of teach.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from common.console import printable
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path, user_path

if TYPE_CHECKING:
    from projects.promptkd.distill import PromptDistillation

TEACHER, STUDENT = "ViT-L-14-quickgelu:openai", "ViT-B-16-quickgelu:openai"
COMPARED = 200  # pictures on which teacher and student are compared at the end


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.promptkd.tools.adapt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("pictures", nargs="+", type=given_path, help="pictures, or folders of them")
    command.add_argument(
        "--classes", type=given_path, required=True, help="text file, the name of a class on each line"
    )
    command.add_argument("--out", type=given_path, required=True, help="folder to write the student to")
    command.add_argument("--teacher", default=TEACHER, help=f"the large CLIP (default: {TEACHER})")
    command.add_argument("--student", default=STUDENT, help=f"the small CLIP (default: {STUDENT})")
    command.add_argument("--prompts", type=given_path, metavar="RUN", help="run folder of a teacher's prompts")
    command.add_argument(
        "--template", default="a photo of a {}.", help="sentence for a class's name, {} (default: %(default)s)"
    )
    command.add_argument("--epochs", type=int, default=20, help="times through the pictures (default: 20)")
    command.add_argument("--batch", type=int, default=8, help="pictures a step (default: 8)")
    command.add_argument("--lr", type=float, default=0.005, help="learning rate (default: 0.005)")
    command.add_argument("--depth", type=int, default=9, help="blocks that get prompts, 0 for none (default: 9)")
    command.add_argument("--weight", type=float, default=1000.0, help="of the loss (default: 1000; 200 is milder)")
    command.add_argument("--seed", type=int, default=0, help="of prompts, order and crops (default: 0)")
    device_option(command)
    return command


def check(given: argparse.Namespace) -> None:
    """UserError for numbers and places that cannot be, before anything is loaded."""
    if given.epochs < 2:
        raise UserError(f"--epochs {given.epochs}: at least 2; the first one hardly moves anything")
    if given.batch < 2:
        raise UserError(f"--batch {given.batch}: at least 2, for the projector's batch norm")
    if not 0 < given.lr < 10 or not 0 < given.weight < 1e6 or given.depth < 0:
        raise UserError("--lr (to 10) and --weight (to a million) are above 0, --depth is 0 or more")
    if not 0 <= given.seed < 2**31:
        raise UserError(f"--seed {given.seed}: a whole number from 0, below 2^31")
    if "{}" not in given.template:
        raise UserError(f"--template '{given.template}': it has no {{}}, the place of a class's name")
    if given.out.exists() and (not given.out.is_dir() or any(given.out.iterdir())):
        raise UserError(f"--out {printable(given.out)}: something is there; name a new folder")
    above = next(folder for folder in given.out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"--out {printable(given.out)}: nothing can be written into {printable(above)}")
    if absent := [path for path in given.pictures if not path.exists()]:
        raise UserError(f"there are no pictures at {printable(absent[0])}")


def taught_by(given: argparse.Namespace) -> dict[str, Any]:
    """Settings of the teacher: a CLIP as it is, or one with the prompts of a run."""
    if given.prompts is None:
        return {"teacher": given.teacher}
    from common.training.runs import settings_of

    weights = given.prompts / "weights.safetensors"
    if not weights.is_file():
        raise UserError(
            f"--prompts {printable(given.prompts)}: no run folder of the stage teach; it has no {weights.name}"
        )
    with settings_of(given.prompts) as settings:
        model = settings["model"]
        return {"teacher": model["clip"], "teacher_prompts": str(weights), "sentence": model["sentence"]}


def run(given: argparse.Namespace) -> None:
    from common.data.pictures import picture_files
    from projects.promptkd.tools.adapted import ABOUT, WEIGHTS, Adapted, Folder, read_names

    check(given)
    names = read_names(given.classes)
    source = Folder(picture_files(given.pictures), tuple(names))
    device = device_of(given.device)
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    import lightning.pytorch as L
    from safetensors.torch import save_model

    from common.training.runs import write_json
    from projects.promptkd.data import DomainData
    from projects.promptkd.distill import PromptDistillation
    from projects.promptkd.schedule import Epochs

    L.seed_everything(given.seed, verbose=False)
    model = PromptDistillation(
        given.student, classes=names, templates=[given.template], depth=given.depth, weight=given.weight,
        optimiser=Epochs(lr=given.lr), **taught_by(given),
    )  # fmt: skip
    side = model.student.clip.image_size
    if side != model.teacher.clip.image_size:
        raise UserError(
            f"teacher and student see pictures of different sizes, {model.teacher.clip.image_size} and {side}"
        )
    print(f"{len(source)} pictures, {len(names)} classes; {given.epochs} epochs of steps of {given.batch}", flush=True)
    data = DomainData(train=source, image_size=side, batch_size=given.batch, seed=given.seed)
    trainer = L.Trainer(
        max_epochs=given.epochs, accelerator="gpu" if device == "cuda" else "cpu", devices=1, logger=False,
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=sys.stderr.isatty(),
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, data)
    given.out.mkdir(parents=True, exist_ok=True)
    save_model(model.exported().cpu(), str(given.out / WEIGHTS))
    folder = user_path(given.student)  # a CLIP of the user's own is found again from other working directories
    write_json(given.out / ABOUT, asdict(Adapted(str(folder) if folder.is_dir() else given.student, names)))
    model.to(device)  # which the trainer has left
    print(f"{agreement(model, source):.0%} of the pictures have the same name from teacher and student")
    print(f"wrote {printable(given.out)}: python -m projects.promptkd.tools.classify {printable(given.out)} <pictures>")


def agreement(model: PromptDistillation, source: Any) -> float:
    """Share of the first pictures that teacher and student name alike."""
    import torch

    from common.data.images import Pictures

    model.eval()
    pictures = Pictures(source, model.student.clip.image_size)
    same = []
    with torch.no_grad():
        for index in range(min(COMPARED, len(pictures))):
            image = pictures[index]["image"][None].to(model.device)
            taught = (model.teacher.images(image) @ model.vectors.T).argmax()
            same.append(bool(taught == model.student(image).argmax()))
    return sum(same) / len(same)


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    run(parser().parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
