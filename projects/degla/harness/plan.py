"""What the stages do at paper scale, for `make plan`: CLIP without values, and a step through it."""

from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from common.models.clip import prompted_text
from common.recipe import Stage
from common.training.ema import Ema
from common.workload import Workload
from projects.degla.losses import Embedded, Weights, global_contrast, image_grounded, self_distillation, text_grounded

TOKENS = 32  # of the longest text of a batch, about: CLIP reads no padding
CAPTIONS = 414_113  # of COCO's train2014
TESTED = 121_000  # pictures of the eleven sets and the benches
FOILS = 1.5  # texts of a picture of the benches beside the true one, about


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    clip = open_clip.create_model(model["clip"].partition(":")[0], load_weights=False, device="meta")
    side, batch, workers = data["image_size"], data["batch_size"], data["num_workers"]

    def look(net: nn.Module, pictures: int, texts: int) -> tuple[Tensor, Tensor]:
        """Vectors of so many made-up pictures and texts."""
        words = torch.zeros(texts, TOKENS, dtype=torch.long)
        said = prompted_text(net, words, net.token_embedding(words))  # type: ignore[operator]
        return net.encode_image(torch.zeros(pictures, 3, side, side)), said  # type: ignore[operator]

    if stage.run == "test":
        clip.requires_grad_(False).eval()
        return Workload(clip, lambda n: look(clip, n, round(FOILS * n)), batch, TESTED, unit="picture", workers=workers)
    weights = Weights(**model["weights"])
    networks = nn.ModuleDict({"clip": clip})
    if weights.tgc or weights.distillation:
        networks["teacher"] = Ema(clip, model["ema"])

    def vectors(net: nn.Module, n: int) -> Embedded:
        image, text = look(net, n, 5 * n)
        return Embedded(image.float(), text[:n].float(), text[n:].view(n, 4, -1).float())

    def step(n: int) -> Tensor:
        found = vectors(clip, n)
        loss = global_contrast(found, 100.0) + image_grounded(found, 100.0)
        if "teacher" in networks:
            with torch.no_grad():
                told = vectors(networks["teacher"].model, n)  # type: ignore[arg-type]
            loss = loss + text_grounded(found, told.text) + self_distillation(found, told)
        return loss

    return Workload(networks, step, batch, CAPTIONS, unit="picture", workers=workers)
