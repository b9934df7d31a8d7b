"""Optimiser and learning-rate schedule in Lightning's form."""

import math
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn


def adamw(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    lr: float,
    weight_decay: float,
    warmup_steps: int,
    total_steps: int,
) -> OptimizerLRSchedulerConfig:
    """AdamW with linear warm-up and a cosine to zero, stepped each optimiser step.

    Args:
        parameters: parameters or groups; a group's `lr_scale` multiplies its learning rate.
        lr: peak learning rate.
        warmup_steps: step k < warmup_steps has k+1 / warmup_steps of it.
        total_steps: the cosine reaches zero here.
    """
    listed = list(parameters)
    groups: list[dict[str, Any]] = [g for g in listed if isinstance(g, dict)] or [{"params": listed}]
    for group in groups:
        group["lr"] = lr * group.pop("lr_scale", 1.0)
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def optimizer_steps(trainer: L.Trainer) -> int:
    """Optimiser steps of the whole training, for a schedule that is made in `configure_optimizers`.

    `trainer.estimated_stepping_batches` is not for that place: with `max_epochs` it makes the training loader that is
    then used, before a resumed run knows which batches are behind it, and the epoch would begin anew.
    """
    epochs, limit = trainer.max_epochs, trainer.limit_train_batches
    if epochs is None or epochs == -1:
        return trainer.max_steps
    batches = len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    steps = epochs * math.ceil(batches / trainer.accumulate_grad_batches)
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
