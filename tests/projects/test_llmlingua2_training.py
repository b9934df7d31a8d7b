"""Stages: what learns, what is left behind and read again, what an evaluation counts, the data's formats."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from common.data.tokenizers import build_wordpieces
from common.errors import UserError
from common.rehearsal.datasets import write_jsonl, write_parquet
from common.rehearsal.text_models import qwen
from common.training.runs import saved_pictures
from projects.llmlingua2.annotate import ENDS
from projects.llmlingua2.compressor import PromptCompressor
from projects.llmlingua2.data import (
    IGNORED,
    Compressed,
    CompressedFile,
    Compressions,
    LabelledData,
    MeetingBankCompressed,
    MeetingBankQuestions,
    MeetingBankTranscripts,
)
from projects.llmlingua2.distill import Chunks, Distilling
from projects.llmlingua2.evaluate import Evaluation, EvaluationData
from projects.llmlingua2.harness import rehearsal
from projects.llmlingua2.readers import Parser, ReaderTraining, ReadingTask
from projects.llmlingua2.train import CompressorTraining
from projects.llmlingua2.world import Library, Meetings, TaughtMeetings


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = build_wordpieces(Library(60).read("train"), 1200)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def trainer(**settings: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return L.Trainer(
        **quiet, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0, **settings
    )


@pytest.fixture(scope="module")
def trained(encoder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    torch.manual_seed(0)
    module = CompressorTraining(encoder, lr=0.01)
    module.run_dir = folder
    data = LabelledData(TaughtMeetings(80), encoder, window=150, max_length=40, batch_size=16)
    trainer(max_epochs=3).fit(module, data)
    assert module.best > 0.7  # dropping everything has 0.63
    return folder


def test_a_training_leaves_a_compressor(trained):
    compressor = PromptCompressor(str(trained / "model"), "cpu", counted_by=None)
    text = Meetings(test=1).read("test")[0].text
    assert compressor.positions == 40
    short = compressor.compress_prompt(text, rate=0.33)["compressed_prompt"].split()
    assert 0 < len(short) <= 0.4 * len(text.split())
    assert [p["key"] for p in saved_pictures(trained)] == ["quality control"]


def test_the_loss_is_the_mean_over_labelled_tokens_and_every_weight_learns(encoder):
    module = CompressorTraining(encoder)
    data = LabelledData(TaughtMeetings(20), encoder, window=150, max_length=40, batch_size=3)
    module.net.eval()
    batch = data.collate([data.draw(k, None) for k in range(3)])
    loss = module.training_step(batch, 0)
    logits = module.logits(batch)[batch["labels"] != IGNORED]
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch["labels"][batch["labels"] != IGNORED]))
    loss.backward()
    still = {name for name, p in module.net.named_parameters() if p.grad is None or not p.grad.any()}
    assert still <= {"bert.embeddings.token_type_embeddings.weight"}
    assert isinstance(module.configure_optimizers(), torch.optim.Adam)


def test_the_best_epoch_is_handed_on(encoder, tmp_path):
    module = CompressorTraining(encoder)
    module.run_dir = tmp_path
    module.accuracy.update(torch.tensor([1, 1]), torch.tensor([1, 1]))
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    module.on_validation_epoch_end()
    best = {name: value.clone() for name, value in module.net.state_dict().items()}
    with torch.no_grad():
        module.net.classifier.bias.add_(1)
    module.accuracy.update(torch.tensor([1, 1]), torch.tensor([1, 0]))
    module.on_validation_epoch_end()
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    other = CompressorTraining(encoder)
    other.on_load_checkpoint(checkpoint)
    other._trainer = SimpleNamespace(is_global_zero=False)  # type: ignore[assignment]
    other.on_train_end()
    assert all(torch.equal(value, best[name]) for name, value in other.exported().state_dict().items())


def test_chunks_that_fail_the_control_are_left_out_and_the_split_is_the_seed_s(encoder):
    def data(**settings) -> LabelledData:
        return LabelledData(TaughtMeetings(100), encoder, window=150, **settings)

    every, good = data(percentile=None), data()
    count = len(TaughtMeetings(100).read())
    assert len(every) + len(every.val) == count and len(every.val) == round(count / 5)
    assert 0.7 * count < len(good) + len(good.val) < 0.95 * count
    assert [s.text for s in data(seed=1).train] != [s.text for s in good.train] == [s.text for s in data().train]
    for settings in ({"window": 0}, {"validation": 1.0}, {"percentile": 0}):
        with pytest.raises(UserError, match=r"data\.window is"):
            LabelledData(TaughtMeetings(2), encoder, **settings)


def test_an_evaluation_counts_answers_words_and_faith(trained, tmp_path):
    documents = {"own": Meetings(val=2, test=4), "ood": Meetings("reports", val=0, test=3)}
    for method, model in (("llmlingua2", str(trained / "model")), ("teacher", None), ("full", None), ("random", None)):
        module = Evaluation(method, {"parser": Parser()}, model, rates=[0.5, 0.2])
        module.run_dir = tmp_path / method
        module.run_dir.mkdir()
        trainer().test(module, EvaluationData(documents), verbose=False)
        found = {name.removeprefix("test/"): float(v) for name, v in module.trainer.callback_metrics.items()}
        kinds = [f"{s}{k}" for s in ("", "ood_") for k in ("parser", "words", "rate", "faithful")] + ["val_parser"]
        assert set(found) == {f"{kind}_{p}" for kind in kinds for p in (50, 20)} | {"cpu_seconds"}
        assert found["faithful_50"] == 1
        if method == "teacher":
            assert found["parser_20"] == found["words_50"] == found["ood_words_50"] == 1
        if method == "full":
            assert found["parser_20"] == found["rate_50"] == 1 and found["words_50"] < 0.7
        keys = {p["key"] for p in saved_pictures(module.run_dir)}
        assert keys == {"document, rate 0.5", "document, rate 0.2", "answers by rate"}
    with pytest.raises(UserError, match=r"give model\.compressor"):
        Evaluation("llmlingua", {"parser": Parser()})
    with pytest.raises(UserError, match=r"model\.rates is"):
        Evaluation("full", {"parser": Parser()}, rates=[0.0])
    with pytest.raises(UserError, match="a set named own"):
        EvaluationData({"ood": Meetings()})


def test_a_reader_learns_where_the_answer_stands(encoder, tmp_path):
    torch.manual_seed(0)
    module = ReaderTraining(encoder)
    module.run_dir = tmp_path
    data = ReadingTask(20)
    batch = [data.draw(k, np.random.default_rng(k)) for k in range(4)]
    before = module.training_step(batch, 0).item()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(15):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
    assert module.training_step(batch, 0).item() < 0.8 * before


def test_a_teacher_s_chunks_become_pairs_to_train_on(tmp_path):
    (tmp_path / "teacher").mkdir()
    qwen(tmp_path / "teacher", layers=1, chat=True)

    class Texts(Library):
        def read(self, split):
            return ["One sentence. Another one.\nA third one that is longer than the others. " * 4]

    data = Chunks(Texts(), str(tmp_path / "teacher"), chunk=20, batch_size=2)
    assert len(data.chunks) > 3 and "".join(data.chunks).replace(" ", "") == Texts().read("train")[0].replace(" ", "")
    assert all(chunk.rstrip(" ").endswith(ENDS) for chunk in data.chunks)
    module = Distilling(str(tmp_path / "teacher"), max_tokens=3)
    module.run_dir = tmp_path
    assert "<|im_start|>assistant" in module.prompt("x")
    trainer().test(module, data, verbose=False)
    read = CompressedFile(str(tmp_path / "pairs.jsonl")).read()
    assert [pair.original for pair in read] == data.chunks


def test_meeting_bank_is_read_as_released_and_what_is_not_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "HUB", ())
    rehearsal.make(tmp_path)
    pairs = MeetingBankCompressed(str(tmp_path / "data/meetingbank_compressed")).read()
    assert len(pairs) == rehearsal.TRANSCRIPTS * rehearsal.CHUNKS and isinstance(pairs[0], Compressed)
    assert len(MeetingBankTranscripts(str(tmp_path / "data/meetingbank_compressed")).read("train")) == 10
    questions = MeetingBankQuestions(str(tmp_path / "data/meetingbank_qa"), validation=1)
    assert len(questions.read("test")) == 2 and len(questions.read("val")) == 1
    assert questions.read("test")[0].questions[1].answer == "two people"
    with pytest.raises(UserError, match=r"(?s)no parquet files in .*MeetingBank-LLMCompressed"):
        MeetingBankCompressed(str(tmp_path / "nowhere")).read()
    write_parquet(tmp_path / "other/a.parquet", [{"text": "x"}])
    with pytest.raises(UserError, match="MeetingBank"):
        MeetingBankCompressed(str(tmp_path / "other")).read()
    write_parquet(tmp_path / "odd/a.parquet", [{"prompt": "x", "QA_pairs": [{"question": "q"}]}])
    with pytest.raises(UserError, match="QA_pairs"):
        MeetingBankQuestions(str(tmp_path / "odd")).read("test")
    with pytest.raises(UserError, match="is missing"):
        CompressedFile(str(tmp_path / "nowhere.jsonl")).read()
    write_jsonl(tmp_path / "odd.jsonl", [{"original": "x"}])
    with pytest.raises(UserError, match="line 1"):
        CompressedFile(str(tmp_path / "odd.jsonl")).read()


def test_a_source_s_empty_chunks_are_no_samples(encoder, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"original": " , ", "compressed": ""}, {"original": "a b", "compressed": "b"}])
    source: Compressions = CompressedFile(str(tmp_path / "a.jsonl"))
    assert source.read() == [Compressed("a b", "b")]
