"""Small language models: what they learn, from which tokens, and what they leave behind."""

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.data.pairs import Pair, PairSource
from common.data.plain_texts import Captions, PlainTexts, TextsOf, TextsOfPairs
from common.data.text import LabelledText, TextSource
from common.data.worlds.glyph_scenes import GlyphScenes
from common.errors import UserError
from common.foundations.causal_lm import IGNORED, NAMES, LanguageTraining, ReadingData

TEXTS = ["mira says the lamp costs 30 .", "the motion passed today", "a much longer text : the lamp , the lamp"]


class Page(PlainTexts):
    def read(self, split):
        return TEXTS * 8


def training(kind="gpt2", objective="next", **settings):
    data = ReadingData(Page(), kind, objective, vocabulary=320, batch_size=3, **settings)
    torch.manual_seed(0)
    return LanguageTraining(kind, objective, data.tokenizer, hidden=16, layers=1, warmup_steps=1), data


def batch(data, rows=(0, 1, 2)):
    return data.collate([data.draw(k, np.random.default_rng(k)) for k in rows])


@pytest.mark.parametrize("kind", NAMES)
def test_net_and_tokenizer_are_read_as_any_of_the_hub(kind, tmp_path):
    module, data = training(kind)
    module.run_dir = tmp_path
    before = module.net.get_input_embeddings().weight.detach().clone()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    L.Trainer(**quiet, enable_model_summary=False, use_distributed_sampler=False, max_steps=2).fit(module, data)
    assert not torch.equal(before, module.net.get_input_embeddings().weight)
    net = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert type(net).__name__.startswith(NAMES[kind])
    assert tokenizer(TEXTS[0]).input_ids == data.tokenizer(TEXTS[0]).input_ids
    assert tokenizer.decode(tokenizer(TEXTS[0], add_special_tokens=False).input_ids) == TEXTS[0]
    found = net(**{name: value for name, value in batch(data).items() if name != "labels"}).logits
    assert torch.equal(found, module.net.eval()(**{k: v for k, v in batch(data).items() if k != "labels"}).logits)


def test_the_loss_is_the_mean_over_the_tokens_of_the_texts():
    module, data = training()
    found = module.training_step(batch(data), 0)
    alone = [batch(data, [k]) for k in range(3)]
    total = count = 0.0
    for one in alone:  # without padding
        logits = module.net(input_ids=one["input_ids"]).logits[0, :-1]
        total += F.cross_entropy(logits, one["input_ids"][0, 1:], reduction="sum")
        count += len(logits)
    torch.testing.assert_close(found, total / count)
    ids = alone[0]["input_ids"][0]
    assert ids[0] == data.tokenizer.bos_token_id and ids[-1] == data.tokenizer.eos_token_id
    assert data.tokenizer.decode(ids[1:-1]) == TEXTS[0]


def test_long_texts_are_cut():
    _, data = training(max_length=4)
    assert all(len(data.draw(k, None)[0]) == 5 for k in range(3))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("padded", [False, True])
def test_masked_next_looks_both_ways_and_next_does_not(kind, padded):
    for objective in ("next", "masked_next"):
        module, data = training(kind, objective)
        given = batch(data, (0, 1) if padded else (0,))
        given["labels"][:, 2:] = IGNORED
        given["labels"][:, 1] = 5  # the loss of the first token after the start
        first = module.training_step(given, 0)
        given["input_ids"][0, 5] = 7
        assert torch.equal(module.training_step(given, 0), first) is (objective == "next")


def test_masked_next_asks_for_what_is_hidden_alone():
    module, data = training("llama", "masked_next", masked=0.5)
    given = batch(data)
    hidden = given["input_ids"] == data.tokenizer.mask_token_id
    assert hidden.any() and torch.equal(hidden, given["labels"] != IGNORED)
    assert not hidden[:, 0].any() and not (hidden & (given["attention_mask"] == 0)).any()
    plain = training("llama")[1]
    assert torch.equal(torch.where(hidden, given["labels"], given["input_ids"]), batch(plain)["input_ids"])
    assert module.net.config.is_causal is False
    data.masked = 1e-9  # a batch in which nothing is hidden
    assert module.training_step(batch(data), 0) == 0


@pytest.mark.parametrize("settings", [{"heads": 3}, {"hidden": 12, "heads": 4}])
def test_sizes_that_do_not_go_together(settings):
    _, data = training()
    with pytest.raises(UserError, match="heads come in pairs"):
        LanguageTraining("llama", "next", data.tokenizer, **settings)


def test_shares_are_checked():
    with pytest.raises(UserError, match="a share between 0 and 1"):
        training(masked=1.0)


def test_every_kind_of_source_has_texts():
    class Labelled(TextSource):
        classes = ("a",)

        def read(self, split):
            return [LabelledText("one", None, 0), LabelledText("two", "three", 0)]

    class Stories(PairSource):
        def read(self, split):
            return [Pair("one", "two")]

    assert TextsOf(Labelled()).read("train") == ["one", "two", "three"]
    assert TextsOfPairs(Stories()).read("train") == ["one two"]
    scenes = GlyphScenes("train", 3)
    assert Captions(scenes).read("train") == [scenes[k].caption for k in range(3)]
