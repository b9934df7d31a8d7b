"""Measure an emotion classifier: macro F1 with the threshold from validation data, with the test's own, and at 0.5.

    python -m projects.emo_pillars.evaluate test --config projects/emo_pillars/configs/mini/evaluate.yaml \\
        --model.weights FILE --data.tokenizer FOLDER --data.synthetic FOLDER
"""

from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from common.charts import Line, heat_map, line_chart
from common.cli import main
from common.data.classified import Batch
from common.errors import UserError
from common.hub import from_pretrained
from common.models.text_classifier import ClassifierConfig, build_classifier, logits
from common.paths import expand
from common.training.distributed import gather
from common.training.runs import save_picture
from common.training.weights import load_weights
from projects.emo_pillars.data import EmotionTests
from projects.emo_pillars.metrics import THRESHOLDS, chosen, f1_scores, macro_f1, micro_f1, sweep

FIXED = 0.5
DRAWN = {"gold": "the gold test", "rewritten": "rewritten utterances in context"}
"""Tests of which pictures are made."""


class Evaluation(L.LightningModule):
    """Each test's macro F1; of the gold set also per class, and how it depends on the threshold.

    Args:
        names: of the classes; follows from the data.
        tests: names of the tests; follows from the data.
        tokens: size of the vocabulary; follows from the data.
        net: the classifier.
        weights: its weights; none measures `released`.
        released: hub id or folder of a published classifier, whose classes may stand in another order.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        tests: dict[str, tuple[str, ...]],
        tokens: int,
        net: ClassifierConfig | None = None,
        weights: str | None = None,
        released: str | None = None,
    ):
        super().__init__()
        self.names, self.tests = names, sorted(tests)
        if (released is None) == (weights is None):
            raise UserError("give one of model.weights, with model.net, and model.released")
        self.order = list(range(len(names)))
        if released is not None:
            self.net, self.order = load_released(released, names)
        else:
            built = build_classifier(net or ClassifierConfig(), len(names), tokens, load=False)
            self.net = load_weights(built, expand(str(weights), "model.weights"))
        self.net.requires_grad_(False).eval()
        self.seen: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        scores = logits(self.net, batch)[:, self.order].sigmoid()
        self.seen.setdefault(dataloader_idx, []).append((gather(scores).cpu(), gather(batch["labels"]).cpu()))

    def on_test_epoch_end(self) -> None:
        for k, test in enumerate(self.tests):
            parts = [self.seen[k + offset] for offset in (0, len(self.tests))]
            (scores, labels), (val_scores, val_labels) = (map(torch.cat, zip(*part, strict=True)) for part in parts)
            self.measure(test, scores, labels >= FIXED, val_scores, val_labels >= FIXED)
        self.log("test/params", float(sum(p.numel() for p in self.net.parameters())))

    def measure(self, test: str, scores: Tensor, labels: Tensor, val_scores: Tensor, val_labels: Tensor) -> None:
        threshold = chosen(val_scores, val_labels)
        found = scores >= threshold
        values = sweep(scores, labels)
        measured = {
            test: macro_f1(found, labels),
            f"{test}_val": macro_f1(val_scores >= threshold, val_labels),
            f"{test}_half": macro_f1(scores >= FIXED, labels),
            f"{test}_best": values.max(),
        }
        if test == "gold":
            measured |= {"gold_micro": micro_f1(found, labels), "threshold": torch.tensor(threshold)}
            measured |= {"gold_answers": found.float().sum(1).mean(), "gold_floor": floor(labels)}
        if test in DRAWN and self.trainer.is_global_zero:
            self.draw(test, values, f1_scores(found, labels), threshold)
        self.log_dict({f"test/{name}": value.float() for name, value in measured.items()})

    def draw(self, test: str, values: Tensor, scores: Tensor, threshold: float) -> None:
        line = Line(THRESHOLDS.tolist(), values.tolist(), "macro F1")
        chart = line_chart([line], "threshold", f"macro F1 on {DRAWN[test]}", limits=(0, 1), mark=threshold)
        save_picture(
            self.run_dir, "macro F1 by threshold", chart, "the dashed line is the threshold that validation data choose"
        )
        chart = heat_map(
            scores[:, None].numpy(),
            "",
            "",
            "F1",
            columns=["F1"],
            rows=list(self.names),
            size=(260, 40 + 24 * len(scores)),
        )
        save_picture(self.run_dir, "F1 of each emotion", chart, f"on {DRAWN[test]}, with the threshold from validation")


def floor(labels: Tensor) -> Tensor:
    """Macro F1 of the answer that every text has every emotion: what knowing nothing can reach."""
    return macro_f1(torch.ones_like(labels), labels)


def load_released(name: str, names: tuple[str, ...]) -> tuple[PreTrainedModel, list[int]]:
    """A published classifier, and where each of our classes stands among its own, which its config names."""
    net: nn.Module = from_pretrained(AutoModelForSequenceClassification, name)
    theirs = {str(label).lower(): int(k) for k, label in net.config.id2label.items()}
    if missing := [label for label in names if label not in theirs]:
        raise UserError(f"{name} has no class {', '.join(missing[:4])}: its classes are {', '.join(list(theirs)[:30])}")
    return net, [theirs[label] for label in names]


def links(parser: Any) -> None:
    """Classes, tests and vocabulary follow from the data."""
    parser.link_arguments("data.names", "model.names", apply_on="instantiate")
    parser.link_arguments("data.classes", "model.tests", apply_on="instantiate")
    parser.link_arguments("data.tokens", "model.tokens", apply_on="instantiate")


if __name__ == "__main__":
    main(Evaluation, EmotionTests, links=links)
