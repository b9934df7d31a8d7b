"""ANNCUR's library: any scorer, exact counts of its calls, a resumable index, a search step that costs a product."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from common.data.stores import ArrayStore
from common.errors import UserError
from common.rehearsal.hub import snapshot, write_hub
from projects.anncur.index import CHUNK, Index, draw_anchors
from projects.anncur.recall import top
from projects.anncur.scorer import Scorer, fingerprints, score_matrix

RNG = np.random.default_rng(0)
QUERIES, ITEMS = RNG.standard_normal((40, 4)), RNG.standard_normal((90, 4))
ANCHORS, QUERY = list(QUERIES[:20]), QUERIES[25]


def dots(pairs):
    """A scorer of rank 4, so that five anchors find everything."""
    return [float(query @ item) for query, item in pairs]


def test_calls_are_counted_exactly_whatever_the_batch(tmp_path):
    for batch_size in (1, 7, 1000):
        scorer = Scorer(dots, batch_size)
        index = Index.build(scorer, ANCHORS, ITEMS, tmp_path / str(batch_size), "dots", anchor_items=5)
        assert scorer.calls == 20 * 90
        best = index.search(scorer, QUERY, ITEMS, k=10, budget=30)
        assert best.calls == 30 and scorer.calls == 20 * 90 + 30
        assert best.items.tolist() == top(ITEMS @ QUERY, 10).tolist()
        np.testing.assert_allclose(best.scores, (ITEMS @ QUERY)[best.items])


def test_a_search_asks_about_no_pair_twice_and_about_few_items():
    asked = []

    def spy(pairs):
        asked.extend(tuple(item) for _, item in pairs)
        return dots(pairs)

    index = Index.from_matrix(QUERIES[:20] @ ITEMS.T, draw_anchors(90, 5, 0))
    index.search(Scorer(spy), QUERY, ITEMS, k=3, budget=12)
    assert len(asked) == len(set(asked)) == 12


def test_a_whole_budget_finds_everything():
    noisy = QUERIES[:20] @ ITEMS.T + RNG.standard_normal((20, 90))
    index = Index.from_matrix(noisy, draw_anchors(90, 12, 0))
    best = index.search(Scorer(dots), QUERY, ITEMS, k=10, budget=90)
    assert best.items.tolist() == top(ITEMS @ QUERY, 10).tolist() and best.calls == 90


def test_an_interrupted_index_asks_only_for_what_is_missing(tmp_path):
    class Stopped(Exception):
        pass

    def failing(pairs, left=[90 * 7 + 30]):  # noqa: B006 - counts over calls
        left[0] -= len(pairs)
        if left[0] < 0:
            raise Stopped
        return dots(pairs)

    with pytest.raises(Stopped):
        score_matrix(Scorer(failing, 30), ANCHORS, ITEMS, tmp_path, "dots")
    with pytest.raises(UserError, match="13 of 20 rows are missing"):
        ArrayStore.open(tmp_path, "dots")
    scorer = Scorer(dots)
    Index.build(scorer, ANCHORS, ITEMS, tmp_path, "dots", anchor_items=5)
    assert scorer.calls == 13 * 90  # the row that broke off is asked for once more
    assert score_matrix(scorer, ANCHORS, ITEMS, tmp_path, "dots") == 0
    with pytest.raises(UserError, match="'dots', now 'other scorer'"):
        Index.build(scorer, ANCHORS, ITEMS, tmp_path, "other scorer", anchor_items=5)


@pytest.mark.parametrize("changed", ["queries", "items", "order"])
def test_scores_of_other_texts_are_never_taken(tmp_path, changed):
    def lengths(pairs):
        return [len(query) * len(item) for query, item in pairs]

    queries, items = ["one", "three"], ["a", "bb", "cccc"]
    Index.build(Scorer(lengths), queries, items, tmp_path, "lengths", anchor_items=1)
    scorer = Scorer(lengths)
    Index.build(scorer, list(queries), list(items), tmp_path, "lengths", anchor_items=1)
    assert scorer.calls == 0  # the same texts
    others = {
        "queries": (["one", "seven"], items),
        "items": (queries, ["a", "bb", "dddd"]),
        "order": (queries[::-1], items),
    }
    with pytest.raises(UserError, match="belongs to 'query .* delete the folder"):
        Index.build(scorer, *others[changed], tmp_path, "lengths", anchor_items=1)
    assert scorer.calls == 0


def test_fingerprints_know_texts_arrays_and_records():
    rows = np.arange(6.0).reshape(2, 3)
    same = [("a", "b"), ["a", "b"]], [rows, torch.from_numpy(rows)], [{"id": 1, "text": "x"}, {"id": 1, "text": "x"}]
    assert all(len(set(fingerprints(pair).tolist())) == 1 for pair in same)
    different = ["a", "b", "", "ab", ("ab",), ("a", "b"), rows, rows.T, rows.astype(np.float32), 1, None, {"a": "b"}]
    assert len(set(fingerprints(different).tolist())) == len(different)
    assert fingerprints(["texts"]).tolist() == [fingerprints(["texts"]).tolist()[0]]
    with pytest.raises(UserError, match="cannot be told from others"):
        fingerprints([lambda: 0])


def test_an_index_searches_the_items_that_it_was_built_for(tmp_path):
    index = Index.build(Scorer(dots), ANCHORS, ITEMS, tmp_path / "scores", "dots", anchor_items=5)
    index.save(tmp_path / "index.safetensors")
    index = Index.load(tmp_path / "index.safetensors")
    assert len(index.search(Scorer(dots), QUERY, ITEMS, k=3, budget=20).items) == 3
    with pytest.raises(UserError, match="is not the one that the index was built for"):
        index.search(Scorer(dots), QUERY, ITEMS[::-1], k=3, budget=20)
    with pytest.raises(UserError, match="is no index"):
        (tmp_path / "other").write_text("no tensors")
        Index.load(tmp_path / "other")


def test_many_queries_at_once_find_what_each_finds_alone(monkeypatch):
    monkeypatch.setattr("projects.anncur.index.AT_ONCE", 3)
    batches = []

    def spy(pairs):
        batches.append(len(pairs))
        return dots(pairs)

    noisy = QUERIES[:20] @ ITEMS.T + RNG.standard_normal((20, 90))
    index = Index.from_matrix(noisy, draw_anchors(90, 5, 0))
    together = index.search_many(Scorer(spy, 16), list(QUERIES[20:28]), ITEMS, k=4, budget=20)
    assert batches[0] == 15 and max(batches) == 16  # the anchors of three queries fill a batch together
    for query, best in zip(QUERIES[20:28], together, strict=True):
        alone = index.search(Scorer(dots), query, ITEMS, k=4, budget=20)
        assert best.items.tolist() == alone.items.tolist() and best.calls == alone.calls == 20
    assert index.search_many(Scorer(dots), [], ITEMS, k=4, budget=20) == []


def test_as_many_anchor_items_as_queries_are_warned_of(tmp_path):
    noisy = QUERIES[:20] @ ITEMS.T + RNG.standard_normal((20, 90))
    for items, near in ((10, False), (16, True), (20, True), (24, True), (30, False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Index.from_matrix(noisy, draw_anchors(90, items, 0))
        assert bool(caught) == near, items
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        cut = Index.build(Scorer(dots), ANCHORS, ITEMS, tmp_path, "dots", anchor_items=20, rcond=1e-2)
    assert cut.search(Scorer(dots), QUERY, ITEMS, k=5, budget=30).items.tolist() == top(ITEMS @ QUERY, 5).tolist()


def test_processes_share_the_rows_and_each_asks_for_its_own(tmp_path):
    calls = [score_matrix(Scorer(dots), ANCHORS[:9], ITEMS, tmp_path / "two", "dots", rank, 2) for rank in (1, 0)]
    assert calls == [4 * 90, 5 * 90]
    score_matrix(Scorer(dots), ANCHORS[:9], ITEMS, tmp_path / "one", "dots")
    two, one = ArrayStore.open(tmp_path / "two"), ArrayStore.open(tmp_path / "one")
    assert all((two[i] == one[i]).all() for i in range(9)) and one.dtype == np.float32


def test_a_saved_index_searches_alike(tmp_path):
    index = Index.from_matrix(QUERIES[:20] @ ITEMS.T, draw_anchors(90, 5, 0))
    index.save(tmp_path / "index.safetensors")
    again = Index.load(tmp_path / "index.safetensors")
    found = [i.search(Scorer(dots), QUERY, ITEMS, k=5, budget=20).items.tolist() for i in (index, again)]
    assert found[0] == found[1]


def test_chunks_change_nothing(monkeypatch):
    rows = RNG.standard_normal((12, 90))
    whole = Index.from_matrix(rows, draw_anchors(90, 6, 0))
    monkeypatch.setattr("projects.anncur.index.CHUNK", 7)
    parts = Index.from_matrix(rows, draw_anchors(90, 6, 0))
    torch.testing.assert_close(parts.embeddings, whole.embeddings)
    scores = RNG.standard_normal(6)
    found = parts.retrieve(scores, 20)
    assert not set(found.tolist()) & set(parts.anchors.tolist())
    monkeypatch.setattr("projects.anncur.index.CHUNK", CHUNK)
    assert found.tolist() == whole.retrieve(scores, 20).tolist()


def test_a_sentence_transformers_cross_encoder_is_asked_for_its_logits(tmp_path, monkeypatch):
    name = "cross-encoder/ms-marco-MiniLM-L6-v2"
    write_hub(tmp_path, [name])
    encoder = CrossEncoder(str(snapshot(tmp_path, name)), device="cpu")
    monkeypatch.setattr(encoder, "activation_fn", torch.nn.Sigmoid())
    scorer = Scorer(encoder, batch_size=2)
    scores = scorer.row("a brown cat", ["a white dog", "the capital", "a cat"])
    with torch.no_grad():
        logits = encoder.predict([("a brown cat", "the capital")], activation_fn=torch.nn.Identity())
    assert scores.dtype == np.float64 and scorer.calls == 3
    assert scores[1] == pytest.approx(float(logits[0]), rel=1e-5)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda pairs: [0.0], r"returned \[1\] for 20 pairs: one number each"),
        (lambda pairs: np.zeros((len(pairs), 2)), r"returned \[20, 2\] for 20 pairs"),
        (lambda pairs: [np.nan] * len(pairs), r"not finite, for the pair \('a', 'x0'\)"),
    ],
)
def test_a_scorer_that_misbehaves(score, message):
    with pytest.raises(UserError, match=message):
        Scorer(score).row("a", [f"x{i}" for i in range(20)])


def test_errors_say_what_to_do():
    index = Index.from_matrix(QUERIES[:20] @ ITEMS.T, draw_anchors(90, 5, 0))
    with pytest.raises(UserError, match="budget of 4 calls is too small for 5 anchor items"):
        index.search(Scorer(dots), QUERY, ITEMS, k=1, budget=4)
    with pytest.raises(UserError, match="budget of 8 calls is too small .* k = 10"):
        index.search(Scorer(dots), QUERY, ITEMS, k=10, budget=8)
    with pytest.raises(UserError, match="the index has 90 items, here are 89"):
        index.search(Scorer(dots), QUERY, ITEMS[1:], k=1, budget=8)
    with pytest.raises(UserError, match="91 anchor items of 90"):
        draw_anchors(90, 91, 0)


MEASURE = """
import torch
from projects.anncur.index import Index, draw_anchors
from projects.anncur.harness.search_speed import measure
torch.set_num_threads(1)
index = Index(draw_anchors(1_000_000, 16, 0), torch.randn(1_000_000, 16))
found = measure(index, 100, repeats=5)
print(found.search_ms / found.bare_ms, found.extra_mib)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory is read from Linux's /proc")
def test_a_million_items_cost_a_product_and_a_top_k():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    slowdown, extra_mib = map(float, done.stdout.split())
    assert slowdown < 2.5  # 1 on a quiet machine
    assert extra_mib < 8  # one chunk's scores; all scores at once and their order would be 12 MiB
