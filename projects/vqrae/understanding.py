"""Understanding: heads made for the original encoder, put unchanged behind a tuned one; and linear probes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from common.errors import UserError
from common.hub import from_pretrained
from common.paths import expand
from common.training.weights import load_state

PROMPT = "This is a photo of {}."  # SigLIP's; its text towers expect 64 tokens, padded


@dataclass
class HeadConfig:
    """A head that was trained with the original encoder.

    Attributes:
        kind: a foundation's linear classifier of the mean token, or SigLIP's zero-shot classification.
        source: the foundation's weights, or the hub's id.
    """

    kind: Literal["linear", "zero_shot"]
    source: str


def build_head(config: HeadConfig, classes: tuple[str, ...]) -> nn.Module:
    """Token features [B, N, d] -> logits of `classes` [B, C]."""
    if config.kind == "linear":
        return LinearHead(load_state(expand(config.source, "head.source")))
    return ZeroShotHead(config.source, classes)


class LinearHead(nn.Module):
    """A foundation's classifier: a linear layer on the mean token."""

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        weight = state["model.classifier.weight"]
        self.linear = nn.Linear(*reversed(weight.shape))
        self.linear.load_state_dict({"weight": weight, "bias": state["model.classifier.bias"]})

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.mean(1))


class ZeroShotHead(nn.Module):
    """SigLIP's own pooling head and the embeddings of the classes' names: which name fits best.

    Args:
        hub: a SigLIP model's id.
        classes: their names; of several names separated by commas the first counts.
    """

    def __init__(self, hub: str, classes: tuple[str, ...]):
        super().__init__()
        if not classes:
            raise UserError("zero-shot classification needs the names of the classes, which data.test does not have")
        model = from_pretrained(AutoModel, hub).float().eval()
        tokenizer = from_pretrained(AutoTokenizer, hub)
        self.pooling = model.vision_model.head
        with torch.no_grad():
            embeddings = []
            for start in range(0, len(classes), 128):
                prompts = [PROMPT.format(name.split(",")[0].lower()) for name in classes[start : start + 128]]
                length = {"padding": "max_length", "max_length": 64, "truncation": True}
                ids = tokenizer(prompts, return_tensors="pt", **length).input_ids
                embeddings.append(model.text_model(input_ids=ids).pooler_output)
        self.register_buffer("names", F.normalize(torch.cat(embeddings), dim=1))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.pooling(features), dim=1) @ self.names.T


def probe(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> float:
    """Test accuracy of a linear classifier of standardised features [n, d]: ridge regression, solved exactly."""
    model = make_pipeline(StandardScaler(), RidgeClassifier())
    return float(model.fit(train, train_labels).score(test, test_labels))
