"""Labelled texts as batches: GoEmotions with one emotion and with several, pairs, cuts, token types, seeds."""

import os
from pathlib import Path

import pytest
import torch
from transformers import RobertaTokenizer

from common.data.classified import EvaluationData, TextData, all_texts, collate
from common.data.readers.goemotions import GoEmotions
from common.data.text import LabelledText, TextSource, scored
from common.data.tokenizers import build_wordpieces
from common.errors import UserError
from common.rehearsal.tokenizers import byte_level

WORDS = [LabelledText("a b c d e f", "g h i", 1), LabelledText("a", "g", 0)]


class Several(TextSource):
    """Letters, each with scores for two classes."""

    classes = ("low", "high")

    def read(self, split):
        return [scored(letter, None, (k / 9, 1 - k / 9)) for k, letter in enumerate("abcdefghij")]


def test_goemotions_keeps_comments_with_one_emotion(tmp_path):
    (tmp_path / "labels.txt").write_text("joy\nlove\n")  # "neutral" is not listed in some copies
    (tmp_path / "train.tsv").write_text("so happy\t0\tid1\nboth\t0,1\tid2\nwell\t2\tid3\n")
    source = GoEmotions(str(tmp_path))
    assert source.classes == ("joy", "love", "neutral")
    assert source.read("train") == [LabelledText("so happy", None, 0), LabelledText("well", None, 2)]
    with pytest.raises(UserError, match="dev.tsv is missing"):
        source.read("val")
    (tmp_path / "train.tsv").write_text("so happy\t0\tid1\nwrong\t3\tid2\n")
    with pytest.raises(UserError, match="line 2"):
        source.read("train")
    with pytest.raises(UserError, match="labels.txt is missing"):
        GoEmotions(str(tmp_path / "absent"))


def test_goemotions_gives_every_comment_with_all_its_emotions(tmp_path):
    (tmp_path / "labels.txt").write_text("joy\nlove\n")
    (tmp_path / "train.tsv").write_text("so happy\t0\tid1\nboth\t0,1\tid2\nwell\t2\tid3\n")
    found = GoEmotions(str(tmp_path), several=True).read("train")
    assert [example.scores for example in found] == [(1, 0, 0), (1, 1, 0), (0, 0, 1)]
    assert [example.label for example in found] == [0, 0, 2] and found[1].text == "both"
    (tmp_path / "train.tsv").write_text("so happy\t0\tid1\nwrong\t0,3\tid2\n")
    with pytest.raises(UserError, match="line 2"):
        GoEmotions(str(tmp_path), several=True).read("train")


def test_the_real_goemotions_with_several_emotions():
    root = Path(os.environ.get("DATA_ROOT", "../shared/data")) / "goemotions"
    if not root.exists():
        pytest.skip(f"no real data at {root}: set DATA_ROOT")
    train = GoEmotions(str(root), several=True).read("train")
    assert len(train) == 43410 and all(len(example.scores) == 28 for example in train)
    single = sum(sum(example.scores) == 1 for example in train)
    assert single == len(GoEmotions(str(root)).read("train")) and single < len(train)


def test_batches_of_pairs_are_cut_and_padded():
    pairs = [LabelledText("a b c d e f", "g h i", 1), LabelledText("a", "g", 0)]
    batch = collate(pairs, build_wordpieces(all_texts(pairs), 1000), max_length=8)
    assert batch["input_ids"].shape == (2, 8) and batch["labels"].tolist() == [1, 0]
    assert batch["attention_mask"].sum(1).tolist() == [8, 5]
    assert batch["token_type_ids"][1].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


def test_scores_are_labels_and_a_class_is_a_label():
    tokenizer = build_wordpieces(["a"], 300)
    both = collate([scored("a", None, (0.25, 0.75)), scored("a", None, (0.0, 0.0))], tokenizer, 8)["labels"]
    assert both.dtype == torch.float32 and both.tolist() == [[0.25, 0.75], [0, 0]]
    one = collate([LabelledText("a", None, 1)], tokenizer, 8)["labels"]
    assert one.dtype == torch.int64 and one.tolist() == [1]
    assert scored("a", None, (0.2, 0.7, 0.7)).label == 1


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_second_text_is_kept_whole_and_has_its_own_token_type(kind):
    tokenizer = build_wordpieces(all_texts(WORDS), 1000) if kind == "bert" else byte_level(RobertaTokenizer, length=512)
    second = tokenizer(["g h i"], add_special_tokens=False)["input_ids"][0]
    special = tokenizer.num_special_tokens_to_add(pair=True)
    batch = collate(WORDS, tokenizer, max_length=len(second) + special + 2, keep_pair=True)
    ids, types = batch["input_ids"][0].tolist(), batch["token_type_ids"][0].tolist()
    assert ids[-1 - len(second) : -1] == second  # nothing of it is cut, two tokens of the first text are left
    assert types == [0] * (special + 1) + [1] * (len(second) + 1)
    padded = batch["attention_mask"][1] == 0
    assert not batch["token_type_ids"][1][padded].any() and batch["token_type_ids"][1].sum() == 1 + len(
        tokenizer(["g"], add_special_tokens=False)["input_ids"][0]
    )


@pytest.mark.parametrize("text", ["g h i j k l m n o p q", "\N{FACE WITH TEARS OF JOY}" * 9, "abcdefghijklmnopqrstuvw"])
def test_a_second_text_that_is_too_long_by_itself_is_cut_at_its_end(text):
    tokenizer = byte_level(RobertaTokenizer, length=512)
    batch = collate([LabelledText("before", text, 0), LabelledText("", "g", 0)], tokenizer, 10, keep_pair=True)
    assert batch["input_ids"].shape[1] <= 10
    second = batch["input_ids"][0][batch["token_type_ids"][0] == 1]
    kept = tokenizer.decode(second, skip_special_tokens=True)
    assert kept and text.startswith(kept)
    with pytest.raises(UserError, match="leaves no room"):
        collate(WORDS, tokenizer, 4, keep_pair=True)


def test_a_seed_chooses_scored_texts_and_tests_come_before_validation(tmp_path):
    first, again, other = (TextData(Several(), train_examples=4, seed=seed).train for seed in (0, 0, 1))
    assert first == again != other and set(first) <= set(Several().read("train"))
    build_wordpieces("abc", 200).save_pretrained(tmp_path)
    loaders = EvaluationData({"letters": Several()}, str(tmp_path)).test_dataloader()
    assert len(loaders) == 2 and next(iter(loaders[0]))["labels"].shape == (10, 2)
