"""Frozen encoders: of frames, for discriminator and judge, and of sentences, which the discriminator is told.

    python -m projects.mcm.features fit --config projects/mcm/configs/mini/frame_encoder.yaml

At paper scale both are published. Those for frames of the mini scale are trained here, on clean pictures of the world.
"""

from dataclasses import dataclass, field
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2ForImageClassification, Dinov2Model

from common.cli import main, one_seed
from common.data.images import IMAGENET_MEAN, IMAGENET_STD, PictureData
from common.foundations.classifier import Classification
from common.hub import from_pretrained
from common.paths import expand
from common.training.augment import random_crop
from common.training.weights import load_weights


class DinoClassifier(nn.Module):
    """DINOv2's ViT with a linear layer on class token and mean token.

    Args:
        vision: settings of Dinov2Config (hidden_size, num_hidden_layers, image_size, patch_size, ...).
        classes: number of classes.
    """

    def __init__(self, vision: dict[str, Any], classes: int):
        super().__init__()
        config = Dinov2Config(**vision)
        config.num_labels = classes
        self.model = Dinov2ForImageClassification(config)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S], normalised -> logits [B, classes]."""
        return self.model(images).logits


@dataclass
class FrameEncoder:
    """A frozen DINOv2, and what the discriminator sees of it.

    Attributes:
        source: hub id; None for the sizes and weights below.
        vision: sizes, where there is no `source`.
        weights: of a `DinoClassifier` with these sizes.
        classes: of that classifier.
        size: side of its input in pixels.
        blocks: numbers of the blocks whose output is taken, from 0.
    """

    source: str | None = None
    vision: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    classes: int = 3
    size: int = 224
    blocks: tuple[int, ...] = (2, 5, 8, 11)


def load_dino(encoder: FrameEncoder) -> Dinov2Model:
    """The frozen ViT, in evaluation mode.

    Raises:
        UserError: nothing there.
    """
    if encoder.source is None:
        whole = DinoClassifier(encoder.vision, encoder.classes)
        load_weights(whole, expand(encoder.weights or "", "weights of the frame encoder"))
        return whole.model.dinov2.requires_grad_(False).eval()
    found = from_pretrained(Dinov2Model, encoder.source, dtype=torch.float32)
    return found.requires_grad_(False).eval()


class FrameFeatures(nn.Module):
    """Patch tokens of some blocks of a frozen DINOv2, each through its last LayerNorm: `tokens(prepared(images))`."""

    def __init__(self, encoder: FrameEncoder):
        super().__init__()
        self.size, self.blocks = encoder.size, encoder.blocks
        self.dino = load_dino(encoder)
        self.channels: int = self.dino.config.hidden_size

    def prepared(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, 3, size, size] as the encoder wants them.

        Large images are cropped half of the time, then resized; gradients pass through.
        """
        pixels = random_crop(images / 2 + 0.5, self.size)
        if pixels.shape[-1] != self.size:
            pixels = F.interpolate(pixels, (self.size, self.size), mode="area")
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (pixels - mean) / std

    def tokens(self, pixels: Tensor) -> list[Tensor]:
        """Prepared images [N, 3, size, size] -> for each tapped block [N, patches, D]."""
        hidden = self.dino(pixels, output_hidden_states=True).hidden_states
        return [self.dino.layernorm(hidden[number + 1])[:, 1:] for number in self.blocks]

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, H, W] in [-1, 1] -> for each tapped block [N, patches, D]."""
        return self.tokens(self.prepared(images))


class FrameJudge(nn.Module):
    """Frozen DINOv2 as a measure of frames: class token and mean patch token of the last layer."""

    def __init__(self, encoder: FrameEncoder):
        super().__init__()
        self.dino, self.size = load_dino(encoder), encoder.size
        self.num_features: int = 2 * self.dino.config.hidden_size

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, S, S] in [0, 1] (or uint8) -> [N, 2D]."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        tokens = self.dino((pixels - mean) / std).last_hidden_state
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)


@dataclass
class SentenceEncoder:
    """What tells the discriminator the caption: open_clip's text tower, or known words.

    Attributes:
        open_clip: model as `open_clip.create_model` takes it.
        words: words of a small world; the embedding says which of them a caption has.
    """

    open_clip: str | None = None
    words: tuple[str, ...] = ()


class ClipSentences(nn.Module):
    """Sentence embeddings of a frozen CLIP, whose image tower is dropped; as they come, not of unit length."""

    def __init__(self, name: str):
        super().__init__()
        self.clip = open_clip.create_model(name)
        self.tokenizer = open_clip.get_tokenizer(name)
        self.clip.visual = None
        self.clip.requires_grad_(False).eval()
        self.channels: int = self.clip.text_projection.shape[1]

    @torch.no_grad()
    def forward(self, captions: list[str]) -> Tensor:
        """[B, d]."""
        ids = self.tokenizer(captions).to(self.clip.text_projection.device)
        return self.clip.encode_text(ids).float()


class KeyWords(nn.Module):
    """Which of the known words a caption has."""

    def __init__(self, words: tuple[str, ...]):
        super().__init__()
        self.words, self.channels = words, len(words)
        self.register_buffer("here", torch.zeros(()), persistent=False)

    def forward(self, captions: list[str]) -> Tensor:
        """[B, d]."""
        rows = [[float(word in caption.split()) for word in self.words] for caption in captions]
        return torch.tensor(rows, device=self.here.device)


def build_sentences(encoder: SentenceEncoder) -> nn.Module:
    return KeyWords(encoder.words) if encoder.open_clip is None else ClipSentences(encoder.open_clip)


if __name__ == "__main__":
    main(Classification, PictureData, links=one_seed)
