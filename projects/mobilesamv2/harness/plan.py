"""What MobileSAMv2's stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.models.sam import SamConfig
from common.models.tiny_vit import TinyViTConfig
from common.recipe import Stage
from common.workload import Workload
from projects.mobilesamv2.detector import DetectorConfig, ObjectDetector
from projects.mobilesamv2.efficientvit import EfficientVitConfig
from projects.mobilesamv2.models import build_segmenter

ALL_MASKS = 0.65
"""CPU seconds for an image of SA-1B with all of its 100 masks: one EPYC (Zen 4) core, `make speed PAPER=mobilesam`."""
FRAME = (480, 640)  # pixels, height and width of an image of COCO's
REPORTED = "decoder's side 97 ms an image with boxes, 1,616 and 6,464 ms with 32 x 32 and 64 x 64 points (Table 2)"


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    if stage.run == "fit":
        detector = ObjectDetector(_sizes(DetectorConfig, model["detector"], data))
        if not data["instances"]:
            detector.mask_head.requires_grad_(False)
        return Workload(
            detector,
            lambda n: training(detector, n, data["instances"]),
            batch=data["batch_size"],
            samples=data["train"]["init_args"]["limit"],
            loader_seconds=ALL_MASKS,
            workers=data["num_workers"],
        )
    sam = _sizes(SamConfig, model["sam"], data)
    encoder: Any = None
    for name, kind in (("tiny_vit", TinyViTConfig), ("efficientvit", EfficientVitConfig)):
        if model.get(name) is not None:
            encoder = _sizes(kind, model[name], data)
    parts: dict[str, nn.Module] = {"sam": build_segmenter(sam, encoder)}
    kind, masks = model.get("prompts", "boxes"), model.get("masks", 1)
    if kind in ("boxes", "points", "detector"):
        parts["detector"] = ObjectDetector(_sizes(DetectorConfig, model["detector"], data))
    networks = nn.ModuleDict(parts).requires_grad_(False).eval()
    prompts = {"grid": model.get("side", 32) ** 2, "detector": 0}.get(kind, model["most"])

    def step(n: int) -> None:
        for _ in range(n):  # an image after the other
            images = torch.zeros(1, 3, sam.image_size, sam.image_size)
            embedding = networks["sam"].image_encoder(images)
            if "detector" in parts:
                networks["detector"].fcos.head(list(networks["detector"].features(images).values()))
            for start in range(0, prompts, 64):
                decode(networks["sam"], embedding, min(64, prompts - start), masks)

    return Workload(
        networks, step, batch=1, samples=data["test"]["init_args"]["limit"], workers=data["num_workers"],
        reported=REPORTED if kind == "boxes" else "",
    )  # fmt: skip


def training(detector: ObjectDetector, n: int, masks: int) -> Tensor:
    """A step of the detector: what its heads say at all locations, and in `masks` boxes of each image."""
    side = detector.config.image_size
    features = detector.features(torch.zeros(n, 3, side, side))
    terms = [values.mean() for values in detector.fcos.head(list(features.values())).values()]
    if masks:
        crops = features["0"].new_zeros(n * masks, detector.config.channels, 14, 14) + features["0"].mean()
        terms.append(detector.mask_head(crops).mean())
    return torch.stack(terms).sum()


def decode(sam: Any, embedding: Tensor, prompts: int, masks: int) -> None:
    """Masks for so many prompts, at the image's size. The prompt encoder looks at values, which these have not: its
    output is made up."""
    dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embedding)
    low, _ = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=torch.zeros(prompts, 2, embedding.shape[1]),
        dense_prompt_embeddings=dense.expand(prompts, -1, -1, -1),
        multimask_output=masks > 1,
    )
    side = sam.image_encoder.img_size
    F.interpolate(F.interpolate(low, (side, side)), FRAME)


def _sizes(kind: Any, values: dict[str, Any], data: dict[str, Any]) -> Any:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**({"image_size": data["image_size"]} | given))
