"""ModularStarEncoder's world of small programs: what it promises, and what readers of words alone find in it."""

import re

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from common.evaluators.retrieval import PairedRetrieval
from projects.modular_star_encoder.corpus import Corpus
from projects.modular_star_encoder.lexical import weighted
from projects.modular_star_encoder.tokens import CHARACTER_PIECES, build_tokenizer, pieces
from projects.modular_star_encoder.world import (
    BETWEEN,
    DISTRACTORS,
    HELD_OUT,
    LABELS,
    NOUNS,
    VERBS,
    Programs,
    Repositories,
    families,
    vocabulary,
)

KEYWORDS = {word: key for words in (VERBS, NOUNS) for key, said in words.items() for word in said}


def steps(text: str) -> list[str]:
    """A text's verbs and nouns in the code's words, in its order."""
    return [KEYWORDS[word] for word in text.split() if word in KEYWORDS]


def functions(split: str, size: int = 200):
    source = Programs(size).read(split)
    return [source[k] for k in range(len(source))]


def test_words_mean_one_thing():
    said = [word for words in (*VERBS.values(), *NOUNS.values()) for word in words]
    assert len(set(said)) == len(said) and not set(said) & (set(BETWEEN) | set(LABELS))
    assert all(key in words for known in (VERBS, NOUNS) for key, words in known.items())


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_descriptions_and_twins_say_what_the_code_does(split):
    for function in functions(split):
        assert steps(function.text) == steps(function.code)
        pairs = [line.split()[-2:] for line in function.twin.splitlines()]
        assert [word for noun, verb in pairs for word in (verb, noun)] == steps(function.code)


def test_no_family_is_in_two_splits_and_no_program_twice():
    known = {split: {frozenset(v) | frozenset(n) for v, n in families(split)} for split in ("train", "val", "test")}
    assert [len(known[split]) for split in ("train", "val", "test")] == [115, HELD_OUT["val"], HELD_OUT["test"]]
    assert not (known["train"] & known["test"] or known["train"] & known["val"] or known["val"] & known["test"])
    for split in ("train", "val", "test"):
        assert {frozenset(steps(f.code)) for f in functions(split)} <= known[split]
    tested = [tuple(steps(f.code)) for f in functions("test")]
    assert len(set(tested)) == len(tested) == DISTRACTORS * HELD_OUT["test"]


def test_training_programs_follow_from_their_number_and_stand_with_their_distractors():
    source = Programs(400, together=4).read("train")
    assert source[7] == Programs(400, together=4).read("train")[7] and len(source) == 400
    for group in range(0, 400, 4):
        told = [steps(source[group + k].code) for k in range(4)]
        assert len({frozenset(t) for t in told}) == 1 and len({tuple(t) for t in told}) == 4
    assert len({source[k].text for k in range(400)}) > 390  # fresh ones


def test_the_sanity_table_of_a_search():
    """MRR of a perfect answer, of words without order, of common words, of chance, of a constant."""
    found = functions("test")
    order = {word: k for k, word in enumerate((*VERBS, *NOUNS))}
    bag = torch.zeros(len(found), len(order))
    whole = torch.zeros(len(found), 4, len(order))
    for row, function in enumerate(found):
        for place, word in enumerate(steps(function.code)):
            bag[row, order[word]] = 1
            whole[row, place // 2, order[word]] = 1
    whole = whole.flatten(1)

    def mrr(queries, candidates) -> float:
        metric = PairedRetrieval()
        metric.update(queries.float(), candidates.float())
        return metric.compute()["mrr"].item()

    torch.manual_seed(0)
    assert mrr(whole, whole) == 1
    without_order = np.mean([mrr(bag, bag + 1e-3 * torch.randn(bag.shape)) for _ in range(5)])
    assert without_order == pytest.approx(sum(1 / k for k in range(1, 7)) / 6, abs=0.03)
    assert mrr(torch.randn(480, 8), torch.randn(480, 8)) == pytest.approx(0.014, abs=0.01)
    assert mrr(torch.ones(480, 8), torch.ones(480, 8)) == pytest.approx(1 / 480)  # a constant finds nothing
    tokenizer = build_tokenizer(vocabulary(), len(CHARACTER_PIECES) + 200)
    ids = [pieces(tokenizer, texts, 28) for texts in ([f.text for f in found], [f.code for f in found])]
    assert 0.02 < mrr(*weighted(*ids)) < 0.3  # synonyms hide words from TF-IDF, order is nothing to it


def test_labels_change_nothing_that_is_asked_for():
    for function in functions("test")[:50]:
        plain = re.sub(rf"\b[{LABELS}]\b ?", "", function.code)
        assert steps(plain) == steps(function.code) and len(plain.split()) == 8


def test_repositories_have_files_of_one_style_and_come_up_by_their_number():
    source = Repositories(400)
    sizes = [len(source[k].files) for k in range(400)]
    assert min(sizes) == 2 and max(sizes) == 6
    assert np.mean([size == 6 for size in sizes]) > 2 * np.mean([size == 2 for size in sizes])
    for k in range(40):
        words = {word for text in source[k].files for word in text.split()}
        told = {KEYWORDS[word] for word in words if word in KEYWORDS}
        assert len(told & set(VERBS)) <= 3 and len(told & set(NOUNS)) <= 3 and len(words & set(LABELS)) <= 3
    assert source[3] == Repositories(400)[3] and source[3] != Repositories(400, "val")[3]


def test_windows_are_of_other_files_of_one_repository(tmp_path):
    build_tokenizer(vocabulary(), len(CHARACTER_PIECES) + 200).save_pretrained(tmp_path)
    data = Corpus(Repositories(100), str(tmp_path), held_out=Repositories(50, "val"), val_windows=20, max_length=56)
    for k in range(30):
        sample = data.draw(k, np.random.default_rng(k))
        ids = np.where(sample["labels"] == -100, sample["input_ids"], sample["labels"])
        parts = data.tokenizer.decode(ids).removesuffix("<cls>").split("<sep>")[1:]
        assert len(parts) >= 2
        texts = {re.sub(r"\s+", " ", text) for text in data.repositories[k].files}
        within = [any(part.strip() in text for text in texts) for part in parts]
        assert all(within) if sample["together"] else not all(within)
        if sample["together"]:
            assert not any(all(part.strip() in text for part in parts[:2]) for text in texts)  # two files, not one
    one, other = ([batch["input_ids"] for batch in data.val_dataloader()] for _ in range(2))
    assert sum(map(len, one)) == 20 and all(a.equal(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("objective", ["icc", "nsp"])
def test_whether_parts_belong_together_is_told_by_their_words_alone(tmp_path, objective):
    build_tokenizer(vocabulary(), len(CHARACTER_PIECES) + 200).save_pretrained(tmp_path)
    data = Corpus(Repositories(600), str(tmp_path), objective, held_out=Repositories(50, "val"), max_length=56)
    together, told = [], []
    for k in range(600):
        sample = data.draw(k, np.random.default_rng(k))
        ids = np.where(sample["labels"] == -100, sample["input_ids"], sample["labels"])
        parts = [part.split() for part in data.tokenizer.decode(ids).removesuffix("<cls>").split("<sep>")[1:]]
        first, second = parts[:2]
        together.append(sample["together"])
        told.append((second[0] in LABELS, len(first) - len(second) > 1, len(parts), len(set(first) & set(second))))
    *nuisances, shared = (roc_auc_score(together, column) for column in zip(*told, strict=True))
    assert nuisances == pytest.approx([0.5] * 3, abs=0.08) and shared > 0.9
