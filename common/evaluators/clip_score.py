"""CLIP's likeness of pictures to captions and to other pictures, as Metrics; the net is named by its hub id.

clip = Clip("openai/clip-vit-large-patch14")
metrics = {"clipscore": ClipScore(clip), "clip_t": ClipText(clip), "clip_i": ClipImage(clip)}
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from transformers import AutoTokenizer, CLIPModel

from common.hub import from_pretrained

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RESCALED = 2.5  # w of CLIPScore (Hessel et al. 2021, section 3)


class Clip(nn.Module):
    """A frozen CLIP: pictures and texts as unit vectors.

    Args:
        source: hub id or folder.
    """

    def __init__(self, source: str):
        super().__init__()
        self.net = from_pretrained(CLIPModel, source, dtype=torch.float32).requires_grad_(False).eval()
        self.tokenizer = from_pretrained(AutoTokenizer, source)

    @torch.no_grad()
    def images(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, D]."""
        pixels = normalised(images, self.net.config.vision_config.image_size, CLIP_MEAN, CLIP_STD)
        found = self.net.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.net.visual_projection(found), dim=-1)

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        """-> [N, D]."""
        words = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.net.device)
        found = self.net.text_model(input_ids=words.input_ids, attention_mask=words.attention_mask).pooler_output
        return F.normalize(self.net.text_projection(found), dim=-1)


class CosineMetric(Metric):
    """The mean over pictures of a cosine, weighted.

    Args:
        clip: may be shared by several metrics.
    """

    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, clip: Clip):
        super().__init__()
        self.clip = clip
        self.add_state("total", torch.zeros((), dtype=torch.float64), "sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), "sum")

    def add(self, values: Tensor) -> None:
        """Figures of some pictures, [N]."""
        self.total += values.double().sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        return self.total / self.count


class ClipText(CosineMetric):
    """CLIP-T: cosine of a picture to its caption."""

    def update(self, images: Tensor, captions: list[str]) -> None:
        """Pictures [N, 3, H, W] in [0, 1]."""
        self.add((self.clip.images(images) * self.clip.texts(captions)).sum(-1))


class ClipScore(CosineMetric):
    """CLIPScore: 2.5 max(cosine of a picture to its caption, 0)."""

    def update(self, images: Tensor, captions: list[str]) -> None:
        """Pictures [N, 3, H, W] in [0, 1]."""
        cosine = (self.clip.images(images) * self.clip.texts(captions)).sum(-1)
        self.add(RESCALED * cosine.clamp(min=0))


class ClipImage(CosineMetric):
    """CLIP-I: cosine of a picture to another picture."""

    def update(self, images: Tensor, others: Tensor) -> None:
        """Pictures [N, 3, H, W] in [0, 1], both."""
        self.add((self.clip.images(images) * self.clip.images(others)).sum(-1))


def normalised(images: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[N, 3, H, W] in [0, 1] -> [N, 3, size, size] as an encoder wants them."""
    images = F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    shift, scale = (images.new_tensor(values).view(3, 1, 1) for values in (mean, std))
    return (images - shift) / scale
