"""Frozen nets that measure videos: VideoMAE's features for a Frechet distance, and CLIP's likeness to the caption."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPModel, VideoMAEModel

from common.data.images import IMAGENET_MEAN, IMAGENET_STD
from common.hub import from_pretrained

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class VideoMAEFeatures(nn.Module):
    """Videos by a frozen VideoMAE: the mean of its tokens."""

    def __init__(self, source: str):
        super().__init__()
        self.net = from_pretrained(VideoMAEModel, source, dtype=torch.float32).requires_grad_(False).eval()
        self.num_features: int = self.net.config.hidden_size

    def forward(self, videos: Tensor) -> Tensor:
        """[N, 3, F, H, W] in [0, 1] -> [N, D]; of other numbers of frames the nearest are taken.

        As a Frechet distance's own net it is given pixels as the distance is, whatever torchmetrics' `normalize` says.
        """
        size, frames = self.net.config.image_size, self.net.config.num_frames
        chosen = torch.linspace(0, videos.shape[2] - 1, frames, device=videos.device).round().long()
        pixels = rearrange(videos[:, :, chosen], "n c f h w -> (n f) c h w")
        pixels = normalised(pixels, size, IMAGENET_MEAN, IMAGENET_STD)
        return self.net(rearrange(pixels, "(n f) c h w -> n f c h w", n=len(videos))).last_hidden_state.mean(1)


class ClipSimilarity(nn.Module):
    """CLIPSIM: the mean cosine of a video's frames to its caption."""

    def __init__(self, source: str):
        super().__init__()
        self.net = from_pretrained(CLIPModel, source, dtype=torch.float32).requires_grad_(False).eval()
        self.tokenizer = from_pretrained(AutoTokenizer, source)

    def forward(self, videos: Tensor, captions: list[str]) -> Tensor:
        """[N, 3, F, H, W] in [0, 1] -> [N]."""
        words = self.tokenizer(captions, padding=True, truncation=True, return_tensors="pt").to(videos.device)
        frames = rearrange(videos, "n c f h w -> (n f) c h w")
        pixels = normalised(frames, self.net.config.vision_config.image_size, CLIP_MEAN, CLIP_STD)
        out = self.net(input_ids=words.input_ids, attention_mask=words.attention_mask, pixel_values=pixels)
        images = rearrange(F.normalize(out.image_embeds, dim=-1), "(n f) d -> n f d", n=len(videos))
        return torch.einsum("nfd,nd->n", images, F.normalize(out.text_embeds, dim=-1)) / images.shape[1]


def normalised(images: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[N, 3, H, W] in [0, 1] -> [N, 3, size, size] as an encoder wants them."""
    images = F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    shift, scale = (images.new_tensor(values).view(3, 1, 1) for values in (mean, std))
    return (images - shift) / scale
