"""Fine-tune a pre-trained trunk for retrieval, at several exits or at a single one.

    python -m projects.modular_star_encoder.finetune fit \\
        --config projects/modular_star_encoder/configs/mini/finetune.yaml --model.trunk FILE --data.tokenizer FOLDER ...
"""

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from common.cli import main
from common.evaluators.retrieval import PairedRetrieval
from common.losses.contrastive import clip_loss
from common.training.schedules import adamw, optimizer_steps
from projects.modular_star_encoder.model import MultiExitEncoder, TrunkSizes, exit_weights, load_trunk
from projects.modular_star_encoder.pairs import PairData, Pairs


class Finetuning(L.LightningModule):
    """L = sum over exits i of alpha_i CLIP(p_i(a), p_i(b)): the multi-exit loss again, a projection for each exit.

    With one exit the trunk is cut behind it and the loss is that exit's alone: the single-exit baseline.

    Args:
        sizes: of the whole trunk.
        exits: layers, counted from 1, that get an embedding.
        tokens: size of the vocabulary; follows from the data.
        trunk: a pre-trained trunk.
        weighting: alpha_i = i / n ("depth"), or the same for every exit with the same sum ("uniform").
        scale: multiplies the dot products before the softmax; the paper's "temperature 10".
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    run_dir: Path

    def __init__(
        self,
        sizes: TrunkSizes,
        exits: tuple[int, ...],
        tokens: int,
        trunk: str,
        weighting: Literal["depth", "uniform"] = "depth",
        scale: float = 10.0,
        lr: float = 1e-5,
        weight_decay: float = 0.1,
        warmup_steps: int = 0,
    ):
        super().__init__()
        self.encoder = MultiExitEncoder(sizes, tokens, exits)
        load_trunk(self.encoder.trunk, trunk, "model.trunk")
        self.scale, self.lr, self.weight_decay, self.warmup_steps = scale, lr, weight_decay, warmup_steps
        self.weights = exit_weights(exits, sizes.layers) if len(exits) > 1 else [1.0]
        if weighting == "uniform":
            self.weights = [sum(self.weights) / len(exits)] * len(exits)
        self.found = nn.ModuleDict({str(i): PairedRetrieval() for i in exits})

    def training_step(self, batch: Pairs, batch_idx: int) -> Tensor:
        first, second = self.encoder(**batch[0]), self.encoder(**batch[1])
        losses = {i: clip_loss(first[i], second[i], self.scale) for i in self.encoder.exits}
        self.log_dict({f"train/clip_{i}": loss for i, loss in losses.items()})
        loss = torch.stack([alpha * losses[i] for i, alpha in zip(losses, self.weights, strict=True)]).sum()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Pairs, batch_idx: int) -> None:
        text, code = self.encoder(**batch[0]), self.encoder(**batch[1])
        for i in self.encoder.exits:
            self.found[str(i)].update(text[i], code[i])

    def on_validation_epoch_end(self) -> None:
        for i, metric in self.found.items():
            self.log(f"val/mrr_{i}", metric.compute()["mrr"])
            metric.reset()

    def configure_optimizers(self) -> dict[str, Any]:
        steps = optimizer_steps(self.trainer)
        return adamw(self.encoder.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    def on_fit_end(self) -> None:
        """A run is complete in itself: whoever copies its folder has the tokenizer too."""
        if self.trainer.is_global_zero:
            self.trainer.datamodule.formatter.tokenizer.save_pretrained(self.run_dir / "tokenizer")

    def exported(self) -> MultiExitEncoder:
        return self.encoder


def links(parser: Any) -> None:
    """One seed; the vocabulary follows from the data."""
    parser.link_arguments("data.tokens", "model.tokens", apply_on="instantiate")
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


if __name__ == "__main__":
    main(Finetuning, PairData, links=links)
