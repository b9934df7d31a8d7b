"""Pictures with several captions each, the embeddings of these, and batches for both stages."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.data.images import Picture, Pictures, PictureSource
from common.data.scene import UnreadableSample
from common.data.stores import ArrayStore
from common.data.stream import stream_loader
from common.data.tolerant import Tolerant
from common.data.worlds.tile_words import long_caption, short_caption
from common.data.worlds.tiles import TileScenes
from common.errors import UserError
from common.paths import expand

Tokenizer = Callable[[list[str]], Tensor]
View = Literal["short", "other", "long"]


class Texts(ABC):
    """Texts that the language model reads once, before any training."""

    @abstractmethod
    def texts(self) -> Sequence[str]:
        """All of them, in an order that stays."""


class Captioned(PictureSource, Texts):
    """Pictures with captions, as many of each.

    Attributes:
        views: captions of a picture.
    """

    views: int

    @abstractmethod
    def captions(self, index: int) -> tuple[str, ...]:
        """What is said of a picture, without decoding it."""

    @abstractmethod
    def image(self, index: int) -> tuple[np.ndarray, str]:
        """A picture, uint8 RGB [H, W, 3], and its name."""

    def __getitem__(self, index: int) -> Picture:
        """Its label is its own number: another one may take the place of one that cannot be read."""
        image, name = self.image(index)
        return Picture(image, index, self.captions(index)[0], name)

    def texts(self) -> Sequence[str]:
        return _Views(self)


class _Views(Sequence[str]):
    """Captions after one another, all of a picture before the next one's; empty where they cannot be read."""

    def __init__(self, source: Captioned):
        self.source = source

    def __len__(self) -> int:
        return len(self.source) * self.source.views

    def __getitem__(self, place: Any) -> Any:
        try:
            return self.source.captions(place // self.source.views)[place % self.source.views]
        except UnreadableSample:
            return ""


class TileCaptions(Captioned):
    """Scenes of tiles: a short caption, another short one, and a long one that says all there is in any of its names.

    Args:
        scenes: of which.
        said: the captions of each, in this order.
    """

    def __init__(self, scenes: TileScenes, said: tuple[View, ...] = ("short", "other", "long")):
        self.scenes, self.said, self.views = scenes, said, len(said)

    def __len__(self) -> int:
        return len(self.scenes)

    def captions(self, index: int) -> tuple[str, ...]:
        tiles, rng = self.scenes.tiles(index), np.random.default_rng((*self.scenes.key, index, 3))
        short, other = (short_caption(tiles, rng, self.scenes.alone) for _ in range(2))
        known = {"short": short, "other": other, "long": long_caption(tiles, rng)}
        return tuple(known[view] for view in self.said)

    def image(self, index: int) -> tuple[np.ndarray, str]:
        return self.scenes.scene(index).image, str(index)


def fingerprint(texts: Sequence[str]) -> str:
    """Tells texts apart by their first ones: the embeddings of a longer row of texts serve the trainings on a part."""
    return hashlib.sha256("\n".join(texts[k] for k in range(min(8, len(texts)))).encode()).hexdigest()[:16]


def open_embeddings(folder: str, texts: Sequence[str]) -> ArrayStore:
    """What the stage `embed` has written of these texts, a row a text, or of more that begin so.

    Raises:
        UserError: no such folder, unfinished, of other texts, or of fewer.
    """
    store = ArrayStore.open(expand(folder, "data.embeddings"), key=fingerprint(texts))
    if len(store) < len(texts):
        raise UserError(f"{folder} has embeddings of {len(store)} texts, here are {len(texts)}: embed these")
    return store


class _Said(Dataset):
    """Number and captions of a sample."""

    def __init__(self, source: Captioned):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[int, tuple[str, ...]]:
        return index, self.source.captions(index)


class CaptionSamples:
    """{tokens [V, L] for CLIP, embeddings float32 [V, d]} of chosen views of a sample, without its picture."""

    def __init__(self, source: Captioned, store: ArrayStore, views: Sequence[int], tokenizer: Tokenizer):
        self.said = Tolerant(_Said(source))  # type: ignore[arg-type]  # it never looks at what it passes on
        self.store, self.views, self.count = store, views, source.views
        self.blocks, self.tokenizer = source.blocks, tokenizer

    def __len__(self) -> int:
        return len(self.said)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        number, captions = self.said[index]  # type: ignore[misc]
        rows = [self.store[number * self.count + view] for view in self.views]
        tokens = self.tokenizer([captions[view] for view in self.views])
        return {"tokens": tokens, "embeddings": torch.from_numpy(np.stack(rows).astype(np.float32))}


class PairSamples(Pictures):
    """{image float32 [3, S, S] in [0, 1], embedding float32 [d]} of one of the chosen views, at random."""

    def __init__(self, source: Captioned, store: ArrayStore, views: Sequence[int], size: int, cache: bool):
        super().__init__(source, size, cache=cache)
        self.store, self.views, self.count = store, views, source.views

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        found = super().draw(index, rng)
        view = self.views[int(rng.integers(len(self.views)))]
        row = self.store[found["label"] * self.count + view].astype(np.float32)
        return {"image": found["image"], "embedding": torch.from_numpy(row)}


class EmbeddedData(L.LightningDataModule):
    """What both stages have in common: captioned samples and the language model's embeddings of their captions.

    Args:
        train: the samples.
        embeddings: what the stage `embed` has written for them, or for more that begin with them.
        views: which captions of a sample are used, by their numbers.
        batch_size: samples per step and process; the losses' weights hold for one size.
        num_workers: processes that load data; 0 loads in the training process.
        seed: order of the samples.
    """

    def __init__(
        self,
        train: Captioned,
        embeddings: str,
        views: tuple[int, ...],
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        if not views or not set(views) <= set(range(train.views)):
            raise UserError(f"data.views {list(views)}: a sample has the captions 0 to {train.views - 1}")
        self.samples, self.views, self.batch_size = train, views, batch_size
        self.num_workers, self.seed = num_workers, seed
        self.store = open_embeddings(embeddings, train.texts())

    @property
    def width(self) -> int:
        """d of the embeddings."""
        return self.store.shape[0]

    def loader(self, samples: Any) -> DataLoader:
        return stream_loader(samples, self.batch_size, self.trainer, self.seed, self.num_workers)


class CaptionData(EmbeddedData):
    """Stage 1: captions alone.

    Args:
        tokenizer: CLIP's; follows from the model.
        train, embeddings, batch_size, num_workers, seed: see `EmbeddedData`.
        views: two captions of a sample; the structure is that of the first.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: Captioned,
        embeddings: str,
        views: tuple[int, int] = (0, 1),
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__(train, embeddings, views, batch_size, num_workers, seed)
        self.tokenizer = tokenizer

    def train_dataloader(self) -> DataLoader:
        return self.loader(CaptionSamples(self.samples, self.store, self.views, self.tokenizer))


class PairData(EmbeddedData):
    """Stage 2: pictures, each with one of its captions.

    Args:
        image_size: side S of the pictures, pixels.
        cache: keep decoded pictures in memory (for small data sets).
        train, embeddings, batch_size, num_workers, seed: see `EmbeddedData`.
        views: the captions that are drawn from.
    """

    def __init__(
        self,
        train: Captioned,
        embeddings: str,
        image_size: int,
        views: tuple[int, ...] = (0, 2),
        batch_size: int = 64,
        cache: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__(train, embeddings, views, batch_size, num_workers, seed)
        self.image_size, self.cache = image_size, cache

    def train_dataloader(self) -> DataLoader:
        return self.loader(PairSamples(self.samples, self.store, self.views, self.image_size, self.cache))
