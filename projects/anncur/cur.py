"""CUR factorisation of a score matrix: a few rows and a few columns stand for all of it.

A [M, N] holds the scores of M queries against N items. R = A[rows] are the anchor queries, C = A[:, cols] the anchor
items, R_anc = A[rows][:, cols] where they cross, and A ~ C U R. All of it is float64: R_anc is nearly singular when it
is nearly square, and float32 would add its rounding to that.
"""

from typing import Literal, NamedTuple

import numpy as np

RCOND = 1e-15
"""NumPy's own cut-off, relative to the largest singular value: in float64 it discards next to nothing."""

Array = np.ndarray


class Factors(NamedTuple):
    """A ~ queries @ items.

    Attributes:
        u: U, [k_i, k_q].
        queries: an embedding per query, [M, d].
        items: an embedding per item, [d, N].
    """

    u: Array
    queries: Array
    items: Array


def link_matrix(anchor_scores: Array, rcond: float = RCOND) -> Array:
    """U = pinv(R_anc): [k_q, k_i] -> [k_i, k_q]; singular values below `rcond` of the largest count as zero."""
    return np.linalg.pinv(np.asarray(anchor_scores, np.float64), rcond=rcond)


def item_embeddings(rows: Array, cols: Array, rcond: float = RCOND) -> Array:
    """E = pinv(R[:, cols]) R: scores of the anchor queries [k_q, N], anchor items [k_i] -> [k_i, N].

    A new query with scores c [k_i] against the anchor items then has approximate scores c E against all items.
    """
    rows = np.asarray(rows, np.float64)
    return link_matrix(rows[:, cols], rcond) @ rows


def oracle_link(scores: Array, rows: Array, cols: Array, rcond: float = RCOND) -> Array:
    """U = pinv(C) A pinv(R), [k_i, k_q]: of all U the one that minimises ||A - C U R||_F. It needs every score.

    Args:
        scores: A, [M, N].
        rows: indices of the anchor queries [k_q].
        cols: indices of the anchor items [k_i].
    """
    scores = np.asarray(scores, np.float64)
    return np.linalg.pinv(scores[:, cols], rcond=rcond) @ scores @ np.linalg.pinv(scores[rows], rcond=rcond)


def factorise(
    scores: Array, rows: Array, cols: Array, prefer: Literal["rows", "cols"] = "rows", oracle: bool = False
) -> Factors:
    """CUR of a complete matrix, split into embeddings of queries and items.

    Args:
        scores: A, [M, N].
        rows: indices of the anchor queries [k_q].
        cols: indices of the anchor items [k_i].
        prefer: "rows": C and U R, for new queries against fixed items. "cols": C U and R, for new items against fixed
            queries. The product is the same.
        oracle: the best possible U, instead of the one that R_anc alone gives.
    """
    scores = np.asarray(scores, np.float64)
    u = oracle_link(scores, rows, cols) if oracle else link_matrix(scores[np.ix_(rows, cols)])
    if prefer == "rows":
        return Factors(u, scores[:, cols], u @ scores[rows])
    return Factors(u, scores[:, cols] @ u, scores[rows])
