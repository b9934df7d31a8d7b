"""What every width is worth: networks cut out, calibrated and measured, each once."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UserError
from projects.controllable_mtl.data import TaskData
from projects.controllable_mtl.model import Configuration, SuperNet, encoder_widths
from projects.controllable_mtl.search import Ratios, best
from projects.controllable_mtl.slim import calibrate
from projects.controllable_mtl.tasks import invariance

Batch = dict[str, Tensor]
Figures = dict[tuple[str, float], float]
"""By task and by its decoder's ratio."""


class Deployed(nn.Module):
    """A SubNet as a plain network of its own: pictures [B, 3, H, W] to each task's outputs, in the tasks' order."""

    def __init__(self, net: SuperNet, widths: Configuration):
        super().__init__()
        self.encoder = net.encoder.cut(encoder_widths(widths.encoder))
        pairs = zip(net.tasks, widths.decoders, strict=True)
        self.decoders = nn.ModuleList(net.decoder(task).cut({"d": ratio}) for task, ratio in pairs)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.encoder(images)
        return tuple(decoder(features) for decoder in self.decoders)


class Bench:
    """Figures of all decoders behind an encoder: a task's figure depends on the encoder and on its own decoder alone.

    Args:
        net: the super-network.
        data: its training part calibrates, `val` serves the search, `test` the report.
        calibration: training samples for the batch norms' statistics.
        keep: hold the splits in memory.
        device: where it all runs.
    """

    def __init__(self, net: SuperNet, data: TaskData, calibration: int, keep: bool, device: torch.device):
        self.net, self.data, self.keep, self.device = net, data, keep, device
        self.kept: dict[str, list[Batch]] = {}
        self.images = [batch["image"].to(device) for batch in data.ordered("train", calibration)]
        self.known: dict[tuple[Ratios, Ratios | None, str], Figures] = {}
        self.distance: dict[Ratios, float] = {}
        """Of an encoder's features from the SuperNet's, on the pictures of the calibration."""
        self.teacher: list[Tensor] | None = None

    def figures(self, widths: Configuration, split: str, preference: Ratios | None = None) -> list[float]:
        """Each task's figure.

        Args:
            preference: what conditions the network, where one does.
        """
        key = widths.encoder, preference, split
        if key not in self.known:
            self.known[key] = self._measured(widths.encoder, split, preference)
        return [self.known[key][t.name, r] for t, r in zip(self.net.tasks, widths.decoders, strict=True)]

    def scores(self, widths: Configuration, split: str, preference: Ratios | None = None) -> list[float]:
        """Each task's figure from its floor, 0, to perfection, 1."""
        figures = self.figures(widths, split, preference)
        return [task.score(figure) for task, figure in zip(self.net.tasks, figures, strict=True)]

    def best(self, among: Sequence[Configuration], evaluations: int) -> Configuration:
        """The configuration with the best overall performance on the validation split."""
        return best(among, self.overall, evaluations, np.random.default_rng(0))

    def overall(self, widths: Configuration) -> float:
        """Mean over tasks of how much the validation score gains or loses, relative to the SuperNet's."""
        scores, whole = (np.array(self.scores(w, "val")) for w in (widths, self.net.full))
        return float(((scores - whole) / np.maximum(np.abs(whole), 1e-6)).mean())

    @torch.no_grad()
    def deployed(self, widths: Configuration) -> Deployed:
        """The SubNet that `figures` speaks of, calibrated."""
        own = Deployed(self.net, widths)
        calibrate(own.encoder, [(x,) for x in self.images])
        features = [(own.encoder(x),) for x in self.images]
        for decoder in own.decoders:
            calibrate(decoder, features)
        return own

    @torch.no_grad()
    def _measured(self, ratios: Ratios, split: str, preference: Ratios | None) -> Figures:
        condition = () if preference is None else (torch.tensor([preference], device=self.device),)
        encoder = calibrate(self.net.encoder.cut(encoder_widths(ratios)), [(x, *condition) for x in self.images])
        features = [encoder(x, *condition) for x in self.images]
        if ratios == self.net.full.encoder:
            self.teacher = features
        if self.teacher is not None:
            far = [float(invariance(f, t)) for f, t in zip(features, self.teacher, strict=True)]
            self.distance[ratios] = sum(far) / len(far)
        decoders = {
            (task.name, ratio): calibrate(self.net.decoder(task).cut({"d": ratio}), [(f,) for f in features])
            for task in self.net.tasks
            for ratio in self.net.sizes.widths
        }
        sums: dict[tuple[str, float], Tensor] = {}
        for batch in self._batches(split):
            found = encoder(batch["image"], *condition)
            for task in self.net.tasks:
                for ratio in self.net.sizes.widths:
                    added = task.statistics(decoders[task.name, ratio](found), batch[task.name])
                    key = task.name, ratio
                    sums[key] = sums[key] + added if key in sums else added
        found = {(t.name, r): t.figure(sums[t.name, r]) for t in self.net.tasks for r in self.net.sizes.widths}
        if odd := [name for (name, _), figure in found.items() if not math.isfinite(figure)]:
            raise UserError(
                f"task {odd[0]} has no figure on data.{split}: none of its labels counts there, or the weights diverged"
            )
        return found

    def _batches(self, split: str) -> Iterable[Batch]:
        if split in self.kept:
            return self.kept[split]
        batches = ({name: x.to(self.device) for name, x in batch.items()} for batch in self.data.ordered(split))
        if not self.keep:
            return batches
        self.kept[split] = list(batches)
        return self.kept[split]
