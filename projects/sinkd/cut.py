"""Take some of a pretrained encoder's layers: the students of SCALE=small begin as these.

    python -m projects.sinkd.cut predict --config projects/sinkd/configs/small/cut.yaml

Writes `encoder/`, a model with its tokenizer as `from_pretrained` reads them, into the run folder.
"""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModel, PreTrainedModel

from common.cli import main
from common.data.tokenizers import load_tokenizer
from common.errors import UserError
from common.hub import from_pretrained


class Cut(L.LightningModule):
    """Keeps the first layer, the last, and others evenly between, as they were pretrained.

    Args:
        encoder: hub id or folder of a BERT.
        layers: how many layers are kept; a single one is the first.
    """

    run_dir: Path

    def __init__(self, encoder: str, layers: int):
        super().__init__()
        self.encoder, self.layers = encoder, layers

    def predict_step(self, batch: int, batch_idx: int) -> None:
        net = cut(from_pretrained(AutoModel, self.encoder), self.layers)
        for part in (net, load_tokenizer(self.encoder)):
            part.save_pretrained(self.run_dir / "encoder")


def cut(net: PreTrainedModel, layers: int) -> PreTrainedModel:
    """The same encoder with so many of its layers; UserError where it has not so many, or where they are not found."""
    there = getattr(getattr(net, "encoder", None), "layer", None)
    if not isinstance(there, nn.ModuleList):
        raise UserError(f"model.encoder: of a {type(net).__name__} no layers can be taken; name a BERT")
    if not 1 <= layers <= len(there):
        raise UserError(f"model.layers is {layers}: the encoder has {len(there)}, of which at least one is needed")
    kept = np.linspace(0, len(there) - 1, layers).round().astype(int)
    net.encoder.layer = nn.ModuleList(there[k] for k in kept)
    net.config.num_hidden_layers = layers
    return net


class Once(L.LightningDataModule):
    """Nothing is read: the stage has one step."""

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([0])


if __name__ == "__main__":
    main(Cut, Once)
