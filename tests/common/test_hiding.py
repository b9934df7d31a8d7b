"""Hidden tokens of a masked language model."""

import random

import numpy as np
import pytest
import torch

from common.data.hiding import IGNORED, hide_tokens, padding
from common.data.tokenizers import build_wordpieces

WORDS = [f"word{k}" for k in range(40)]


@pytest.fixture(scope="module")
def tokenizer():
    return build_wordpieces([" ".join(WORDS)] * 3, 200)


def sample(tokenizer, words: int = 30):
    return dict(tokenizer(" ".join(WORDS[:words]), return_special_tokens_mask=True))


@pytest.mark.parametrize("masked, replaced", [(0.8, 0.1), (0.4, 0.4), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_shares_are_those_that_were_asked_for(tokenizer, masked, replaced):
    before, rng = sample(tokenizer), np.random.default_rng(0)
    found = [hide_tokens(before, rng, tokenizer, 0.3, masked, replaced) for _ in range(400)]
    ids, labels = (np.array([one[key] for one in found]) for key in ("input_ids", "labels"))
    original, special = np.array(before["input_ids"]), np.array(before["special_tokens_mask"], bool)
    hidden = labels != IGNORED
    assert not hidden[:, special].any() and hidden[:, ~special].mean() == pytest.approx(0.3, abs=0.02)
    assert (labels[hidden] == np.broadcast_to(original, labels.shape)[hidden]).all()
    assert (ids == original)[~hidden].all()
    blank, same = ids[hidden] == tokenizer.mask_token_id, ids[hidden] == labels[hidden]
    by_chance = replaced / len(tokenizer)
    assert blank.mean() == pytest.approx(masked + by_chance, abs=0.03)
    assert same.mean() == pytest.approx(1 - masked - replaced + by_chance, abs=0.03)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_and_everything(tokenizer, share):
    before = sample(tokenizer)
    found = hide_tokens(before, np.random.default_rng(0), tokenizer, share)
    assert sum(label != IGNORED for label in found["labels"]) == share * 30
    assert before == sample(tokenizer)  # the sample that was given is left alone


def test_what_is_hidden_follows_from_the_sample_s_generator_alone(tokenizer):
    """A loader puts batches together ahead of their step: whatever another generator said there is lost on resuming."""
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    samples = [hide_tokens(sample(tokenizer, 5 + k), np.random.default_rng(k), tokenizer, 0.3) for k in range(4)]
    batch = padding(tokenizer)(samples)
    again = [hide_tokens(sample(tokenizer, 5 + k), np.random.default_rng(k), tokenizer, 0.3) for k in range(4)]
    assert samples == again
    assert torch.equal(states[0], torch.get_rng_state()) and random.getstate() == states[2]
    assert (states[1] == np.random.get_state()[1]).all()
    assert batch["input_ids"].shape == batch["labels"].shape == (4, 10) and batch["labels"][0, -1] == IGNORED
    assert batch["attention_mask"].sum(1).tolist() == [7, 8, 9, 10]
