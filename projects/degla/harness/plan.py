"""What the stages do at paper scale, for `make plan`: CLIP without values, and a step through it."""

from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from common.models.clip import Clip
from common.recipe import Stage
from common.training.ema import Ema
from common.workload import Workload
from projects.degla.finetune import Weights
from projects.degla.losses import global_contrast, image_grounded, self_distillation, text_grounded
from projects.degla.model import embed

TOKENS = 32  # that the longest caption of a batch may have: COCO's have some 13
CAPTIONS = 414_113  # of COCO's train2014
TESTED = 121_000  # pictures of the eleven sets and the benches
FOILS = 1.5  # texts of a picture of the benches beside the true one, about


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    name = model["clip"].partition(":")[0]
    sizes = {"embed_dim": 512}
    normal = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    clip = Clip(
        open_clip.create_model(name, load_weights=False, device="meta"),
        {"model_cfg": sizes, "preprocess_cfg": normal},
        None,
    )
    side, batch, workers = data["image_size"], data["batch_size"], data["num_workers"]
    if stage.run == "test":
        clip.requires_grad_(False).eval()

        def look(n: int) -> None:
            clip.images(torch.zeros(n, 3, side, side))
            clip.texts(torch.zeros(round(FOILS * n), TOKENS, dtype=torch.long))

        return Workload(clip, look, batch, TESTED, unit="picture", workers=workers)
    weights = Weights(**model["weights"])
    networks = nn.ModuleDict({"clip": clip})
    if weights.tgc or weights.distillation:
        networks["teacher"] = Ema(clip, model["ema"])

    def step(n: int) -> Tensor:
        image, texts = torch.zeros(n, 3, side, side), torch.zeros(n, 5, TOKENS, dtype=torch.long)
        found = embed(clip, image, texts)
        loss = global_contrast(found, clip.scale) + image_grounded(found, clip.scale)
        if "teacher" in networks:
            with torch.no_grad():
                told = embed(networks["teacher"].model, image, texts)  # type: ignore[arg-type]
            loss = loss + text_grounded(found, told.text) + self_distillation(found, told)
        return loss

    return Workload(networks, step, batch, CAPTIONS, unit="picture", workers=workers)
