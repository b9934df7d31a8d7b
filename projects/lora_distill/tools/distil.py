"""Distil the guidance of your own Stable Diffusion pipeline into a LoRA of rank 4.

python -m projects.lora_distill.tools.distil --model my-pipeline/ --prompts prompts.txt --out mine/

The teacher first draws the prompts (one a line) with guidance, which is what it learns from; then updates of its
attention layers learn to say in one evaluation what guidance says in two. The folder holds
pytorch_lora_weights.safetensors; `draw --compare` shows it beside the teacher, `merge` makes a pipeline of it, and
diffusers reads it: pipe.load_lora_weights("mine/"), then pipe(prompt, guidance_scale=1.0).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.console import printable
from common.data.files import lines_of
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.lora_distill.tools.students import (
    MODEL,
    load_teacher,
    make_folder,
    refuse_numbers,
    write_adapter,
)

if TYPE_CHECKING:
    from torch import Tensor

    from common.models.text_to_image import TextToImage
    from projects.lora_distill.model import Pair


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.lora_distill.tools.distil",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--model", metavar="ID", default=MODEL, help=f"hub id or folder (default: {MODEL})")
    command.add_argument("--prompts", type=given_path, required=True, metavar="FILE", help="text file, a prompt a line")
    command.add_argument("--out", type=given_path, required=True, help="folder to write; new, or empty")
    command.add_argument("--guidance", type=float, default=7.5, help="the scale to take over (default: 7.5)")
    command.add_argument("--rank", type=int, default=4, help="of the updates (default: 4)")
    command.add_argument("--steps", type=int, default=1000, help="of training (default: 1000)")
    command.add_argument("--batch", type=int, default=1, help="pictures a step (default: 1)")
    command.add_argument("--lr", type=float, default=5e-4, help="learning rate (default: 5e-4)")
    command.add_argument("--drawing-steps", type=int, default=50, help="of DDIM, for a picture (default: 50)")
    command.add_argument("--seed", type=int, default=0, help="of all chance (default: 0)")
    device_option(command)
    return command


def refuse(options: argparse.Namespace) -> None:
    """UserError for numbers that make no sense."""
    for name in ("rank", "steps", "batch"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is at least 1, not {getattr(options, name)}")
    refuse_numbers(options, "drawing_steps")
    if not 1 < options.guidance < 1000:
        raise UserError(f"--guidance {options.guidance:g}: above 1, where there is something to distil, and below 1000")
    if not 0 < options.lr < 1:
        raise UserError(f"--lr {options.lr:g}: between 0 and 1")


def drawn(teacher: TextToImage, prompts: list[str], options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """The guided teacher's latents of the prompts [P, C, h, w], and their contexts [P, N, d]."""
    import torch

    latents, contexts = [], []
    for number in range(0, len(prompts), options.batch):
        with torch.no_grad():
            context = teacher.encode_text(prompts[number : number + options.batch])
            noise = torch.Generator().manual_seed(options.seed + number)
            pictures = teacher.sample(context, options.drawing_steps, options.guidance, "ddim", generator=noise)
            latents.append(teacher.latents(pictures))
        contexts.append(context)
        print(f"\rdrawn: {min(number + options.batch, len(prompts))} of {len(prompts)}", end="", flush=True)
    print()
    return torch.cat(latents), torch.cat(contexts)


def train(pair: Pair, teacher: TextToImage, latents: Tensor, contexts: Tensor, options: argparse.Namespace) -> float:
    """Train the student; the mean loss of the last tenth, over that of the unguided teacher."""
    import torch

    from common.models.text_to_image import guided
    from projects.lora_distill.model import distillation_loss

    with torch.no_grad():
        empty = teacher.encode_text([""])
    trained = [parameter for parameter in pair.student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.lr, weight_decay=1e-2)
    last: list[tuple[float, float]] = []
    for step in range(options.steps):
        chosen = torch.randint(len(latents), (options.batch,), device=latents.device)
        z, context = latents[chosen], contexts[chosen]
        t = torch.randint(teacher.scheduler.config.num_train_timesteps, (len(z),), device=z.device)
        noisy = teacher.scheduler.add_noise(z, torch.randn_like(z), t)
        conditional, unconditional = pair.predictions(noisy, t, context, empty)
        target = guided(conditional, unconditional, options.guidance)
        loss = distillation_loss(pair.student(noisy, t, context).sample, target)
        if not loss.isfinite():
            raise UserError(f"the loss is {loss.item()} at step {step}: try a smaller --lr than {options.lr:g}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step >= 0.9 * (options.steps - 1):
            last.append((loss.item(), distillation_loss(conditional, target).item()))
        if step % 50 == 0 or step == options.steps - 1:
            print(f"\rtrained: {step + 1} of {options.steps} steps", end="", flush=True)
    print()
    return sum(own for own, _ in last) / max(sum(unguided for _, unguided in last), 1e-12)


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    refuse(options)
    if not options.prompts.is_file():
        raise UserError(f"--prompts {printable(options.prompts)}: there is no such file; write one prompt a line")
    prompts = [line.strip() for line in lines_of(options.prompts) if line.strip()]
    if not prompts:
        raise UserError(f"--prompts {printable(options.prompts)}: it holds no prompt")
    device = device_of(options.device)
    make_folder(options.out)
    import torch

    from common.models.lora import Lora
    from projects.lora_distill.model import Pair

    torch.manual_seed(options.seed)
    teacher = load_teacher(options.model).to(device)
    latents, contexts = drawn(teacher, prompts, options)
    pair = Pair(teacher.unet, Lora(options.rank, gaussian=True)).to(device)
    left = train(pair, teacher, latents, contexts, options)
    folder = Path(options.model)
    source = str(folder.absolute()) if folder.is_dir() else options.model
    file = write_adapter(options.out, pair.student, options.guidance, source)
    print(f"{printable(file)}: {max(0.0, 1 - left):.0%} of the gap between unguided and guided prediction is closed")
    return 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
