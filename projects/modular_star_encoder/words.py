"""Write the tokenizer of the world of small programs, a token a word. Mini scale alone.

python -m projects.modular_star_encoder.words predict --config projects/modular_star_encoder/configs/mini/words.yaml
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from torch.utils.data import DataLoader

from common.cli import main
from projects.modular_star_encoder.tokens import CHARACTER_PIECES, MARKERS, build_tokenizer
from projects.modular_star_encoder.world import vocabulary


class Nothing(L.LightningDataModule):
    """The world needs no data."""

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([0])


class Vocabulary(L.LightningModule):
    """Writes `tokenizer/`."""

    run_dir: Path

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        words = ["code", "text", *vocabulary()]  # the two instructions first
        size = len(CHARACTER_PIECES) + len(words) + len(MARKERS)  # room for each word and the unknown one
        build_tokenizer(words, size).save_pretrained(self.run_dir / "tokenizer")


if __name__ == "__main__":
    main(Vocabulary, Nothing)
