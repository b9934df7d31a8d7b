"""What the stages do at paper scale, for `make plan`: OpenAI's CLIPs without values, and a step through them."""

from collections.abc import Callable
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.data.readers.zero_shot_sets import base_classes
from common.models.clip import HALF, Clip, prompted_image, prompted_text
from common.recipe import Stage
from common.workload import Workload
from projects.promptkd.losses import distillation_loss, promptsrc_terms
from projects.promptkd.model import Prompts, Student

TOKENS = 16  # of the longest sentence; what pads it to 77 is not read
COUNTS = {  # classes, pictures to train on and to test on (the paper's Table 8), which are the sets' own
    "imagenet": (1000, 1_281_167, 50_000),
    "caltech101": (100, 4128, 2465),
    "oxford_pets": (37, 2944, 3669),
    "stanford_cars": (196, 6509, 8041),
    "oxford_flowers": (102, 4093, 2463),
    "food101": (101, 50_500, 30_300),
    "fgvc_aircraft": (100, 3334, 3333),
    "sun397": (397, 15_880, 19_850),
    "dtd": (47, 2820, 1692),
    "eurosat": (10, 13_500, 8100),
    "ucf101": (101, 7639, 3783),
}
REPORTED = {"distill": "one A100; hours not found"}
Step = Callable[[int], Any]


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    split = "test" if stage.run == "test" else "train"
    classes, train, test = COUNTS[data[split]["init_args"]["name"]]
    known = base_classes(classes) if data.get("base") else classes
    samples = test if stage.run == "test" else min(train, known * (data.get("per_class") or train))
    described = {"teach": _teach, "distill": _distill, "evaluate": _evaluate}[stage.name]
    networks, step = described(model, known, data["image_size"])
    by_parts(networks)
    batch = data["eval_batch_size"] if stage.run == "test" else data["batch_size"]
    reported = REPORTED.get(stage.name, "")
    return Workload(networks, step, batch, samples, optimizer_bytes=4, workers=data["num_workers"], reported=reported)


def untrained(source: str, device: str = "meta") -> Clip:
    """One of open_clip's CLIPs; on the meta device it has no values."""
    name = source.split(":")[0]
    net = open_clip.create_model(name, load_weights=False, device=device)
    return Clip(net, {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": HALF}, None)


def by_parts(network: nn.Module) -> nn.Module:
    """Have attention computed by its parts: of its fused pass, which evaluation takes, torch counts no operation."""
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.train()  # it has no dropout
    return network


def prompts_of(clip: Clip, depth: int, count: int = 4) -> Prompts:
    width, words = clip.net.visual.class_embedding.shape[0], clip.net.token_embedding.weight.shape[1]
    return Prompts(torch.zeros(depth, count, width), torch.zeros(count, words), torch.zeros(depth - 1, count, words))


def _teach(model: dict[str, Any], classes: int, side: int) -> tuple[nn.Module, Step]:
    """A step of `PromptTuning`, in which the text tower reads all classes."""
    clip = untrained(model["clip"]).requires_grad_(False)
    prompts = prompts_of(clip, model["depth"])

    def step(n: int) -> Tensor:
        ids, plain_vectors = torch.zeros(classes, TOKENS, dtype=torch.long), torch.zeros(classes, clip.dim)
        pictures = torch.zeros(n, 3, side, side)
        images = F.normalize(prompted_image(clip.net.visual, pictures, prompts.visual), dim=-1)
        embedded = clip.net.token_embedding(ids)
        count = len(prompts.context)
        context = prompts.context.expand(classes, -1, -1)
        embedded = torch.cat([embedded[:, :1], context, embedded[:, 1 + count :]], 1)
        vectors = F.normalize(prompted_text(clip.net, ids, embedded, prompts.text), dim=-1)
        with torch.no_grad():
            plain = clip.images(pictures)
        labels = torch.zeros(n, dtype=torch.long)
        terms = promptsrc_terms(images, vectors, plain, plain_vectors, labels, clip.scale)
        return terms.total(model["text_weight"], model["image_weight"])

    return nn.ModuleDict({"clip": clip, "prompts": prompts}), step


def _distill(model: dict[str, Any], classes: int, side: int) -> tuple[nn.Module, Step]:
    """A step of `PromptDistillation`; the class vectors are stored."""
    own, teacher = untrained(model["clip"]), untrained(model["teacher"]).requires_grad_(False)
    prompts = None if "teacher_prompts" not in model else prompts_of(teacher, 9).requires_grad_(False)
    stored = torch.zeros(classes, own.dim if model.get("own_text") else teacher.dim)
    student = Student(own, stored, model["depth"], model["count"], model["layers"], model.get("tower", False))

    def step(n: int) -> Tensor:
        pictures = torch.zeros(n, 3, side, side)
        with torch.no_grad():
            taught = _images(teacher, prompts, pictures)
        found = student.images(pictures)
        if "imitated" in model:
            return F.mse_loss(found, taught)
        vectors = torch.zeros(classes, teacher.dim)
        return distillation_loss(student.logits(found), teacher.scale * taught @ vectors.T)

    parts: dict[str, nn.Module] = {"student": student, "teacher": teacher}
    return nn.ModuleDict(parts if prompts is None else parts | {"prompts": prompts}), step


def _evaluate(model: dict[str, Any], classes: int, side: int) -> tuple[nn.Module, Step]:
    """A pass of the image tower; class vectors are there."""
    clip = untrained(model["clip"])
    if "student" in model:
        student = Student(clip, torch.zeros(classes, clip.dim), 9).requires_grad_(False).eval()
        return student, lambda n: student(torch.zeros(n, 3, side, side))
    prompts = prompts_of(clip, 9) if "prompts" in model else None
    networks = nn.ModuleDict({"clip": clip} if prompts is None else {"clip": clip, "prompts": prompts})
    networks.requires_grad_(False).eval()
    return networks, lambda n: _images(clip, prompts, torch.zeros(n, 3, side, side)) @ torch.zeros(classes, clip.dim).T


def _images(clip: Clip, prompts: Prompts | None, pictures: Tensor) -> Tensor:
    if prompts is None:
        return clip.images(pictures)
    return F.normalize(prompted_image(clip.net.visual, clip.normalised(pictures), prompts.visual), dim=-1)
