"""VLV's stage 1: learn to describe a picture in embeddings from which a frozen diffusion model draws it again.

python -m projects.vlv.reconstruct fit --config projects/vlv/configs/mini/reconstruct.yaml
"""

from typing import Any

import lightning.pytorch as L
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from common.cli import main, one_seed
from common.data.images import PictureData
from common.models.text_to_image import load_text_to_image
from common.training.schedules import optimizer_steps
from projects.vlv.model import Florence, VLVEncoder, build_encoder


class Reconstruction(L.LightningModule):
    """The denoising loss of a frozen text-to-image model, given c = T(z) (§3.2); pictures alone, no caption.

    VAE, U-Net and text encoder T keep their weights; gradients flow through U-Net and T to z. DaViT stays frozen too,
    where it is pretrained.

    Args:
        florence: what the encoder starts from.
        text_to_image: hub id or folder of the diffusion model.
        queries: N_q, at most the length of its contexts.
        lr: peak learning rate; a cosine to zero follows at once.
        betas: of AdamW.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; the paper has none.
        checkpointing: recompute the U-Net's activations in the backward pass, for memory.
    """

    def __init__(
        self,
        florence: Florence,
        text_to_image: str,
        queries: PositiveInt = 77,
        lr: float = 5e-5,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
        warmup_steps: NonNegativeInt = 0,
        checkpointing: bool = False,
    ):
        super().__init__()
        self.t2i = load_text_to_image(text_to_image).requires_grad_(False).eval()
        if checkpointing:
            self.t2i.unet.enable_gradient_checkpointing()
        self.encoder = build_encoder(florence, queries, self.t2i.text_encoder.config)
        self.encoder.train_parts(florence.train_vision)
        self.lr, self.betas, self.weight_decay, self.warmup_steps = lr, betas, weight_decay, warmup_steps

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        images = batch["image"]
        context = self.t2i.encode_embeddings(self.encoder(images))
        loss = self.t2i.denoising_loss(images, context)
        self.log("train/loss", loss, batch_size=len(images))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The loss with a picture's own embeddings and with another's: equal figures mean that nothing is said."""
        images = batch["image"]
        context = self.t2i.encode_embeddings(self.encoder(images))
        for name, given in {"own": context, "shuffled": context.roll(1, 0)}.items():
            loss = self.t2i.denoising_loss(images, given, torch.Generator().manual_seed(batch_idx))
            self.log(f"val/{name}", loss, batch_size=len(images), sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.lr, self.betas, weight_decay=self.weight_decay, fused=True)
        schedule = get_cosine_schedule_with_warmup(optimizer, self.warmup_steps, optimizer_steps(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if not name.startswith("t2i.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= {f"t2i.{name}": value for name, value in self.t2i.state_dict().items()}

    def exported(self) -> VLVEncoder:
        return self.encoder


if __name__ == "__main__":
    main(Reconstruction, PictureData, links=one_seed)
