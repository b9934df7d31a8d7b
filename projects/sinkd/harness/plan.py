"""What SinKD's stages do at paper scale, for `make plan`: networks without values, and a step through them.

Every text counts as long as the longest that is let through, so times are upper bounds: most of GLUE's are shorter.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification

from common.losses.distillation import soft_cross_entropy
from common.recipe import Stage
from common.workload import Workload
from projects.sinkd.sinkhorn import sinkhorn_loss
from projects.sinkd.toy import BETWEEN_BINS, log_gaussian, two_modes

LAYERS = {"bert-base-uncased": 12, "google/bert_uncased_L-6_H-768_A-12": 6}
"""Of the pretrained networks; their other sizes are those of BERT-base."""
TEXTS = {"cola": 8551, "mnli": 392_702, "mrpc": 3668, "qnli": 104_743, "qqp": 363_846, "rte": 2490, "sst2": 67_349}
"""To train on (GLUE)."""
DEVELOPMENT = {
    "cola": 1043, "mnli": 9815, "mnli_mm": 9832, "mrpc": 408, "qnli": 5463, "qqp": 40_430, "rte": 277, "sst2": 872,
}  # fmt: skip
EVALUATED = 128
"""Texts of a step that nothing learns from (`classified.EvaluationData`)."""


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    if stage.name == "toy":
        return _toy(model, data["count"])
    length = data.get("max_length", 128)
    if stage.run == "test":
        return _evaluate(model, length)
    task = data["task"]["init_args"]["task"]
    net, step = _classify(model, task, length)
    return Workload(net, step, data["batch_size"], TEXTS[task], unit="text")


def _classifier(config: dict[str, Any], task: str) -> BertForSequenceClassification:
    layers, classes = LAYERS[config["pretrained"]], 3 if task.startswith("mnli") else 2
    return BertForSequenceClassification(BertConfig(num_hidden_layers=layers, num_labels=classes))


def _logits(net: nn.Module, texts: int, length: int) -> Tensor:
    """`text_classifier.logits` of made-up texts without padding, [n, C]."""
    return net(input_ids=torch.zeros(texts, length, dtype=torch.long)).logits.float()


def _classify(model: dict[str, Any], task: str, length: int) -> tuple[nn.Module, Any]:
    """A step of `Finetuning`, or of `Distillation` where there is a teacher to be asked; every divergence of logits
    costs as good as nothing, and stands for every other."""
    nets = nn.ModuleDict({"net": _classifier(model["net"], task)})
    transported = model.get("beta", 0.0) > 0 if "teacher" in model else False
    taught = transported or model.get("divergence", "none") != "none"
    if "teacher" in model:  # on the device whether it is asked or not
        nets["teacher"] = _classifier(model["teacher"], task).requires_grad_(False).eval()

    def step(n: int) -> Tensor:
        student = _logits(nets["net"], n, length)
        loss = F.cross_entropy(student, torch.zeros(n, dtype=torch.long))
        if taught:
            with torch.no_grad():
                teacher = _logits(nets["teacher"], n, length)
            loss = loss + soft_cross_entropy(student, teacher, 1.0)
            if transported:
                loss = loss + sinkhorn_loss(student, teacher, iterations=model.get("iterations", 20))
        return loss

    return nets, step


def _evaluate(model: dict[str, Any], length: int) -> Workload:
    """Every task's text is read by its teacher and by its student; a teacher that is measured itself, twice."""
    teachers = {task: _classifier(model["teacher"], task) for task in DEVELOPMENT}
    students = {task: _classifier(model["net"], task) for task in DEVELOPMENT} if "weights" in model else teachers
    nets = nn.ModuleDict({"teachers": nn.ModuleDict(teachers), "students": nn.ModuleDict(students)})
    teacher, student = teachers["cola"], students["cola"]  # every other costs the same

    def step(n: int) -> tuple[Tensor, Tensor]:
        return _logits(student, n, length), _logits(teacher, n, length)

    return Workload(nets.requires_grad_(False).eval(), step, EVALUATED, sum(DEVELOPMENT.values()), unit="text")


class _Gaussians(nn.Module):
    def __init__(self, starts: int):
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.zeros(starts)), nn.Parameter(torch.zeros(starts))


def _toy(model: dict[str, Any], starts: int) -> Workload:
    """Two fits in one dimension, from several starts at once. It runs on the CPU, whatever there is."""
    fitted = _Gaussians(starts)
    loss, floor = BETWEEN_BINS[model["divergence"]], model["floor"]

    def step(n: int) -> Tensor:
        target = two_modes(floor).expand(starts, -1)
        return loss(log_gaussian(fitted.mean, fitted.log_std.exp(), floor), target)

    return Workload(fitted, step, starts, 2 * model["steps"] * starts, unit="step of a start")
