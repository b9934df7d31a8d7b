"""Pre-training samples: parts of source files with hidden tokens, which belong together or do not."""

from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
from torch import Tensor, tensor
from torch.utils.data import DataLoader

from common.data.code import Repository, RepositorySource
from common.data.stream import stream_loader
from projects.modular_star_encoder.tokens import (
    CHARACTERS,
    Batch,
    batched,
    load_marked_tokenizer,
    marked_up,
    padded,
    pieces,
)

Objective = Literal["icc", "nsp", "mlm"]
APART, TOGETHER = 0, 1  # classes of the second task
IGNORED = -100  # label of a token that is not to be told
MASKED, REPLACED = 0.8, 0.1  # of the hidden tokens: BERT's, as the paper states no split
SHORTEST = 8  # tokens of a part that is worth adding


class Corpus(L.LightningDataModule):
    """Windows of code from repositories.

    - `icc`: in-context classification. Files, or pieces of half a window of longer ones, fill the window, with <sep>
      before each; with probability 0.5 they are other files of one repository, else each of another one. Repositories
      of a single file are passed over: two pieces of one file would ask another question.
    - `nsp`: next-sentence prediction in its place. Two halves of a piece of one file; with probability 0.5 the second
      is that of another repository. It begins within a line and is as long as the first either way: what a part looks
      like at its border must not answer the question.
    - `mlm`: the windows of `icc` without the question.

    Args:
        repositories: where the code is from; one that has several rows comes up as often.
        held_out: other repositories, for validation; None for none.
        val_windows: windows of validation.
        tokenizer: folder or hub id.
        objective: what is asked beside the hidden tokens.
        max_length: tokens of a window, N.
        hidden: share of the tokens that are hidden; 80 % of them are masked, 10 % replaced, 10 % left.
        batch_size: windows per step and process.
        num_workers: processes that make batches.
        seed: order of the repositories, and what becomes of each.
    """

    def __init__(
        self,
        repositories: RepositorySource,
        tokenizer: str,
        objective: Objective = "icc",
        held_out: RepositorySource | None = None,
        val_windows: int = 512,
        max_length: int = 2048,
        hidden: float = 0.15,
        batch_size: int = 4,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.repositories, self.tokenizer, self.objective = repositories, load_marked_tokenizer(tokenizer), objective
        self.held_out, self.val_windows = held_out, val_windows
        self.max_length, self.hidden = max_length, hidden
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    @property
    def tokens(self) -> int:
        """Size of the vocabulary."""
        return len(self.tokenizer)

    def __len__(self) -> int:
        return len(self.repositories)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        return self.window(self.repositories, index, rng)

    def window(self, source: RepositorySource, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """A sample that begins with a repository's code."""
        together = int(rng.integers(2))
        parts = (self._halves if self.objective == "nsp" else self._parts)(source, index, together, rng)
        ids, labels = self._hide(np.array(marked_up(self.tokenizer, parts)), rng)
        return {"input_ids": ids, "labels": labels, "together": together}

    def _parts(self, source: RepositorySource, index: int, together: int, rng: np.random.Generator) -> list[list[int]]:
        """Parts that fill a window: of one repository, or each of another."""
        repository = source[index]
        if len(repository.files) < 2:
            repository = _another(source, repository, rng, files=2)
        order = rng.permutation(len(repository.files))
        parts: list[list[int]] = []
        room = self.max_length - 1
        while room > SHORTEST:
            text = repository.files[order[len(parts) % len(order)]]
            parts.append(self._piece(text, min(room - 1, self.max_length // 2), rng))
            room -= len(parts[-1]) + 1
            if not together:
                repository = _another(source, repository, rng, files=2)
                order = rng.permutation(len(repository.files))
        return parts

    def _halves(self, source: RepositorySource, index: int, together: int, rng: np.random.Generator) -> list[list[int]]:
        """A first half and a second one as long, of the same piece or of another repository's: only words tell."""
        repository = source[index]
        first, second = self._cut(_any(repository, rng), rng)
        if not together:
            _, second = self._cut(_any(_another(source, repository, rng), rng), rng)
        shorter = min(len(first), len(second))
        return [first[len(first) - shorter :], second[:shorter]]

    def _cut(self, text: str, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """The halves of a piece that fills a window."""
        whole = self._piece(text, self.max_length - 3, rng)
        half = (len(whole) + 1) // 2
        return whole[:half], whole[half:]

    def _piece(self, text: str, length: int, rng: np.random.Generator) -> list[int]:
        """At most `length` tokens of a file; of a longer one from the beginning of any line but the last ones."""
        start, beyond = 0, len(text) - CHARACTERS // 4 * length  # code has some four characters a token
        if beyond > 0:
            start = text.find("\n", int(rng.integers(beyond))) + 1
        return pieces(self.tokenizer, [text[start:] or text], length)[0]

    def _hide(self, ids: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Ids with hidden tokens, and labels: what the hidden ones were, -100 elsewhere; markers are never hidden."""
        words = ~np.isin(ids, self.tokenizer.all_special_ids)
        chosen = words & (rng.random(len(ids)) < self.hidden)
        if not chosen.any() and words.any():
            chosen[rng.choice(np.flatnonzero(words))] = True
        kind = rng.random(len(ids))
        labels, seen = np.where(chosen, ids, IGNORED), ids.copy()
        seen[chosen & (kind < MASKED)] = self.tokenizer.mask_token_id
        other = chosen & (kind >= MASKED) & (kind < MASKED + REPLACED)
        seen[other] = rng.integers(self.tokens - 4, size=int(other.sum()))
        return seen, labels

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """input_ids, attention_mask, labels [B, N] and together [B]."""
        batch = batched([sample["input_ids"].tolist() for sample in samples], self.tokenizer.pad_token_id)
        batch["labels"] = padded([sample["labels"].tolist() for sample in samples], IGNORED)
        batch["together"] = tensor([sample["together"] for sample in samples])
        return batch

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self, self.batch_size, self.trainer, self.seed, self.num_workers, self.collate)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Windows of other repositories, the same for every seed; none without them."""
        if self.held_out is None:
            return []
        source, size = self.held_out, len(self.held_out)
        windows = [self.window(source, k % size, np.random.default_rng(k)) for k in range(self.val_windows)]
        return DataLoader(windows, self.batch_size, collate_fn=self.collate)  # type: ignore[arg-type]


def _another(source: RepositorySource, repository: Repository, rng: np.random.Generator, files: int = 1) -> Repository:
    """A repository of another name with so many files or more; of fewer where a hundred draws find none."""
    for _ in range(100):
        found = source[int(rng.integers(len(source)))]
        if found.name != repository.name and len(found.files) >= files:
            break
    return found


def _any(repository: Repository, rng: np.random.Generator) -> str:
    return repository.files[int(rng.integers(len(repository.files)))]


def hidden_tokens(labels: Tensor) -> Tensor:
    """Where tokens are to be told, bool [B, N]."""
    return labels != IGNORED
