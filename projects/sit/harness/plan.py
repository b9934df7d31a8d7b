"""What SiT's stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from common.recipe import Stage
from common.workload import Workload
from projects.sit.backbone import Net, build
from projects.sit.losses import Weights, frd_loss
from projects.sit.model import Slimming, SlimViT, recovered, reverse_modules

TRAIN, TEST = 1_281_167, 50_000
"""Pictures of ImageNet."""
LOADER_SECONDS = 0.005
"""For a made-up picture of 375 x 500 pixels with all augmentations, on one core of an EPYC."""


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    net, side = _net(model["net"]), data["image_size"]
    slimming = Slimming(**model["slimming"]) if "slimming" in model else None
    nets = nn.ModuleDict({"student": SlimViT(build(net), slimming)})
    if stage.run == "test":
        nets.requires_grad_(False).eval()
        batch = data["batch_size"]
        return Workload(
            nets, lambda n: nets["student"](torch.zeros(n, 3, side, side)), batch, TEST, workers=data["num_workers"]
        )
    given = {name.removeprefix("lambda_"): value for name, value in model.items() if name.startswith("lambda_")}
    weights = Weights(**given)
    if weights.token or weights.logits:
        plain = replace(net, distilled=False, drop_path=0.0)
        nets["teacher"] = SlimViT(build(plain), None).requires_grad_(False).eval()
    if "other" in model:
        nets["other"] = build(_net(model["other"])).requires_grad_(False).eval()
    if weights.token:
        nets["rtsm"] = reverse_modules(nets["student"])  # type: ignore[arg-type]

    def step(n: int) -> Tensor:
        images, labels = torch.zeros(n, 3, side, side), torch.full((n, net.classes), 1 / net.classes)
        seen = nets["student"].see(images)
        if "rtsm" in nets:
            seen = seen._replace(tokens=recovered(seen.tokens, nets["rtsm"]))  # type: ignore[arg-type]
        with torch.no_grad():
            teacher = nets["teacher"].see(images) if "teacher" in nets else None
            other = nets["other"](images) if "other" in nets else None
        return frd_loss(seen, labels, teacher, weights, other=other).total

    return Workload(
        nets,
        step,
        batch=data["batch_size"],
        samples=TRAIN,
        loader_seconds=LOADER_SECONDS,
        workers=data["num_workers"],
        reported="8 GPUs, 135 epochs; type and time not stated (exp/*/train.sh)",
    )


def _net(values: dict[str, Any]) -> Net:
    """Networks of the hub by the name that timm has for them: nothing is fetched."""
    name = values.get("name")
    return Net(**{**values, "name": name and name.removeprefix("hf-hub:timm/").partition(".")[0]})
