"""Whom a method would have re-ranked: ANNCUR, the methods it is compared with, and one candidate list for all of them.

A method gives approximate scores of all items, [Q, N]. Methods that look at exact scores first (CUR, fixed anchors) ask
the cross-encoder about k_i anchor items per query; a dual encoder or TF-IDF asks nothing. What is left of the budget of
calls goes to the items with the largest approximate scores.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from common.data.linking import Domain
from common.errors import UserError
from projects.anncur.cur import RCOND, item_embeddings, oracle_link
from projects.anncur.index import draw_anchors
from projects.anncur.recall import top

Array = np.ndarray


class Approximation(NamedTuple):
    """Approximate scores [Q, N], after exact scores of the items `anchors` [k_i] were asked for."""

    anchors: Array
    scores: Array


Method = Callable[[int], Approximation]
"""k_i, how many anchor items may be asked about -> approximate scores."""


def candidates(found: Approximation, budget: int) -> Array:
    """The items whose exact scores are known after `budget` calls a query: anchors, then the best others, [Q, budget].

    An anchor is never asked about twice. (The official code counts anchors that it retrieves once more.)
    """
    scores = np.array(found.scores)
    spare = min(budget, scores.shape[1]) - len(found.anchors)
    if spare < 0:
        raise UserError(
            f"a budget of {budget} calls is too small for {len(found.anchors)} anchor items: raise --model.budgets, "
            "or lower --model.anchor_share"
        )
    scores[:, found.anchors] = -np.inf
    retrieved = top(scores, spare)
    anchors = np.broadcast_to(found.anchors, (len(scores), len(found.anchors)))
    return np.concatenate([anchors, retrieved], 1)


def without_anchors(scores: Array) -> Method:
    """Retrieve and re-rank: approximate scores [Q, N] that cost no call."""
    return lambda _: Approximation(np.empty(0, np.int64), scores)


def anncur(rows: Array, exact: Array, seed: int, rcond: float = RCOND) -> Method:
    """ANNCUR; with rows of anchor items instead of anchor queries, ItemCUR.

    Args:
        rows: R, exact scores of the anchor queries, [k_q, N].
        exact: exact scores of the test queries, [Q, N], of which only the columns of the anchor items are read.
        seed: draws the anchor items.
        rcond: see `cur.link_matrix`.
    """

    def approximate(count: int) -> Approximation:
        anchors = draw_anchors(rows.shape[1], count, seed)
        return Approximation(anchors, exact[:, anchors] @ item_embeddings(rows, anchors, rcond))

    return approximate


def oracle(rows: Array, exact: Array, seed: int) -> Method:
    """CUR with the best possible U, which takes all scores of all queries: a bound for ANNCUR, not a method."""
    scores, indices = np.concatenate([rows, exact]), np.arange(len(rows))

    def approximate(count: int) -> Approximation:
        anchors = draw_anchors(rows.shape[1], count, seed)
        return Approximation(anchors, exact[:, anchors] @ (oracle_link(scores, indices, anchors) @ rows))

    return approximate


def popular(rows: Array, exact: Array) -> Method:
    """Every query gets the items that the anchor queries score best on average, and no call is spent on finding them.

    The floor of what an index must find: these scores know nothing of the query.

    Args:
        rows: exact scores of the anchor queries, [k_q, N].
        exact: exact scores of the test queries, [Q, N], which are not looked at.
    """
    return without_anchors(np.broadcast_to(rows.mean(0), exact.shape))


def fixed_items(item_rows: Array, items: Array, exact: Array, seed: int) -> Method:
    """An item's embedding is its scores against fixed items in the query's place, a query's those against them.

    Args:
        item_rows: scores of all items with `items` [n] in the query's place, [n, N].
        exact: exact scores of the test queries, [Q, N], of which only the columns of the fixed items are read.
        seed: draws k_i of the n; where more calls are to be spent, all n are taken and the rest is for re-ranking.
    """

    def approximate(count: int) -> Approximation:
        chosen = draw_anchors(len(items), min(count, len(items)), seed)
        return Approximation(items[chosen], exact[:, items[chosen]] @ item_rows[chosen])

    return approximate


def fixed_items_uncounted(item_rows: Array, items: Array, exact: Array, count: int, seed: int) -> Method:
    """`fixed_items` as the official code counts: always `count` of them (k_q), whose calls the budget leaves out."""
    scores = fixed_items(item_rows, items, exact, seed)(count).scores
    return without_anchors(scores)


def tf_idf(domain: Domain, queries: Array) -> Array:
    """Scores of mentions in context against titles with texts, [len(queries), N]; scikit-learn's defaults."""
    vectorizer = TfidfVectorizer(dtype=np.float32)
    items = vectorizer.fit_transform(f"{entity.title} {entity.text}" for entity in domain.entities)
    mentions = [domain.mentions[i] for i in queries]
    return (vectorizer.transform(f"{m.left} {m.mention} {m.right}" for m in mentions) @ items.T).toarray()
