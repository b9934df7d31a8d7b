"""What `make speed PAPER=fabric_ad` measures: teacher and student for one picture, and what they are compared with."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.workload import Network, Speed
from projects.fabric_ad.baselines import ForwardStudent, ReverseDistillation
from projects.fabric_ad.losses import anomaly_map
from projects.fabric_ad.model import ReverseStudent
from projects.fabric_ad.teacher import Teacher, imagenet_resnet

SIDE = 256
RESNET34 = (64, 64, 128, 256)
WIDE = (64, 256, 512, 1024)


class Detector(nn.Module):
    """From a picture to its anomaly map, before it is smoothed: the teacher, the student, and their distance."""

    def __init__(self, teacher: str, student: nn.Module):
        super().__init__()
        self.teacher, self.student = Teacher(imagenet_resnet(teacher, pretrained=False)), student

    def forward(self, images: Tensor) -> Tensor:
        maps = self.teacher(images)
        wanted = [maps[level] for level in self.student.levels]  # type: ignore[union-attr]
        return anomaly_map(self.student(images, maps), wanted, images.shape[-1])


def wide_reverse() -> ReverseDistillation:
    """RD4AD's student of a WideResNet-50-2."""
    return ReverseDistillation(WIDE, wide=True, depths=(3, 3, 4, 6))


def speed() -> Speed:
    """Whole detectors, and the paper's students alone: the teacher's maps are their input."""
    rd, method = "RD4AD detector", "DBFAD detector"
    return Speed(
        networks=(
            Network(rd, _detector("wide_resnet50_2", wide_reverse), giant=True),
            Network(method, _detector("resnet34", lambda: ReverseStudent(RESNET34)), rd),
            Network("DBFAD detector without links", _detector("resnet34", _unlinked), rd, giant=True),
            Network("STPM detector", _detector("resnet34", lambda: ForwardStudent(_resnet34())), rd, giant=True),
            Network("DBFAD student", _student(lambda: ReverseStudent(RESNET34)), giant=True),
            Network("DBFAD student without links", _student(_unlinked), giant=True),
            Network("DBFAD teacher", lambda: (Teacher(_resnet34()).eval(), _picture()), giant=True),
        )
    )


def _resnet34() -> nn.Module:
    return imagenet_resnet("resnet34", pretrained=False)


def _unlinked() -> nn.Module:
    return ReverseStudent(RESNET34, links=False)


def _picture() -> tuple[Tensor, ...]:
    return (torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)),)


def _detector(teacher: str, student: Callable[[], nn.Module]) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    return lambda: (Detector(teacher, student()).eval(), _picture())


def _student(make: Callable[[], nn.Module]) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    """The student alone, fed with maps of the sizes that a picture of 256 pixels has."""

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = make()

        def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
            return self.student(maps[0], maps)

    shapes = zip(RESNET34, (64, 64, 32, 16), strict=True)
    return lambda: (Alone().eval(), tuple(torch.zeros(1, c, side, side) for c, side in shapes))
