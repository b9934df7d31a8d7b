"""Measure trained classifiers on their tasks' test sets, and how near they are to their teachers.

    python -m projects.sinkd.evaluate test --config projects/sinkd/configs/mini/evaluate.yaml \\
        --data.tokenizer FOLDER --model.teacher_weights.text FILE --model.weights.text FILE
"""

from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from common.charts import heat_map, side_by_side
from common.cli import main
from common.data.classified import Batch, EvaluationData
from common.errors import UserError
from common.models.text_classifier import ClassifierConfig, build_classifier, logits
from common.paths import expand
from common.training.runs import save_picture
from common.training.weights import load_weights
from projects.sinkd.finetune import Score, score_metric
from projects.sinkd.sinkhorn import pairwise_l1, sinkhorn_plan

SHOWN = 16  # texts of the picture, a batch of the paper's size
TEMPERATURE, EPSILON, ITERATIONS = 2.0, 0.1, 20  # of the plan in the picture: the paper's
BUFFERS = ("*.position_ids",)  # stood in the weight files that transformers wrote before version 4.31
SQUARE = (330, 330)  # pixels of a panel


class Evaluation(L.LightningModule):
    """Each task's own score, their mean, accuracy, macro F1, and the distance to the teacher; the student runs alone.

    The score on validation texts is for the premises of claims.

    Args:
        net: the student.
        teacher: the teacher it is compared with.
        teacher_weights: the teacher's weights for each task.
        weights: the student's weights for each task; None measures the teacher itself.
        class_order: for a task whose files have another order of classes, where in theirs each of ours is.
        scores: each task's own measure.
        classes: names of each task's classes; follows from the data.
        tokens: size of the vocabulary; follows from the data.
    """

    def __init__(
        self,
        net: ClassifierConfig,
        teacher: ClassifierConfig,
        teacher_weights: dict[str, str],
        scores: dict[str, Score],
        classes: dict[str, tuple[str, ...]],
        tokens: int,
        weights: dict[str, str] | None = None,
        class_order: dict[str, list[int]] | None = None,
    ):
        super().__init__()
        self.classes = classes
        self.tasks = sorted(classes)
        for given, what in ((weights, "weights"), (teacher_weights, "teacher_weights"), (scores, "scores")):
            if missing := [task for task in self.tasks if given is not None and task not in given]:
                raise UserError(f"model.{what} has nothing for {', '.join(missing)}")

        self.class_order = class_order or {}
        for task, order in self.class_order.items():
            if task not in classes or sorted(order) != list(range(len(classes[task]))):
                raise UserError(
                    f"model.class_order of {task}, {order}, is not an order of its classes: name each of "
                    f"0 to {len(classes.get(task, ())) - 1} once, for one of {', '.join(self.tasks)}"
                )

        def load(config: ClassifierConfig, files: dict[str, str], what: str) -> nn.ModuleDict:
            nets = {task: build_classifier(config, len(classes[task]), tokens, load=False) for task in self.tasks}
            loaded = {task: load_weights(net, expand(files[task], what), ignore=BUFFERS) for task, net in nets.items()}
            return nn.ModuleDict(loaded).requires_grad_(False).eval()

        self.teachers = load(teacher, teacher_weights, "model.teacher_weights")
        self.nets = self.teachers if weights is None else load(net, weights, "model.weights")
        self.metrics = nn.ModuleDict(
            {
                task: MetricCollection(
                    {
                        "score": score_metric(scores[task], len(names)),
                        "accuracy": MulticlassAccuracy(len(names), average="micro"),
                        "macro_f1": MulticlassF1Score(len(names), average="macro"),
                    },
                    compute_groups=False,
                )
                for task, names in classes.items()
            }
        )
        self.validation = nn.ModuleDict({task: score_metric(scores[task], len(classes[task])) for task in self.tasks})
        self.near = nn.ModuleDict({name: MeanMetric() for name in ("agreement", "distance")})

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        task = self.tasks[dataloader_idx % len(self.tasks)]
        student = self.logits(self.nets, task, batch)
        if dataloader_idx >= len(self.tasks):  # after the test sets come the validation sets
            self.validation[task].update(student.argmax(-1), batch["labels"])
            return
        teacher = self.logits(self.teachers, task, batch)
        self.metrics[task].update(student.argmax(-1), batch["labels"])
        self.near["agreement"].update((student.argmax(-1) == teacher.argmax(-1)).float())
        self.near["distance"].update((student.softmax(-1) - teacher.softmax(-1)).abs().sum(-1))
        if dataloader_idx == 0 and batch_idx == 0:
            self.draw(task, student[:SHOWN], teacher[:SHOWN])

    def logits(self, nets: nn.ModuleDict, task: str, batch: Batch) -> Tensor:
        """A network's logits [B, C] in our order of classes."""
        found = logits(nets[task], batch)
        return found[:, self.class_order[task]] if task in self.class_order else found

    def on_test_epoch_end(self) -> None:
        found = {task: metrics.compute() for task, metrics in self.metrics.items()}
        for name in ("score", "accuracy", "macro_f1"):
            self.log(f"test/{name}", torch.stack([values[name].float() for values in found.values()]).mean())
        validation = [metric.compute().float() for metric in self.validation.values()]
        self.log("test/val_score", torch.stack(validation).mean())
        if len(found) > 1:
            self.log_dict({f"test/{task}": values["score"].float() for task, values in found.items()})
        self.log_dict({f"test/{name}": metric.compute() for name, metric in self.near.items()})
        self.log("test/params", float(sum(p.numel() for p in self.nets[self.tasks[0]].parameters())))

    def draw(self, task: str, student: Tensor, teacher: Tensor) -> None:
        """A batch as L_SD sees it: predictions, costs and plan, in the order of the teacher's classes."""
        order = teacher.argmax(-1).argsort(stable=True)
        p, q = (x[order].div(TEMPERATURE).softmax(-1) for x in (student, teacher))
        cost = pairwise_l1(p, q)
        plan = sinkhorn_plan(cost, EPSILON, ITERATIONS)
        p, q, cost, plan = (x.cpu().numpy() for x in (p, q, cost, plan))
        words = (
            f"{len(order)} texts{f' of {task}' if len(self.tasks) > 1 else ''}, in the order of the teacher's classes"
        )
        save_picture(
            self.run_dir,
            "a batch and its transport plan",
            side_by_side(
                heat_map(p, "classes", "texts", "student's predictions", size=SQUARE),
                heat_map(cost / 2, "teacher's texts", "student's texts", "cost (L1 / 2)", size=SQUARE),
                heat_map(plan, "teacher's texts", "student's texts", "transport plan", size=SQUARE),
            ),
            f"{words}: the student's softened predictions, their L1 distances to the teacher's, and the transport "
            "plan. The more, the bluer. A diagonal plan matches every text with itself.",
        )
        save_picture(
            self.run_dir,
            "a batch and its transport plan",
            heat_map(q, "classes", "texts", "teacher's predictions", size=SQUARE),
            f"{words}: the teacher's softened predictions",
            reference=True,
        )


def links(parser: Any) -> None:
    """The sizes of heads and vocabulary follow from the data."""
    parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
    parser.link_arguments("data.tokens", "model.tokens", apply_on="instantiate")


if __name__ == "__main__":
    main(Evaluation, EvaluationData, links=links)
