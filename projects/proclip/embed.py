"""Have the language model read all texts once: both stages and the tests take its embeddings from the disk.

    python -m projects.proclip.embed predict --config projects/proclip/configs/mini/embed_pairs.yaml

Writes `embeddings/` into the run folder, a row a text; an interrupted run goes on with the rows that are missing.
"""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common.cli import main
from common.data.stores import ArrayStore
from projects.proclip.data import Texts, fingerprint
from projects.proclip.embedder import Embedder, Reading


class Embedding(L.LightningModule):
    """Embeddings of a language model that nothing trains.

    Args:
        embedder: the model, and how it reads.
        dtype: of what is stored.
        named: keep the texts beside their embeddings: for those that are looked up by what they say.
    """

    run_dir: Path

    def __init__(self, embedder: Reading, dtype: str = "float16", named: bool = False):
        super().__init__()
        self.embedder = Embedder(embedder)
        self.number, self.named = dtype, named

    def setup(self, stage: str) -> None:
        data: TextData = self.trainer.datamodule
        self.store = ArrayStore.create(
            self.run_dir / "embeddings", len(data.texts), (self.embedder.width,), self.number,
            rank=self.trainer.global_rank, world_size=self.trainer.world_size,
            key=fingerprint(data.texts), names=list(data.texts) if self.named else None,
        )  # fmt: skip
        data.pending = self.store.missing()

    def predict_step(self, batch: Tensor, batch_idx: int) -> None:
        texts = self.trainer.datamodule.texts  # type: ignore[attr-defined]
        found = self.embedder([texts[row] for row in batch.tolist()]).cpu().numpy()
        for row, values in zip(batch.tolist(), found, strict=True):
            self.store.write(row, values)

    def on_predict_end(self) -> None:
        self.store.flush()
        self.trainer.strategy.barrier()  # the stage is finished when every process is


class TextData(L.LightningDataModule):
    """Numbers of the texts that are still to be embedded.

    Args:
        source: the texts.
        batch_size: texts that are read at once.
    """

    def __init__(self, source: Texts, batch_size: int = 64):
        super().__init__()
        self.texts, self.batch_size = source.texts(), batch_size
        self.pending: np.ndarray = np.empty(0, np.int64)
        """Set by the stage."""

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(torch.from_numpy(self.pending), batch_size=self.batch_size)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Embedding, TextData)
