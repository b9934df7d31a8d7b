"""What is measured of generated videos: motion and appearance apart, and both together.

Every measure is given pictures in [0, 1]; torchmetrics hands them on as they are to nets that it does not know.
"""

import copy
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.image.fid import FrechetInceptionDistance
from transformers import AutoTokenizer, CLIPModel, VideoMAEModel

from common.data.worlds.moving_glyphs import OBEYS, bar_contrast, centroid_velocity, commanded_velocity
from common.evaluators.frechet import Inception, frechet_distance
from common.hub import from_pretrained
from projects.mcm.features import MEAN, STD, FrameEncoder, FrameJudge

REAL = ("real_features_sum", "real_features_cov_sum", "real_features_num_samples")
"""What a Frechet distance knows of the side that is aimed at."""

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass
class Measures:
    """Which nets measure at paper scale, or the judge of the world at mini scale.

    Attributes:
        judge: of frames of the world; switches the measures of the world on.
        inception: for the distance of frames to images.
        clip: hub id, for CLIPSIM.
        video: hub id of a VideoMAE, for the distance of videos to videos.
    """

    judge: FrameEncoder | None = None
    inception: Inception | None = None
    clip: str | None = None
    video: str | None = None


class VideoFeatures(nn.Module):
    """Videos by the judge of frames: its mean features over the frames, and their mean change from frame to frame."""

    def __init__(self, judge: FrameJudge):
        super().__init__()
        self.judge, self.num_features = judge, 2 * judge.num_features

    def forward(self, videos: Tensor) -> Tensor:
        """[N, 3, F, S, S] -> [N, 2D]."""
        found = self.judge(rearrange(videos, "n c f h w -> (n f) c h w"))
        features = rearrange(found, "(n f) d -> n f d", n=len(videos))
        return torch.cat([features.mean(1), features.diff(dim=1).abs().mean(1)], 1)


class VideoMAEFeatures(nn.Module):
    """Videos by a frozen VideoMAE: the mean of its tokens."""

    def __init__(self, source: str):
        super().__init__()
        self.net = from_pretrained(VideoMAEModel, source, dtype=torch.float32).requires_grad_(False).eval()
        self.num_features: int = self.net.config.hidden_size

    def forward(self, videos: Tensor) -> Tensor:
        """[N, 3, F, H, W] in [0, 1] -> [N, D]; of other numbers of frames the nearest are taken."""
        size, frames = self.net.config.image_size, self.net.config.num_frames
        chosen = torch.linspace(0, videos.shape[2] - 1, frames, device=videos.device).round().long()
        pixels = rearrange(videos[:, :, chosen], "n c f h w -> (n f) c h w")
        pixels = normalised(pixels, size, MEAN, STD)
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


class WorldMeasures(nn.Module):
    """Motion and watermark as the world of moving glyphs shows them."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.ModuleDict({name: MeanMetric() for name in ("motion_error", "obeys", "bar")})

    def update(self, videos: Tensor, captions: list[str]) -> None:
        """Generated videos [N, 3, F, 8, 8] in [0, 1]."""
        grey = videos.mean(1)
        error = (centroid_velocity(grey) - commanded_velocity(captions).to(grey)).norm(dim=1)
        self.means["motion_error"].update(error)
        self.means["obeys"].update((error < OBEYS).float())
        self.means["bar"].update(bar_contrast(grey).abs())

    def compute(self) -> dict[str, Tensor]:
        return {name: metric.compute() for name, metric in self.means.items()}


class VideoMeasures(nn.Module):
    """All measures of one number of steps: `real` with what is aimed at, `update` with generated videos."""

    def __init__(self, measures: Measures):
        super().__init__()
        self.frame_fd = self.video_fd = self.clip = None
        self.world = None if measures.judge is None else WorldMeasures()
        if measures.judge is not None:
            judge = FrameJudge(measures.judge)
            self.frame_fd = FrechetInceptionDistance(judge, normalize=True)
            self.video_fd = FrechetInceptionDistance(VideoFeatures(judge), normalize=True)
        if measures.inception is not None:
            self.frame_fd = frechet_distance(measures.inception)
        if measures.video is not None:
            self.video_fd = FrechetInceptionDistance(VideoMAEFeatures(measures.video), normalize=True)
        if measures.clip is not None:
            self.clip = ClipSimilarity(measures.clip)
        self.clipsim = None if self.clip is None else MeanMetric()

    def another(self) -> "VideoMeasures":
        """A new set of measures by the same nets."""
        nets = [metric.inception for metric in (self.frame_fd, self.video_fd) if metric is not None]
        nets += [] if self.clip is None else [self.clip]
        return copy.deepcopy(self, {id(net): net for net in nets})

    def images(self, images: Tensor) -> None:
        """Images [N, 3, S, S] in [0, 1] of the appearance that is aimed at."""
        if self.frame_fd is not None:
            self.frame_fd.update(images, real=True)

    def real(self, videos: Tensor) -> None:
        """Real videos [N, 3, F, S, S] in [0, 1]."""
        if self.video_fd is not None:
            self.video_fd.update(videos, real=True)

    def aim_as(self, other: "VideoMeasures") -> None:
        """Take over the images and real videos that another set was shown."""
        for mine, given in ((self.frame_fd, other.frame_fd), (self.video_fd, other.video_fd)):
            for name in REAL if mine is not None else ():
                setattr(mine, name, getattr(given, name).clone())

    def update(self, videos: Tensor, captions: list[str]) -> None:
        """Generated videos [N, 3, F, S, S] in [0, 1]."""
        if self.frame_fd is not None:
            self.frame_fd.update(rearrange(videos, "n c f h w -> (n f) c h w"), real=False)
        if self.video_fd is not None:
            self.video_fd.update(videos, real=False)
        if self.clipsim is not None and self.clip is not None:
            self.clipsim.update(self.clip(videos, captions))
        if self.world is not None:
            self.world.update(videos, captions)

    def compute(self) -> dict[str, Tensor]:
        found = {} if self.world is None else self.world.compute()
        for name in ("frame_fd", "video_fd", "clipsim"):
            if (metric := getattr(self, name)) is not None:
                found[name] = metric.compute()
        return found
