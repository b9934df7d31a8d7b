"""Measure a network, slimmed or not: accuracy, and what a picture costs it.

python -m projects.sit.evaluate test --config projects/sit/configs/mini/evaluate.yaml --model.weights FILE
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchmetrics import MeanMetric

from common.cli import main, one_seed
from common.paths import expand
from common.training.flops import flop_counter
from common.training.runs import save_picture
from common.training.weights import load_state, load_weights
from projects.sit.backbone import Net, build
from projects.sit.data import LabelledPictures
from projects.sit.harness import pictures
from projects.sit.model import Slimming, SlimViT, from_official


class Evaluation(L.LightningModule):
    """Accuracy on the test pictures and on those of validation, in percent; exact costs of vision transformers.

    Args:
        net: the network.
        slimming: as it was trained with; None for a network that is whole.
        weights: a stage's, or what the official code has saved, of LV-ViT or SiT; None takes those that timm has.
    """

    run_dir: Path

    def __init__(self, net: Net, slimming: Slimming | None = None, weights: str | None = None):
        super().__init__()
        built = build(net, pretrained=weights is None)
        self.net = SlimViT(built, slimming) if slimming or isinstance(built, VisionTransformer) else built
        if weights is not None:
            state = load_state(expand(weights, "model.weights"))
            load_weights(self.net, from_official(state) if isinstance(self.net, SlimViT) else state)
        self.requires_grad_(False).eval()
        self.costs = costs(self.net) if isinstance(self.net, SlimViT) else {}
        self.right, self.right_val = MeanMetric(), MeanMetric()

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        found = 100 * (self.net(batch["image"]).argmax(1) == batch["label"]).float()
        (self.right_val if dataloader_idx else self.right).update(found)
        if batch_idx == dataloader_idx == 0 and isinstance(self.net, SlimViT) and self.net.after:
            mixing: list[Tensor] = []
            images = batch["image"][: pictures.SHOWN]
            self.net.see(images, mixing)
            drawn = pictures.of_tokens(images, mixing, self.net.vit.patch_embed.grid_size)
            save_picture(self.run_dir, "what is left", drawn, pictures.CAPTION)

    def on_test_epoch_end(self) -> None:
        self.log("test/accuracy", self.right.compute())
        if self.right_val.update_called:
            self.log("test/val_accuracy", self.right_val.compute())
        for name, value in self.costs.items():
            self.log(f"test/{name}", value)


def costs(net: SlimViT) -> dict[str, float]:
    """Multiply-adds in products and convolutions for one picture, in millions; tokens a block, on average; parameters.

    Of the modules that make tokens fewer too.
    """
    with torch.no_grad(), flop_counter() as counted:
        net(torch.zeros(1, 3, *net.vit.patch_embed.img_size))
    parameters = sum(p.numel() for p in net.parameters())
    tokens = sum(net.counts) / len(net.counts)
    return {"macs": counted.get_total_flops() / 2e6, "tokens": tokens, "params": float(parameters)}


if __name__ == "__main__":
    main(Evaluation, LabelledPictures, links=one_seed)
