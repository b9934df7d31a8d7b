"""The compressor: golden parity, invariants of what it leaves, the official arguments and results, bad input."""

import json

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.foundations.causal_lm import build_decoder, train_tokenizer
from common.rehearsal.text_models import bert, gpt2, xlm_roberta
from projects.llmlingua2.annotate import ENDS
from projects.llmlingua2.compressor import PromptCompressor, Words, choose, word_probabilities
from tests.projects.test_llmlingua2_annotation import golden

TEXT = (
    "A photo of a small brown cat that sleeps on a red chair beside the window. Two people ride bicycles along the "
    "river!\n\nIn 1998 the company had 1,250 employees; by 2024 there were more than 36,000 of them. Is it so? It is."
)
KINDS = {
    "##": (bert, "BertForTokenClassification"),
    "▁": (xlm_roberta, "XLMRobertaForTokenClassification"),
}


@pytest.fixture(scope="module", params=KINDS)
def compressor(request, tmp_path_factory) -> PromptCompressor:
    write, kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp("released")
    torch.manual_seed(1)
    more = {"lower": False} if write is bert else {}
    write(folder, layers=2, kind=kind, num_labels=2, initializer_range=0.5, **more)
    made = PromptCompressor(str(folder), "cpu", counted_by=None)
    assert made.mark == request.param and made.positions == 512
    return made


@pytest.mark.parametrize("case", ["plain", "digit"])
def test_golden_merge_words(case):
    x, hp = golden(f"merge_words_{case}")
    rule = Words("##", json.loads(hp["force_tokens"]), digits=json.loads(hp["force_reserve_digit"]))
    words, forced, plain = rule.merge(json.loads(hp["tokens"]), x["in.token_prob"].tolist())
    assert words == json.loads(hp["words"]) and [len(p) for p in forced] == x["out.word_len"].tolist()
    for name, found in (
        ("mean", word_probabilities(forced, "mean")),
        ("first", word_probabilities(forced, "first")),
        ("no_force_mean", word_probabilities(plain, "mean")),
    ):
        np.testing.assert_allclose(found, x[f"out.word_prob_{name}"], atol=1e-9)


@pytest.mark.parametrize("case", [f"rate{rate}_{what}" for rate in (50, 33) for what in ("plain", "dropdup")])
def test_golden_compress(case):
    x, hp = golden(f"compress_{case}")
    forced, words, labels = json.loads(hp["force_tokens"]), [], []
    for k, chunk in enumerate(json.loads(hp["chunks"])):
        found, pieces, _ = Words("##", forced).merge(chunk, x[f"in.token_prob_{k}"].tolist())
        p = word_probabilities(pieces, hp["token_to_word"])
        words += found
        count = lambda word: max(1, (len(word) + 2) // 3)  # noqa: E731  # the file's stand-in for GPT's tokens
        assert hp["token_count_of_word"] == "max(1,(len(word)+2)//3)"
        labels += choose(found, p, float(hp["rate"]), count, forced, json.loads(hp["drop_consecutive"]))
    assert words == json.loads(hp["words"]) and labels == x["out.word_label"].bool().tolist()


def test_a_lower_rate_keeps_a_part_of_what_a_higher_one_does():
    rng = np.random.default_rng(0)
    words, p = [f"w{k}" for k in range(80)], rng.random(80).tolist()
    before = [True] * 80
    for rate in (0.9, 0.5, 0.33, 0.2, 0.05, 0.001):
        kept = choose(words, p, rate, lambda word: 1)
        assert all(b or not k for b, k in zip(before, kept, strict=True)) and sum(kept) <= rate * 80 + 1
        before = kept
    assert choose([], [], 0.5, len) == []


def test_forced_words_stay_however_low_the_rate():
    words, p = ["a", ".", "b", ".", ".", "c"], [0.9, 1.0, 0.8, 1.0, 1.0, 0.1]
    assert [choose(words, p, rate, len, ["."])[k] for rate in (0.5, 0.2) for k in (1, 3, 4)] == [True] * 6
    assert choose(words, p, 0.5, len, ["."], drop_consecutive=True)[4] is False


def words_of(text: str) -> list[str]:
    return text.replace(",", " ").replace(";", " ").split()


@pytest.mark.parametrize("rate", [0.7, 0.33, 0.1])
def test_what_is_left_stands_in_the_text_in_that_order(compressor, rate):
    found = compressor.compress_prompt(TEXT, rate=rate)
    rest = iter(TEXT)
    assert all(c in rest for c in found["compressed_prompt"] if not c.isspace())
    assert 0 < found["compressed_tokens"] < found["origin_tokens"]
    assert abs(found["compressed_tokens"] / found["origin_tokens"] - rate) < 0.15
    assert set(found) == {
        "compressed_prompt", "compressed_prompt_list", "origin_tokens", "compressed_tokens", "ratio", "rate", "saving",
    }  # fmt: skip
    assert found["ratio"] == f"{found['origin_tokens'] / found['compressed_tokens']:.1f}x"


def test_everything_stays_at_rate_1_and_is_as_it_was(compressor):
    assert compressor.compress_prompt(TEXT, rate=1.0)["compressed_prompt"] == TEXT
    assert compressor.compress_prompt("")["compressed_prompt"] == ""


def test_forced_signs_lines_and_digits(compressor):
    signs = ["\n", "?", "!", "."]
    found = compressor.compress_prompt(TEXT, rate=0.2, force_tokens=signs)["compressed_prompt"]
    assert all(found.count(sign) == TEXT.count(sign) for sign in signs)
    one = compressor.compress_prompt(TEXT, rate=0.2, force_tokens=signs, drop_consecutive=True)["compressed_prompt"]
    assert one.count("\n") == 1 and len(one) < len(found)
    digits = compressor.compress_prompt(TEXT, rate=0.3, force_reserve_digit=True)["compressed_prompt"]
    assert "1998" in digits and "2024" in digits
    phrase = compressor.compress_prompt(TEXT, rate=0.1, force_tokens=["Two people"])["compressed_prompt"]
    assert "Two people" in phrase


def test_the_authors_call_is_understood_and_a_saved_compressor_keeps_forcing(compressor, tmp_path):
    compressor.net.save_pretrained(tmp_path)
    compressor.tokenizer.save_pretrained(
        tmp_path
    )  # with the tokens that stand for force tokens, as some hubs have them
    again = PromptCompressor(str(tmp_path), "cpu", use_llmlingua2=True, counted_by=None)
    given = {"rate": 0.3, "force_tokens": ["\n", "?", "Two people"]}
    found = again.compress_prompt(TEXT, "Answer briefly.", "Who rides?", **given)
    assert found == compressor.compress_prompt(TEXT, **given) and "Two people" in found["compressed_prompt"]
    with pytest.raises(UserError, match=r"entropy\.LLMLingua"):
        PromptCompressor(str(tmp_path), use_llmlingua2=False)


def test_a_byte_level_classifier_s_chunks_end_with_sentences_and_its_words_are_counted_as_they_stand(tmp_path):
    text = "a small cat sleeps . two people ride . is it so . " * 6
    tokenizer = train_tokenizer("gpt2", [text] * 20, 400)
    build_decoder("gpt2", tokenizer, 16, 1, 2, 64).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    made = PromptCompressor(str(tmp_path), "cpu", counted_by=None)
    made.positions = 14
    chunks = made._chunks(text.strip(), {}, ENDS)
    assert len(chunks) > 3 and all(chunk[-1] == "Ġ." for chunk in chunks)
    assert made.count("Ġpeople") == 1


def test_every_word_has_a_label(compressor):
    found = compressor.compress_prompt(TEXT, rate=0.4, return_word_label=True)
    labels = [part.rsplit(" ", 1) for part in found["fn_labeled_original_prompt"].split("\t\t|\t\t")]
    assert "".join(word for word, _ in labels) == "".join(TEXT.split())
    kept = "".join(word for word, keep in labels if keep == "1")
    assert kept == "".join(found["compressed_prompt"].split())


def test_contexts_are_dropped_whole_before_words_are(compressor):
    parts = TEXT.split("\n\n") + ["Nothing of this matters."]
    found = compressor.compress_prompt(parts, rate=0.5, target_context=1)
    assert len(found["compressed_prompt_list"]) == 1
    both = compressor.compress_prompt(parts, rate=0.5, target_context=1, force_context_ids=[0, 1, 2])
    assert len(both["compressed_prompt_list"]) == 3
    assert both["compressed_prompt"] == "\n\n".join(both["compressed_prompt_list"])
    all_ = compressor.compress_prompt_llmlingua2(parts, rate=0.5)
    assert len(all_["compressed_prompt_list"]) == 3
    whole = compressor.compress_prompt(parts, rate=0.5, use_token_level_filter=False, context_level_rate=0.5)
    assert all(part in parts for part in whole["compressed_prompt_list"])
    budget = compressor.compress_prompt(parts, target_token=20)
    assert budget["compressed_tokens"] <= 24


def test_chunks_do_not_change_each_other_and_padding_changes_nothing(compressor):
    chunks = [compressor.tokenizer.tokenize(TEXT)[:n] for n in (20, 5, 20)]
    together = compressor.probabilities(chunks)
    for chunk, p in zip(chunks, together, strict=True):
        np.testing.assert_allclose(p, compressor.probabilities([chunk])[0], atol=1e-5)
        assert len(p) == len(chunk)
    long = " ".join([TEXT] * 20)
    found = compressor.compress_prompt(long, rate=0.3)  # more than one chunk
    assert found["origin_tokens"] > 1024 and found["compressed_tokens"] < 0.45 * found["origin_tokens"]
    full = compressor.probabilities([compressor.tokenizer.tokenize(long)[:511]])[0]  # as released, one more than fits
    assert len(full) == 511


def test_bad_input_ends_in_one_sentence(compressor, tmp_path):
    for rate in (0, -1, 1.5):
        with pytest.raises(UserError, match="rate is"):
            compressor.compress_prompt(TEXT, rate=rate)
    with pytest.raises(UserError, match="101 force tokens"):
        compressor.compress_prompt(TEXT, force_tokens=[str(k) for k in range(101)])
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        PromptCompressor(str(tmp_path / "nowhere"))
    gpt2(tmp_path, layers=1)
    with pytest.raises(UserError, match="no device 'nonsense'"):
        PromptCompressor(str(tmp_path), "nonsense", counted_by=None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_leaves_the_same(compressor, tmp_path):
    compressor.net.save_pretrained(tmp_path)
    compressor.tokenizer.save_pretrained(tmp_path)
    found = PromptCompressor(str(tmp_path), "cuda", counted_by=None).compress_prompt(TEXT, rate=0.33)
    assert found == compressor.compress_prompt(TEXT, rate=0.33)
