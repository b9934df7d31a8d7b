"""G: a frozen language model as an encoder of texts of any length and language, read in both directions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from common.data.tokenizers import load_tokenizer
from common.hub import from_pretrained

Precision = Literal["float32", "bfloat16"]


@dataclass
class Reading:
    """A language model and how it reads.

    LLM2CLIP's Llama was tuned to be read within a message of a user's, whose beginning it sees, and whose end counts.

    Attributes:
        source: hub id or folder.
        before: put before every text, and left out of the mean.
        after: put behind it, and part of the mean.
        max_length: longer texts are cut to this many tokens, `before` and `after` not counted.
        precision: of the model's weights; embeddings are float32.
    """

    source: str
    before: str = ""
    after: str = ""
    max_length: int = 512
    precision: Precision = "float32"


class Embedder(nn.Module):
    """The mean of the last hidden states of a text, as LLM2Vec takes it (BehnamGhader et al. 2024).

    The model may be a causal one: every token sees all others, whatever it was built for.

    Args:
        reading: which model, and how.
    """

    def __init__(self, reading: Reading):
        super().__init__()
        net = from_pretrained(AutoModel, reading.source, dtype=getattr(torch, reading.precision))
        self.net: PreTrainedModel = net.requires_grad_(False).eval()
        self.tokenizer = load_tokenizer(reading.source)
        alone = self.tokenizer("").input_ids  # the tokens that every text is put between: [CLS] and [SEP], or one
        ends = len(alone) - 1 if alone and alone[-1] == self.tokenizer.sep_token_id else len(alone)
        self.first = alone[:ends] + self._tokens(reading.before)
        self.last = self._tokens(reading.after) + alone[ends:]
        positions = getattr(self.net.config, "max_position_embeddings", reading.max_length) - 2  # RoBERTa begins at 2
        self.max_length = min(reading.max_length, positions - len(self.first) - len(self.last))
        self.padding = self.tokenizer.pad_token_id or 0  # masked, whatever it is

    @property
    def width(self) -> int:
        """d."""
        return self.net.config.hidden_size

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids if text else []

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        """[N, d] in float32."""
        rows = [self._tokens(text)[: self.max_length] or [self.padding] for text in texts]
        lengths = [len(self.first) + len(row) + len(self.last) for row in rows]
        ids = torch.full((len(rows), max(lengths)), self.padding)
        read, meant = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
        for k, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            ids[k, :length] = torch.tensor([*self.first, *row, *self.last])
            read[k, :length], meant[k, len(self.first) : length] = True, True
        device = next(self.net.parameters()).device
        hidden = self.net(input_ids=ids.to(device), attention_mask=self._both_ways(read.to(device))).last_hidden_state
        weight = meant.to(device)[..., None].float()
        return (hidden.float() * weight).sum(1) / weight.sum(1)

    def _both_ways(self, read: Tensor) -> Tensor:
        """[N, L] -> [N, 1, L, L], added to the scores: each token sees all that are read, in any model."""
        mask = torch.zeros(read.shape, dtype=self.net.dtype, device=read.device)
        return mask.masked_fill(~read, torch.finfo(self.net.dtype).min)[:, None, None].expand(-1, 1, read.shape[1], -1)
