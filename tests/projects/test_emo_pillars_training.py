"""Emo Pillars' measures, classifiers and tests on data sets: closed forms, what is learned, what is compared."""

import json

import lightning.pytorch as L
import pytest
import torch
from safetensors.torch import save_model
from sklearn.metrics import f1_score
from transformers import AutoModelForSequenceClassification

from common.data.classified import TextData, all_texts
from common.data.tokenizers import build_wordpieces
from common.errors import UserError
from common.models.text_classifier import ClassifierConfig, build_classifier, logits
from projects.emo_pillars.data import EmoContext, EmotionTests, Isear
from projects.emo_pillars.evaluate import Evaluation, floor
from projects.emo_pillars.grammar import EMOTIONS, OnlineRemarks
from projects.emo_pillars.harness.rehearsal import goemotions, record
from projects.emo_pillars.harness.speed import large
from projects.emo_pillars.metrics import THRESHOLDS, chosen, f1_scores, macro_f1, micro_f1, sweep
from projects.emo_pillars.records import FILES
from projects.emo_pillars.taxonomy import GOEMOTIONS
from projects.emo_pillars.train import EmotionClassifier

NET = ClassifierConfig(family="roberta", hidden=16, layers=1, heads=2, token_types=2)
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def random_scores(seed=0, texts=60, classes=5):
    torch.manual_seed(seed)
    labels = torch.rand(texts, classes) < torch.tensor([0.5, 0.3, 0.2, 0.1, 0.05])
    labels[0] = True
    return (labels * 0.3 + torch.rand(texts, classes) * 0.7).clamp(0, 1), labels


def test_macro_f1_is_scikit_learns_at_every_threshold():
    scores, labels = random_scores()
    assert len(THRESHOLDS) == 91 and THRESHOLDS[0] == 0.05 and THRESHOLDS[-1] == 0.95
    values = sweep(scores, labels)
    for threshold, value in zip(THRESHOLDS, values, strict=True):
        found = scores >= threshold
        assert value.item() == pytest.approx(f1_score(labels, found, average="macro", zero_division=0), abs=1e-6)
        assert micro_f1(found, labels).item() == pytest.approx(f1_score(labels, found, average="micro"), abs=1e-6)
    assert values.max() >= macro_f1(scores >= 0.5, labels)
    assert sweep(scores, labels)[(THRESHOLDS - chosen(scores, labels)).abs().argmin()] == values.max()


def test_macro_f1_of_perfect_empty_and_constant_answers():
    labels = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]]).bool()
    assert macro_f1(labels, labels) == 1 and macro_f1(~labels, labels) == 0
    assert macro_f1(torch.zeros_like(labels), labels) == 0
    half = labels & torch.tensor([True, False])
    assert macro_f1(half, labels) == 0.5  # perfect on one class, none on the other
    assert floor(labels).item() == pytest.approx(2 / 3)
    absent = torch.cat([labels, torch.zeros(4, 1, dtype=torch.bool)], 1)
    assert macro_f1(absent, absent) == 1  # a class that the set lacks does not count
    assert f1_scores(absent, absent).tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="no text has a label"):
        macro_f1(labels, torch.zeros_like(labels))


def test_the_threshold_does_not_see_the_test():
    scores, labels = random_scores(1)
    val_scores = scores * 0.5  # less sure on validation texts
    assert chosen(val_scores, labels) < chosen(scores, labels)


def write_set(folder, count=24):
    folder.mkdir()
    for split, file in FILES.items():
        (folder / file).write_text("".join(json.dumps(record(split, k)) + "\n" for k in range(count)))
    return folder


def trained(tmp_path, name, task, weights=None, steps=30, **settings):
    tokenizer = tmp_path / "words"
    if not tokenizer.exists():
        build_wordpieces(all_texts(OnlineRemarks().read("train")), 500).save_pretrained(tokenizer)
    torch.manual_seed(0)
    data = TextData(task, str(tokenizer), max_length=32, batch_size=16, keep_pair=True)
    model = EmotionClassifier(NET, data.classes, data.tokens, weights, lr=5e-3, **settings)
    model.run_dir = tmp_path / name
    trainer = L.Trainer(**QUIET, max_steps=steps, max_epochs=99, logger=False, enable_checkpointing=False)
    trainer.fit(model, data)
    save_model(model.exported(), str(model.run_dir / "weights.safetensors"))
    return model, trainer.callback_metrics


def test_a_classifier_learns_and_leaves_a_folder_that_transformers_reads(tmp_path):
    model, found = trained(tmp_path, "run", OnlineRemarks(train=64, val=32))
    assert found["train/loss"] < 0.5 and {"val/loss", "val/macro_f1"} <= set(found)
    assert all(p.grad is not None for name, p in model.named_parameters() if "token_type" not in name)
    net = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run/model")
    assert tuple(net.config.id2label[k] for k in range(9)) == EMOTIONS
    assert net.config.problem_type == "multi_label_classification"
    batch = next(iter(TextData(OnlineRemarks(train=16), str(tmp_path / "run/model")).val_dataloader()))
    assert torch.equal(logits(net.eval(), batch), logits(model.net.eval(), batch))
    again, _ = trained(tmp_path, "tuned", OnlineRemarks(train=64, val=32), str(tmp_path / "run/weights.safetensors"), 1)
    before, after = model.net.state_dict(), again.net.state_dict()
    assert all((before[name] - after[name]).abs().max() < 0.011 for name in before)  # one step of 0.005 from there
    with pytest.raises(UserError, match="no weight file"):
        EmotionClassifier(NET, 9, 100, str(tmp_path / "absent.safetensors"))


def test_the_loss_begins_at_log_2_and_soft_targets_are_not_rounded(tmp_path):
    torch.manual_seed(0)
    model = EmotionClassifier(NET, 3, 50)
    with torch.no_grad():
        for parameter in model.net.classifier.out_proj.parameters():
            parameter.zero_()
    model.log = lambda *_, **__: None
    ids = torch.randint(5, 50, (4, 7))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.rand(4, 3)}
    assert model.training_step(batch, 0).item() == pytest.approx(0.6931, abs=1e-4)


def evaluated(tmp_path, data, weights=None, net=NET, released=None):
    model = Evaluation(data.names, data.classes, data.tokens, net, weights, released)
    model.run_dir = tmp_path
    trainer = L.Trainer(**QUIET, logger=False, enable_checkpointing=False)
    trainer.test(model, data, verbose=False)
    return {name.removeprefix("test/"): value.item() for name, value in trainer.callback_metrics.items()}


def test_every_test_has_its_figures(tmp_path):
    folder = write_set(tmp_path / "set")
    data = {"gold": OnlineRemarks(val=40, test=60), "synthetic": str(folder), "emotions": list(EMOTIONS)}
    trained(tmp_path, "run", OnlineRemarks(train=64, val=32), steps=1)
    weights, words = str(tmp_path / "run/weights.safetensors"), str(tmp_path / "words")
    found = evaluated(tmp_path, EmotionTests(words, **data, kinds=["original", "rewritten", "in_context"]), weights)
    assert {"gold", "gold_val", "gold_half", "gold_best", "gold_floor", "threshold", "params"} <= set(found)
    assert {"original", "rewritten_val", "in_context_half"} <= set(found)
    assert all(0 <= value <= 1 for name, value in found.items() if name not in ("params", "gold_answers"))
    for test in ("gold", "original", "rewritten"):
        assert found[test] <= found[f"{test}_best"] and found[f"{test}_half"] <= found[f"{test}_best"]
    assert (tmp_path / "pictures/index.json").exists()
    with pytest.raises(UserError, match="data.kinds has no rewriten"):
        EmotionTests(words, **data, kinds=["rewriten"])
    with pytest.raises(UserError, match="nothing to test on"):
        EmotionTests(words)
    with pytest.raises(UserError, match="give one of model.weights"):
        Evaluation(EMOTIONS, {"gold": EMOTIONS}, 10)


def test_a_classifier_for_texts_does_not_see_the_context(tmp_path):
    folder = write_set(tmp_path / "set")
    build_wordpieces(["a"], 300).save_pretrained(tmp_path / "words")

    def ids(kind, joined=False):
        data = EmotionTests(
            str(tmp_path / "words"), synthetic=str(folder), emotions=list(EMOTIONS), kinds=[kind], joined=joined
        )
        return next(iter(data.test_dataloader()[0]))

    assert "context" not in str(ids("original").keys()) and ids("original")["token_type_ids"].sum() == 0
    assert ids("in_context")["token_type_ids"].any() and not ids("in_context", joined=True)["token_type_ids"].any()
    assert torch.equal(ids("rewritten")["labels"], ids("original")["labels"])


def test_a_released_classifier_has_an_order_of_its_own(tmp_path):
    folder = tmp_path / "released"
    tokenizer = build_wordpieces(["so happy"], 300)
    net = build_classifier(NET, 28, len(tokenizer)).eval()
    net.config.id2label = dict(enumerate(reversed(GOEMOTIONS)))
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    goemotions(tmp_path / "go")
    from common.data.readers.goemotions import GoEmotions

    gold = GoEmotions(str(tmp_path / "go"), several=True)
    data = EmotionTests(str(folder), gold=gold)
    model = Evaluation(data.names, data.classes, data.tokens, released=str(folder))
    assert model.order == list(range(27, -1, -1))
    found = evaluated(tmp_path, EmotionTests(str(folder), gold=gold), net=None, released=str(folder))
    assert 0 <= found["gold"] <= 1
    with pytest.raises(UserError, match="has no class calm"):
        Evaluation(("joy", "calm"), {"gold": ("joy", "calm")}, 10, released=str(folder))


def test_isear_has_five_folds_that_are_apart_and_cover_all(tmp_path):
    words = ["joy", "Fear", "anger", "sadness", "disgust", "shame", "guilt"]
    (tmp_path / "isear.csv").write_text("".join(f'{words[k % 7]},"report {k}, with a comma"\n' for k in range(70)))
    tests = []
    for fold in range(5):
        source = Isear(str(tmp_path), fold)
        parts = [{example.text for example in source.read(split)} for split in ("train", "val", "test")]
        assert [len(part) for part in parts] == [49, 7, 14] and len(set().union(*parts)) == 70
        tests.append(parts[2])
    assert len(set().union(*tests)) == 70
    labels = {GOEMOTIONS[example.label] for example in Isear(str(tmp_path)).read("train")}
    assert labels == {"joy", "fear", "anger", "sadness", "disgust", "embarrassment", "remorse"}
    with pytest.raises(UserError, match="there are five"):
        Isear(str(tmp_path), 5)
    (tmp_path / "isear.csv").write_text("joy," + "x" * 200_000 + "\n")
    with pytest.raises(UserError, match="is no table: field larger than"):
        Isear(str(tmp_path)).read("test")
    (tmp_path / "isear.csv").write_text("calm,text\n")
    with pytest.raises(UserError, match="row 1, is not"):
        Isear(str(tmp_path)).read("test")


def test_emocontexts_first_two_turns_are_the_context(tmp_path):
    (tmp_path / "train.txt").write_text(
        "id\tturn1\tturn2\tturn3\tlabel\n0\thi\thow are you\tfine\thappy\n1\ta\tb\tc\tothers\n"
    )
    first, second = EmoContext(str(tmp_path)).read("train")
    assert (first.text, first.pair, GOEMOTIONS[first.label]) == ("hi how are you", "fine", "joy")
    assert GOEMOTIONS[second.label] == "neutral" and sum(second.scores) == 1
    (tmp_path / "dev.txt").write_text("0\ta\tb\tc\tcalm\n")
    with pytest.raises(UserError, match="line 1, is not"):
        EmoContext(str(tmp_path)).read("val")
    with pytest.raises(UserError, match="no test.txt"):
        EmoContext(str(tmp_path)).read("test")


def test_the_classifier_has_its_published_size():
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in large(types).parameters()) for types in (1, 2)]
    assert sizes == [355_388_444, 355_389_468]
