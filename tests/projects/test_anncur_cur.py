"""ANNCUR's factorisation and its measure of recall: parity with the official code, and what must hold exactly."""

import numpy as np
import pytest
from safetensors import safe_open

from common.errors import UserError
from projects.anncur.cur import factorise, item_embeddings, link_matrix, oracle_link
from projects.anncur.evaluate import accuracy
from projects.anncur.recall import effective_rank, found, rerank_recall, top
from projects.anncur.retrieval import (
    Approximation,
    anncur,
    candidates,
    fixed_items,
    fixed_items_uncounted,
    oracle,
    popular,
    without_anchors,
)
from tests.golden import golden_file

GOLDEN = golden_file("anncur")
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no golden vectors at {GOLDEN} (set GOLDEN_ROOT)")


def golden(case: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, str]]:
    """Inputs, outputs and metadata of one case."""
    with safe_open(GOLDEN, "np") as file:
        keys = [key for key in file.keys() if key.startswith(f"{case}/")]  # noqa: SIM118
        parts = [{k.split(f"/{p}.")[1]: file.get_tensor(k) for k in keys if f"/{p}." in k} for p in ("in", "out")]
        meta = {k.split("/")[1]: v for k, v in file.metadata().items() if k.startswith(f"{case}/")}
    return *parts, meta


def low_rank(rows: int, items: int, rank: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, items))


@needs_golden
@pytest.mark.parametrize("case", ["cur_rows", "cur_cols", "cur_oracle"])
def test_golden_factors(case):
    given, expected, meta = golden(case)
    factors = factorise(
        given["scores"], given["row_idxs"], given["col_idxs"], meta["approx_preference"], meta["oracle"] == "True"
    )
    np.testing.assert_allclose(factors.u, expected["U"], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(factors.queries, expected["latent_rows"], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(factors.items, expected["latent_cols"], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(factors.queries @ factors.items, expected["approx"], rtol=1e-7, atol=1e-12)


@needs_golden
def test_golden_query():
    given, expected, _ = golden("anncur_query")
    embeddings = item_embeddings(given["anchor_query_rows"], given["anchor_item_idxs"])
    np.testing.assert_allclose(embeddings, expected["item_embeddings"], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(
        given["test_anchor_scores"] @ embeddings, expected["approx_scores"], rtol=1e-7, atol=1e-12
    )


@needs_golden
def test_golden_recall():
    given, expected, meta = golden("rerank_recall")
    mean, std = rerank_recall(given["exact"], given["approx"], int(meta["k_retrieved"]), given["top_k_vals"].tolist())
    np.testing.assert_allclose(mean, expected["recall_mean"], atol=1e-4)
    np.testing.assert_allclose(std, expected["recall_std"], atol=1e-4)


def test_a_matrix_of_low_rank_is_found_exactly():
    scores = low_rank(30, 50, 5)
    rows, cols = np.arange(7), np.arange(3, 11)
    for prefer in ("rows", "cols"):
        factors = factorise(scores, rows, cols, prefer)
        np.testing.assert_allclose(factors.queries @ factors.items, scores, atol=1e-8)


def test_all_items_as_anchors_give_a_projection():
    rows = np.random.default_rng(0).standard_normal((6, 20))
    embeddings = item_embeddings(rows, np.arange(20))
    np.testing.assert_allclose(embeddings @ embeddings, embeddings, atol=1e-10)
    assert np.linalg.matrix_rank(embeddings) == 6


def test_anchor_queries_are_exact_only_with_as_many_anchor_items():
    rows = np.random.default_rng(0).standard_normal((6, 40))
    for items, exact in ((9, True), (6, True), (4, False)):
        cols = np.arange(items)
        assert np.allclose(rows[:, cols] @ item_embeddings(rows, cols), rows, atol=1e-8) == exact


def test_scale_permutation_and_shift_of_the_scores():
    rng = np.random.default_rng(0)
    rows, cols, query = rng.standard_normal((6, 40)), np.arange(4), rng.standard_normal(40)
    approx = query[cols] @ item_embeddings(rows, cols)
    np.testing.assert_allclose(3 * query[cols] @ item_embeddings(3 * rows, cols), 3 * approx)

    order = rng.permutation(40)
    moved = np.array([np.flatnonzero(order == col)[0] for col in cols])
    np.testing.assert_allclose(query[order][moved] @ item_embeddings(rows[:, order], moved), approx[order])

    assert not np.allclose((query[cols] + 1) @ item_embeddings(rows + 1, cols), approx + 1, atol=1e-3)


def test_the_oracle_has_the_smallest_error():
    scores = low_rank(30, 50, 8) + 0.1 * np.random.default_rng(1).standard_normal((30, 50))
    rows, cols = np.arange(10), np.arange(6)

    def error(u: np.ndarray) -> float:
        return float(np.linalg.norm(scores - scores[:, cols] @ u @ scores[rows]))

    best = oracle_link(scores, rows, cols)
    assert error(best) < error(link_matrix(scores[np.ix_(rows, cols)]))
    for seed in range(5):
        assert error(best) < error(best + 1e-3 * np.random.default_rng(seed).standard_normal(best.shape))


def test_recall_collapses_where_the_block_is_square_and_a_cut_off_prevents_it():
    """The instability is the method's: a peak of the error as in double descent. It is shown, not hidden."""
    rng = np.random.default_rng(0)
    scores = low_rank(200, 800, 20) + 0.3 * rng.standard_normal((200, 800))
    rows, exact = scores[:60], scores[60:]

    def recall(items: int, **settings: float) -> float:
        return found(exact, candidates(anncur(rows, exact, 0, **settings)(items), items + 60), [10]).mean()

    assert recall(60) < min(recall(30), recall(120)) - 0.3
    assert recall(60, rcond=0.1) > recall(60) + 0.3


def test_float32_scores_are_inverted_in_float64():
    rows = np.random.default_rng(0).standard_normal((12, 40)).astype(np.float32)
    assert item_embeddings(rows, np.arange(12)).dtype == np.float64
    np.testing.assert_allclose(item_embeddings(rows, np.arange(12))[:, :12], np.eye(12), atol=1e-10)


def test_recall_in_closed_form():
    exact = np.array([[4.0, 3.0, 2.0, 1.0, 0.0]])
    assert found(exact, np.array([[0, 4, 2]]), [1, 2, 3]).ravel().tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert found(exact, np.array([[1]]), [1, 2]).ravel().tolist() == [0, 1 / 2]


def test_recall_grows_with_what_is_retrieved_up_to_one():
    rng = np.random.default_rng(0)
    exact, approx = rng.standard_normal((2, 8, 30))
    recalls = [rerank_recall(exact, approx, n, [1, 5, 10])[0] for n in range(10, 31)]
    assert (np.diff(np.array(recalls), axis=0) >= 0).all()
    assert recalls[-1] == [1, 1, 1]


def test_reranking_finds_what_the_first_stage_retrieved_and_no_more():
    """Claim C3: the recall of retrieve-and-rerank is that of its first stage."""
    rng = np.random.default_rng(0)
    exact, approx = rng.standard_normal((2, 8, 30))
    retrieved, best = top(approx, 10), top(exact, 5)
    first_stage = np.mean([np.isin(b, r).mean() for b, r in zip(best, retrieved, strict=True)])
    assert rerank_recall(exact, approx, 10, [5])[0][0] == pytest.approx(first_stage)


def test_candidates_are_distinct_hold_the_anchors_and_cost_the_budget():
    scores = np.random.default_rng(0).standard_normal((4, 30))
    chosen = candidates(Approximation(np.array([2, 9, 11]), scores), 10)
    assert chosen.shape == (4, 10) and all(len(set(row)) == 10 for row in chosen.tolist())
    assert (chosen[:, :3] == [2, 9, 11]).all()
    for row, found_ in zip(scores, chosen, strict=True):
        others = [i for i in top(row, 30) if i not in (2, 9, 11)]
        assert found_[3:].tolist() == others[:7]
    assert candidates(Approximation(np.array([2]), scores), 50).shape == (4, 30)  # no more than there are
    assert (candidates(without_anchors(scores)(3), 5) == top(scores, 5)).all()


@pytest.mark.parametrize("method", ["anncur", "oracle", "fixed_items"])
def test_a_method_reads_the_exact_scores_of_its_anchors_only(method):
    scores = low_rank(20, 30, 5)
    rows, exact = scores[:8], scores[8:]
    items = np.arange(0, 30, 2)
    made = {
        "anncur": lambda truth: anncur(rows, truth, 0),
        "fixed_items": lambda truth: fixed_items(low_rank(15, 30, 5, 1), items, truth, 0),
        "oracle": lambda truth: oracle(rows, truth, 0),
    }[method]
    found_ = made(exact)(6)
    hidden = np.full_like(exact, 1e3)
    hidden[:, found_.anchors] = exact[:, found_.anchors]
    same = np.allclose(made(hidden)(6).scores, found_.scores)
    assert same == (method != "oracle")  # which is no method


def test_what_is_popular_does_not_depend_on_the_query():
    """Perfect where all queries prefer the same items, chance where each has its own; ANNCUR is perfect at both."""
    rng = np.random.default_rng(0)
    same = rng.standard_normal((60, 1)) + rng.standard_normal(100)
    own = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 100))
    for scores, wanted in ((same, 1.0), (own, 0.2)):
        rows, exact = scores[:30], scores[30:]
        floor, index = popular(rows, exact), anncur(rows, exact, 0)
        assert found(exact, candidates(floor(0), 20), [10]).mean() == pytest.approx(wanted, abs=0.15)
        assert found(exact, candidates(index(10), 20), [10]).mean() == 1
        assert (popular(rows, np.full_like(exact, 7.0))(0).scores == floor(0).scores).all()


def test_item_embeddings_are_the_scores_against_fixed_items():
    item_rows, exact = low_rank(6, 10, 3), low_rank(4, 10, 3, 1)
    items = np.array([0, 2, 3, 5, 8, 9])
    found_ = fixed_items(item_rows, items, exact, 0)(6)
    assert found_.anchors.tolist() == items.tolist()
    np.testing.assert_allclose(found_.scores, sum(exact[:, [i]] * item_rows[[n]] for n, i in enumerate(items)))


def test_more_calls_than_fixed_items_go_to_re_ranking():
    item_rows, exact = low_rank(6, 30, 3), low_rank(4, 30, 3, 1)
    items = np.array([0, 2, 3, 5, 8, 9])
    found_ = fixed_items(item_rows, items, exact, 0)(20)
    assert found_.anchors.tolist() == items.tolist() and candidates(found_, 25).shape == (4, 25)
    uncounted = fixed_items_uncounted(item_rows, items, exact, 6, 0)(20)
    assert len(uncounted.anchors) == 0  # their calls are left out, so the whole budget is for re-ranking
    np.testing.assert_allclose(uncounted.scores, found_.scores)
    with pytest.raises(UserError, match="budget of 5 calls is too small for 6 anchor items"):
        candidates(found_, 5)


@pytest.mark.parametrize("calls", [12, 20])
def test_the_sanity_table_of_recall(calls):
    """A perfect answer, the floors, and what recall must not see; each with `calls` of 60 items and k = 10."""
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((400, 60))

    def recall(approx: np.ndarray) -> float:
        return float(found(exact, candidates(without_anchors(approx)(0), calls), [10]).mean())

    assert recall(exact) == 1
    chance = calls / 60
    assert recall(rng.standard_normal(exact.shape)) == pytest.approx(chance, abs=0.02)  # the floor
    assert recall(np.zeros_like(exact)) == pytest.approx(chance, abs=0.02)  # a constant: the first items
    assert recall(np.broadcast_to(exact.mean(0), exact.shape)) == pytest.approx(chance, abs=0.04)  # items' means
    assert recall(-exact) == 0
    assert recall(3 * exact + rng.standard_normal((400, 1))) == 1  # neither scale nor a query's level orders anything
    ceiling = min(1, calls / 10)  # as many as were scored exactly
    assert recall(exact) <= ceiling


def test_the_sanity_table_of_accuracy():
    exact = np.array([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
    everything = np.array([[0, 1, 2], [2, 1, 0]])
    assert accuracy(exact, everything, np.array([0, 1])) == 1 and accuracy(exact, everything, np.array([1, 0])) == 0
    assert accuracy(exact, np.array([[1, 2], [0, 2]]), np.array([1, 1])) == 0.5  # the best of what was retrieved


def test_effective_rank():
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.standard_normal((30, 3)))[0], np.linalg.qr(rng.standard_normal((40, 3)))[0]
    right = np.linalg.qr(right - right.mean(0))[0]  # rows of the matrix have no mean
    assert effective_rank((left * [10, 1, 0.5]) @ right.T) == 2  # 0.25 of 101.25 is less than 1 %, 1.25 is more
    assert effective_rank((left * [10, 10, 10]) @ right.T) == 3
    assert effective_rank(np.outer(np.ones(5), np.arange(6.0)), 1.0) == 1
