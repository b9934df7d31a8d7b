"""What `make speed PAPER=promptkd` measures: the student that names a picture beside the teacher's image tower."""

import open_clip
import torch
from torch import Tensor, nn

from common.models.clip import HALF, Clip, prompted_image
from common.workload import Network, Speed
from projects.promptkd.harness.plan import prompts_of
from projects.promptkd.model import Student

CLASSES, DIM = 397, 768  # of SUN397, on which the paper measures; of ViT-L/14's class vectors
TEACHER, STUDENT, TRAINED = "ViT-L/14 with prompts", "PromptKD student, ViT-B/16", "what the student learns"


class Seen(nn.Module):
    """An image tower with prompts."""

    def __init__(self, clip: Clip):
        super().__init__()
        self.visual, self.prompts = clip.net.visual, prompts_of(clip, 9).visual

    def forward(self, images: Tensor) -> Tensor:
        return prompted_image(self.visual, images, self.prompts)


class Learned(nn.Module):
    """Prompts and projector alone."""

    def __init__(self, student: Student):
        super().__init__()
        self.prompts, self.projector = student.prompts, student.projector

    def forward(self, features: Tensor) -> Tensor:
        return self.projector(features)


def speed() -> Speed:
    return Speed(
        networks=(
            Network(TEACHER, _teacher, giant=True),
            Network(STUDENT, _student, TEACHER, giant=True),
            Network(TRAINED, _learned, STUDENT, giant=True),
        )
    )


def _clip(name: str) -> Clip:
    net = open_clip.create_model(name, load_weights=False)
    return Clip(net, {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": HALF}, None)


def _teacher() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Seen(_clip("ViT-L-14-quickgelu")).eval(), (torch.zeros(1, 3, 224, 224),)


def _distilled() -> Student:
    student = Student(_clip("ViT-B-16-quickgelu"), torch.zeros(CLASSES, DIM)).eval()
    student.clip.net.transformer = nn.Identity()  # of the text tower nothing is used
    student.clip.net.token_embedding = nn.Identity()
    return student


def _student() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _distilled(), (torch.zeros(1, 3, 224, 224),)


def _learned() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Learned(_distilled()).eval(), (torch.zeros(1, 512),)
