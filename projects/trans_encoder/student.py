"""What every training of an encoder shares: validated now and then, its best weights kept and handed on."""

import math
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from projects.trans_encoder.data import Batch, PairData, agreement
from projects.trans_encoder.model import PairModel, score_pairs

Keep = Literal["best", "last"]


class PairTraining(L.LightningModule):
    """The training of a bi- or cross-encoder, which it leaves in the run folder's `model/`.

    As in the official code, scored pairs are looked at after every `trainer.val_check_interval` steps and at the end of
    each epoch, however many steps have passed since the last look.

    Args:
        student: what is trained.
        keep: the weights that are handed on: those of the best validation score (the paper), or the last ones.
    """

    def __init__(self, student: PairModel, keep: Keep = "best"):
        super().__init__()
        self.student, self.keep = student, keep
        self.best, self.looked_at = -math.inf, -1
        self.best_weights: dict[str, Tensor] | None = None

    @property
    def pairs(self) -> PairData:
        """The data it trains on."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def setup(self, stage: str) -> None:
        self.agreement = agreement(self.pairs.binary)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pairs, _ = batch
        self.agreement.update(
            self.student.score(pairs), torch.tensor([pair.score for pair in pairs], device=self.device)
        )

    def on_validation_epoch_end(self) -> None:
        score = self.agreement.compute().item()
        self.agreement.reset()
        self.judge(score)

    def on_train_epoch_end(self) -> None:
        val = self.pairs.val
        if val and self.looked_at != self.trainer.global_step:  # the rest of an interval
            gold = torch.tensor([pair.score for pair in val])
            self.judge(agreement(self.pairs.binary)(score_pairs(self.student, val), gold).item())

    def judge(self, score: float) -> None:
        """Log a validation score, and keep the weights it belongs to where it is the best so far."""
        self.log("val/score", score)
        if self.trainer.sanity_checking:
            return
        self.looked_at = self.trainer.global_step
        if self.keep == "best" and score > self.best:
            self.best = score
            self.best_weights = {name: weight.cpu().clone() for name, weight in self.student.net.state_dict().items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["best"], checkpoint["best_weights"] = self.best, self.best_weights

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best, self.best_weights = checkpoint["best"], checkpoint["best_weights"]

    def on_train_end(self) -> None:
        if self.best_weights is not None:
            self.student.net.load_state_dict(self.best_weights)
        if self.trainer.is_global_zero:
            self.student.save(self.run_dir / "model")

    def exported(self) -> PreTrainedModel:
        return self.student.net


def linear_adamw(model: nn.Module, lr: float, weight_decay: float, warmup_steps: int, steps: int) -> dict[str, Any]:
    """AdamW with a linear warm-up and a linear fall to zero; biases and LayerNorms do not decay."""
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": weight_decay}, {"params": [], "weight_decay": 0.0}]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name.endswith("bias") or "LayerNorm" in name]["params"].append(parameter)
    optimizer = torch.optim.AdamW(groups, lr)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup_steps, steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
