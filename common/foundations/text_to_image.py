"""A small text-to-image diffusion model, trained once on a world and cached: recipes about diffusion start from it.

    python -m common.foundations.text_to_image fit --config common/foundations/configs/mini/glyph_text_to_image.yaml

transformers' CLIP text encoder and diffusers' U-Net with cross-attention, on pixels. Leaves both, tokenizer and noise
schedule in the run folder's `model/`, as `common.models.text_to_image.load_text_to_image` reads them. At paper scale
the foundation is a published checkpoint, and this script is not run.
"""

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase

from common.cli import main
from common.data.images import PictureData, to_uint8
from common.data.words import word_tokenizer
from common.models.text_to_image import TextToImage
from common.training.runs import save_picture
from common.training.schedules import adamw, optimizer_steps
from common.visual import enlarge

DRAWN = 8  # pictures for the report
Attention = Literal["lower", "all"]
LINEAR: dict[str, Any] = {"beta_start": 1e-4, "beta_end": 0.02}
EMBEDDED = 0.1
"""Scale of embedded words and positions at first. CLIP's 0.02 is for a wider net; at 1 the text encoder reads positions
where embeddings that a net has made stand in the place of words, and hardly the embeddings."""


class DiffusionTraining(L.LightningModule):
    """Denoising with captions (Ho et al. 2020, eq. 14; Rombach et al. 2022, eq. 3), some of them dropped for guidance.

    What it learned is told by the validation loss with the right captions, `val/right`, against the one with another
    picture's, `val/shuffled`: equal figures would mean that captions are not read.

    The net predicts the velocity (Salimans and Ho 2022), as Stable Diffusion 2.1 does at 768 pixels. In a world's small
    pictures captions matter only where hardly anything else is left of a picture, and there the loss of the noise is
    nearly blind: a net that learned it took several times as long to read captions.

    Args:
        tokenizer: follows from the data.
        image_size: side S in pixels; follows from the data.
        channels: of the U-Net at S x S and at S/2 x S/2, where it attends to the caption.
        attention: "all" lets it attend to the caption at S x S too.
        width: of the text encoder.
        layers: of the text encoder.
        drop: share of captions that are left empty.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
        noise: settings of the noise schedule, as diffusers' DDPMScheduler takes them.
    """

    run_dir: Path

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int,
        channels: tuple[int, int] = (32, 32),
        width: int = 64,
        layers: int = 2,
        drop: float = 0.1,
        lr: float = 4e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 50,
        noise: dict[str, Any] = LINEAR,
        attention: Attention = "lower",
    ):
        super().__init__()
        self.drop, self.lr, self.weight_decay, self.warmup_steps = drop, lr, weight_decay, warmup_steps
        scheduler = DDPMScheduler(1000, **noise, prediction_type="v_prediction")
        unet = build_unet(image_size, channels, width, attention)
        self.net = TextToImage(tokenizer, build_text_encoder(tokenizer, width, layers), unet, scheduler)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        kept = (torch.rand(len(batch["caption"])) >= self.drop).tolist()
        captions = [text if keep else "" for text, keep in zip(batch["caption"], kept, strict=True)]
        loss = self.net.denoising_loss(batch["image"], self.net.encode_text(captions))
        self.log("train/loss", loss, batch_size=len(captions))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        images, context = batch["image"], self.net.encode_text(batch["caption"])
        for name, given in {"right": context, "shuffled": context.roll(1, 0)}.items():
            loss = self.net.denoising_loss(images, given, torch.Generator().manual_seed(batch_idx))
            self.log(f"val/{name}", loss, batch_size=len(images), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    def on_train_end(self) -> None:
        if not self.trainer.is_global_zero:
            return
        self.net.save_pretrained(self.run_dir / "model")
        pictures: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        for batch in pictures.ordered("val", DRAWN) if "val" in pictures.sources else ():
            captions = batch["caption"]
            context = self.net.encode_text(captions)
            drawn = self.net.sample(context, 25, 2.0, "ddim", generator=torch.Generator().manual_seed(0))
            for caption, image in zip(captions, to_uint8(drawn), strict=True):
                save_picture(self.run_dir, caption, enlarge(image, 96)[0], "drawn")

    def exported(self) -> TextToImage:
        return self.net


def build_text_encoder(tokenizer: PreTrainedTokenizerBase, width: int, layers: int) -> CLIPTextModel:
    """CLIP's text encoder at the tokenizer's length."""
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes: dict[str, Any] = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": 4, "max_position_embeddings": tokenizer.model_max_length, "projection_dim": width}
    ends |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    encoder = CLIPTextModel(CLIPTextConfig(hidden_act="gelu", **ends, **sizes))
    for name, weight in encoder.named_parameters():
        if name.endswith(("token_embedding.weight", "position_embedding.weight")):
            nn.init.normal_(weight, std=EMBEDDED)
    return encoder


def build_unet(
    image_size: int, channels: tuple[int, int], width: int, attention: Attention = "lower"
) -> UNet2DConditionModel:
    """Two resolutions; captions come in at the lower one, or at both. A middle block takes time and adds nothing."""
    upper = "CrossAttn" if attention == "all" else ""
    return UNet2DConditionModel(
        sample_size=image_size,
        in_channels=3,
        out_channels=3,
        down_block_types=(f"{upper}DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", f"{upper}UpBlock2D"),
        mid_block_type=None,
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=width,
        attention_head_dim=4,
    )


class CaptionedPictures(PictureData):
    """Pictures, and a tokenizer of the words of the training captions."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        source = self.source("train")
        captions = [source[index].caption for index in range(len(source))]
        return word_tokenizer(captions, length=max(len(text.split()) for text in captions) + 2, ends=True)


def links(parser: Any) -> None:
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.image_size", "model.image_size")
    parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")


if __name__ == "__main__":
    main(DiffusionTraining, CaptionedPictures, links=links)
