"""What the commands share: trained tokenizers and priors from run folders, people's pictures, a place for results."""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from common.console import printable
from common.data.files import write_atomic
from common.data.pictures import picture_files, read_picture
from common.devices import device_of, device_option
from common.errors import UserError
from common.paths import given_path
from common.training.runs import settings_of

if TYPE_CHECKING:
    from torch import Tensor

    from projects.vqrae.model import VQRAE
    from projects.vqrae.prior import Prior


@dataclass
class Trained:
    """A tokenizer from a run folder, frozen.

    Attributes:
        tokenizer: with a quantiser.
        size: side of the pictures that it was trained on, pixels.
        config: the run's settings.
    """

    tokenizer: VQRAE
    size: int
    config: dict[str, Any] = field(repr=False)

    @property
    def device(self) -> Any:
        return next(self.tokenizer.parameters()).device

    @property
    def length(self) -> int:
        """Tokens N of a picture."""
        return self.tokenizer.decoder.grid**2

    def pixels(self, images: list[np.ndarray]) -> Tensor:
        """Pictures uint8 [H, W, 3] of any size, their middle square at the tokenizer's: [B, 3, S, S] in [0, 1]."""
        import torch

        from common.data.images import square

        stacked = np.stack([square(image, self.size) for image in images])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div(255).to(self.device)

    def identity(self) -> str:
        """Tells tokenizers apart: tokens of one mean nothing to another."""
        quantizer = self.tokenizer.quantizer
        assert quantizer is not None
        content = b"".join(value.cpu().numpy().tobytes() for value in quantizer.state_dict().values())
        return hashlib.sha256(content).hexdigest()[:16]


@contextmanager
def finished(run: Path, stage: str, marks: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """To take settings from the run folder of a stage, which the settings `marks` tell; UserError for any other."""
    with settings_of(run) as config:
        if any(mark not in config["model"] for mark in marks):
            raise UserError(f"{printable(run)} is a run of another stage: give one of {stage}")
        if not (run / "weights.safetensors").is_file():
            raise UserError(f"{printable(run)} has no weights.safetensors: the run is not finished")
        yield config


def load_trained(run: Path, device: str | None = None) -> Trained:
    """The tokenizer that a run of projects.vqrae.train has left.

    Raises:
        UserError: no finished run of that stage, or one without a quantiser.
    """
    stage = "projects.vqrae.train, as runs/vqrae/mini/full_stage2-.../seed0"
    with finished(run, stage, ("codebook", "encoder_lr")) as config:
        return _tokenizer(config, run / "weights.safetensors", device)


def _tokenizer(config: dict[str, Any], weights: Path, device: str | None) -> Trained:
    from projects.vqrae.encoder import EncoderConfig
    from projects.vqrae.model import Codebook
    from projects.vqrae.prior import load_tokenizer

    codebook = Codebook(**config["model"]["codebook"])
    if codebook.kind == "none":
        raise UserError(f"{printable(weights.parent)} has a continuous latent: it has no tokens")
    tokenizer = load_tokenizer(EncoderConfig(**config["model"]["encoder"]), codebook, str(weights))
    return Trained(tokenizer.to(device_of(device)), int(config["data"]["image_size"]), config)


def load_drawing(run: Path, device: str | None = None) -> tuple[Trained, Prior]:
    """The prior that a run of projects.vqrae.prior has left, and the tokenizer that it was trained for.

    Raises:
        UserError: no finished run of that stage, or its tokenizer is gone.
    """
    from projects.vqrae.prior import LanguageModel, load_prior

    stage = "projects.vqrae.prior, as runs/vqrae/mini/prior-.../seed0"
    with finished(run, stage, ("language_model", "tokenizer_weights")) as config:
        model = config["model"]
        trained = _tokenizer(config, Path(str(model["tokenizer_weights"])), device)
        language = LanguageModel(**model["language_model"])
    codes = trained.tokenizer.quantizer.codebook_size  # type: ignore[union-attr]  # refused above without
    prior = load_prior(language, codes, str(run / "weights.safetensors"))
    return trained, prior.to(trained.device)


class Batches:
    """Pictures in batches of at most `size`; those that cannot be read are named, left out and counted in `skipped`."""

    def __init__(self, paths: Iterable[Path], size: int):
        self.paths, self.size, self.skipped = picture_files(paths), size, 0
        if size < 1:
            raise UserError("--batch is at least 1")

    def __iter__(self) -> Iterator[tuple[list[Path], list[np.ndarray]]]:
        held: list[tuple[Path, np.ndarray]] = []
        for path in self.paths:
            try:
                held.append((path, read_picture(path)))
            except UserError as error:
                print(f"left out: {error}", file=sys.stderr, flush=True)
                self.skipped += 1
            if len(held) == self.size:
                yield [path for path, _ in held], [image for _, image in held]
                held = []
        if held:
            yield [path for path, _ in held], [image for _, image in held]

    def code(self) -> int:
        """Exit code at the end: 1 where pictures were left out, 2 where all of them were."""
        return 0 if not self.skipped else 1 if self.skipped < len(self.paths) else 2


def results_folder(out: Path, names: Iterable[str]) -> list[Path]:
    """PNG files in a folder, which is made, for results of these names; UserError where two would be the same file."""
    files = [out / f"{name}.png" for name in names]
    if len({file.name.lower() for file in files}) < len(files):
        twice = next(file for k, file in enumerate(files) if file.name.lower() in {f.name.lower() for f in files[:k]})
        raise UserError(
            f"two results would be called {printable(twice.name)}: rename a picture, or take them one by one"
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {printable(out)} is a file: give a folder")
    out.mkdir(parents=True, exist_ok=True)
    return files


def write_png(file: Path, image: np.ndarray) -> None:
    """uint8 [H, W, 3]."""
    content = BytesIO()
    Image.fromarray(image).save(content, "PNG")
    write_atomic(file, content.getvalue())


def add_run(command: argparse.ArgumentParser, what: str) -> None:
    """Options that all commands have."""
    command.add_argument("--run", type=given_path, required=True, help=f"a run folder of {what}")
    device_option(command)


def add_batch(command: argparse.ArgumentParser) -> None:
    command.add_argument("--batch", type=int, default=16, help="pictures at once (default: 16)")
