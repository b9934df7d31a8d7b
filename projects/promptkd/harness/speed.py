"""What `make speed PAPER=promptkd` measures: the student that names a picture beside the teacher's image tower."""

import torch
from torch import Tensor, nn

from common.models.clip import Clip, prompted_image
from common.workload import Network, Speed
from projects.promptkd.harness.plan import by_parts, prompts_of, untrained
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


def _teacher() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return by_parts(Seen(untrained("ViT-L-14-quickgelu", place())).eval()), (torch.zeros(1, 3, 224, 224),)


def place() -> str:
    """The meta device where the harness measures a giant: it fills it in later, and open_clip asks to be told."""
    return torch.get_default_device().type


def distilled() -> Student:
    """A student without a text tower, of which nothing is used."""
    clip = untrained("ViT-B-16-quickgelu", place())
    student = Student(clip, torch.zeros(CLASSES, DIM)).eval()
    for name in ("transformer", "token_embedding", "ln_final"):
        setattr(clip.net, name, nn.Identity())
    clip.net.positional_embedding = clip.net.text_projection = None
    return student


def _student() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return by_parts(distilled()), (torch.zeros(1, 3, 224, 224),)


def _learned() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Learned(distilled()).eval(), (torch.zeros(1, 512),)
