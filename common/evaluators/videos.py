"""Frozen nets that measure videos: VideoMAE's features for a Frechet distance, and CLIP's likeness to the caption."""

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import VideoMAEModel

from common.data.images import IMAGENET_MEAN, IMAGENET_STD
from common.evaluators.clip_score import Clip, normalised
from common.hub import from_pretrained


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
        self.clip = Clip(source)

    def forward(self, videos: Tensor, captions: list[str]) -> Tensor:
        """[N, 3, F, H, W] in [0, 1] -> [N]."""
        images = self.clip.images(rearrange(videos, "n c f h w -> (n f) c h w"))
        frames = rearrange(images, "(n f) d -> n f d", n=len(videos))
        return torch.einsum("nfd,nd->n", frames, self.clip.texts(captions)) / frames.shape[1]
