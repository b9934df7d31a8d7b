"""Make a video from a prompt in a few steps.

    python -m projects.mcm.tools.sample "block moving right" --steps 4 --out clip.gif
    python -m projects.mcm.tools.sample "a dog in the snow" --run runs/mcm/paper/distill-.../seed0 --out clip.mp4

`--run` is the run folder of a finished distillation; without it the newest one of the mini scale's `mcm` is taken.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.console import printable
from common.errors import UserError, user_errors
from common.paths import expand, runs_folder
from common.training.runs import run_config
from common.visual import enlarged, to_frames, write_video

if TYPE_CHECKING:
    import torch

SMALLEST = 128  # pixels of the written video's side; smaller frames grow by a whole factor


def newest_run(runs: Path | None = None) -> Path:
    """The run folder of the newest finished distillation with the whole method.

    Raises:
        UserError: there is none.
    """
    runs = runs or runs_folder() / "mcm" / "mini"
    finished = sorted(runs.glob("distill-*/seed*/done.json"), key=lambda path: path.stat().st_mtime)
    for done in reversed(finished):
        settings = run_config(done.parent)["model"]
        if settings["motion"] == "learn" and settings["adversary"] and 0 < settings["simulated"] < 1:
            return done.parent
    raise UserError(f"no finished MCM in {runs}: run `make reproduce PAPER=mcm ARMS=mcm` first, or name one with --run")


def make_video(run: Path, prompt: str, steps: int, seed: int, device: torch.device) -> torch.Tensor:
    """A video [3, F, H, W] in [0, 1] of a distillation's student, from its run folder.

    Raises:
        UserError: not the folder of a finished distillation, or more steps than it has knots.
    """
    import torch

    from common.training.weights import load_weights
    from projects.mcm.consistency import guidance_embedding
    from projects.mcm.distill import GUIDANCE_DIM
    from projects.mcm.model import (
        Lora,
        PixelCodec,
        VideoModel,
        build_student,
        load_video_model,
        merge_lora,
        trained_part,
    )
    from projects.mcm.sampling import sample_student

    config, weights = run / "config.yaml", run / "weights.safetensors"
    if not (config.exists() and weights.exists()):
        raise UserError(
            f"{run} is not the run folder of a finished distillation: it needs config.yaml and {weights.name}"
        )
    settings = run_config(run)
    model, data = settings["model"], settings["data"]
    if not 1 <= steps <= model["knots"]:
        raise UserError(f"--steps {steps}: this student knows 1 to {model['knots']}")
    teacher = load_video_model(VideoModel(**model["teacher"])).to(device)
    lora = None if model["lora"] is None else Lora(**model["lora"])
    unet = build_student(teacher.unet, lora, GUIDANCE_DIM)
    load_weights(trained_part(unet), expand(weights))
    told = None
    if lora is None:
        w = torch.tensor([sum(model["guidance"]) / 2], device=device)
        told = guidance_embedding(w, GUIDANCE_DIM)
    side = data["image_size"] // (2 if isinstance(teacher.codec, PixelCodec) else 8)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, teacher.unet.config.in_channels, data["frames"], side, side, generator=generator).to(device)
    latents = sample_student(
        teacher, merge_lora(unet), [prompt], noise, steps, model["knots"], model["timestep_scaling"], generator, told
    )
    return teacher.decode(latents)[0]


@user_errors
def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m projects.mcm.tools.sample", description=__doc__.split("\n")[0])
    parser.add_argument("prompt", help='what to show; the mini scale knows "GLYPH moving DIRECTION"')
    parser.add_argument("--steps", type=int, default=4, help="1, 2, 4 or 8 (default: 4)")
    parser.add_argument("--out", type=Path, default=Path("clip.gif"), help="a .gif or .mp4 (default: clip.gif)")
    parser.add_argument("--run", type=Path, help="run folder of a finished distillation")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--rate", type=float, default=8.0, help="frames a second (default: 8)")
    options = parser.parse_args(args)
    if options.out.suffix.lower() not in (".gif", ".mp4"):
        raise UserError(f"--out {options.out}: the ending says neither .gif nor .mp4")
    if not 0 < options.rate <= 100:
        raise UserError(f"--rate {options.rate:g}: more than 0 and at most 100 frames a second can be shown")
    run = options.run or newest_run()
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    video = make_video(run, options.prompt, options.steps, options.seed, device)
    write_video(options.out, enlarged(to_frames(video), SMALLEST), options.rate)
    print(f"{printable(options.out)}: {video.shape[1]} frames in {options.steps} steps, by {printable(run)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
