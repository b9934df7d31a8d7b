"""Expensive scorers as black boxes: what they cost is counted, and what they said is kept.

A scorer takes pairs (query, item) and returns a number for each. It may be

- any callable `scorer(pairs) -> [len(pairs)]`,
- a sentence-transformers `CrossEncoder`; its logits are taken, because the sigmoid that it applies by default squeezes
  the scores of the best items together.
"""

import hashlib
import pickle
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from common.data.stores import ArrayStore
from common.errors import UserError

Scores = Callable[[list[tuple[Any, Any]]], Any]


class Scorer:
    """A scorer that counts its calls, one per pair.

    Args:
        score: a callable, or a sentence-transformers `CrossEncoder`.
        batch_size: pairs that are handed over at once.

    Attributes:
        calls: pairs that were scored so far.

    Example:
        scorer = Scorer(CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2"))
        scorer.row("how tall is it?", ["330 metres", "in Paris"])   # float64 [2]
        scorer.calls                                                # 2
    """

    def __init__(self, score: Any, batch_size: int = 256):
        self.calls, self.batch_size = 0, batch_size
        self._score: Scores = score
        library = sys.modules.get("sentence_transformers")  # not loaded: then `score` is none of its models
        if library is not None and isinstance(score, library.CrossEncoder):
            from torch import nn

            self._score = partial(
                score.predict, batch_size=batch_size, activation_fn=nn.Identity(), show_progress_bar=False
            )

    def row(self, query: Any, items: Sequence[Any]) -> np.ndarray:
        """Scores of one query against `items`, float64 [len(items)].

        Raises:
            UserError: the scorer returned another number of scores, or scores that are not finite.
        """
        return self.pairs([(query, item) for item in items])

    def pairs(self, pairs: Sequence[tuple[Any, Any]]) -> np.ndarray:
        """Scores of (query, item) pairs in full batches, whatever their queries: float64 [len(pairs)]; see `row`."""
        starts = range(0, len(pairs), self.batch_size)
        parts = [self._batch(list(pairs[start : start + self.batch_size])) for start in starts]
        return np.concatenate(parts) if parts else np.empty(0)

    def _batch(self, pairs: list[tuple[Any, Any]]) -> np.ndarray:
        scores = self._score(pairs)
        if hasattr(scores, "detach"):
            scores = scores.detach().cpu().double().numpy()
        scores = np.asarray(scores, np.float64)
        self.calls += len(pairs)
        if scores.shape != (len(pairs),):
            raise UserError(
                f"the scorer returned {list(scores.shape)} for {len(pairs)} pairs: one number each is needed"
            )
        if not np.isfinite(scores).all():
            raise UserError(
                f"the scorer returned a score that is not finite, for the pair {pairs[_first_bad(scores)]!r}"
            )
        return scores


def _first_bad(scores: np.ndarray) -> int:
    return int(np.flatnonzero(~np.isfinite(scores))[0])


def fingerprints(values: Sequence[Any]) -> np.ndarray:
    """What queries or items are, in 8 bytes each: int64 [len(values)], the same for the same text wherever it is read.

    Texts, arrays and tensors count by their content, lists and dictionaries by their parts, other objects as pickled.

    Raises:
        UserError: an object that cannot be pickled.
    """
    return np.frombuffer(b"".join(_fingerprint(value) for value in values), np.int64)


def _fingerprint(value: Any) -> bytes:
    if isinstance(value, str):
        content = b"text" + value.encode("utf-8", "surrogatepass")
    elif isinstance(value, (np.ndarray, Tensor)):
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        content = b"array" + f"{array.dtype.str}{array.shape}".encode() + array.tobytes()
    elif isinstance(value, (list, tuple)):
        content = b"list" + b"".join(map(_fingerprint, value))
    elif isinstance(value, dict):
        content = b"dict" + b"".join(map(_fingerprint, (part for pair in value.items() for part in pair)))
    else:
        try:
            content = b"object" + pickle.dumps(value, protocol=5)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise UserError(
                f"a query or item of {type(value)} cannot be told from others ({error}): give texts"
            ) from error
    return hashlib.blake2b(content, digest_size=8).digest()


def row_names(queries: Sequence[Any], items: Sequence[Any]) -> list[str]:
    """Names for the rows of a stored matrix, by which other queries or items of the same number are told apart."""
    among = hashlib.blake2b(fingerprints(items).tobytes(), digest_size=8).hexdigest()
    return [f"query {query & (2**64 - 1):016x} among items {among}" for query in fingerprints(queries).tolist()]


def score_matrix(
    scorer: Scorer,
    queries: Sequence[Any],
    items: Sequence[Any],
    folder: str | Path,
    key: str,
    rank: int = 0,
    world_size: int = 1,
) -> int:
    """Score every query against every item into `folder`, a memory-mapped `ArrayStore` of float32 rows [N].

    A row is on the disk as soon as it is complete: an interrupted run goes on with the first row that is missing.
    Several processes share the work when each passes its rank; open the store when all of them are done.

    Args:
        key: names the scorer; a matrix is only continued under the same key, and for the same queries and items, whose
            texts are compared.

    Returns:
        Calls that this run made: items times the rows that were missing.

    Raises:
        UserError: the folder holds another matrix, the disk is too small, or the scorer failed (see `Scorer.row`).
    """
    before = scorer.calls
    shape, names = (len(items),), row_names(queries, items)
    writer = ArrayStore.create(folder, len(queries), shape, "float32", rank, world_size, key=key, names=names)
    for row in writer.missing():
        writer.write(int(row), scorer.row(queries[row], items))
        writer.flush()  # a row costs N calls: far more than bringing it to the disk
    return scorer.calls - before
