"""Students that make videos from prompts: of a run folder, or released ones.

student = released("yhzhai/mcm/modelscopet2v-laion").to(torch.device("cuda"), half=True)
video = student.video("a dog in the snow", steps=4, seed=0)
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError
from common.models.lora import Lora
from common.training.runs import settings_of
from projects.mcm.adapters import is_adapter, load_student
from projects.mcm.consistency import guidance_embedding
from projects.mcm.distill import GUIDANCE_DIM
from projects.mcm.model import PixelCodec, VideoDiffusion, VideoModel, VideoUNet, load_video_model
from projects.mcm.sampling import sample_student

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
    with settings_of(run) as settings:
        model, data = settings["model"], settings["data"]
        source = VideoModel(**model["teacher"])
        lora = None if model["lora"] is None else Lora(**model["lora"])
        guidance = sum(model["guidance"]) / 2 if lora is None else None
        frames, size = int(data["frames"]), int(data["image_size"])
        knots, scaling = int(model["knots"]), float(model["timestep_scaling"])
    teacher = load_video_model(source)
    unet = load_student(teacher.unet, str(weights), lora, GUIDANCE_DIM)
    return Student(str(run), teacher, unet, guidance, frames, size, knots, scaling)


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
