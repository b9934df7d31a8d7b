"""Measure videos of a few steps: a student's, or the teacher's own with DDIM or DPM++.

python -m projects.mcm.evaluate test --config projects/mcm/configs/mini/evaluate.yaml
"""

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.cli import main, one_seed
from common.data.images import Pictures
from common.models.lora import Lora
from common.training.runs import save_picture
from common.visual import filmstrip, to_frames
from projects.mcm.adapters import load_student
from projects.mcm.consistency import guidance_embedding
from projects.mcm.data import VideoData
from projects.mcm.distill import GUIDANCE_DIM
from projects.mcm.measures import Measures, VideoMeasures, WorldMeasures
from projects.mcm.model import VideoModel, load_video_model
from projects.mcm.sampling import sample_student, sample_teacher

SPLIT = 1_000_000  # between the seeds of the splits' noise


class Evaluation(L.LightningModule):
    """Videos for the captions of the test split, each from the same noise for every arm.

    Where the data has a validation split, motion and watermark are measured there too, for what claims presume.

    Args:
        teacher: the video diffusion model.
        measures: what measures.
        sampler: whose videos: the student's, or the teacher's by either solver.
        weights: a student's, or a released adapter (`projects.mcm.adapters`); None for the teacher's.
        lora: the student's; an adapter brings its own.
        half: the networks that make videos compute in float16; what measures stays in float32.
        steps: numbers of steps that are measured.
        knots: of the distillation.
        timestep_scaling: of the distillation.
        guidance: w of the teacher's samples; the scale as pipelines count it is w + 1.
        pictures: videos of each number of steps that are drawn for the report.
        reference_images: images that frames are compared with.
    """

    run_dir: Path

    def __init__(
        self,
        teacher: VideoModel,
        measures: Measures,
        sampler: Literal["student", "ddim", "dpm"] = "student",
        weights: str | None = None,
        lora: Lora | None = None,
        half: bool = False,
        steps: tuple[int, ...] = (1, 2, 4, 8),
        knots: int = 50,
        timestep_scaling: float = 4.0,
        guidance: float = 6.5,
        pictures: int = 3,
        reference_images: int = 2048,
    ):
        super().__init__()
        self.sampler, self.steps, self.guidance = sampler, steps, guidance
        self.knots, self.timestep_scaling = knots, timestep_scaling
        self.pictures, self.reference_images = pictures, reference_images
        self.teacher = load_video_model(teacher)
        self.unet = self.teacher.unet
        if sampler == "student":
            self.unet = load_student(self.teacher.unet, weights or "", lora, GUIDANCE_DIM)
        self.told = self.unet.config.time_cond_proj_dim is not None
        if half:
            self.teacher.half()
            self.unet.half()
        empty = VideoMeasures(measures)
        self.measured = nn.ModuleDict({str(k): empty.another() for k in steps})
        self.first = self.measured[str(steps[0])]  # is shown what is aimed at, once for all
        self.validated = nn.ModuleDict({str(k): WorldMeasures() for k in steps} if measures.judge else {})

    def on_test_start(self) -> None:
        """The images that frames are compared with, every process its part."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data.images is None:
            return
        pictures = Pictures(data.images, data.image_size)
        rank, world = self.trainer.global_rank, self.trainer.world_size
        chosen = range(rank, min(len(pictures), self.reference_images), world)
        part = torch.utils.data.Subset(pictures, chosen)
        loader: DataLoader = DataLoader(part, data.batch_size * data.frames, generator=torch.Generator())
        for batch in loader:
            self.first.images(batch["image"].to(self.device))

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        noise = self.noise(batch, dataloader_idx)
        if dataloader_idx == 1:  # the validation split
            for steps, measures in self.validated.items():
                videos = self.teacher.decode(self.sample(batch["caption"], noise, int(steps), batch_idx))
                measures.update(videos, batch["caption"])
            return
        drawn = int(batch["index"][0]) == 0
        if drawn:
            strip = filmstrip([to_frames(video) for video in batch["video"][: self.pictures]])
            words = "; ".join(batch["caption"][: self.pictures])
            save_picture(self.run_dir, "videos", strip, f"Test videos: {words}", reference=True)
        self.first.real(batch["video"])
        for steps in self.steps:
            videos = self.teacher.decode(self.sample(batch["caption"], noise, steps, batch_idx))
            self.measured[str(steps)].update(videos, batch["caption"])
            if drawn:
                strip = filmstrip([to_frames(video) for video in videos[: self.pictures]])
                save_picture(self.run_dir, f"{steps} steps", strip, f"{steps} {'step' if steps == 1 else 'steps'}")

    def noise(self, batch: dict[str, Any], split: int) -> Tensor:
        """Noise for each video by its split's and its own number, whatever the batches."""
        shape = self.teacher.latents(batch["video"][:1]).shape[1:]
        seeds = [SPLIT * split + int(index) for index in batch["index"]]
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(drawn).to(self.device)

    def sample(self, captions: list[str], noise: Tensor, steps: int, seed: int) -> Tensor:
        """Latents of shape `noise`."""
        if self.sampler != "student":
            return sample_teacher(self.teacher, captions, noise, steps, self.guidance, self.sampler)
        told = None
        if self.told:
            told = guidance_embedding(torch.full((len(noise),), self.guidance, device=self.device), GUIDANCE_DIM)
        generator = torch.Generator().manual_seed(seed)
        return sample_student(
            self.teacher, self.unet, captions, noise, steps, self.knots, self.timestep_scaling, generator, told
        )

    def on_test_epoch_end(self) -> None:
        for steps, measures in self.measured.items():
            if measures is not self.first:
                measures.aim_as(self.first)
            for name, value in measures.compute().items():
                self.log(f"test/{name}_{steps}", value)
        for steps, measures in self.validated.items() if "val" in self.trainer.datamodule.sources else ():  # type: ignore[attr-defined]
            for name, value in measures.compute().items():
                self.log(f"test/{name}_{steps}_val", value)


if __name__ == "__main__":
    main(Evaluation, VideoData, links=one_seed)
