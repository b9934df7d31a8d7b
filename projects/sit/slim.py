"""Train a slimmed copy of a network, taught by the network itself.

    python -m projects.sit.slim fit --config projects/sit/configs/mini/slim.yaml --model.teacher_weights FILE \\
        --model.slimming.after [2,3]
"""

from dataclasses import replace
from typing import Any

import lightning.pytorch as L
import torch
from timm.data import Mixup
from torch import Tensor, nn

from common.cli import main, one_seed
from common.errors import UserError
from common.paths import expand
from common.training.weights import load_state, load_weights
from projects.sit.backbone import Net, as_vit, build, grow
from projects.sit.data import LabelledPictures
from projects.sit.losses import Weights, frd_loss, learning_rates
from projects.sit.model import Slimming, SlimViT, recovered, reverse_modules

FROZEN = ("teacher.", "other.")
"""No part of a checkpoint: they come from their own files."""


class SelfSlimming(L.LightningModule):
    """The student begins with its teacher's weights, and new modules that make tokens fewer. The teacher sees the same
    pictures, mixed and augmented alike, in evaluation mode.

    Args:
        net: of the student, and of its teacher but for stochastic depth and a second token.
        slimming: where tokens are made fewer, and how.
        teacher_weights: file of the unslimmed network's; None takes those that timm has.
        lambda_token: weight of the tokens' term; at 0 there is no RTSM.
        lambda_logits: weight of the logits' term; with 0 in both the teacher is not asked.
        temperature: tau of the logits' term.
        other: another teacher, whose answer a second token learns (net.distilled); None for none.
        other_weights: file of that one's weights; None takes those that timm has.
        lambda_hard: weight of that term.
        lr: of AdamW for the whole batch of all processes; RTSM has five times as much.
        min_lr: where both rates end.
        epochs: of the cosine; what the trainer has beyond them is spent at the least rate.
        weight_decay: of matrices and of all of RTSM, not of vectors, class token and positions.
        mixup: alpha; 0 for none.
        cutmix: alpha; with both one of them is drawn for each batch.
        smoothing: of labels.
    """

    def __init__(
        self,
        net: Net,
        slimming: Slimming,
        teacher_weights: str | None = None,
        lambda_token: float = 2.0,
        lambda_logits: float = 2.0,
        temperature: float = 1.0,
        other: Net | None = None,
        other_weights: str | None = None,
        lambda_hard: float = 1.0,
        lr: float = 4e-4,
        min_lr: float = 1e-5,
        epochs: int = 125,
        weight_decay: float = 0.05,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        smoothing: float = 0.0,
    ):
        super().__init__()
        if min(lambda_token, lambda_logits, lambda_hard) < 0 or temperature <= 0 or lr <= 0 or epochs < 1:
            raise UserError("model: no lambda below 0, temperature and lr above 0, at least one epoch")
        if (other is not None) != net.distilled:
            raise UserError("model.other teaches a second token: it goes with model.net.distilled")
        self.weights = Weights(lambda_token, lambda_logits, lambda_hard, temperature)
        self.lr, self.min_lr, self.epochs, self.weight_decay = lr, min_lr, epochs, weight_decay
        self.smoothing = smoothing
        plain = loaded(replace(net, distilled=False, drop_path=0.0), teacher_weights, "model.teacher_weights")
        self.student = SlimViT(build(net), slimming)
        grow(self.student.vit, as_vit(plain))
        asked = bool(lambda_token or lambda_logits)
        self.teacher = SlimViT(plain, None).requires_grad_(False).eval() if asked else None
        self.other = None if other is None else loaded(other, other_weights, "model.other_weights")
        if self.other is not None:
            self.other.requires_grad_(False).eval()
        self.rtsm = reverse_modules(self.student) if lambda_token else None
        self.mixup = None
        if mixup or cutmix:
            self.mixup = Mixup(mixup, cutmix, label_smoothing=smoothing, num_classes=net.classes)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        images, labels = batch["image"], batch["label"]
        if self.mixup is not None:
            images, labels = self.mixup(images, labels)
        seen = self.student.see(images)
        if self.rtsm is not None:
            seen = seen._replace(tokens=recovered(seen.tokens, self.rtsm))
        with torch.no_grad():
            teacher = self.teacher.see(images) if self.teacher is not None else None
            other = self.other(images) if self.other is not None else None
        terms = frd_loss(seen, labels, teacher, self.weights, self.smoothing, other)
        for name, term in terms._asdict().items():
            self.log("train/loss" if name == "total" else f"train/loss_{name}", term)
        return terms.total

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        right = self.student(batch["image"]).argmax(1) == batch["label"]
        self.log("val/accuracy", right.float().mean(), batch_size=len(right), sync_dist=True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Matrices, what does not decay, RTSM: the scale of a TSM has three dimensions, and decays."""
        decay, still = [], []
        for name, parameter in self.student.named_parameters():
            token = name.endswith(("cls_token", "pos_embed", "dist_token"))
            (still if token or parameter.dim() == 1 else decay).append(parameter)
        groups = [{"params": decay, "weight_decay": self.weight_decay}, {"params": still, "weight_decay": 0.0}]
        if self.rtsm is not None:
            groups.append({"params": list(self.rtsm.parameters()), "weight_decay": self.weight_decay, "rtsm": True})
        return groups

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameter_groups(), lr=1.0)  # LambdaLR's factors are the rates

        def rate(of_rtsm: bool) -> Any:
            return lambda epoch: learning_rates(epoch, self.lr, self.min_lr, self.epochs)[of_rtsm]

        rates = [rate(group.get("rtsm", False)) for group in optimizer.param_groups]
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, rates)]

    def on_train_epoch_start(self) -> None:
        for frozen in (self.teacher, self.other):
            if frozen is not None:
                frozen.eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith(FROZEN)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = {k: v for k, v in self.state_dict().items() if k.startswith(FROZEN)}
        checkpoint["state_dict"] |= own  # they were loaded from their own files

    def exported(self) -> nn.Module:
        """Without RTSM, which only trains."""
        return self.student


def loaded(net: Net, weights: str | None, what: str) -> nn.Module:
    """A network with the weights of a file, or those that timm has; LV-ViT's auxiliary head is not looked at."""
    if weights is None:
        return build(net, pretrained=True)
    return load_weights(build(net), load_state(expand(weights, what)), ignore=["aux_head.*"])


if __name__ == "__main__":
    main(SelfSlimming, LabelledPictures, links=one_seed)
