"""Pre-train a multi-exit trunk on code: hidden tokens and in-context classification, at every exit.

    python -m projects.modular_star_encoder.pretrain fit \\
        --config projects/modular_star_encoder/configs/mini/pretrain.yaml --data.tokenizer FOLDER ...
"""

from bisect import bisect_right
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import BinaryAUROC

from common.cli import main
from common.training.runs import write_json
from projects.modular_star_encoder.corpus import TOGETHER, Corpus, Objective, hidden_tokens
from projects.modular_star_encoder.model import PretrainingHeads, Trunk, TrunkSizes, check_exits, exit_weights, pool
from projects.modular_star_encoder.tokens import Batch


class Pretraining(L.LightningModule):
    """L = sum over exits i of alpha_i (L_MLM,i + L_ICC,i), alpha_i = i / n (Gurioli et al. 2025).

    The heads are shared by all exits, which an embedding tells apart. Nothing is detached: the loss of a deep exit
    reaches all layers below it. This, and no teacher, is what the paper calls self-distillation.

    Args:
        sizes: of the trunk.
        exits: layers, counted from 1, at which the loss is taken.
        tokens: size of the vocabulary; follows from the data.
        objective: the second term: in-context classification, next-sentence prediction, or none; follows from the data.
        lr: peak learning rate.
        weight_decay: of AdamW, whose betas are 0.9 and 0.95 and epsilon 1e-6.
        warmup_steps: linear warm-up.
        milestones: steps at which the learning rate falls.
        decay: by this factor each time.
    """

    run_dir: Path

    def __init__(
        self,
        sizes: TrunkSizes,
        exits: tuple[int, ...],
        tokens: int,
        objective: Objective = "icc",
        lr: float = 6e-4,
        weight_decay: float = 0.1,
        warmup_steps: int = 4000,
        milestones: tuple[int, ...] = (),
        decay: float = 0.5,
    ):
        super().__init__()
        check_exits(exits, sizes.layers)
        self.exits, self.weights = exits, exit_weights(exits, sizes.layers)
        self.asked = objective != "mlm"
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.milestones, self.decay = milestones, decay
        self.trunk = Trunk(sizes.config(tokens), recompute=sizes.recompute)
        self.heads = PretrainingHeads(sizes.hidden, tokens, len(exits), context=self.asked)
        self.auc = BinaryAUROC()
        self.told = 0.5

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        states = self.trunk(batch["input_ids"], batch["attention_mask"])
        loss = states[0].new_zeros(())
        hidden = hidden_tokens(batch["labels"])
        for number, (i, alpha) in enumerate(zip(self.exits, self.weights, strict=True)):
            words = F.cross_entropy(self.heads.words(states[i][hidden], number).float(), batch["labels"][hidden])
            self.log(f"train/mlm_{i}", words)
            loss = loss + alpha * words
            if self.asked:
                belongs = self.heads.belongs(pool(states[i], batch["attention_mask"]), number)
                context = F.cross_entropy(belongs.float(), batch["together"])
                self.log(f"train/context_{i}", context)
                loss = loss + alpha * context
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Whether the deepest exit tells windows of one repository from others: the area under the ROC curve."""
        if self.asked:
            states = self.trunk(batch["input_ids"], batch["attention_mask"])
            belongs = self.heads.belongs(pool(states[self.exits[-1]], batch["attention_mask"]), len(self.exits) - 1)
            self.auc.update(belongs.float().softmax(-1)[:, TOGETHER], batch["together"])

    def on_validation_epoch_end(self) -> None:
        if self.asked:
            self.told = self.auc.compute().item()
            self.auc.reset()
            self.log("val/context_auc", self.told)

    def on_fit_end(self) -> None:
        """What later stages report of the pre-training they start from; 0.5 where nothing was asked."""
        if self.trainer.is_global_zero:
            write_json(self.run_dir / "pretraining.json", {"val_context_auc": self.told})

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(
            self.parameters(), self.lr, betas=(0.9, 0.95), eps=1e-6, weight_decay=self.weight_decay
        )

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / max(1, self.warmup_steps)) * self.decay ** bisect_right(self.milestones, step)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def exported(self) -> nn.Module:
        """The trunk alone: what retrieval starts from."""
        return self.trunk


def links(parser: Any) -> None:
    """One seed; vocabulary and question follow from the data."""
    parser.link_arguments("data.tokens", "model.tokens", apply_on="instantiate")
    parser.link_arguments("data.objective", "model.objective")
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


if __name__ == "__main__":
    main(Pretraining, Corpus, links=links)
