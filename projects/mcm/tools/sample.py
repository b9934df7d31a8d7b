"""Make videos from prompts in a few steps.

    python -m projects.mcm.tools.sample "block moving right" --steps 4 --out clip.gif
    python -m projects.mcm.tools.sample "a dog" "a fox" --weights yhzhai/mcm/modelscopet2v-laion --out clip.mp4
    python -m projects.mcm.tools.sample "a dog in the snow" --run runs/mcm/paper/distill-.../seed0 --out clip.mp4

`--run` is the run folder of a finished distillation; without it the newest one of the mini scale's `mcm` is taken.
`--weights` is a released student, "yhzhai/mcm/<name>" with a name of modelscopet2v-webvid, -laion, -anime, -real,
-3d-cartoon, animatediff-webvid, -laion; or a folder of that format, with its teacher's name in its own.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
import argparse
import sys
from pathlib import Path

from common.console import printable
from common.errors import UserError, user_errors
from common.paths import given_path, runs_folder
from common.training.runs import settings_of
from common.visual import enlarged, to_frames, write_video

SMALLEST = 128  # pixels of the written video's side; smaller frames grow by a whole factor


def newest_run(runs: Path | None = None) -> Path:
    """The run folder of the newest finished distillation with the whole method.

    Raises:
        UserError: there is none.
    """
    runs = runs or runs_folder() / "mcm" / "mini"
    finished = sorted(runs.glob("distill-*/seed*/done.json"), key=lambda path: path.stat().st_mtime)
    for done in reversed(finished):
        with settings_of(done.parent) as settings:
            model = settings["model"]
            whole = model["motion"] == "learn" and model["adversary"] and 0 < model["simulated"] < 1
            if whole and settings["data"]["images"]:
                return done.parent
    raise UserError(f"no finished MCM in {runs}: run `make reproduce PAPER=mcm ARMS=mcm` first, or name one with --run")


def numbered(out: Path, prompts: int) -> list[Path]:
    """A file for each prompt: `out` for one, `<out>-1`, `<out>-2`, ... for several."""
    return [out] if prompts == 1 else [out.with_stem(f"{out.stem}-{k + 1}") for k in range(prompts)]


@user_errors
def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m projects.mcm.tools.sample", description=__doc__.split("\n")[0])
    parser.add_argument("prompt", nargs="+", help='what to show; the mini scale knows "GLYPH moving DIRECTION"')
    parser.add_argument("--steps", type=int, default=4, help="1, 2, 4 or 8 (default: 4)")
    parser.add_argument("--out", type=given_path, default=Path("clip.gif"), help="a .gif or .mp4 (default: clip.gif)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run", type=given_path, help="run folder of a finished distillation")
    source.add_argument("--weights", help="a released student, as yhzhai/mcm/modelscopet2v-laion")
    parser.add_argument("--seed", type=int, default=0, help="of the noise, the same for every prompt (default: 0)")
    parser.add_argument("--rate", type=float, default=8.0, help="frames a second (default: 8)")
    parser.add_argument("--precision", type=int, choices=(16, 32), help="bits (default: 16 on a GPU, else 32)")
    options = parser.parse_args(args)
    if options.out.suffix.lower() not in (".gif", ".mp4"):
        raise UserError(f"--out {options.out}: the ending says neither .gif nor .mp4")
    if not 0 < options.rate <= 100:
        raise UserError(f"--rate {options.rate:g}: more than 0 and at most 100 frames a second can be shown")
    run = None if options.weights else options.run or newest_run()
    import torch

    from projects.mcm.students import of_run, released

    student = released(options.weights) if run is None else of_run(run)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student.to(device, half=(options.precision or (16 if device.type == "cuda" else 32)) == 16)
    for prompt, out in zip(options.prompt, numbered(options.out, len(options.prompt)), strict=True):
        video = student.video(prompt, options.steps, options.seed)
        write_video(out, enlarged(to_frames(video), SMALLEST), options.rate)
        print(f"{printable(out)}: {video.shape[1]} frames in {options.steps} steps, by {printable(student.name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
