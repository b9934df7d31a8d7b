"""Measure how well faults are found: on each category's tests, and on held-out pictures with painted faults.

    python -m projects.fabric_ad.evaluate test --config projects/fabric_ad/configs/mini/evaluate.yaml \\
        --config projects/fabric_ad/configs/mini/evaluate_residual.yaml --model.teacher_weights FILE \\
        --model.weights.twill FILE --data.categories '[twill]'
"""

from collections import defaultdict
from pathlib import Path

import lightning.pytorch as L
import numpy as np
from torch import Tensor, nn

from common.cli import main, one_seed
from common.errors import UserError
from common.paths import expand
from common.training.runs import save_picture
from common.training.weights import load_weights
from projects.fabric_ad.baselines import Memory
from projects.fabric_ad.data import Batch, FabricData
from projects.fabric_ad.harness.pictures import SHOWN, rows
from projects.fabric_ad.losses import Weighting, anomaly_map, smooth
from projects.fabric_ad.measures import auroc, contrast, pro
from projects.fabric_ad.teacher import Teacher

Found = dict[str, list[np.ndarray]]


class Evaluation(L.LightningModule):
    """A student for each category, or one for all of them, or a memory of features.

    A picture's score is the largest value of its map. Figures are means over categories.

    Args:
        teacher: a ResNet of timm.
        student: as it was trained; None keeps a memory of the training pictures' features.
        weights: of the student by category, or for "all" of them.
        teacher_weights: the teacher's, if not those that it comes with.
        memory: features that are kept, without a student.
        weighting: of the levels (`anomaly_map`).
        sigma: of the Gaussian over the map, as a share of the picture's side: the official one is 4 of 256 pixels.
        rows: smooth along rows alone, as the official code does.
        seed: which features are kept; the data's.
    """

    run_dir: Path

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module | None = None,
        weights: dict[str, str] | None = None,
        teacher_weights: str | None = None,
        memory: int = 2000,
        weighting: Weighting = "deep",
        sigma: float = 4 / 256,
        rows: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.teacher, self.student = Teacher(teacher, teacher_weights), student
        if (student is None) != (not weights):
            raise UserError("model.student and model.weights go together: give both, or neither for a memory")
        self.weights = {name: expand(file, f"model.weights.{name}") for name, file in (weights or {}).items()}
        self.memory, self.weighting, self.sigma, self.rows, self.seed = memory, weighting, sigma, rows, seed
        self.requires_grad_(False).eval()
        self.bank: Memory | None = None
        self.found: Found = defaultdict(list)
        self.figures: dict[str, list[float]] = defaultdict(list)

    def on_test_start(self) -> None:
        self.names = self.trainer.datamodule.categories  # type: ignore[attr-defined]
        if lost := [name for name in self.names if self.weights and not self.weights.keys() & {name, "all"}]:
            raise UserError(f"model.weights has none for {lost[0]}: give its student's, or one for 'all'")

    def on_test_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        if batch_idx == 0 and dataloader_idx % 2 == 0:
            self.prepare(self.names[dataloader_idx // 2])

    def prepare(self, category: str) -> None:
        """Take the category's student, or remember its training pictures."""
        if self.student is not None:
            load_weights(self.student, self.weights.get(category) or self.weights["all"])
            return
        data: FabricData = self.trainer.datamodule  # type: ignore[attr-defined]
        self.bank = Memory(self.memory, self.seed)
        batches = data.of(category, "train")
        self.bank.fill([Memory.features(self.teacher(batch["image"].to(self.device))) for batch in batches])

    def maps(self, images: Tensor) -> np.ndarray:
        """Anomaly maps [B, S, S]."""
        maps, size = self.teacher(images), images.shape[-1]
        if self.student is None:
            found = self.bank(maps, size)  # type: ignore[misc]
        else:
            wanted = [maps[level] for level in self.student.levels]  # type: ignore[union-attr]
            found = anomaly_map(self.student(images, maps), wanted, size, self.weighting)
        return smooth(found, self.sigma * size, self.rows)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.found["map"].append(self.maps(batch["image"]))
        for name in ("defective", "masked", "mask"):
            self.found[name].append(batch[name].cpu().numpy())
        if dataloader_idx % 2 == 0:
            self.found["image"].append((batch["image"].cpu().numpy() * 255).astype(np.uint8))
        loader = self.trainer.test_dataloaders[dataloader_idx]  # type: ignore[index]
        if batch_idx == len(loader) - 1:
            self.conclude(self.names[dataloader_idx // 2], "val_" if dataloader_idx % 2 else "")

    def conclude(self, category: str, part: str) -> None:
        """Figures of one category's tests or validation."""
        found = {name: np.concatenate(parts) for name, parts in self.found.items()}
        self.found.clear()
        maps, defective = found["map"], found["defective"]
        figures = {"image_auroc": auroc(maps.max((1, 2)), defective)}
        if found["masked"].all():
            masks = found["mask"]
            figures["pixel_auroc"] = auroc(maps, masks)
            if not part:
                figures |= {"pro": pro(maps, masks), "contrast": contrast(maps, masks, defective)}
        for name, value in figures.items():
            self.figures[part + name].append(value)
        if not part:
            chosen = np.flatnonzero(defective)[:: max(1, int(defective.sum()) // SHOWN)][:SHOWN]
            shown = rows(found["image"][chosen], maps[chosen], found["mask"][chosen], maps[~defective])
            save_picture(self.run_dir, category, shown, f"{category}: faults, where they are, and the anomaly maps")

    def on_test_epoch_end(self) -> None:
        for name, values in self.figures.items():
            self.log(f"test/{name}", float(np.mean(values)))


if __name__ == "__main__":
    main(Evaluation, FabricData, links=one_seed)
