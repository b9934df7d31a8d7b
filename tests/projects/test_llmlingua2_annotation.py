"""Annotation: golden parity, closed forms, what a flawed teacher's labels are worth, tokens' labels."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from common.data.tokenizers import build_wordpieces
from projects.llmlingua2.annotate import annotate, chunk_lengths, kept_samples, messages, split_words
from projects.llmlingua2.data import IGNORED, Compressed, Sample, collate, label, token_labels
from projects.llmlingua2.world import TaughtMeetings
from tests.golden import golden_file

GOLDEN = golden_file("llmlingua2")
TEXT = "Mira says: the lamp, which we saw, costs 30 - no, 45. It's well-made!"


def golden(case: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and settings of a golden case; skips where there is no file."""
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}: set GOLDEN_ROOT")
    with safe_open(GOLDEN, "pt") as file:
        tensors = {k.split("/")[1]: file.get_tensor(k) for k in file.keys() if k.startswith(f"{case}/")}  # noqa: SIM118
        settings = {k.split("/hp.")[1]: v for k, v in file.metadata().items() if k.startswith(f"{case}/hp.")}
    return tensors, settings


def test_golden_annotate():
    x, hp = golden("annotate")
    cases = json.loads(hp["cases"])
    assert len(cases) == int(x["in.n_cases"])
    for case, wanted, metrics in zip(cases, x["out.labels"], x["out.metrics"], strict=True):
        labels, quality = annotate(case["origin"], case["compressed"], case["window"])
        assert labels == wanted[: len(labels)].bool().tolist()
        np.testing.assert_allclose(quality, metrics, atol=1e-9)


def test_golden_filter():
    x, hp = golden("filter")
    kept = kept_samples(x["in.variation_rate"].numpy(), x["in.alignment_gap"].numpy(), float(hp["percentile"]))
    assert kept == x["out.kept_index"].tolist()


@pytest.mark.parametrize("case", ["chunk_12", "chunk_22"])
def test_golden_chunks(case):
    x, hp = golden(case)
    tokens, ends = json.loads(hp["tokens"]), json.loads(hp["chunk_end_tokens"])
    assert chunk_lengths(tokens, int(x["in.max_seq_len"]) - 2, ends) == x["out.chunk_len"].tolist()


def test_words_have_places_and_no_commas():
    words = split_words(TEXT)
    assert [w.text for w in words][:6] == ["Mira", "says", ":", "the", "lamp", "which"]
    assert [w.text for w in words][-3:] == ["It's", "well-made", "!"]
    assert all(TEXT[w.start : w.end] == w.text for w in words)
    assert split_words("") == [] and split_words(" , ,") == []


@pytest.mark.parametrize(
    ("original", "compressed", "window", "kept"),
    [
        ("a b c d", "a d", 9, "1001"),
        ("a b c d", "A D", 9, "1001"),
        ("a b c d", "", 9, "0000"),
        ("a b c d", "x y", 9, "0000"),
        ("a b c d", "d a", 9, "1001"),  # backward, too
        ("a b a b", "a a a", 9, "1010"),  # each place once
        ("a b c d e f", "a f", 3, "100000"),  # out of reach
        ("a b c d e f", "a c f", 4, "101001"),
    ],
)
def test_labels(original, compressed, window, kept):
    labels, quality = annotate(original.split(), compressed.split(), window)
    assert "".join(str(int(k)) for k in labels) == kept
    assert 0 <= quality.matching <= quality.hitting or quality.gap < 0
    assert sum(labels) <= len(compressed.split())


def test_the_search_moves_at_most_half_a_window_forward():
    words = list("abcxdefkxg")
    labels, _ = annotate(words, ["k", "x"], 8)  # from k, 7 ahead, the x behind it is nearer; from 4 the one before
    assert [k for k, found in enumerate(labels) if found] == [3, 7]


def test_a_faultless_teacher_is_aligned_without_a_gap():
    rng = np.random.default_rng(0)
    words = [f"w{k}" for k in rng.permutation(200)]
    kept = rng.random(200) < 0.3
    labels, quality = annotate(words, [w for w, k in zip(words, kept, strict=True) if k], 150)
    assert labels == kept.tolist() and quality.variation == 0 and quality.gap == 0
    assert quality.compression == quality.matching == kept.mean()


def test_quality_control_drops_the_worst_and_then_the_worst_aligned():
    variation, gap = np.linspace(0, 1, 100), np.tile([0.0, 0.5], 50)
    kept = kept_samples(variation, gap, 90)
    assert max(kept) < 90 and {gap[k] for k in kept} == {0.0} and len(kept) == 45
    assert kept_samples([], []) == []
    assert kept_samples([0.0] * 20, [0.0] * 19 + [0.1]) == list(range(19))  # all but one are faultless


def test_labels_of_the_world_are_nearly_what_a_perfect_teacher_keeps():
    samples, quality = label(TaughtMeetings(60).read(), window=150)
    assert 0.1 < np.mean([q.compression for q in quality]) < 0.4
    assert 0.02 < np.mean([q.variation for q in quality]) < 0.2  # there is something to control
    assert all(len(sample.labels) == len(split_words(sample.text)) for sample in samples)
    narrow, _ = label(TaughtMeetings(60).read(), window=3)
    found = [np.mean([np.mean(s.labels) for s in found]) for found in (samples, narrow)]
    assert found[1] < 0.5 * found[0]


def test_every_token_of_a_word_has_its_label():
    sample = Sample("the lamp, costs", [False, True, True])
    tokenizer = build_wordpieces(["the costs"], 400)
    places = tokenizer(sample.text, return_offsets_mapping=True)
    labels = token_labels(sample, places.offset_mapping)
    found = dict(zip(places.tokens(), labels, strict=True))
    assert found["the"] == 0 and found["costs"] == 1 and found["l"] == found["##p"] == 1
    assert found[","] == found["[CLS]"] == found["[SEP]"] == IGNORED
    batch = collate([sample, Sample("the", [True])], tokenizer, 5)
    assert batch["labels"].shape == batch["input_ids"].shape == (2, 5)
    assert batch["labels"][1].tolist() == [IGNORED, 1, IGNORED, IGNORED, IGNORED]
    assert batch["attention_mask"].sum(1).tolist() == [5, 3]


def test_the_instruction_holds_the_text_and_the_five_rules():
    system, user = messages("a {curly} text")
    assert system["role"] == "system" and user["content"].endswith("a {curly} text")
    assert all(f"\n{k}. " in user["content"] for k in range(1, 6))


def test_chunks_are_empty_for_no_tokens_and_label_reads_pairs():
    assert chunk_lengths([], 5) == [] and chunk_lengths(["a"], 5) == [1]
    ((sample,), _) = label([Compressed("a b", "b")], 5)
    assert sample.labels == [False, True]
