"""Measure a network with its weights quantized: accuracy, and what it takes.

    python -m projects.quantized_distillation.evaluate test \\
        --config projects/quantized_distillation/configs/mini/evaluate.yaml --model.weights FILE
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from scipy.stats import spearmanr
from torchmetrics import MeanMetric

from common.cli import main, one_seed
from common.errors import UserError
from common.paths import expand
from common.training.runs import save_picture
from common.training.weights import load_state
from common.visual import Themed
from projects.quantized_distillation.data import LabelledData
from projects.quantized_distillation.harness import pictures
from projects.quantized_distillation.model import ConvNet, Sizes, accuracy
from projects.quantized_distillation.points import load_learned, point_values
from projects.quantized_distillation.quantize import Quantizer, replace_parameters
from projects.quantized_distillation.size import size_of
from projects.quantized_distillation.train import load


class Evaluation(L.LightningModule):
    """Accuracy on the test pictures and on those of validation, and the size of what gave it.

    Args:
        net: sizes of the network.
        weights: a network's, or what learning points has left.
        quantizer: how weights are quantized; None measures them whole.
        points: the file has learned points.
    """

    run_dir: Path

    def __init__(self, net: Sizes, weights: str, quantizer: Quantizer | None = None, points: bool = False):
        super().__init__()
        if points and quantizer is None:
            raise UserError("model.points needs the buckets of its points: give model.quantizer")
        self.order: float | None = None
        self.chart: Themed | None = None
        self.whole: ConvNet | None = None
        """The same network before it is quantized."""
        if points and quantizer is not None:
            found = load_learned(net, load_state(expand(weights, "model.weights")))
            self.net, values = found.net, point_values(found, quantizer)
            named = dict(zip(values, found.points, strict=True))
            self.size = size_of(self.net, quantizer, named)
            self.chart = pictures.of_weights(self.net, quantizer, named)
            counts = [len(p) for p in found.points]
            self.order = float(spearmanr(found.norms.numpy(), counts).statistic)
        else:
            self.net = load(net, weights, "model.weights")
            values = {} if quantizer is None else quantizer.projected(self.net)
            self.size = size_of(self.net, quantizer)
            if quantizer is not None:
                self.chart = pictures.of_weights(self.net, quantizer)
                self.whole = load(net, weights, "model.weights")
        replace_parameters(self.net, values)
        self.requires_grad_(False).eval()
        self.right, self.right_val, self.right_whole = MeanMetric(), MeanMetric(), MeanMetric()

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        images, labels = batch["image"], batch["label"]
        if dataloader_idx:
            self.right_val.update(accuracy(self.net(images), labels))
            return
        self.right.update(accuracy(self.net(images), labels))
        if self.whole is not None:
            self.right_whole.update(accuracy(self.whole(images), labels))

    def on_test_epoch_end(self) -> None:
        self.log("test/accuracy", self.right.compute())
        if self.right_val.update_called:
            self.log("test/val_accuracy", self.right_val.compute())
        if self.whole is not None:
            self.log("test/accuracy_whole", self.right_whole.compute())
        if self.order is not None:
            self.log("test/points_order", self.order)
        self.log("test/bits", self.size.bits)
        self.log("test/kilobytes", self.size.bytes / 1000)
        self.log("test/params", float(sum(p.numel() for p in self.net.parameters())))
        if self.chart is not None:
            save_picture(self.run_dir, "weights and their points", self.chart, pictures.CAPTION)


if __name__ == "__main__":
    main(Evaluation, LabelledData, links=one_seed)
