"""Measure a CLIP: which captions it holds for true, and which classes it knows without training.

python -m projects.degla.evaluate test --config projects/degla/configs/mini/evaluate.yaml --model.clip FOLDER
"""

from pathlib import Path
from typing import Any, cast

import lightning.pytorch as L
import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn
from torchmetrics import MeanMetric

from common.cli import main, one_seed
from common.errors import UserError
from common.evaluators.zero_shot import CaptionChoice, ZeroShot
from common.training.runs import save_picture
from projects.degla.data import CompositionData
from projects.degla.harness.pictures import CAPTION, drawn
from projects.degla.model import embed, ids, load_finetuned

TEMPLATES = ["a photo of a {}."]


class Evaluation(L.LightningModule):
    """Shares in per cent: of captions that beat all their foils, by bench; of pictures whose class is the nearest, by
    set; and means of them. `<bench>_share` is what CLIP's softmax over a caption and its foils gives to the caption, on
    average. Cosines are compared in float32, whatever the precision: in half precision near ones tie.

    Args:
        clip: what was finetuned, as `load_clip` takes it.
        weights: that finetuning has left; None measures `clip` itself.
        templates: sentences in which classes are named, {}, by set; a set that is not here brings its own, or is a
            photo.
        means: a metric's name, and those that it is the mean of: benches, sets, and means before it.
        shown: pictures of the first bench in the report.
    """

    run_dir: Path

    def __init__(
        self,
        clip: str,
        weights: str | None = None,
        templates: dict[str, list[str]] | None = None,
        means: dict[str, list[str]] | None = None,
        shown: NonNegativeInt = 6,
    ):
        super().__init__()
        self.clip = load_finetuned(clip, weights).requires_grad_(False).eval()
        self.templates, self.means, self.shown = templates or {}, means or {}, shown
        self.figures = nn.ModuleDict()

    @property
    def data(self) -> CompositionData:
        return cast(CompositionData, self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_test_start(self) -> None:
        """A metric for each bench and set, in the loaders' order."""
        names = [*self.data.benches, *self.data.sets]
        known = {*names, *(f"{name}_share" for name in self.data.benches)}
        for mean, parts in self.means.items():
            if unknown := [part for part in parts if part not in known]:
                raise UserError(
                    f"model.means.{mean} is of {unknown[0]}, which is no bench, no set and no mean before it"
                )
            known.add(mean)
        figures: dict[str, nn.Module] = {name: CaptionChoice() for name in self.data.benches}
        for name, source in self.data.sets.items():
            if not source.classes:
                raise UserError(f"data.sets.{name} has no names of classes: nothing can be looked for in its pictures")
            own = getattr(source, "template", None)
            templates = self.templates.get(name, [own] if own else TEMPLATES)
            figures[name] = ZeroShot(self.clip.class_vectors(source.classes, templates))
        figures |= {f"{name}_share": MeanMetric() for name in self.data.benches}
        self.figures = nn.ModuleDict(figures).to(self.device)

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        name = [*self.data.benches, *self.data.sets][dataloader_idx]
        if name in self.data.sets:
            images = self.clip.images(batch["image"]).float()
            with torch.autocast(self.device.type, enabled=False):
                self.figures[name].update(images, batch["label"])
            return
        found = embed(self.clip, batch["image"], ids(self.clip, batch["texts"]))
        true = (found.image * found.text).sum(-1)
        foils = (found.image[:, None] * found.negatives).sum(-1)
        self.figures[name].update(true, foils)
        scores = torch.cat([true[:, None], foils], 1)
        self.figures[f"{name}_share"].update((self.clip.scale.float() * scores).softmax(1)[:, 0])
        if dataloader_idx == batch_idx == 0:
            self.show(batch, scores)

    def show(self, batch: dict[str, Any], scores: Tensor) -> None:
        """Keep the first pictures with their captions and what these score."""
        if self.trainer.is_global_zero:
            for k in range(min(self.shown, len(scores))):
                picture = drawn(batch["image"][k], list(batch["texts"][k]), scores[k].tolist())
                save_picture(self.run_dir, f"scene {k + 1}", picture, CAPTION)

    def on_test_epoch_end(self) -> None:
        found = {name: 100 * metric.compute() for name, metric in self.figures.items()}
        for mean, parts in self.means.items():
            found[mean] = torch.stack([found[part] for part in parts]).mean()
        self.log_dict({f"test/{name}": value.float() for name, value in found.items()})
        self.log("test/params", float(sum(p.numel() for p in self.clip.net.parameters())))


if __name__ == "__main__":
    main(Evaluation, CompositionData, links=one_seed)
