"""Train a student on labels and on a teacher's predictions: SinKD, and the losses it is compared with.

    python -m projects.sinkd.distill fit --config projects/sinkd/configs/mini/student.yaml \\
        --data.tokenizer FOLDER --model.teacher_weights FILE
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from common.cli import main
from common.data.classified import Batch, TextData
from common.errors import UserError
from common.losses.distillation import (
    annealed_temperature,
    jensen_shannon,
    reverse_kl,
    soft_cross_entropy,
    total_variation,
)
from common.models.text_classifier import ClassifierConfig, build_classifier, logits
from common.paths import expand
from common.training.distributed import gather
from common.training.weights import load_weights
from projects.sinkd.finetune import Finetuning, Score, links
from projects.sinkd.sinkhorn import sinkhorn_loss

Divergence = Literal["kl", "rkl", "js", "tvd", "none"]
DIVERGENCES = {"kl": soft_cross_entropy, "rkl": reverse_kl, "js": jensen_shannon, "tvd": total_variation}


class Distillation(Finetuning):
    """L = (1 - alpha) L_CE + alpha L_KL + beta L_SD (Cui et al. 2024, section 3).

    L_CE is the labels' cross-entropy, L_KL the cross-entropy to the softened teacher, both means over the batch; L_SD
    the batch-wise Sinkhorn distance, a sum over the batch. The baselines put another divergence in L_KL's place. The
    released trainer computes no L_SD, whatever its scripts ask for; this one adds it.

    Args:
        net: the student.
        teacher: the teacher, in evaluation mode, whose weights are in `teacher_weights`.
        teacher_weights: a fine-tuned teacher.
        classes: number of classes; follows from the data.
        tokens: size of the vocabulary; follows from the data.
        score: what is measured on the validation set.
        keep: the weights that are handed on: those of the best validation score (the paper), or the last ones.
        lr: peak learning rate.
        weight_decay: of AdamW.
        divergence: what alpha weighs: soft labels ("kl"), reverse KL, Jensen-Shannon, total variation, or nothing.
        alpha: share of the divergence; the labels have the rest.
        temperature: of the divergence.
        annealed: let the temperature fall to 1 from epoch to epoch.
        beta: weight of L_SD; the paper's 0.8 times the released code's 0.001 is 8e-4. 0 leaves the term out.
        sinkhorn_temperature: softens the predictions that L_SD compares.
        epsilon: weight of the entropy of L_SD's transport plan; the paper's lambda.
        iterations: rounds of normalisation of the plan.
        tolerance: end the rounds once the plan's row sums are this near to 1; null takes all of them, as the paper.
        group: predictions are matched within groups of this many, 0 for the whole batch; 1 is the sample-wise variant.
    """

    def __init__(
        self,
        net: ClassifierConfig,
        teacher: ClassifierConfig,
        teacher_weights: str,
        classes: int,
        tokens: int,
        score: Score = "accuracy",
        keep: Literal["best", "last"] = "last",
        lr: float = 5e-5,
        weight_decay: float = 0.0,
        divergence: Divergence = "kl",
        alpha: float = 0.9,
        temperature: float = 2.0,
        annealed: bool = False,
        beta: float = 8e-4,
        sinkhorn_temperature: float = 2.0,
        epsilon: float = 0.1,
        iterations: int = 20,
        tolerance: float | None = None,
        group: int = 0,
    ):
        for name, value, sound, wanted in (
            ("alpha", alpha, 0 <= alpha <= 1, "from 0 to 1"),
            ("temperature", temperature, temperature > 0, "above 0"),
            ("beta", beta, beta >= 0, "at least 0"),
            ("sinkhorn_temperature", sinkhorn_temperature, sinkhorn_temperature > 0, "above 0"),
            ("epsilon", epsilon, epsilon > 0, "above 0"),
            ("iterations", iterations, iterations >= 1, "at least 1"),
            ("tolerance", tolerance, tolerance is None or tolerance > 0, "null or above 0"),
            ("group", group, group >= 0, "0 for the whole batch, or at least 1"),
        ):
            if not sound:
                raise UserError(f"model.{name} is {value}: it has to be {wanted}")
        super().__init__(net, classes, tokens, score, keep, lr, weight_decay)
        self.teacher = load_weights(
            build_classifier(teacher, classes, tokens, load=False), expand(teacher_weights, "model.teacher_weights")
        )
        self.teacher.requires_grad_(False).eval()
        self.divergence, self.alpha, self.temperature, self.annealed = divergence, alpha, temperature, annealed
        self.beta, self.sinkhorn_temperature = beta, sinkhorn_temperature
        self.epsilon, self.iterations, self.tolerance, self.group = epsilon, iterations, tolerance, group

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student, teacher = self.logits(batch), None
        if self.divergence != "none" or self.beta:
            with torch.no_grad():
                teacher = logits(self.teacher, batch)
        terms = self.terms(student, batch["labels"], teacher)
        loss = torch.stack(list(terms.values())).sum()
        self.log_dict({"train/loss": loss, **{f"train/{name}": term for name, term in terms.items()}})
        return loss

    def terms(self, student: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        """The weighted terms of the loss, of logits [B, C] and labels [B]; labels alone need no teacher."""
        terms = {"ce": (1 - self.alpha) * F.cross_entropy(student, labels)}
        if teacher is None:
            return terms
        if self.divergence != "none":
            terms[self.divergence] = self.alpha * DIVERGENCES[self.divergence](
                student, teacher, self.current_temperature
            )
        if self.beta:
            # over all processes: L_SD's weight and pairing belong to a batch, not to a device's share of it
            terms["sinkhorn"] = self.beta * sinkhorn_loss(
                gather(student),
                gather(teacher),
                self.sinkhorn_temperature,
                self.epsilon,
                self.iterations,
                self.group or None,
                self.tolerance,
            )
        return terms

    @property
    def current_temperature(self) -> float:
        if not self.annealed:
            return self.temperature
        if self.trainer.max_epochs is None or self.trainer.max_epochs < 1:
            raise UserError("model.annealed counts epochs: give trainer.max_epochs instead of max_steps alone")
        return annealed_temperature(self.temperature, self.current_epoch, self.trainer.max_epochs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if not name.startswith("teacher.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)  # the teacher was loaded from its own file
        checkpoint["state_dict"] |= {f"teacher.{name}": value for name, value in self.teacher.state_dict().items()}


if __name__ == "__main__":
    main(Distillation, TextData, links=links)
