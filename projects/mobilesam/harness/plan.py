"""What MobileSAM's stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from typing import Any

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional as F

from common.losses.segmentation import sam_mask_loss
from common.models.sam import SamConfig, build_sam
from common.models.tiny_vit import TinyViTConfig
from common.recipe import Stage
from common.workload import Workload
from projects.mobilesam.distill import TRAINED
from projects.mobilesam.student import build_student
from projects.mobilesam.teacher import NoEncoder

REPORTED = {
    "distill": "less than a day on one GPU, type not stated (abstract, §4.1)",
    "distill_vit_b": "2 GPUs, 55k steps of 4 images (Table 2)",
    "coupled": "128 GPUs, 180k steps of 128 images (Table 2, which takes the released SAM ViT-B)",
}
LOADER_SECONDS = {False: 0.055, True: 0.65}
"""For an image without masks, and with all of its 100 masks: one EPYC (Zen 4) core, `make speed`, made-up images."""
FRAME = (1500, 2250)  # pixels, height and width of a released SA-1B image


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    teacher = _sizes(SamConfig, model["teacher"], data)
    student = _sizes(TinyViTConfig, model["student"], data) if "student" in model else None
    vit = _sizes(SamConfig, model["vit"], data) if "vit" in model else None
    split = data["test" if stage.run == "test" else "train"]["init_args"]
    if student is None:
        networks, step = _embed(teacher)
    elif stage.run == "test":
        networks, step = _evaluate(teacher, student, vit, model)
    else:
        networks, step = _train(teacher, student, vit, model, data)
    return Workload(
        networks,
        step,
        batch=1 if stage.run == "test" else data["batch_size"],
        samples=data.get("first", split["limit"]),
        loader_seconds=LOADER_SECONDS[split.get("masks", True)],
        workers=data["num_workers"],
        reported=REPORTED.get(stage.name, ""),
    )


def _sizes(kind: Any, values: dict[str, Any], data: dict[str, Any]) -> Any:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(image_size=data["image_size"], **given)


def _embed(teacher: SamConfig) -> tuple[nn.Module, Any]:
    sam = build_sam(teacher).requires_grad_(False).eval()
    return sam, lambda n: sam.image_encoder(torch.zeros(n, 3, teacher.image_size, teacher.image_size))


def _train(
    teacher: SamConfig, student: TinyViTConfig, vit: SamConfig | None, model: dict[str, Any], data: dict[str, Any]
) -> tuple[nn.Module, Any]:
    """A step of `Distillation`, whose couplings train and freeze the same parts, beside the teacher's decoder."""
    coupling = model["coupling"]
    sam = build_student(teacher, student, vit)
    for name, part in sam.named_children():
        if name not in TRAINED[coupling]:
            part.requires_grad_(False).eval()
    labels = build_sam(teacher, NoEncoder(teacher.image_size)).requires_grad_(False).eval()
    masks, side = data["instances"], teacher.image_size

    def step(n: int) -> Tensor:
        embeddings = sam.image_encoder(torch.zeros(n, 3, side, side))
        target = torch.zeros(n, teacher.prompt_dim, *(2 * [teacher.embedding_size]))
        if coupling == "decoupled":
            return F.mse_loss(embeddings, target)
        with torch.no_grad():
            answers, _ = decode(labels, target, masks)
        logits, iou = decode(sam, embeddings, masks)
        return sam_mask_loss(logits, iou, answers[:, 0] > 0).total

    return nn.ModuleDict({"student": sam, "teacher": labels}), step


def _evaluate(
    teacher: SamConfig, student: TinyViTConfig, vit: SamConfig | None, model: dict[str, Any]
) -> tuple[nn.Module, Any]:
    """The teacher, and the student where it is measured: an image, then prompts of every kind, one mask an object."""
    sams = [build_sam(teacher)]
    if model.get("encoder", "student") == "student":
        sams.append(build_student(teacher, student, vit))
    kinds = 2 + len(model["distances"])
    side = teacher.image_size

    def step(n: int) -> None:
        images = torch.zeros(n, 3, side, side)
        for sam in sams:
            embeddings = sam.image_encoder(images)
            for _ in range(kinds):
                logits, _ = decode(sam, embeddings, model["instances"])
                F.interpolate(F.interpolate(logits[:, :1], (side, side)), FRAME)

    return nn.ModuleList(sams).requires_grad_(False).eval(), step


def decode(sam: Sam, embeddings: Tensor, masks: int) -> tuple[Tensor, Tensor]:
    """Masks for one-point prompts, as `predict_masks` asks for them.

    The prompt encoder looks at values, which these tensors have not, so its output is made up: its 6,220 parameters
    count, its work (a few vectors) does not.
    """
    prompts = len(embeddings) * masks
    image = torch.zeros(prompts, dtype=torch.long)
    dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1) + embeddings.index_select(0, image)
    return sam.mask_decoder(
        image_embeddings=torch.zeros_like(embeddings[:1]),
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=torch.zeros(prompts, 2, embeddings.shape[1]),
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
