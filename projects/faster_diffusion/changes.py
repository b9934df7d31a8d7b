"""How much a U-Net's features change from step to step, in its encoder and in its decoder (section 3.2, Figure 3).

python -m projects.faster_diffusion.changes test --config projects/faster_diffusion/configs/mini/changes.yaml
"""

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from common.cli import main
from common.models.text_to_image import load_text_to_image
from common.training.runs import save_picture
from projects.faster_diffusion.harness.pictures import change_chart, component_picture
from projects.faster_diffusion.pipelines import draw, pipeline_of, starting_noise
from projects.faster_diffusion.sample import Captions, links
from projects.faster_diffusion.solvers import build_solver


class Changes(L.LightningModule):
    """Delta(s) = ||F(z_t) - F(z_(t-1))||^2 / (d s^2) of a block's features F [d, s, s], the mean over pictures (eq. 2).

    Largest and variance are over blocks and steps, of the encoder's and of the decoder's blocks. Raw figures depend on
    how large features are: `relative` is the mean of Delta by the features' own mean square at the step.

    Args:
        text_to_image: hub id or folder of the diffusion model.
        image_size: side in pixels; follows from the data.
        seed: of the noise; follows from the run's.
        steps: of DDIM.
        guidance: scale of the classifier-free guidance.
        half: the networks compute in float16.
    """

    run_dir: Path

    def __init__(
        self,
        text_to_image: str,
        image_size: PositiveInt = 512,
        seed: int = 0,
        steps: PositiveInt = 50,
        guidance: float = 7.5,
        half: bool = False,
    ):
        super().__init__()
        self.t2i = load_text_to_image(text_to_image).requires_grad_(False).eval()
        if half:
            self.t2i.half()
        self.pipe = pipeline_of(self.t2i, build_solver(self.t2i.scheduler.config, "ddim", steps))
        self.size, self.seed, self.steps, self.guidance = image_size, seed, steps, guidance
        self.raw: dict[str, list[Tensor]] = {}
        self.relative: dict[str, list[Tensor]] = {}
        self.weights: list[int] = []

    def on_test_start(self) -> None:
        self.pipe.to(self.device)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        seen: dict[str, list[Tensor]] = {name: [] for name in blocks(self.t2i.unet)}
        hooks = [
            module.register_forward_hook(partial(_keep, seen[name])) for name, module in blocks(self.t2i.unet).items()
        ]
        noise = starting_noise(self.t2i, self.size, batch["index"].tolist(), self.seed)
        try:
            draw(self.pipe, self.t2i, batch["caption"], noise, self.steps, self.guidance)
        finally:
            for hook in hooks:
                hook.remove()
        self.weights.append(len(noise))
        for name, features in seen.items():
            raw, relative = changes(features)
            self.raw.setdefault(name, []).append(raw)
            self.relative.setdefault(name, []).append(relative)
        if batch_idx == 0:
            shown = {name: torch.stack([f[-1] for f in features]) for name, features in seen.items()}
            save_picture(
                self.run_dir,
                "features",
                component_picture(shown),
                "The first three principal components of blocks' features, over the steps; a row for each block",
            )

    def on_test_epoch_end(self) -> None:
        weights = torch.tensor(self.weights, dtype=torch.float32)
        raw, relative = (
            {name: (torch.stack(rows) * weights[:, None]).sum(0) / weights.sum() for name, rows in kind.items()}
            for kind in (self.raw, self.relative)
        )
        for side, letter in {"encoder": "E", "decoder": "D"}.items():
            own = torch.stack([values for name, values in raw.items() if name.startswith(letter)])
            self.log(f"test/largest_{side}", own.max())
            self.log(f"test/variance_{side}", own.var())
            scaled = torch.stack([values for name, values in relative.items() if name.startswith(letter)])
            self.log(f"test/relative_{side}", scaled.mean())
        chart = change_chart({n: v.numpy() for n, v in raw.items()}, {n: v.numpy() for n, v in relative.items()})
        save_picture(
            self.run_dir,
            "changes",
            chart,
            "How features change from step to step in encoder (E), middle (B), decoder (D): as in eq. 2, and by their "
            "mean square",
        )


def blocks(unet: Any) -> dict[str, nn.Module]:
    """The blocks of a U-Net by their names, in the order in which they run: E1, E2, ..., B, D1, D2, ..."""
    found = {f"E{k + 1}": block for k, block in enumerate(unet.down_blocks)}
    found |= {} if unet.mid_block is None else {"B": unet.mid_block}
    return found | {f"D{k + 1}": block for k, block in enumerate(unet.up_blocks)}


def _keep(seen: list[Tensor], module: nn.Module, args: Any, said: Any) -> None:
    seen.append((said[0] if isinstance(said, tuple) else said).detach().float().cpu())


def changes(features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Features [B, d, s, s] of successive steps -> mean squared change of each step to the next one, [T - 1].

    And the same by their mean square at the former step.
    """
    pairs = list(zip(features[:-1], features[1:], strict=True))
    raw = torch.stack([(after - before).square().mean() for before, after in pairs])
    return raw, raw / torch.stack([before.square().mean() for before, _ in pairs])


if __name__ == "__main__":
    main(Changes, Captions, links=links)
