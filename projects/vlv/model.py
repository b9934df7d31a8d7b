"""VLV's networks (§3.2, §3.3): the encoder from pictures to caption embeddings, and the captioner on top of it."""

from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    Florence2Config,
    Florence2Model,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from common.data.images import IMAGENET_MEAN, IMAGENET_STD
from common.errors import UserError
from common.hub import from_pretrained
from common.models.text_to_image import encode_embeddings, load_text_encoder

TASK = "<MORE_DETAILED_CAPTION>"
IGNORED = -100


@dataclass
class Florence:
    """Which Florence-2 the encoder starts from.

    Attributes:
        hub: id of a model in transformers' own format; None for one of `sizes` with random weights.
        sizes: settings of `Florence2Config`.
        prompt: token ids of the task prompt, where there is no hub to say them.
        image_size: side in pixels at which pictures are looked at, where there is no hub to say it.
        train_vision: train DaViT too. The paper's is pretrained and stays frozen; random weights have to learn.
    """

    hub: str | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    prompt: tuple[int, ...] = (0, 1, 2)
    image_size: int = 8
    train_vision: bool = False


class VLVEncoder(nn.Module):
    """Pictures to caption embeddings z: Florence-2 whose decoder is fed learned queries instead of words.

    The language model's encoder reads [visual tokens; task prompt]; its decoder, causal as ever, reads the queries and
    attends to that; `project` (phi) brings its last states to the width of the diffusion model's text encoder.

    Args:
        florence: without its head.
        prompt: token ids of the task prompt [N_t].
        looks: how Florence-2 wants its pixels.
        queries: N_q.
        width: d of the text encoder.
    """

    prompt: Tensor

    def __init__(self, florence: Florence2Model, prompt: Tensor, looks: "Looks", queries: int, width: int):
        super().__init__()
        hidden = florence.config.text_config.hidden_size
        self.florence, self.looks = florence, looks
        self.register_buffer("prompt", prompt, persistent=False)
        self.queries = nn.Parameter(torch.randn(1, queries, hidden))
        self.project = mlp(hidden, width)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] in [0, 1] -> z [B, N_q, d], in the precision of the weights."""
        pixels = self.looks(images.float()).to(self.queries.dtype)
        visual = self.florence.get_image_features(pixels).pooler_output
        return self.project(read(self.florence.language_model, visual, self.prompt, self.queries))

    def train_parts(self, vision: bool) -> None:
        """Have everything train but, unless `vision`, DaViT with its projection."""
        self.requires_grad_(True).train()
        for part in (self.florence.vision_tower, self.florence.multi_modal_projector):
            part.requires_grad_(vision).train(vision)


@dataclass
class Looks:
    """How Florence-2's image processor treats a picture: resized to a square, normalised channel by channel."""

    size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] in [0, 1] -> [B, 3, size, size]."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std


def read(bart: PreTrainedModel, visual: Tensor, prompt: Tensor, queries: Tensor) -> Tensor:
    """Last decoder states h [B, N_q, D] for visual tokens [B, N_v, D], prompt ids [N_t], and queries [1, N_q, D].

    Queries take the place of embedded words as they are, without BART's scale; positions are added to them, and query i
    sees no query after it.
    """
    words = bart.get_input_embeddings()(prompt).expand(len(visual), -1, -1)
    encoded = bart.encoder(inputs_embeds=torch.cat([visual, words], 1)).last_hidden_state
    asked = queries.expand(len(visual), -1, -1)
    return bart.decoder(inputs_embeds=asked, encoder_hidden_states=encoded, use_cache=False).last_hidden_state


def mlp(width: int, out: int) -> nn.Sequential:
    """Phi and psi: Linear, GELU, Linear."""
    return nn.Sequential(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))


def build_encoder(config: Florence, queries: int, text: CLIPTextConfig, pretrained: bool = True) -> VLVEncoder:
    """The encoder with Florence-2's weights, or with random ones; queries and phi are random.

    Args:
        text: of the text encoder that reads z.

    Raises:
        UserError: no such model, or more queries than the text encoder has positions.
    """
    width, positions = text.hidden_size, text.max_position_embeddings
    if not 1 <= queries <= positions:
        raise UserError(f"model.queries is {queries}: the text encoder reads 1 to {positions} embeddings")
    if config.hub is None:
        sizes = Florence2Config(**config.sizes)
        prompt = torch.tensor(config.prompt)
        return VLVEncoder(Florence2Model(sizes), prompt, Looks(config.image_size), queries, width)
    processor = from_pretrained(AutoProcessor, config.hub)
    if pretrained:
        florence = from_pretrained(Florence2Model, config.hub, dtype=torch.float32)
    else:
        florence = Florence2Model(from_pretrained(Florence2Config, config.hub))
    ids = processor(text=TASK, images=Image.new("RGB", (8, 8)), return_tensors="pt").input_ids[0]
    pixels = processor.image_processor
    looks = Looks(pixels.size["height"], tuple(pixels.image_mean), tuple(pixels.image_std))
    return VLVEncoder(florence, ids[ids != florence.config.image_token_id], looks, queries, width)


class Captioner(nn.Module):
    """From a picture to words: e = psi(T(z)) stands before the caption in the language model's input.

    Args:
        encoder: pictures to z.
        text_encoder: T, never trained.
        language_model: G.
        tokenizer: G's.
    """

    def __init__(
        self,
        encoder: VLVEncoder,
        text_encoder: CLIPTextModel,
        language_model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ):
        super().__init__()
        self.encoder, self.language_model, self.tokenizer = encoder, language_model, tokenizer
        self.text_encoder = text_encoder.requires_grad_(False)
        self.adapter = mlp(text_encoder.config.hidden_size, language_model.config.hidden_size)

    def prefix(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] in [0, 1] -> e [B, N_q, H]."""
        return self.adapter(encode_embeddings(self.text_encoder, self.encoder(images)))

    @torch.no_grad()
    def generate(self, images: Tensor, beams: int = 4, max_new_tokens: int = 300) -> list[str]:
        """Captions as the language model ends them, by beam search; `captions.clean_up` is another step."""
        prefix = self.prefix(images)
        tokens = self.language_model.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device),
            num_beams=beams,
            max_new_tokens=max_new_tokens,
            early_stopping=beams > 1,
            do_sample=False,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def caption_logits(language_model: PreTrainedModel, prefix: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits [B, N_q + L, V] over the stream [e; Embed(y)], for e [B, N_q, H], token ids y and their mask [B, L]."""
    stream = torch.cat([prefix, language_model.get_input_embeddings()(ids)], 1)
    seen = torch.cat([mask.new_ones(prefix.shape[:2]), mask], 1)
    return language_model(inputs_embeds=stream, attention_mask=seen, use_cache=False).logits


def caption_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """-log p(y_t | e, y_<t), summed over the tokens with mask 1; neither prefix nor padding is asked for.

    Args:
        logits: of `caption_logits`, [B, N_q + L, V].
    """
    length = ids.shape[1]
    before = logits[:, -length - 1 : -1]  # the last position of the prefix tells the first token
    labels = ids.masked_fill(mask == 0, IGNORED)
    return F.cross_entropy(before.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def encode_captions(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask [B, L <= length], padded at the right; every caption that fits ends with the end token.

    The mask says what is padding, not the padding's id: for some tokenizers that is the end token too.
    """
    end = tokenizer.eos_token_id
    tokens = [tokenizer(text, add_special_tokens=False).input_ids + [end] for text in texts]
    rows = [torch.tensor(row[:length]) for row in tokens]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return ids, mask


def build_captioner(
    florence: Florence, text_to_image: str, language_model: str, queries: int, pretrained: bool = True
) -> Captioner:
    """A captioner; not `pretrained`, of the right shapes and ready for weights.

    Args:
        text_to_image: hub id or folder of the diffusion model whose text encoder is T.
        language_model: hub id or folder of G and its tokenizer.

    Raises:
        UserError: one of the models is missing.
    """
    text_encoder = load_text_encoder(text_to_image, pretrained)
    encoder = build_encoder(florence, queries, text_encoder.config, pretrained)
    tokenizer = from_pretrained(AutoTokenizer, language_model)
    if pretrained:
        words = from_pretrained(AutoModelForCausalLM, language_model, dtype=torch.float32)
    else:
        settings = from_pretrained(AutoConfig, language_model)
        words = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    return Captioner(encoder, text_encoder, words, tokenizer)
