"""Train a deep linear encoder by JEPA or by MAE, and keep how every feature's amplitude grows.

    python -m projects.jepa_linear.train fit --config projects/jepa_linear/configs/mini/network.yaml \\
        --model.objective jepa --model.depth 3

Without a learning rate the gradient flow itself is followed. The run ends when, by the theory of aligned starts, the
last feature is as good as learned; `trajectory.safetensors` then holds the times and what was seen at each.
"""

import copy
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from common.cli import main, one_seed, say
from common.errors import UserError
from projects.jepa_linear.data import Pair, Pairs
from projects.jepa_linear.flow import GradientFlow
from projects.jepa_linear.model import DeepLinear, Start, amplitudes, half_square, progress, unbalanced
from projects.jepa_linear.theory import Objective, learning_time

SETTLED = 0.995
"""Part of its fixed point at which a feature is as good as learned."""


class Training(L.LightningModule):
    """One objective, one depth.

    JEPA predicts the target's representation, behind a stop-gradient: 1/2 E || V W x - sg(W y) ||^2.
    MAE predicts the target: 1/2 E || V W x - y ||^2.

    Args:
        objective: "jepa" or "mae".
        depth: matrices of the encoder, L.
        eps: product of the encoder at the start.
        start: whether the predictor is aligned to the encoder, as the theory wants it.
        relu: rectify what the first matrix gives; beyond the paper.
        target: what encodes JEPA's target: the encoder itself behind a stop-gradient (the paper), a moving average of
            it, or the encoder with gradients through both sides.
        momentum: of the moving average, a step.
        lr: of plain gradient descent; null follows the flow.
        longer: train for so many times the time after which the last feature is learned.
        every: steps between two records of the features.
    """

    def __init__(
        self,
        objective: Objective,
        depth: int,
        eps: float,
        start: Start = "aligned",
        relu: bool = False,
        target: Literal["stop", "average", "gradient"] = "stop",
        momentum: float = 0.99,
        lr: float | None = None,
        longer: float = 1.0,
        every: int = 1,
    ):
        super().__init__()
        for name, value, sound, wanted in (
            ("depth", depth, depth >= 1, "at least 1"),
            ("eps", eps, 0 < eps < 1, "between 0 and 1"),
            ("momentum", momentum, 0 <= momentum < 1, "from 0 to less than 1"),
            ("lr", lr, lr is None or lr > 0, "null or above 0"),
            ("longer", longer, longer > 0, "above 0"),
            ("every", every, every >= 1, "at least 1"),
        ):
            if not sound:
                raise UserError(f"model.{name} is {value}: it has to be {wanted}")
        if target != "stop" and objective == "mae":
            raise UserError(f"model.target {target}: MAE encodes no target, leave it out")
        if target == "average" and lr is None:
            raise UserError("model.target average moves with every step: give a model.lr")
        if relu and depth == 1:
            raise UserError("model.relu with model.depth 1 would rectify the representation: give more depth")
        self.objective, self.depth, self.eps, self.start, self.relu = objective, depth, eps, start, relu
        self.target, self.momentum, self.lr, self.longer, self.every = target, momentum, lr, longer, every
        self.net: DeepLinear
        self.time = 0.0
        """Of the flow; gradient descent moves by the learning rate."""
        self.seen: list[dict[str, Tensor]] = []

    def configure_model(self) -> None:
        """The network is as large as the data has features."""
        if hasattr(self, "net"):
            return
        features = self.data.features
        self.net = DeepLinear(len(features.lam), self.depth, self.eps, self.objective, self.start, self.relu)
        self.average = copy.deepcopy(self.net).requires_grad_(False) if self.target == "average" else None
        times = learning_time(self.objective, features.lam, features.rho, self.depth, self.eps, SETTLED)
        if np.isnan(times).any():
            raise UserError(
                f"model.eps {self.eps:g} at depth {self.depth} begins above the fixed point of some features (lowest "
                f"rho {features.rho.min():.3g}): lower it"
            )
        self.until = self.longer * float(times.max())

    @property
    def data(self) -> Pairs:
        return self.trainer.datamodule

    def configure_optimizers(self) -> torch.optim.Optimizer:
        weights = self.net.parameters()
        return GradientFlow(weights, self.until) if self.lr is None else torch.optim.SGD(weights, self.lr)

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        predicted, target = self.sides(batch)
        loss = half_square(predicted, target)
        self.log("train/loss", loss)
        return loss

    def sides(self, batch: Pair) -> Pair:
        """Prediction and target, [B, F] each."""
        x, y = batch
        predicted = self.net.predict(self.net.encode(x))
        if self.objective == "mae":
            return predicted, y
        encoded = (self.net if self.average is None else self.average).encode(y)
        return predicted, encoded if self.target == "gradient" else encoded.detach()

    def on_train_start(self) -> None:
        if not self.seen:
            self.look()
        self.trainer.should_stop = self.time >= self.until  # continued after its last step

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """A step, and all that follows from it: checkpoints are written before the hooks at a batch's end."""
        optimizer.step(closure=optimizer_closure)
        steps = self.global_step + 1
        self.time = optimizer.param_groups[0]["time"] if self.lr is None else steps * self.lr
        if self.average is not None:
            with torch.no_grad():
                for slow, fast in zip(self.average.parameters(), self.net.parameters(), strict=True):
                    slow.lerp_(fast, 1 - self.momentum)
        if self.time >= self.until or steps % self.every == 0:
            self.look()

    def on_train_batch_end(self, outputs: Any, batch: Pair, batch_idx: int) -> None:
        self.trainer.should_stop = self.time >= self.until

    @torch.no_grad()
    def look(self) -> None:
        """Keep where every feature is, on test pairs."""
        x, _ = pair = self.data.parts["test"]
        lengths, mixed = amplitudes(self.net, x, self.data.basis)
        found = progress(*self.sides(pair), x @ self.data.basis)
        time = torch.tensor(self.time, dtype=torch.float64)
        values = (time, lengths, found, unbalanced(self.net), mixed)
        self.seen.append(dict(zip(("time", "amplitude", "progress", "unbalanced", "mixed"), values, strict=True)))

    @torch.no_grad()
    def on_train_end(self) -> None:
        if self.time < self.until:
            say(f"trainer.max_steps ended the training at time {self.time:.4g} of {self.until:.4g}")
        pair, features = self.data.parts["val"], self.data.features
        stacked = {name: torch.stack([row[name] for row in self.seen]) for name in self.seen[0]}
        stacked["val_progress"] = progress(*self.sides(pair), pair[0] @ self.data.basis)
        stacked |= {name: torch.from_numpy(value.copy()) for name, value in vars(features).items()}
        plain = self.start == "aligned" and self.target == "stop" and self.lr is None and not self.relu
        said = {
            "objective": self.objective, "depth": str(self.depth), "eps": str(self.eps), "until": str(self.until),
            "theory": str(plain and self.data.exact),
        }  # fmt: skip
        save_file(stacked, self.run_dir / "trajectory.safetensors", said)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"seen": self.seen, "time": self.time}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seen, self.time = checkpoint["seen"], checkpoint["time"]


if __name__ == "__main__":
    main(Training, Pairs, links=one_seed)
