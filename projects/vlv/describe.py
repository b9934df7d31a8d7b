"""VLV's stage 2: put the embeddings into words, with a language model and pictures that have captions.

python -m projects.vlv.describe fit --config projects/vlv/configs/mini/describe.yaml --model.encoder_weights <stage 1's>
"""

from typing import Any, Literal

import lightning.pytorch as L
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

from common.cli import main, one_seed
from common.training.distributed import mean_over_processes
from common.training.schedules import optimizer_steps
from projects.vlv.data import CaptionData
from projects.vlv.model import (
    Captioner,
    Florence,
    build_captioner,
    caption_logits,
    caption_loss,
    encode_captions,
)
from projects.vlv.released import load_encoder

Unfrozen = Literal["adapter", "language_model", "encoder"]


class Description(L.LightningModule):
    """Cross-entropy of the caption after the prefix e = psi(T(z)) (§3.3).

    Args:
        florence: what the encoder starts from.
        text_to_image: hub id or folder of the diffusion model, of which the frozen text encoder T is used.
        language_model: hub id or folder of G.
        queries: N_q.
        encoder_weights: stage 1's; None leaves that stage out (Table 7's control).
        unfrozen: how far down training reaches (Table 4): psi alone; psi and G; psi, G and the encoder.
        max_tokens: longer captions are cut.
        lr: peak learning rate; falls linearly to zero.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; the paper has none.
        checkpointing: recompute the language model's activations in the backward pass, for memory.
    """

    def __init__(
        self,
        florence: Florence,
        text_to_image: str,
        language_model: str,
        queries: PositiveInt = 77,
        encoder_weights: str | None = None,
        unfrozen: Unfrozen = "encoder",
        max_tokens: PositiveInt = 300,
        lr: float = 1e-5,
        weight_decay: float = 0.01,
        warmup_steps: NonNegativeInt = 0,
        checkpointing: bool = False,
    ):
        super().__init__()
        self.net: Captioner = build_captioner(florence, text_to_image, language_model, queries)
        if encoder_weights is not None:
            load_encoder(self.net.encoder, encoder_weights)
        self.net.requires_grad_(False).eval()
        self.net.adapter.requires_grad_(True).train()
        if unfrozen != "adapter":
            self.net.language_model.requires_grad_(True).train()
        if unfrozen == "encoder":
            self.net.encoder.train_parts(florence.train_vision)
        if checkpointing:
            self.net.language_model.gradient_checkpointing_enable()
        self.max_tokens = max_tokens
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The loss, summed over tokens, and their number."""
        ids, mask = (x.to(self.device) for x in encode_captions(self.net.tokenizer, batch["caption"], self.max_tokens))
        logits = caption_logits(self.net.language_model, self.net.prefix(batch["image"]), ids, mask)
        return caption_loss(logits, ids, mask), mask.sum()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        total, tokens = self.loss(batch)
        loss = total / mean_over_processes(tokens)
        self.log("train/loss", loss, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        total, tokens = self.loss(batch)
        self.log("val/loss", total / tokens, batch_size=int(tokens), sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.lr, weight_decay=self.weight_decay, fused=True)
        schedule = get_linear_schedule_with_warmup(optimizer, self.warmup_steps, optimizer_steps(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def exported(self) -> Captioner:
        return self.net


if __name__ == "__main__":
    main(Description, CaptionData, links=one_seed)
