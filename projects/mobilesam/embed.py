"""Precompute the teacher's image embeddings, once for all arms and seeds (§4.1; the practice of TinyViT).

    python -m projects.mobilesam.embed predict --config projects/mobilesam/configs/mini/embed.yaml

Writes `train_embeddings/` and, where the config names validation images, `val_embeddings/` into the run folder:
memory-mapped, a shard per process. An interrupted run goes on where it stopped.
"""

from typing import Literal

from common.cli import main
from common.data.promptable import PromptableData, SceneBatch
from common.data.stores import ArrayStore
from common.models.sam import SamConfig
from projects.mobilesam.teacher import FrozenTeacher


class EmbeddingWriter(FrozenTeacher):
    """Writes E_T(x) of every image into the store of its split, row i for image i.

    Args:
        teacher: sizes of the teacher SAM.
        teacher_weights: SAM's published checkpoint, or a foundation's weights.
        dtype: of the stored numbers; float16 takes 2 MiB an image at 1024 pixels, float32 twice that.
    """

    def __init__(self, teacher: SamConfig, teacher_weights: str, dtype: Literal["float16", "float32"] = "float16"):
        super().__init__(teacher, teacher_weights)
        self.shape = (teacher.prompt_dim, teacher.embedding_size, teacher.embedding_size)
        self.dtype_name = dtype
        self.key = str(teacher)

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule
        self.stores = {
            split: ArrayStore.create(
                self.run_dir / f"{split}_embeddings", len(data.sources[split]), self.shape, self.dtype_name,
                rank=self.trainer.global_rank, world_size=self.trainer.world_size, key=self.key,
            )
            for split in ("train", "val") if split in data.sources
        }  # fmt: skip
        data.pending = {split: [int(index) for index in store.missing()] for split, store in self.stores.items()}

    def predict_step(self, batch: SceneBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        store = list(self.stores.values())[dataloader_idx]
        embeddings = self.embed(batch.images).float().cpu().numpy()
        for index, embedding in zip(batch.index.tolist(), embeddings, strict=True):
            store.write(index, embedding)

    def on_predict_end(self) -> None:
        self.trainer.strategy.barrier()  # the stage is finished when every process is


if __name__ == "__main__":
    main(
        EmbeddingWriter,
        PromptableData,
        links=lambda parser: parser.link_arguments("data.image_size", "model.teacher.image_size"),
    )
