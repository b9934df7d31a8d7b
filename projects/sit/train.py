"""Train an unslimmed network from labels: at mini scale the teacher, and another network that teaches too.

python -m projects.sit.train fit --config projects/sit/configs/mini/teacher.yaml
"""

from typing import Any

import lightning.pytorch as L
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main, one_seed
from common.training.schedules import adamw, optimizer_steps
from projects.sit.backbone import Net, build
from projects.sit.data import LabelledPictures


class Teacher(L.LightningModule):
    """Cross-entropy, AdamW with a cosine to zero.

    Args:
        net: the network.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup: share of the steps in which the rate rises.
    """

    def __init__(self, net: Net, lr: float, weight_decay: float = 0.05, warmup: float = 0.1):
        super().__init__()
        self.net = build(net)
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.net(batch["image"]), batch["label"])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        right = self.net(batch["image"]).argmax(1) == batch["label"]
        self.log("val/accuracy", right.float().mean(), batch_size=len(right), sync_dist=True)

    def configure_optimizers(self) -> Any:
        steps = optimizer_steps(self.trainer)
        return adamw(self.net.parameters(), self.lr, self.weight_decay, int(self.warmup * steps), steps)

    def exported(self) -> nn.Module:
        return self.net


if __name__ == "__main__":
    main(Teacher, LabelledPictures, links=one_seed)
