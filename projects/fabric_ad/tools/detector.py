"""A detector for one's own cloth: trained on pictures without a fault, kept in one file, for pictures of any size.

A picture is covered by overlapping tiles; its map is put together from theirs, its score is the highest value in it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from common.data.files import write_atomic
from common.errors import UserError
from common.training.weights import load_state, load_weights
from projects.fabric_ad.data import pixels
from projects.fabric_ad.losses import anomaly_map, position_loss, smooth
from projects.fabric_ad.model import ReverseStudent
from projects.fabric_ad.teacher import Teacher, imagenet_resnet, small_resnet

FORMAT = "fabric_ad detector"
SMALL = "small"
"""Names the mini scale's teacher in place of one of timm's."""
STRIDE = 32  # pixels of a tile for each position of the bottleneck
SIGMA = 4 / 256
AT_ONCE = 8
Array = np.ndarray


@dataclass
class Settings:
    """What a detector is used with.

    Attributes:
        teacher: timm's name, or SMALL.
        links: residual links.
        tile: side of the tiles, pixels.
        scale: by which pictures are scaled before they are cut.
        threshold: scores above it are faults.
    """

    teacher: str
    links: bool = True
    tile: int = 256
    scale: float = 1.0
    threshold: float = 0.0


class Detector(nn.Module):
    """A teacher, its student, and how they are used."""

    def __init__(self, settings: Settings, teacher: Teacher):
        super().__init__()
        self.settings = settings
        self.teacher, self.student = teacher.frozen(), ReverseStudent(teacher.channels, settings.links)

    def scaled(self, image: Array, name: object) -> Array:
        """A picture as it is looked at, uint8 [h, w, 3]; UserError where it is smaller than a tile."""
        height, width = (round(n * self.settings.scale) for n in image.shape[:2])
        if min(height, width) < self.settings.tile:
            raise UserError(
                f"{name} has {width} x {height} pixels at scale {self.settings.scale:g}, less than a tile of "
                f"{self.settings.tile}: raise --scale, or lower --tile"
            )
        if (height, width) == image.shape[:2]:
            return image
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))

    @torch.no_grad()
    def map(self, image: Array) -> Array:
        """The anomaly map of a picture that has been scaled: float [h, w], where tiles overlap their mean."""
        tile, device = self.settings.tile, next(self.parameters()).device
        corners = [(y, x) for y in _starts(image.shape[0], tile) for x in _starts(image.shape[1], tile)]
        total, count = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
        for first in range(0, len(corners), AT_ONCE):
            some = corners[first : first + AT_ONCE]
            batch = torch.stack([pixels(image[y : y + tile, x : x + tile]) for y, x in some])
            maps = self.teacher(batch.to(device))
            found = smooth(anomaly_map(self.student(batch, maps), maps, tile), SIGMA * tile)
            for (y, x), one in zip(some, found, strict=True):
                total[y : y + tile, x : x + tile] += one
                count[y : y + tile, x : x + tile] += 1
        return total / count

    def fit(self, images: Sequence[Array], steps: int, lr: float, batch: int, seed: int, tell: Callable) -> None:
        """Train the student on random tiles; `tell` gets the step and its loss now and then."""
        rng, tile = np.random.default_rng(seed), self.settings.tile
        device = next(self.parameters()).device
        optimizer = torch.optim.Adam(self.student.parameters(), lr)
        schedule = OneCycleLR(optimizer, lr, steps)
        self.student.train()
        for step in range(steps):
            tiles = []
            for k in rng.integers(len(images), size=batch):
                y, x = (int(rng.integers(n - tile + 1)) for n in images[k].shape[:2])
                tiles.append(pixels(images[k][y : y + tile, x : x + tile]))
            shown = torch.stack(tiles).to(device)
            with torch.no_grad():
                maps = self.teacher(shown)
            loss = position_loss(self.student(shown, maps), maps).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step == steps - 1 or step % max(1, steps // 10) == 0:
                tell(step + 1, float(loss.detach()))
        self.student.eval()
        if not all(bool(value.isfinite().all()) for value in self.student.state_dict().values()):
            raise UserError("the training has diverged: lower --lr")

    def write(self, file: Path) -> None:
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        write_atomic(file, save(state, {"format": FORMAT, "settings": json.dumps(asdict(self.settings))}))


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin along a side: half overlapping, the last one at the end."""
    return sorted({*range(0, length - tile + 1, max(1, tile // 2)), length - tile})


def new(settings: Settings, weights: Path | None, seed: int) -> Detector:
    """A detector to be trained, its teacher timm's or one of the mini scale with these weights."""
    torch.manual_seed(seed)
    if weights is None:
        return Detector(settings, Teacher(imagenet_resnet(settings.teacher)))
    return Detector(settings, Teacher(small_resnet(), str(weights)))


def read(file: Path) -> Detector:
    """What `Detector.write` has written.

    Raises:
        UserError: missing, damaged, or another file.
    """
    if not file.is_file():
        raise UserError(f"no detector at {file}: make one with `fit`, or correct --model")
    try:
        with safe_open(file, "pt") as content:
            about = content.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged, or no detector ({error}): make it again with `fit`") from error
    if about.get("format") != FORMAT:
        raise UserError(f"{file} was not written by `fit`: give a file that was")
    try:
        settings = Settings(**json.loads(about["settings"]))
        small = settings.teacher == SMALL
        net = small_resnet() if small else imagenet_resnet(settings.teacher, pretrained=False)
        detector = Detector(settings, Teacher(net))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{file} is damaged ({error}): make it again with `fit`") from error
    return load_weights(detector, load_state(file)).eval()
