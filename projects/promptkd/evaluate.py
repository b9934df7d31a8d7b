"""Name pictures by their nearest class vector: base classes among themselves, novel ones among themselves, and all.

python -m projects.promptkd.evaluate test --config projects/promptkd/configs/mini/evaluate.yaml --model.clip FOLDER
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import nn

from common.cli import main
from common.data.readers.zero_shot_sets import base_classes
from common.evaluators.zero_shot import ZeroShot, harmonic_mean
from common.models.clip import load_clip
from common.paths import expand
from common.training.runs import save_picture
from common.training.weights import load_state
from projects.promptkd.data import DomainData, links
from projects.promptkd.distill import load_teacher
from projects.promptkd.harness import pictures
from projects.promptkd.model import SENTENCE, Student


class Evaluation(L.LightningModule):
    """Accuracy on base and novel classes and its harmonic mean, on test pictures and on those of validation.

    Base pictures are named among the base classes alone, novel ones among the novel ones: the papers' protocol.
    `accuracy` is over all classes at once, as in the transfer between data sets.

    Args:
        clip: the CLIP, as `common.models.clip.load_clip` takes it.
        classes: names of the classes, from the data.
        templates: sentences for them, from the data, for a CLIP without prompts.
        prompts: what a stage of labels has left; None for no prompts.
        sentence: what they were learned in.
        student: what a distillation has left, which brings its own class vectors.
    """

    run_dir: Path

    def __init__(
        self,
        clip: str,
        classes: list[str],
        templates: list[str],
        prompts: str | None = None,
        sentence: str = SENTENCE,
        student: str | None = None,
    ):
        super().__init__()
        self.classes = classes
        self.reader: nn.Module
        if student is not None:
            self.reader = Student.of(load_clip(clip), load_state(expand(student, "model.student")))
            vectors, trained = self.reader.vectors, self.reader.learned()
        else:
            self.reader = load_teacher(clip, prompts, sentence, templates)
            with torch.no_grad():
                vectors = self.reader.class_vectors(classes)
            trained = getattr(self.reader, "prompts", nn.Module())
        self.trained = sum(value.numel() for value in trained.parameters())
        self.requires_grad_(False).eval()
        base = base_classes(len(classes))
        halves = {"base": range(base), "novel": range(base, len(classes)), "accuracy": range(len(classes))}
        self.measures = nn.ModuleDict(
            {f"{name}{split}": ZeroShot(vectors, among) for name, among in halves.items() for split in ("", "_val")}
        )
        self.vectors = vectors

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        found = self.reader.images(batch["image"])
        for name, measure in self.measures.items():
            if name.endswith("_val") == bool(dataloader_idx):
                measure.update(found, batch["label"])
        if not dataloader_idx and not batch_idx:
            scores = (self.reader.clip.scale * found @ self.vectors.to(found).T).softmax(-1)
            picture = pictures.of_answers(batch["image"], batch["label"], scores, self.classes)
            save_picture(self.run_dir, "what it answers", picture, pictures.CAPTION)

    def on_test_epoch_end(self) -> None:
        for split in ("", "_val"):
            base, novel, accuracy = (self.measures[f"{name}{split}"] for name in ("base", "novel", "accuracy"))
            if not accuracy.update_called:
                continue
            figures = {"base": float(base.compute()), "novel": float(novel.compute())}
            figures |= {"hm": harmonic_mean(*figures.values()), "accuracy": float(accuracy.compute())}
            self.log_dict({f"test/{name}{split}": 100 * value for name, value in figures.items()})
        self.log("test/trained", float(self.trained))


if __name__ == "__main__":
    main(Evaluation, DomainData, links=links)
