"""Draw the captions' pictures with or without propagation, and measure them.

    python -m projects.faster_diffusion.sample test --config projects/faster_diffusion/configs/mini/sample.yaml \\
        --model.text_to_image <the foundation's folder> --model.reuse.keys paper
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from pydantic import NonNegativeInt, PositiveInt
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from torchmetrics.image.fid import FrechetInceptionDistance

from common.cli import main
from common.data.images import PictureData, to_uint8
from common.data.worlds.glyph_scenes import GlyphFeatures, objects_right
from common.evaluators.clip_score import Clip, ClipScore
from common.evaluators.frechet import Inception, frechet_distance
from common.models.text_to_image import load_text_to_image
from common.paths import expand
from common.training.runs import save_picture
from common.visual import enlarge
from projects.faster_diffusion.keys import Keys
from projects.faster_diffusion.pipelines import Reuse, draw, pipeline_of, starting_noise
from projects.faster_diffusion.propagate import Counts, propagate
from projects.faster_diffusion.solvers import Solver, build_solver

DRAWN = "drawn.safetensors"


class Sampling(L.LightningModule):
    """Pictures of an unchanged pipeline of diffusers; the noise of a picture is the same for every arm of a seed.

    Args:
        text_to_image: hub id or folder of the diffusion model.
        image_size: side S in pixels; follows from the data.
        seed: of the noise; follows from the run's.
        reuse: propagation; None for the full sampler.
        solver: of the reverse process.
        steps: of the solver.
        only: DDIM at the times of these of its steps alone, without anything between.
        guidance: scale of the classifier-free guidance.
        half: the networks that draw compute in float16.
        inception: for FID; None for the world of glyphs and its measures.
        clip: hub id, for CLIPScore.
        reference: what `drawn.safetensors` of the full sampler holds, for distances picture by picture.
        keep: write that file.
        pictures: how many are kept for the report.
    """

    run_dir: Path

    def __init__(
        self,
        text_to_image: str,
        image_size: PositiveInt = 512,
        seed: int = 0,
        reuse: Reuse | None = None,
        solver: Solver = "ddim",
        steps: PositiveInt = 50,
        only: Keys | None = None,
        guidance: float = 7.5,
        half: bool = False,
        inception: Inception | None = None,
        clip: str | None = None,
        reference: str | None = None,
        keep: bool = False,
        pictures: NonNegativeInt = 8,
    ):
        super().__init__()
        self.t2i = load_text_to_image(text_to_image).requires_grad_(False).eval()
        if half:
            self.t2i.half()
        scheduler = build_solver(self.t2i.scheduler.config, solver, steps, only)
        self.pipe = pipeline_of(self.t2i, scheduler)
        self.reuse, self.steps, self.guidance, self.seed = reuse, steps, guidance, seed
        self.size = image_size
        self.frechet = (
            frechet_distance(inception) if inception else FrechetInceptionDistance(GlyphFeatures(), normalize=True)
        )
        self.clip_score = ClipScore(Clip(clip)) if clip else None
        self.marks: Any = nn.ModuleDict({split: MeanMetric() for split in ("test", "val")} if inception is None else {})
        self.reference = load_file(expand(reference, "model.reference"))["pictures"] if reference else None
        self.keep, self.pictures = keep, pictures
        self.kept: list[Tensor] = []

    def on_test_start(self) -> None:
        self.pipe.to(self.device)

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """A batch of the test's captions; or of the validation's, from the second loader."""
        captions = batch["caption"]
        noise = starting_noise(self.t2i, self.size, batch["index"].tolist(), self.seed, dataloader_idx)
        with propagate(self.pipe, **vars(self.reuse)) if self.reuse else nullcontext() as counts:
            drawn = draw(self.pipe, self.t2i, captions, noise, self.steps, self.guidance)
        if self.marks:
            self.marks["val" if dataloader_idx else "test"].update(objects_right(drawn, captions))
        if dataloader_idx:
            return
        self.frechet.update(batch["image"], real=True)
        self.frechet.update(drawn, real=False)
        if self.clip_score is not None:
            self.clip_score.update(drawn, captions)
        if batch_idx == 0:
            self.log_calls(counts, len(drawn))
            for k, picture in enumerate(to_uint8(drawn[: self.pictures])):
                save_picture(self.run_dir, f"{k + 1}: {captions[k]}", enlarge(picture, 96)[0], "drawn")
        if self.reference is not None:
            same = self.reference[batch["index"].cpu()].to(drawn)
            self.log("test/paired", F.mse_loss(drawn, same), batch_size=len(drawn), add_dataloader_idx=False)
        if self.keep:
            self.kept.append(drawn.cpu())

    def log_calls(self, counts: Counts | None, pictures: int) -> None:
        """Runs of encoder and decoder for a picture, with and without its caption as one."""
        calls = len(self.pipe.scheduler.timesteps)
        encoder = calls if counts is None else counts.encoder_calls
        decoder = calls if counts is None else counts.decoder_rows / (2 * pictures)
        for name, value in {"encoder_runs": encoder, "decoder_runs": decoder}.items():
            self.log(f"test/{name}", float(value), batch_size=1, add_dataloader_idx=False)

    def on_test_epoch_end(self) -> None:
        found = {"fd": self.frechet.compute()}
        found |= {
            f"objects{'' if split == 'test' else '_val'}": m.compute()
            for split, m in self.marks.items()
            if m.update_called
        }
        found |= {} if self.clip_score is None else {"clipscore": self.clip_score.compute()}
        for name, value in found.items():
            self.log(f"test/{name}", value.float())
        if self.keep:
            save_file({"pictures": torch.cat(self.kept)}, self.run_dir / DRAWN)


class Captions(PictureData):
    """The test's pictures, and behind them those of the validation, if the config gives any: premises rest on them."""

    def test_dataloader(self) -> list[DataLoader]:  # type: ignore[override]
        return [self.ordered(split) for split in ("test", "val") if split == "test" or split in self.sources]


def links(parser: Any) -> None:
    parser.link_arguments("data.image_size", "model.image_size")
    for part in ("data.seed", "model.seed"):
        parser.link_arguments("seed_everything", part, compute_fn=int)


if __name__ == "__main__":
    main(Sampling, Captions, links=links)
