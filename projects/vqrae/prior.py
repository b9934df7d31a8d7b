"""Train the autoregressive prior: a language model that continues a caption with the tokens of a picture (§3.5).

python -m projects.vqrae.prior fit --config projects/vqrae/configs/mini/prior.yaml --model.tokenizer_weights <stage 2's>
"""

from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from common.cli import main, one_seed
from common.data.images import PictureData
from common.hub import from_pretrained
from common.paths import expand
from common.training.weights import load_tied, load_weights
from projects.vqrae.captions import world_words
from projects.vqrae.encoder import EncoderConfig
from projects.vqrae.model import VQRAE, Codebook


@dataclass
class LanguageModel:
    """Qwen3 whose vocabulary is enlarged by the codes of the tokenizer.

    Attributes:
        hub: id of the pretrained model; None for one of `sizes` that knows the world's words only.
        sizes: settings of Qwen3Config.
        text_length: tokens of a caption, padded in front; longer ones are cut.
    """

    hub: str | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    text_length: int = 128


class Prior(nn.Module):
    """Captions to pictures, token by token.

    A sequence is the padded caption, whose last token opens the picture, and the N codes of a picture row by row. Code
    k is the word `first_code + k`.

    Args:
        config: which language model.
        codebook_size: number of codes.
        pretrained: load the hub's weights; False where a checkpoint will bring them.
    """

    def __init__(self, config: LanguageModel, codebook_size: int, pretrained: bool = True):
        super().__init__()
        if config.hub is None:
            self.words: PreTrainedTokenizerBase = world_words()
            vocabulary = len(self.words)
        else:
            self.words = from_pretrained(AutoTokenizer, config.hub, padding_side="left")
        if config.hub is not None and pretrained:
            self.model = from_pretrained(Qwen3ForCausalLM, config.hub, dtype=torch.float32)
            vocabulary = self.model.config.vocab_size
        else:
            settings = from_pretrained(Qwen3Config, config.hub) if config.hub else Qwen3Config(**config.sizes)
            vocabulary = settings.vocab_size if config.hub else len(self.words)
            settings.vocab_size = vocabulary
            settings.pad_token_id = settings.bos_token_id = settings.eos_token_id = None
            self.model = Qwen3ForCausalLM(settings)
        self.text_length, self.first_code, self.codebook_size = config.text_length, vocabulary, codebook_size
        # one more word than codes: it opens a picture
        self.model.resize_token_embeddings(vocabulary + codebook_size + 1, mean_resizing=False)
        self.model.generation_config = GenerationConfig()  # the hub's is for chats

    def text(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Captions as word ids and their mask, [B, T + 1] each, padded in front; the last one opens a picture."""
        length = {"padding": "max_length", "max_length": self.text_length, "truncation": True}
        found = self.words(list(captions), return_tensors="pt", padding_side="left", **length)
        device = self.model.device
        opening = torch.full((len(captions), 1), self.first_code + self.codebook_size)
        ids = torch.cat([found.input_ids, opening], 1).to(device)
        mask = torch.cat([found.attention_mask, torch.ones_like(opening)], 1).to(device)
        return ids, mask

    def loss(self, captions: list[str], indices: Tensor) -> Tensor:
        """Mean cross-entropy over the whole vocabulary of the codes [B, N]; the captions themselves are not learned."""
        ids, mask = self.text(captions)
        whole = torch.cat([ids, self.first_code + indices], 1)
        mask = torch.cat([mask, torch.ones_like(indices)], 1)
        count = indices.shape[1]
        positions = (mask.cumsum(1) - 1).clamp(min=0)  # as `generate` counts them behind padding
        out = self.model(input_ids=whole, attention_mask=mask, position_ids=positions, logits_to_keep=count + 1)
        logits = out.logits[:, :-1]
        return F.cross_entropy(logits.float().flatten(0, 1), self.first_code + indices.flatten())

    @torch.no_grad()
    def sample(
        self,
        captions: list[str],
        count: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        guidance: float = 1.0,
    ) -> Tensor:
        """Draw `count` codes for each caption, int64 [B, count], with cached keys and values.

        Args:
            temperature: divides the logits; near 0 the likeliest code is always taken.
            top_k: draw from the so many likeliest codes; None from all.
            guidance: scale s of classifier-free guidance, log p(no caption) + s (log p(caption) - log p(no caption)): 1
                is the caption's own distribution, more draws what it, and not any picture, makes likely.
        """
        ids, mask = self.text(captions)
        settings = GenerationConfig(
            do_sample=True,
            temperature=temperature,
            top_k=top_k or 0,
            top_p=1.0,
            max_new_tokens=count,
            min_new_tokens=count,
            pad_token_id=self.first_code,
            guidance_scale=guidance,
        )
        free: dict[str, Tensor] = {}
        if guidance != 1:  # the opening of a picture alone, as it is learned behind a dropped caption
            free = {"negative_prompt_ids": ids[:, -1:], "negative_prompt_attention_mask": mask[:, -1:]}
        processors = LogitsProcessorList([self.codes_only])
        whole = self.model.generate(ids, settings, attention_mask=mask, logits_processor=processors, **free)
        return whole[:, ids.shape[1] :] - self.first_code

    def codes_only(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Words behind the opening of a picture are codes: all else becomes impossible, scores [B, vocabulary]."""
        allowed = torch.full_like(scores, -torch.inf)
        codes = slice(self.first_code, self.first_code + self.codebook_size)
        allowed[:, codes] = scores[:, codes]
        return allowed


class PriorTraining(L.LightningModule):
    """Next-token prediction of a frozen tokenizer's codes, given the caption (§3.5, Table 9).

    Args:
        encoder: the tokenizer's ViT.
        codebook: the tokenizer's quantiser.
        tokenizer_weights: the trained tokenizer.
        language_model: the prior.
        lr: constant behind the warm-up.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up.
        eps: of AdamW.
        clip: largest norm of the gradient.
        caption_drop: share of the pictures that are learned without their caption, for guidance. The paper does not say
            how it samples; a tenth is LlamaGen's, whose way of drawing this is.
    """

    def __init__(
        self,
        encoder: EncoderConfig,
        codebook: Codebook,
        tokenizer_weights: str,
        language_model: LanguageModel,
        lr: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 4000,
        eps: float = 1e-15,
        clip: float = 1.0,
        caption_drop: float = 0.1,
    ):
        super().__init__()
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.eps, self.clip, self.caption_drop = eps, clip, caption_drop
        self.tokenizer = load_tokenizer(encoder, codebook, tokenizer_weights)
        self.prior = Prior(language_model, codebook.size)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        kept = torch.rand(len(batch["image"])) >= self.caption_drop
        captions = [caption if keep else "" for caption, keep in zip(batch["caption"], kept.tolist(), strict=True)]
        loss = self.prior.loss(captions, self.tokens(batch["image"]))
        self.log("train/loss", loss)
        return loss

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """The codes of pictures, int64 [B, N]."""
        return self.tokenizer.tokens(images)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        loss = self.prior.loss(batch["caption"], self.tokens(batch["image"]))
        self.log("val/loss", loss, batch_size=len(batch["image"]), sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        parameters = self.prior.parameters()
        optimizer = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, eps=self.eps, fused=True)
        warmup = max(1, self.warmup_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        nn.utils.clip_grad_norm_(self.prior.parameters(), self.clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("tokenizer.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= {f"tokenizer.{k}": v for k, v in self.tokenizer.state_dict().items()}

    def exported(self) -> nn.Module:
        return self.prior


def load_tokenizer(encoder: EncoderConfig, codebook: Codebook, weights: str) -> VQRAE:
    """A trained tokenizer, frozen, in evaluation mode."""
    tokenizer = VQRAE(encoder, codebook, pretrained=False)
    load_weights(tokenizer, expand(weights, "model.tokenizer_weights"))
    return tokenizer.requires_grad_(False).eval()


def load_prior(config: LanguageModel, codebook_size: int, weights: str) -> Prior:
    """A trained prior, frozen, in evaluation mode."""
    prior = Prior(config, codebook_size, pretrained=False)
    return load_tied(prior, expand(weights, "model.weights")).requires_grad_(False).eval()


if __name__ == "__main__":
    main(PriorTraining, PictureData, links=one_seed)
