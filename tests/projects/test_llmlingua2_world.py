"""The world, its readers and the baselines: what a perfect, a random and a constant answer score, and why."""

from random import Random

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from common.data.tokenizers import build_wordpieces
from common.errors import UserError
from common.foundations.causal_lm import build_decoder, train_tokenizer
from common.rehearsal.text_models import gpt2
from projects.llmlingua2.entropy import LanguageModel, LLMLingua, SelectiveContext, top
from projects.llmlingua2.evaluate import Chance, Known, subsequence
from projects.llmlingua2.readers import PASSAGE, ChatReader, Parser, ReadingTask, SpanReader, encode, passage
from projects.llmlingua2.world import (
    CUES,
    GOODS,
    GRAMMARS,
    ISSUES,
    NUMBERS,
    OUTCOMES,
    Library,
    Meetings,
    Neighbours,
    TaughtMeetings,
    draw,
    flawed,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A GPT-2 that has read nothing."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = train_tokenizer("gpt2", Library(30).read("train"), 600)
    torch.manual_seed(0)
    build_decoder("gpt2", tokenizer, 16, 1, 2, 64).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("style", GRAMMARS)
def test_the_program_reads_whole_texts_and_a_perfect_teacher_s_and_finds_nothing_by_chance(style):
    documents = Meetings(style, test=80).read("test")
    texts = [document.text for document in documents]

    def score(short) -> float:
        found = [
            Parser().answer([text], [q.text]) == [q.answer]
            for text, document in zip(short, documents, strict=True)
            for q in document.questions
        ]
        return float(np.mean(found))

    assert score(texts) == score([document.essence for document in documents]) == 1
    assert score(Chance(0).compress(texts, 0.33)) < 0.3 and score([""] * 80) == 0
    assert score(["passed 30 " * 20] * 80) == 0  # an answer to everything answers nothing


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("mira says the lamp costs 30", "price lamp", "30"),
        ("lamp 30 45", "price lamp", "30"),  # who keeps the wrong number keeps the wrong answer
        ("lamp 30 no sorry 45", "price lamp", "45"),
        ("lamp 30 no 45", "price lamp", "45"),
        ("lamp no 45", "price lamp", "45"),
        ("lamp . 30", "price lamp", "30"),
        ("30 lamp", "price lamp", ""),
        ("mira 30", "price lamp", ""),
        ("roads passed i mean tabled", "vote roads", "tabled"),
        ("", "vote roads", ""),
    ],
)
def test_what_the_program_understands(text, question, answer):
    assert Parser().answer([text], [question]) == [answer]


def test_a_thing_s_answer_is_not_another_s():
    first, second = GRAMMARS["meetings"].things[:2]
    assert Parser().answer([f"{first} {second} 30"] * 2, [f"price {first}", f"price {second}"]) == ["", "30"]


def test_the_world_is_the_same_every_time_and_another_for_every_seed():
    a, b = Meetings(test=5).read("test", 1), Meetings(test=3).read("test", 1)
    assert a[:3] == b and a != Meetings(test=5).read("test", 2) != Meetings(val=5).read("val", 2)
    assert TaughtMeetings(4).read(1)[:7] == TaughtMeetings(2).read(1)[:7] != TaughtMeetings(2).read(2)[:7]
    splits = [{document.text for document in Meetings().read(split, 0)} for split in ("val", "test")]  # type: ignore[arg-type]
    assert not splits[0] & splits[1]


def test_grammars_speak_of_the_same_things_in_other_words():
    own, other = GRAMMARS.values()
    for kind in ("people", "rare", "prices", "votes", "corrections", "fillers", "idle"):
        assert not {*getattr(own, kind)} & {*getattr(other, kind)}
    words = [*GOODS, *ISSUES, *own.people, *other.people, *own.rare, *other.rare]
    assert len(set(words)) == len(words) and not {*words} & {*NUMBERS, *OUTCOMES, *CUES}


def test_the_teacher_leaves_what_is_asked_for_and_its_flaws_are_few():
    documents = [draw("meetings", Random(k)) for k in range(50)]
    for document in documents:
        assert all(q.answer in document.essence.split() and q.text.split()[1] in document.essence.split()
                   for q in document.questions)  # fmt: skip
        assert not {*document.essence.split()} & CUES
        assert subsequence(document.essence.split(), document.text.split())
    flaws = [flawed(d.essence.split(), Random(k)) != d.essence for k, d in enumerate(documents)]
    assert 0.3 < np.mean(flaws) < 1


def test_libraries_fit_the_small_models():
    assert max(len(text.split()) for text in Library(200).read("train")) < 126
    pairs = Neighbours(40).read("train")
    assert max(len(f"{pair.a} {pair.b}".split()) for pair in pairs) < 38
    assert all(
        pair.b and pair.a.endswith(" .") and f"{pair.a} {pair.b}" in Library(1).read("train")[0] for pair in pairs[:2]
    )
    chunks = TaughtMeetings(50).read()
    assert max(len(pair.original.split()) for pair in chunks) < 33
    assert all(pair.original.endswith(" .") for pair in chunks)


def test_surprise_is_what_the_model_says_whatever_the_batch_and_the_window(model):
    reader = LanguageModel(model, together=130)
    texts = Library(4).read("train")
    coded = [reader.encode(text)[0][:60] for text in texts]
    together = reader.read(coded)
    ids = torch.tensor([[reader.start, *coded[0][:20]]])
    logits = reader.net(input_ids=ids).logits[0, :-1].log_softmax(-1)
    expected = -logits[torch.arange(20), ids[0, 1:]]
    torch.testing.assert_close(together[0][:20], expected, atol=1e-4, rtol=1e-4)
    long = [coded[0] + coded[1] + coded[2]]  # longer than the window of 64
    found = reader.read(long)[0]
    assert len(found) == 180 and torch.isfinite(found).all()
    assert reader.read([[]])[0].shape == (0,)


@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_entropy_baselines_leave_a_subsequence_of_the_wanted_length(model, rate):
    texts = Library(6).read("train")
    for compressor in (SelectiveContext(model), LLMLingua(model, 20), LLMLingua(model, 7, sentences=False)):
        for text, short in zip(texts, compressor.compress(texts, rate), strict=True):
            rest = iter(text)
            assert all(c in rest for c in short if not c.isspace())
            wanted = round(rate * len(text.split()))  # of LLMLingua's tokens, some are parts of words
            assert len(short.split()) == wanted if isinstance(compressor, SelectiveContext) else short
    assert SelectiveContext(model).compress(["one"], 1.0) == ["one"]
    assert LLMLingua(model, 20).compress(["", texts[0]], 1.0) == ["", texts[0]]


def test_llmlingua_reads_what_it_has_kept(model, monkeypatch):
    compressor = LLMLingua(model, 10, sentences=False)
    seen = []
    ask = compressor.model.surprise
    monkeypatch.setattr(
        compressor.model, "surprise", lambda before, now: seen.append((before, now)) or ask(before, now)
    )
    compressor.compress(Library(1).read("train"), 0.3)
    assert [len(before[0]) for before, _ in seen[:4]] == [0, 3, 6, 9]
    assert {len(now[0]) for _, now in seen[:-1]} == {10}
    with pytest.raises(UserError, match="a segment has 0 tokens"):
        LLMLingua(model, 0)
    with pytest.raises(UserError, match="reads 63 at most"):
        LLMLingua(model, 64)


def test_a_word_of_many_tokens_is_no_more_surprising_for_that(model, monkeypatch):
    compressor = SelectiveContext(model)
    ids, places = compressor.model.encode("unheardofword two")
    count = sum(start < 13 for start, _ in places)
    assert count > 2
    said = torch.tensor([1.0] * count + [2.0] * (len(ids) - count))
    monkeypatch.setattr(compressor.model, "read", lambda texts: [said])
    assert compressor.compress(["unheardofword two"], 0.5) == ["two"]


def test_top_keeps_the_share_and_the_first_of_equal_ones():
    assert top(torch.tensor([1.0, 3.0, 3.0, 2.0]), 0.25).tolist() == [False, True, False, False]
    assert top(torch.tensor([1.0, 1.0]), 1.0).all() and not top(torch.tensor([1.0]), 0.3).any()
    assert top(torch.zeros(0), 0.5).shape == (0,)


def test_known_texts_and_chance():
    assert Known({"a": "b"}).compress(["a", "c"], 0.1) == ["b", "c"]
    text = " ".join(f"w{k}" for k in range(50))
    (short,) = Chance(3).compress([text], 0.2)
    assert len(short.split()) == 10 and subsequence(short.split(), text.split())
    assert not subsequence(["b", "a"], ["a", "b"])


def test_what_the_reader_learns_is_what_the_program_reads():
    task, corrected, kept = ReadingTask(200), 0, set()
    for k in range(400):
        text, question, place = task.draw(k % 200, np.random.default_rng(k))
        assert text[place:].split()[0] == question.answer
        assert text.split()[0] == question.text.split()[1]
        said = text[:place].split()
        corrected += any(word in {*NUMBERS, *OUTCOMES} for word in said)
        if any(word in {*NUMBERS, *OUTCOMES} for word in said):
            assert any(word in CUES for word in said)
            kept.add(len(said))
        assert Parser().answer([text], [question.text]) == [question.answer]
    assert 40 < corrected < 140 and len(kept) > 3  # with and without the words around the correction


def test_a_passage_begins_with_what_is_asked_about():
    assert passage("the lamp costs 30", "price lamp") == "lamp costs 30" and passage("the lamp", "price chair") == ""
    assert len(passage("lamp " * 99, "price lamp").split()) == PASSAGE


def test_a_bert_points_into_the_text_and_never_into_the_question(tmp_path):
    tokenizer = build_wordpieces(Library(20).read("train"), 900)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    BertForQuestionAnswering(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reader = SpanReader(str(tmp_path), batch_size=2)
    texts = ["the lamp costs 30", "nothing", "lamp"]
    found = reader.answer(texts, ["price lamp"] * 3)
    assert found[0] in "lamp costs 30" and found[0] and found[1] == "" and found[2] in "lamp"
    coded = encode(tokenizer, ["price lamp"], ["lamp costs"])
    assert coded["token_type_ids"].any()


def test_a_language_model_answers_with_its_first_line(tmp_path):
    gpt2(tmp_path, layers=1)
    reader = ChatReader(str(tmp_path), tokens=3, window=120, batch_size=2)
    found = reader.answer(["the lamp costs 30 " * 40, "", "a"], ["what ?"] * 3)
    assert len(found) == 3 and all("\n" not in answer for answer in found)
