"""Draw the mini scale's cloth once, in MVTec AD's layout, for all stages that read it.

    python -m projects.fabric_ad.weave predict --config projects/fabric_ad/configs/mini/weave.yaml

Writes `<fabric>/train/good`, `<fabric>/test/{good,<fault>}` and `<fabric>/ground_truth/<fault>`.
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from common.cli import main
from projects.fabric_ad.defects import FAULTS, spoil
from projects.fabric_ad.weaves import FABRICS, fabric


class Orders(L.LightningDataModule):
    """How much is woven.

    Args:
        train: pieces of each fabric without a fault, for training and validation.
        good: such pieces for testing.
        faulty: pieces with each kind of fault.
        side: of the square pieces, pixels.
        strength: of the faults; 1 shows them in full.
    """

    def __init__(self, train: int = 200, good: int = 120, faulty: int = 20, side: int = 128, strength: float = 1.0):
        super().__init__()
        self.pieces = {"train/good": train, "test/good": good} | {f"test/{fault}": faulty for fault in FAULTS}
        self.side, self.strength = side, strength

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(list(FABRICS), batch_size=None)  # type: ignore[arg-type]


class Loom(L.LightningModule):
    """Weaves every fabric."""

    run_dir: Path

    def predict_step(self, name: str, batch_idx: int) -> None:
        orders: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        for number, (part, count) in enumerate(orders.pieces.items()):
            fault = part.split("/")[1]
            for index in range(count):
                rng = np.random.default_rng((11, FABRICS.index(name), number, index))
                image = fabric(name, rng, orders.side)
                if fault != "good":
                    image, mask = spoil(image, fault, rng, orders.strength)
                    self.write(f"{name}/ground_truth/{fault}/{index:03d}_mask.png", mask.astype(np.uint8) * 255)
                self.write(f"{name}/{part}/{index:03d}.png", image)

    def write(self, name: str, image: np.ndarray) -> None:
        file = self.run_dir / "cloth" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)


if __name__ == "__main__":
    main(Loom, Orders)
