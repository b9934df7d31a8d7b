"""Videos to distil on, and pictures that show how frames should look."""

import math
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as transforms

from common.data.images import PictureSource
from common.data.stream import stream_loader
from common.data.tolerant import Tolerant
from common.data.videos import Video, VideoSource
from common.errors import UserError


class _Clips:
    """A source as one whose items are clips from the middle, so that `Tolerant` can pass over what is damaged."""

    def __init__(self, source: VideoSource, frames: int, interval: int):
        self.source, self.frames, self.interval = source, frames, interval
        self.rng: np.random.Generator | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Video:
        return self.source.clip(index, self.frames, self.interval, self.rng)


class VideoSamples(Dataset):
    """{video [3, F, S, S] in [0, 1], caption, images [K, 3, S, S] in [0, 1], image_captions (K of them)}.

    The images are drawn from the picture set. Without one they are frames of the same clip, a random one from each of K
    equal segments, with the clip's caption.

    Args:
        crop: smallest share of a frame that a random crop covers; 1 takes the central square of the whole.
        per_video: K.
    """

    def __init__(
        self,
        videos: VideoSource,
        images: PictureSource | None,
        frames: int,
        interval: int,
        size: int,
        crop: float,
        per_video: int,
    ):
        self.clips = _Clips(videos, frames, interval)
        self.videos = Tolerant(self.clips)  # type: ignore[arg-type]  # it never looks at what it passes on
        self.images = None if images is None else Tolerant(images)  # type: ignore[arg-type]
        self.size, self.crop, self.per_video = size, crop, per_video

    def __len__(self) -> int:
        return len(self.videos)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        self.clips.rng = rng
        video = self.videos[index]
        pixels = cropped(to_float(video.frames), self.size, self.crop, rng)
        sample = {"video": rearrange(pixels, "f c h w -> c f h w"), "caption": video.caption}
        if self.images is None:
            chosen = segment_frames(len(pixels), self.per_video, rng)
            return sample | {"images": pixels[chosen], "image_captions": [video.caption] * self.per_video}
        pictures = [self.images[int(rng.integers(len(self.images)))] for _ in range(self.per_video)]
        images = [cropped(to_float(p.image[None]), self.size, self.crop, rng)[0] for p in pictures]
        return sample | {"images": torch.stack(images), "image_captions": [p.caption for p in pictures]}

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Without chance: the middle of the video, the central square."""
        self.clips.rng = None
        video = self.videos[index]
        pixels = cropped(to_float(video.frames), self.size, 1.0, None)
        return {"video": rearrange(pixels, "f c h w -> c f h w"), "caption": video.caption, "index": index}


def to_float(frames: np.ndarray) -> Tensor:
    """uint8 [F, H, W, 3] -> [F, 3, H, W] in [0, 1]."""
    return rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "f h w c -> f c h w").float() / 255


def cropped(frames: Tensor, size: int, crop: float, rng: np.random.Generator | None) -> Tensor:
    """One crop for all frames [F, 3, H, W], resized to [F, 3, size, size].

    Its area is uniform in [crop, 1] of the frame's, the logarithm of its shape uniform in [3/4, 4/3], as torchvision's
    RandomResizedCrop draws them; `crop` 1 or no `rng` take the central square.
    """
    height, width = frames.shape[-2:]
    h = w = min(height, width)
    top, left = (height - h) // 2, (width - w) // 2
    if crop < 1 and rng is not None:
        for _ in range(10):
            area = height * width * rng.uniform(crop, 1)
            shape = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            tall, wide = round(math.sqrt(area / shape)), round(math.sqrt(area * shape))
            if 0 < tall <= height and 0 < wide <= width:
                h, w = tall, wide
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                break
    part = frames[..., top : top + h, left : left + w]
    if (h, w) == (size, size):
        return part
    return transforms.resize(part, [size, size], antialias=True).clamp(0, 1)


def segment_frames(frames: int, count: int, rng: np.random.Generator) -> list[int]:
    """A random frame from each of `count` equal segments."""
    edges = np.linspace(0, frames, count + 1).astype(int)
    return [int(rng.integers(low, max(low + 1, high))) for low, high in zip(edges[:-1], edges[1:], strict=True)]


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Tensors are stacked; captions become lists, those of images in the order of the flattened images."""
    batch: dict[str, Any] = {name: torch.stack([s[name] for s in samples]) for name in ("video", "images")}
    batch["caption"] = [sample["caption"] for sample in samples]
    batch["image_captions"] = [caption for sample in samples for caption in sample["image_captions"]]
    return batch


def collate_videos(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "video": torch.stack([sample["video"] for sample in samples]),
        "caption": [sample["caption"] for sample in samples],
        "index": torch.tensor([sample["index"] for sample in samples]),
    }


class VideoData(L.LightningDataModule):
    """Videos of each split, and the pictures of the appearance that is aimed at.

    Args:
        train: videos to train on.
        val: videos for learning curves and tuning.
        test: videos whose captions the reported figures are for.
        images: pictures for the frame discriminator; None takes frames of the videos.
        frames: F, of a clip.
        interval: between a clip's frames, in frames of the video.
        image_size: side S in pixels.
        crop: smallest share of a frame that training crops cover.
        images_per_video: K, pictures that are drawn with each video.
        batch_size: videos per step and process.
        num_workers: processes that load data; 0 loads in the training process.
        seed: order of the training stream; linked to `seed_everything` by the training scripts.
    """

    def __init__(
        self,
        train: VideoSource | None = None,
        val: VideoSource | None = None,
        test: VideoSource | None = None,
        images: PictureSource | None = None,
        frames: int = 16,
        interval: int = 8,
        image_size: int = 256,
        crop: float = 0.75,
        images_per_video: int = 2,
        batch_size: int = 4,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.sources = {name: s for name, s in (("train", train), ("val", val), ("test", test)) if s is not None}
        self.images, self.frames, self.interval = images, frames, interval
        self.image_size, self.crop, self.images_per_video = image_size, crop, images_per_video
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    def samples(self, split: str) -> VideoSamples:
        """A split's samples; UserError where the config gives none."""
        if split not in self.sources:
            raise UserError(f"this stage needs data.{split}; the config gives none")
        return VideoSamples(
            self.sources[split],
            self.images,
            self.frames,
            self.interval,
            self.image_size,
            self.crop,
            self.images_per_video,
        )

    def train_dataloader(self) -> DataLoader:
        samples = self.samples("train")
        return stream_loader(samples, self.batch_size, self.trainer, self.seed, self.num_workers, collate)

    def val_dataloader(self) -> Any:
        return self.ordered("val") if "val" in self.sources else []

    def test_dataloader(self) -> list[DataLoader]:
        """The test split, and the validation split where there is one."""
        return [self.ordered("test"), *([self.ordered("val")] if "val" in self.sources else [])]

    def ordered(self, split: str) -> DataLoader:
        """A split in order and without chance; every process has its own part."""
        samples = self.samples(split)
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        part = torch.utils.data.Subset(samples, range(rank, len(samples), world))
        return DataLoader(
            part,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=collate_videos,
            generator=torch.Generator(),
        )
