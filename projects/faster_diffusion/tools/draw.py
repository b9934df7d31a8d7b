"""Draw a prompt with encoder propagation, by any pipeline of diffusers with a U-Net; beside the full sampler's picture.

python -m projects.faster_diffusion.tools.draw "a cat wearing sunglasses" --compare \\
    --model stable-diffusion-v1-5/stable-diffusion-v1-5 --out cat.png
python -m projects.faster_diffusion.tools.draw "a cat" --model my-dreambooth/ --keys 4 --steps 30 --out cat.png
python -m projects.faster_diffusion.tools.draw "red block blue slash" --out glyphs.png --compare --guidance 3 \\
    --model runs/foundations/mini/glyph_text_to_image_loose-1a2b3c4d5e/seed0/model

Says how often encoder and decoder ran, what the U-Net computed, and how long it took. With --compare the full sampler
draws first, from the same noise, and the picture has both: left in full, right with propagation. A model of videos
writes a GIF. Your own code needs one line: `with propagate(pipe): pipe(...)`, from projects.faster_diffusion.propagate.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import inspect
import math
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.console import printable
from common.devices import device_of, device_option
from common.errors import UserError, refuse_control_in, user_errors
from common.paths import given_path
from projects.faster_diffusion.keys import NAMED, Keys, key_steps

GAP = 8  # white pixels between pictures
SMALLEST = 256  # pixels: smaller pictures are enlarged by whole factors
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.faster_diffusion.tools.draw",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("prompt", help="what to draw")
    command.add_argument("--model", required=True, metavar="ID", help="hub id or folder of a pipeline of diffusers")
    command.add_argument("--out", type=given_path, required=True, help="the picture: .png, .jpg, .webp; videos: .gif")
    command.add_argument(
        "--keys",
        default="paper",
        help=f"key steps: {', '.join(NAMED)} or all; 4 for every fourth; 0,1,2,5,10 for these (default: paper)",
    )
    command.add_argument("--steps", type=int, default=50, help="of the pipeline's own solver (default: 50)")
    command.add_argument("--guidance", type=float, default=7.5, help="scale of the guidance (default: 7.5)")
    command.add_argument("--noise", type=float, default=0.003, help="prior noise injection; 0: none (default: 0.003)")
    command.add_argument("--sequential", action="store_true", help="decode step by step: slower, in less memory")
    command.add_argument("--compare", action="store_true", help="draw in full as well")
    command.add_argument("--negative", default="", metavar="PROMPT", help="what not to draw")
    command.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    command.add_argument("--half", action="store_true", help="compute in float16; wants a GPU")
    device_option(command)
    return command


def read_keys(text: str) -> Keys:
    """A name, a number or numbers with commas between; UserError where it is neither."""
    if text in ("all", *NAMED):
        return text
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        return text  # a name that is not known, which `key_steps` says
    return numbers if "," in text else numbers[0]


def load(source: str, half: bool, device: str) -> Any:
    """The pipeline; of a folder with the parts of a model of pixels, as the mini scale leaves it, one is made.

    Raises:
        UserError: nothing there, a pipeline without a U-Net, or one that wants more than a prompt.
    """
    import torch
    from diffusers import DiffusionPipeline

    from common.hub import from_pretrained
    from common.models.text_to_image import load_text_to_image
    from projects.faster_diffusion.pipelines import pipeline_of
    from projects.faster_diffusion.propagate import denoiser
    from projects.faster_diffusion.solvers import build_solver

    if (Path(source) / "unet").is_dir() and not (Path(source) / "model_index.json").is_file():
        model = load_text_to_image(source).eval()
        pipe: Any = pipeline_of(model, build_solver(model.scheduler.config, "ddim", 1))
    else:
        pipe = from_pretrained(DiffusionPipeline, source, torch_dtype=torch.float16 if half else torch.float32)
    denoiser(pipe)
    taken = inspect.signature(type(pipe).__call__).parameters
    if "prompt" not in taken or "image" in taken:
        raise UserError(
            f"{type(pipe).__name__} draws from something else than a prompt alone: call it in your own code, "
            "`with propagate(pipe): pipe(...)`"
        )
    return pipe.to(device)


def check(pipe: Any, options: argparse.Namespace) -> None:
    """UserError where this pipeline cannot do what was asked for."""
    taken = inspect.signature(type(pipe).__call__).parameters
    most = pipe.scheduler.config.num_train_timesteps
    if options.steps > most:
        raise UserError(f"--steps={options.steps}: the model was trained with {most} times, more steps there are not")
    if options.negative and "negative_prompt" not in taken:
        raise UserError(f"{type(pipe).__name__} takes no --negative: leave it out")
    if {"num_frames", "video_length"} & {*taken} and options.out.suffix.lower() != ".gif":
        raise UserError(f"{printable(options.out)}: {type(pipe).__name__} draws videos, which want .gif")


def drawn(
    pipe: Any, options: argparse.Namespace, context: AbstractContextManager[Any]
) -> tuple[np.ndarray, float, Any]:
    """Frames uint8 [F, H, W, 3], a picture's is one; seconds; and what ran."""
    import torch

    given: dict[str, Any] = {"num_inference_steps": options.steps, "guidance_scale": options.guidance}
    given |= {"generator": torch.Generator().manual_seed(options.seed)}
    given |= {"negative_prompt": options.negative} if options.negative else {}
    if getattr(pipe, "vae", None) is None and hasattr(pipe, "vae_scale_factor"):  # a model of pixels
        side = pipe.vae_scale_factor * pipe.unet.config.sample_size
        given |= {"output_type": "latent", "height": side, "width": side}
    else:
        given |= {"output_type": "np"}
    begun = time.perf_counter()
    with context as counts:
        said = pipe(options.prompt, **given)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    found = said.frames[0] if hasattr(said, "frames") else said.images
    if isinstance(found, torch.Tensor):
        found = (found / 2 + 0.5).permute(0, 2, 3, 1).float().cpu().numpy()
    return (np.nan_to_num(np.asarray(found)).clip(0, 1) * 255 + 0.5).astype(np.uint8), seconds, counts


def write(path: Path, panels: list[np.ndarray]) -> None:
    """Pictures or videos [F, H, W, 3] beside each other; UserError where the place cannot be written."""
    from common.visual import write_video

    row: list[np.ndarray] = []
    for frames in panels:
        factor = max(1, -(-SMALLEST // min(frames.shape[1:3])))
        large = frames.repeat(factor, 1).repeat(factor, 2)
        row += [large, np.full((*large.shape[:2], GAP, 3), 255, np.uint8)]
    frames = np.concatenate(row[:-1], 2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames) if path.suffix.lower() == ".gif" else Image.fromarray(frames[0]).save(path)
    except OSError as error:
        raise UserError(f"cannot write {printable(path)}: {error.strerror or error}") from error


def operations(pipe: Any, keys: Keys, steps: int, guided: bool) -> list[str]:
    """What the U-Net computes in full and with these key steps, in words; nothing of a network of another kind."""
    import torch
    from diffusers import UNet2DConditionModel

    from projects.faster_diffusion.cost import macs

    if type(getattr(pipe, "unet", None)) is not UNet2DConditionModel:
        return ["", ""]
    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(pipe.unet.config).eval()
    (at_key, between), count = macs(network), len(key_steps(keys, steps))
    found = steps * at_key, count * at_key + (steps - count) * between
    return [f", {(1 + guided) * value / 1e12:.3g} x 10^12 multiply-adds" for value in found]


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    refuse_control_in(options)
    if options.steps < 1:
        raise UserError(f"--steps={options.steps}: at least 1 is needed")
    if not math.isfinite(options.guidance):
        raise UserError(f"--guidance={options.guidance:g}: a finite number is needed")
    if not 0 <= options.noise <= 1:
        raise UserError(f"--noise={options.noise:g}: a share from 0 to 1")
    if not 0 <= options.seed < 2**63:
        raise UserError(f"--seed={options.seed}: seeds are whole numbers from 0")
    if not options.prompt.strip():
        raise UserError("the prompt is empty: say what to draw")
    if options.out.suffix.lower() not in ENDINGS:
        raise UserError(f"{printable(options.out)}: the ending is none of {', '.join(ENDINGS)}")
    keys = read_keys(options.keys)
    key_steps(keys, options.steps)  # says what is wrong with them before anything is loaded
    from projects.faster_diffusion.propagate import propagate

    device = device_of(options.device)
    if options.half and device == "cpu":
        raise UserError("--half wants a GPU: a CPU computes faster in float32")
    pipe = load(options.model, options.half, device)
    check(pipe, options)
    panels: list[np.ndarray] = []
    full, less = operations(pipe, keys, options.steps, options.guidance > 1)
    if options.compare:
        frames, seconds, _ = drawn(pipe, options, nullcontext())
        panels.append(frames)
        print(f"full:       encoder {options.steps:4d}, decoder {options.steps:4d} steps{full}, {seconds:.2f} s")
    context = propagate(pipe, keys, parallel=not options.sequential, alpha=options.noise)
    frames, seconds, counts = drawn(pipe, options, context)
    panels.append(frames)
    batches = f" in {counts.decoder_calls} batches" if not options.sequential else ""
    ran = f"encoder {counts.encoder_calls:4d}, decoder {options.steps:4d} steps{batches}"
    print(f"propagated: {ran}{less}, {seconds:.2f} s")
    write(options.out, panels)
    print(printable(options.out))
    return 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
