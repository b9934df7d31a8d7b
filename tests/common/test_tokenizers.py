"""Tokenizers made of texts, written and loaded again."""

from pathlib import Path

import pytest

from common.data.tokenizers import build_wordpieces, load_tokenizer
from common.errors import UserError

TEXTS = ["The cat sat", "the dog", "a cat"]


def test_word_pieces_know_frequent_words_and_spell_the_rest() -> None:
    tokenizer = build_wordpieces(TEXTS, 1000)
    assert tokenizer.tokenize("The CAT") == ["the", "cat"]
    assert tokenizer.tokenize("catx") == ["cat", "##x"]
    assert len(build_wordpieces(TEXTS, 110)) == 110


def test_a_tokenizer_is_loaded_from_a_folder_that_may_stand_in_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = build_wordpieces(TEXTS, 1000)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setenv("WEIGHTS_ROOT", str(tmp_path))
    for name in (str(tmp_path), "$WEIGHTS_ROOT"):
        assert load_tokenizer(name)("the cat")["input_ids"] == tokenizer("the cat")["input_ids"]


def test_a_tokenizer_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer at '.*absent', neither a folder nor a hub id"):
        load_tokenizer(str(tmp_path / "absent"))
