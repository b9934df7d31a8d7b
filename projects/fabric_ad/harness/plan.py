"""What the stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.recipe import Stage
from common.workload import Workload
from projects.fabric_ad.baselines import ForwardStudent, Memory, ReverseDistillation
from projects.fabric_ad.losses import anomaly_map, position_loss
from projects.fabric_ad.model import ReverseStudent
from projects.fabric_ad.teacher import Teacher, imagenet_resnet

PICTURES = {"train": 190, "test": 120}
"""Of a category of MVTec AD's textures: 245 to 280 without a fault less 30 %; 78 to 124 to test on. The Industrial
Textile Dataset's have up to three times as many to train on."""
STUDENTS = {kind.__name__: kind for kind in (ReverseStudent, ReverseDistillation)}


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's teacher and student, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    side, testing = data["image_size"], stage.run == "test"
    teacher = Teacher(_resnet(model["teacher"])).frozen()
    student = _student(model["student"]) if model.get("student") else None
    if student is not None and testing:
        student.requires_grad_(False).eval()

    def step(n: int) -> Tensor:
        images = torch.zeros(n, 3, side, side)
        with torch.no_grad():
            maps = teacher(images)
        if student is None:
            found = Memory.features(maps).permute(0, 2, 3, 1).flatten(0, 2)
            return torch.cdist(found, torch.zeros(model["memory"], found.shape[1])).amin(1)
        wanted: Sequence[Tensor] = [maps[level] for level in student.levels]  # type: ignore[union-attr]
        given = student(images, maps)
        return anomaly_map(given, wanted, side) if testing else position_loss(given, wanted).sum()

    return Workload(
        nn.ModuleDict({"teacher": teacher} | ({"student": student} if student is not None else {})),
        step,
        batch=data["eval_batch_size" if testing else "batch_size"],
        samples=PICTURES["test" if testing else "train"] * len(data["categories"]),
        workers=data["num_workers"],
    )


def _resnet(given: dict[str, Any]) -> nn.Module:
    """A ResNet by its name; no weights are looked for."""
    return imagenet_resnet(given["init_args"]["name"], pretrained=False)


def _student(given: dict[str, Any]) -> nn.Module:
    settings = given["init_args"]
    name = given["class_path"].split(".")[-1]
    return ForwardStudent(_resnet(settings["net"])) if name == "ForwardStudent" else STUDENTS[name](**settings)
