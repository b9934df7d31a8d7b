"""What the training stages share: the optimiser, and keeping the weights with the lowest dev loss."""

from copy import deepcopy
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from common.training.schedules import optimizer_steps


def positive_first(scores: Tensor) -> Tensor:
    """Cross entropy over candidates [B, 1 + n] of which the first is the right one, mean over the batch."""
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))


class Ranker(L.LightningModule):
    """Trains `net` and exports the weights that had the lowest dev loss.

    Args:
        net: an encoder of `encoders.py`.
        lr: peak learning rate; linear warm-up, then linearly to zero, and zero from then on.
        weight_decay: of AdamW, on everything but biases. (LayerNorm's weights decay too, as in the official code.)
        warmup: share of the schedule's steps that warm up.
        train_embeddings: train BERT's embeddings and pooler too. The paper's runs leave them as they were pretrained.
        schedule_steps: optimiser steps after which the learning rate is zero; None: those of the training. The official
            code plans with another number than it takes: it counts batches before they are accumulated and shared by
            GPUs, and for a distillation all mentions of the domain. So its learning rate hardly falls, or falls early.
    """

    dev_loss: Tensor

    def __init__(
        self,
        net: nn.Module,
        lr: float,
        weight_decay: float,
        warmup: float,
        train_embeddings: bool,
        schedule_steps: int | None = None,
    ):
        super().__init__()
        self.net, self.best = net.train(), deepcopy(net).requires_grad_(False)  # published weights load in eval mode
        self.lr, self.weight_decay, self.warmup, self.schedule_steps = lr, weight_decay, warmup, schedule_steps
        if not train_embeddings:
            for name, parameter in net.named_parameters():
                if ".encoder." not in f".{name}" and "head." not in name:
                    parameter.requires_grad_(False)
        self.register_buffer("dev_loss", torch.tensor(torch.inf))
        self.dev = MeanMetric()

    def on_validation_epoch_end(self) -> None:
        loss = self.dev.compute()
        self.dev.reset()
        self.log("val/loss", loss)
        if loss < self.dev_loss:
            self.dev_loss.copy_(loss)
            self.best.load_state_dict(self.net.state_dict())

    def configure_optimizers(self) -> dict[str, Any]:
        named = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for name, p in named if "bias" not in name], "weight_decay": self.weight_decay},
            {"params": [p for name, p in named if "bias" in name], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        steps = self.schedule_steps or optimizer_steps(self.trainer)
        warm = int(self.warmup * steps)

        def factor(step: int) -> float:
            return (step + 1) / (warm + 1) if step < warm else max(0.0, (steps - step) / max(1, steps - warm))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def exported(self) -> nn.Module:
        return self.best
