"""Draw with a student in one evaluation a step, and hold it against the teacher with and without guidance.

python -m projects.lora_distill.evaluate test --config projects/lora_distill/configs/mini/evaluate.yaml
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.image.fid import FrechetInceptionDistance

from common.cli import main
from common.data.images import PictureData, to_uint8
from common.data.worlds.glyph_scenes import GlyphFeatures, objects_right
from common.errors import UserError
from common.evaluators.clip_score import Clip, ClipImage, ClipScore
from common.evaluators.frechet import Inception, frechet_distance
from common.models.lora import Lora
from common.models.text_to_image import guided, load_text_to_image
from common.training.flops import flop_counter
from common.training.runs import save_picture
from common.visual import enlarge
from projects.lora_distill.model import load_student

SPLIT = 1_000_000  # between the seeds of the splits' noise


@dataclass
class Measures:
    """What pictures are measured by.

    Attributes:
        glyphs: the world of glyphs, which shows itself what is right; without `clip`.
        inception: for FID.
        clip: hub id, for CLIPScore and CLIP-I.
    """

    glyphs: bool = False
    inception: Inception | None = None
    clip: str | None = None


class Judged(PictureData):
    """The test's pictures, and behind them those of the validation, if the config gives any: premises rest on them."""

    def test_dataloader(self) -> list[Any]:  # type: ignore[override]
        return [self.ordered(split) for split in ("test", "val") if split == "test" or split in self.sources]


class Evaluation(L.LightningModule):
    """Pictures for the captions of the test split, each from the same noise for every arm, which the seed decides.

    The data are the teacher's guided pictures of the same captions, from other noise. `closed` is the share of the gap
    between unguided and guided prediction that is closed at noised versions of them (see `distill.py`); `fd` is the
    Frechet distance of the drawn pictures to them; `paired` the mean square distance to what the guided teacher draws
    from the same noise, and `clip_i` CLIP's likeness to it. `objects` and `clipscore` say whether the captions are
    obeyed, `prompt_val` the one or the other on the validation split, for the teacher; `closed_val` likewise, for all.
    `calls`, `gmacs` and `seconds` are the cost of a picture; an evaluation for a caption and one for the empty text are
    two calls.

    Args:
        text_to_image: hub id or folder of the teacher.
        measures: what measures.
        drawer: the student, or the teacher with or without guidance.
        weights: the student's.
        lora: of its distillation; None where all weights were trained.
        guidance: w.
        steps: of DDIM.
        shown: pictures for the report.
        seed: of the noise.
    """

    run_dir: Path

    def __init__(
        self,
        text_to_image: str,
        measures: Measures,
        drawer: Literal["student", "guided", "unguided"] = "student",
        weights: str | None = None,
        lora: Lora | None = None,
        guidance: NonNegativeFloat = 7.5,
        steps: PositiveInt = 50,
        shown: NonNegativeInt = 8,
        seed: NonNegativeInt = 0,
    ):
        super().__init__()
        self.drawer, self.guidance, self.steps, self.seed = drawer, guidance, steps, seed
        self.shown = shown
        self.teacher = load_text_to_image(text_to_image).requires_grad_(False).eval()
        self.drawing = load_text_to_image(text_to_image).requires_grad_(False).eval()
        if drawer == "student":
            if weights is None:
                raise UserError("nothing to judge: give the student's --model.weights, or --model.drawer guided")
            self.drawing.unet = load_student(self.drawing.unet, lora, weights)
        self.fd, self.glyphs = None, measures.glyphs
        if measures.glyphs:
            self.fd = FrechetInceptionDistance(GlyphFeatures(), normalize=True)
        elif measures.inception is not None:
            self.fd = frechet_distance(measures.inception)
        clip = None if measures.clip is None else Clip(measures.clip)
        self.clipscore, self.clip_i = (None, None) if clip is None else (ClipScore(clip), ClipImage(clip))
        self.prompt_val: Any = MeanMetric() if clip is None else ClipScore(clip)
        names = ("objects", "paired", "seconds", "calls")
        self.means = nn.ModuleDict({name: MeanMetric() for name in names})
        self.apart = nn.ModuleDict({name: MeanMetric() for name in ("own", "unguided", "own_val", "unguided_val")})

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """A batch of the test's pictures; or of the validation's, from the second loader."""
        suffix = "_val" if dataloader_idx else ""
        noise = self.seed + SPLIT * (1 + batch_idx + 1000 * dataloader_idx) + 1000 * self.trainer.global_rank
        self.compare_predictions(batch, noise, suffix)
        if suffix and self.drawer == "student":
            return  # premises rest on the teacher's pictures
        context = self.drawing.encode_text(batch["caption"])
        started = self.clock()
        with counted_calls(self.drawing.unet) as calls:
            drawn = self.draw(self.drawing, context, noise, self.guidance if self.drawer == "guided" else 1.0)
        spent = self.clock() - started
        with torch.autocast(self.device.type, enabled=False):  # distances of features are compared without rounding
            self.measure(batch, drawn.float(), suffix)
            if not suffix:
                self.means["seconds"].update(spent / len(drawn), len(drawn))
                self.means["calls"].update(sum(calls) / len(drawn), len(drawn))
        if batch_idx == dataloader_idx == 0:
            self.compare_pictures(drawn, context, noise, batch["caption"])

    def measure(self, batch: dict[str, Any], drawn: Tensor, suffix: str) -> None:
        """Update what measures pictures [B, 3, S, S] in [0, 1]."""
        right = objects_right(drawn, batch["caption"]) if self.glyphs else None
        if suffix:
            self.prompt_val.update(*((drawn, batch["caption"]) if right is None else (right,)))
            return
        if right is not None:
            self.means["objects"].update(right)
        if self.fd is not None:
            self.fd.update(batch["image"], real=True)
            self.fd.update(drawn, real=False)
        if self.clipscore is not None:
            self.clipscore.update(drawn, batch["caption"])

    def draw(self, model: Any, context: Tensor, noise: int, guidance: float) -> Tensor:
        """[B, 3, S, S] in [0, 1], of the data's side S."""
        side = self.trainer.datamodule.image_size  # type: ignore[attr-defined]
        generator = torch.Generator().manual_seed(noise)
        return model.sample(context, self.steps, guidance, "ddim", side, generator)

    def clock(self) -> float:
        """Seconds: of this process's work on a CPU, which others may share; of the wall on a GPU."""
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def compare_predictions(self, batch: dict[str, Any], seed: int, suffix: str) -> None:
        """How far the own prediction and the unguided one are from the guided one, at random t and noise."""
        generator = torch.Generator().manual_seed(seed + 1)
        latents, context = self.teacher.latents(batch["image"]), self.teacher.encode_text(batch["caption"])
        t = torch.randint(self.teacher.scheduler.config.num_train_timesteps, (len(latents),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        t = t.to(latents.device)
        noisy = self.teacher.scheduler.add_noise(latents, noise, t)
        empty = self.teacher.encode_text([""]).expand_as(context)
        conditional, unconditional = (self.teacher.unet(noisy, t, given).sample for given in (context, empty))
        target = guided(conditional, unconditional, self.guidance).float()  # squares of halves would round to nothing
        own = target if self.drawer == "guided" else self.drawing.unet(noisy, t, context).sample.float()
        self.apart[f"own{suffix}"].update((own - target).square())
        self.apart[f"unguided{suffix}"].update((conditional.float() - target).square())

    def compare_pictures(self, drawn: Tensor, context: Tensor, noise: int, captions: list[str]) -> None:
        """Hold the first batch's pictures against the guided teacher's from the same noise; show some."""
        aim = self.draw(self.teacher, context, noise, self.guidance)
        with torch.autocast(self.device.type, enabled=False):
            self.means["paired"].update((drawn.float() - aim.float()).square())
            if self.clip_i is not None:
                self.clip_i.update(drawn.float(), aim.float())
        for k, (picture, caption) in enumerate(zip(to_uint8(drawn), captions, strict=True)):
            if k < self.shown and self.trainer.global_rank == 0:
                save_picture(self.run_dir, f"caption {k + 1}", enlarge(picture, 128)[0], caption)

    def on_test_epoch_end(self) -> None:
        for suffix in ("", "_val"):
            own, unguided = self.apart[f"own{suffix}"], self.apart[f"unguided{suffix}"]
            if unguided.update_called:
                self.log(f"test/closed{suffix}", 1 - own.compute() / unguided.compute())
        for name, metric in self.means.items():
            if metric.update_called:
                self.log(f"test/{name}", metric.compute())
        for name in ("fd", "clipscore", "clip_i", "prompt_val"):
            metric = getattr(self, name)
            if metric is not None and metric.update_called:
                self.log(f"test/{name}", metric.compute().float())
        self.log("test/gmacs", self.means["calls"].compute() * self.gmacs())

    def gmacs(self) -> float:
        """Billions of multiply-adds of one evaluation of the U-Net for one picture."""
        side = self.trainer.datamodule.image_size  # type: ignore[attr-defined]
        noisy = self.teacher.latents(torch.zeros(1, 3, side, side, device=self.device))
        with flop_counter() as counted:
            self.drawing.unet(
                noisy, torch.zeros(1, dtype=torch.long, device=self.device), self.drawing.encode_text([""])
            )
        return counted.get_total_flops() / 2e9


@contextmanager
def counted_calls(unet: nn.Module) -> Iterator[list[int]]:
    """Inputs of each call of a U-Net."""
    calls: list[int] = []
    hook = unet.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    try:
        yield calls
    finally:
        hook.remove()


def links(parser: Any) -> None:
    parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


if __name__ == "__main__":
    main(Evaluation, Judged, links=links)
