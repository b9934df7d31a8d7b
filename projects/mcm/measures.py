"""What is measured of generated videos: motion and appearance apart, and both together.

Every measure is given pictures in [0, 1]; torchmetrics hands them on as they are to nets that it does not know.
"""

import copy
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.image.fid import FrechetInceptionDistance

from common.data.worlds.moving_glyphs import OBEYS, bar_contrast, centroid_velocity, commanded_velocity
from common.evaluators.frechet import Inception, frechet_distance
from common.evaluators.videos import ClipSimilarity, VideoMAEFeatures
from projects.mcm.features import FrameEncoder, FrameJudge

REAL = ("real_features_sum", "real_features_cov_sum", "real_features_num_samples")
"""What a Frechet distance knows of the side that is aimed at."""


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
