"""Make videos from prompts in a few steps.

    python -m projects.mcm.tools.sample "block moving right" --steps 4 --out clip.gif
    python -m projects.mcm.tools.sample "a dog" "a fox" --weights yhzhai/mcm/modelscopet2v-laion --out clip.mp4
    python -m projects.mcm.tools.sample "a dog in the snow" --run runs/mcm/paper/distill-.../seed0 --out clip.mp4

`--run` is the run folder of a finished distillation; without it the newest one of the mini scale's `mcm` is taken.
`--weights` is a released student, "yhzhai/mcm/<name>" with a name of modelscopet2v-webvid, -laion, -anime, -real,
-3d-cartoon, animatediff-webvid, -laion; or a folder of that format, with its teacher's name in its own.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError, user_errors
from common.paths import runs_folder
from common.training.runs import run_config
from projects.mcm.adapters import is_adapter, load_student
from projects.mcm.consistency import guidance_embedding
from projects.mcm.distill import GUIDANCE_DIM
from projects.mcm.harness.pictures import enlarged, to_frames, write_video
from projects.mcm.model import Lora, PixelCodec, VideoDiffusion, VideoModel, VideoUNet, load_video_model
from projects.mcm.sampling import sample_student

SMALLEST = 128  # pixels of the written video's side; smaller frames grow by a whole factor
TEACHERS = {  # of the released students, and the side of their frames
    "modelscopet2v": (VideoModel("ali-vilab/text-to-video-ms-1.7b"), 256),
    "animatediff": (
        VideoModel(
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            motion_adapter="guoyww/animatediff-motion-adapter-v1-5-2",
            beta_schedule="linear",
            timestep_spacing="linspace",
        ),
        512,
    ),
}


@dataclass
class Student:
    """What makes videos.

    Attributes:
        name: for people.
        guidance: w that it is told; None for one that was trained without.
        frames: F, of a video.
        side: of its frames, in pixels.
        knots: and `timestep_scaling`: those of its distillation.
    """

    name: str
    model: VideoDiffusion
    unet: VideoUNet
    guidance: float | None
    frames: int
    side: int
    knots: int = 50
    timestep_scaling: float = 4.0

    def to(self, device: torch.device, half: bool) -> "Student":
        """Where it computes, and whether in float16."""
        for net in (self.model, self.unet):
            net.to(device, torch.float16 if half else torch.float32)
        return self

    def video(self, prompt: str, steps: int, seed: int) -> Tensor:
        """[3, F, H, W] in [0, 1].

        Raises:
            UserError: more steps than it has knots.
        """
        if not 1 <= steps <= self.knots:
            raise UserError(f"--steps {steps}: this student knows 1 to {self.knots}")
        device, generator = self.unet.device, torch.Generator().manual_seed(seed)
        told = None
        if self.guidance is not None:
            told = guidance_embedding(torch.tensor([self.guidance], device=device), GUIDANCE_DIM)
        side = self.side // (2 if isinstance(self.model.codec, PixelCodec) else 8)
        shape = (1, self.unet.config.in_channels, self.frames, side, side)
        noise = torch.randn(shape, generator=generator).to(device)
        latents = sample_student(
            self.model, self.unet, [prompt], noise, steps, self.knots, self.timestep_scaling, generator, told
        )
        return self.model.decode(latents)[0]


def newest_run(runs: Path | None = None) -> Path:
    """The run folder of the newest finished distillation with the whole method.

    Raises:
        UserError: there is none.
    """
    runs = runs or runs_folder() / "mcm" / "mini"
    finished = sorted(runs.glob("distill-*/seed*/done.json"), key=lambda path: path.stat().st_mtime)
    for done in reversed(finished):
        settings = run_config(done.parent)
        model = settings["model"]
        whole = model["motion"] == "learn" and model["adversary"] and 0 < model["simulated"] < 1
        if whole and settings["data"]["images"]:
            return done.parent
    raise UserError(f"no finished MCM in {runs}: run `make reproduce PAPER=mcm ARMS=mcm` first, or name one with --run")


def of_run(run: Path) -> Student:
    """The student of a distillation, from its run folder.

    Raises:
        UserError: not the folder of a finished distillation.
    """
    config, weights = run / "config.yaml", run / "weights.safetensors"
    if not (config.exists() and weights.exists()):
        raise UserError(
            f"{run} is not the run folder of a finished distillation: it needs config.yaml and {weights.name}"
        )
    settings = run_config(run)
    model, data = settings["model"], settings["data"]
    teacher = load_video_model(VideoModel(**model["teacher"]))
    lora = None if model["lora"] is None else Lora(**model["lora"])
    unet = load_student(teacher.unet, str(weights), lora, GUIDANCE_DIM)
    guidance = sum(model["guidance"]) / 2 if lora is None else None
    knots, scaling = model["knots"], model["timestep_scaling"]
    return Student(str(run), teacher, unet, guidance, data["frames"], data["image_size"], knots, scaling)


def released(weights: str) -> Student:
    """A student that the authors released, or one in the same format.

    Raises:
        UserError: not there, or not named after its teacher.
    """
    if not is_adapter(weights):
        raise UserError(f"--weights {weights}: neither a folder nor owner/name/folder on the hub")
    names = [name for name in TEACHERS if name in Path(weights).name]
    if not names:
        raise UserError(f"--weights {weights}: the folder's name says neither {' nor '.join(TEACHERS)}, its teacher")
    source, side = TEACHERS[names[0]]
    teacher = load_video_model(source)
    return Student(weights, teacher, load_student(teacher.unet, weights, None), None, 16, side)


def numbered(out: Path, prompts: int) -> list[Path]:
    """A file for each prompt: `out` for one, `<out>-1`, `<out>-2`, ... for several."""
    return [out] if prompts == 1 else [out.with_stem(f"{out.stem}-{k + 1}") for k in range(prompts)]


@user_errors
def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m projects.mcm.tools.sample", description=__doc__.split("\n")[0])
    parser.add_argument("prompt", nargs="+", help='what to show; the mini scale knows "GLYPH moving DIRECTION"')
    parser.add_argument("--steps", type=int, default=4, help="1, 2, 4 or 8 (default: 4)")
    parser.add_argument("--out", type=Path, default=Path("clip.gif"), help="a .gif or .mp4 (default: clip.gif)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run", type=Path, help="run folder of a finished distillation")
    source.add_argument("--weights", help="a released student, as yhzhai/mcm/modelscopet2v-laion")
    parser.add_argument("--seed", type=int, default=0, help="of the noise, the same for every prompt (default: 0)")
    parser.add_argument("--rate", type=float, default=8.0, help="frames a second (default: 8)")
    parser.add_argument("--precision", type=int, choices=(16, 32), help="bits (default: 16 on a GPU, else 32)")
    options = parser.parse_args(args)
    if options.out.suffix not in (".gif", ".mp4"):
        raise UserError(f"--out {options.out}: the ending says neither .gif nor .mp4")
    student = released(options.weights) if options.weights else of_run(options.run or newest_run())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student.to(device, half=(options.precision or (16 if device.type == "cuda" else 32)) == 16)
    for prompt, out in zip(options.prompt, numbered(options.out, len(options.prompt)), strict=True):
        video = student.video(prompt, options.steps, options.seed)
        write_video(out, enlarged(to_frames(video), SMALLEST), options.rate)
        print(f"{out}: {video.shape[1]} frames in {options.steps} steps, by {student.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
