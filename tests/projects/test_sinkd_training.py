"""SinKD's training: the total loss, what gets gradients, which weights are handed on, the evaluation's figures."""

import math
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as L
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_model
from torch.nn import functional as F

from common.data.classified import EvaluationData, TextData, all_texts
from common.data.tokenizers import build_wordpieces
from common.errors import UserError
from common.losses.distillation import soft_cross_entropy
from common.models.text_classifier import ClassifierConfig, build_classifier, logits
from common.training.runs import saved_pictures
from projects.sinkd.distill import DIVERGENCES, Distillation
from projects.sinkd.evaluate import Evaluation
from projects.sinkd.finetune import Finetuning, score_metric
from projects.sinkd.sinkhorn import sinkhorn_loss
from projects.sinkd.world import Sentences
from tests.golden import golden_file

GOLDEN = golden_file("sinkd")
TINY = ClassifierConfig(hidden=8, layers=1, heads=2)
CLASSES, TOKENS = 12, 300


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "weights.safetensors"
    save_model(build_classifier(TINY, CLASSES, TOKENS), str(file))
    return str(file)


@pytest.fixture
def distillation(teacher):
    def make(classes: int = CLASSES, **settings) -> Distillation:
        torch.manual_seed(1)
        return Distillation(TINY, TINY, teacher, classes, TOKENS, **settings)

    return make


def data(**settings) -> TextData:
    return TextData(Sentences(train=32, val=20), vocabulary=TOKENS, batch_size=8, **settings)


def fit(module: L.LightningModule, folder: Path, data: TextData, **settings) -> L.Trainer:
    module.run_dir = folder
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = L.Trainer(**quiet, enable_model_summary=False, use_distributed_sampler=False, **settings)
    trainer.fit(module, data)
    return trainer


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, CLASSES)
    return student.requires_grad_(), torch.randint(CLASSES, (6,)), teacher.requires_grad_()


def test_golden_total_loss(distillation):
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}: set GOLDEN_ROOT")
    with safe_open(GOLDEN, "pt") as file:
        names = [k for k in file.keys() if k.startswith("total/")]  # noqa: SIM118
        x = {k.split("/")[1]: file.get_tensor(k) for k in names}
        hp = {k.split("/hp.")[1]: float(v) for k, v in file.metadata().items() if k.startswith("total/hp.")}
    module = distillation(
        alpha=hp["alpha"],
        temperature=hp["kd_temperature"],
        beta=hp["beta"] * hp["sinkhorn_scale"],
        sinkhorn_temperature=hp["sinkhorn_temperature"],
    )
    student = x["in.student_logits"].requires_grad_()
    terms = module.terms(student, x["in.labels"], x["in.teacher_logits"])
    sum(terms.values()).backward()
    close = {"atol": 0, "rtol": 1e-5}  # L_SD's weighted term is a thousandth of the others
    torch.testing.assert_close(terms["ce"], (1 - hp["alpha"]) * x["out.ce"], **close)
    torch.testing.assert_close(terms["kl"], hp["alpha"] * x["out.kd"], **close)
    torch.testing.assert_close(terms["sinkhorn"], hp["beta"] * x["out.sinkhorn"], **close)
    torch.testing.assert_close(sum(terms.values()), x["out.loss"], **close)
    gradient = x["out.grad_student_logits"]
    torch.testing.assert_close(student.grad, gradient, atol=1e-5 * gradient.abs().max().item(), rtol=1e-5)


def test_rounds_to_a_tolerance(distillation):
    student, labels, teacher = batch()
    found = distillation(beta=1.0, iterations=500, tolerance=1e-4).terms(student, labels, teacher)["sinkhorn"]
    torch.testing.assert_close(found, sinkhorn_loss(student, teacher, iterations=500, tolerance=1e-4))
    assert found != sinkhorn_loss(student, teacher)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_baseline_s_divergence_stands_in_the_soft_labels_place(distillation, divergence):
    student, labels, teacher = batch()
    terms = distillation(divergence=divergence, alpha=0.7, temperature=3.0, beta=0.0).terms(student, labels, teacher)
    assert set(terms) == {"ce", divergence}
    torch.testing.assert_close(terms["ce"], 0.3 * F.cross_entropy(student, labels))
    torch.testing.assert_close(terms[divergence], 0.7 * DIVERGENCES[divergence](student, teacher, 3.0))


def test_sinkhorn_alone_and_sample_wise(distillation):
    student, labels, teacher = batch()
    alone = distillation(divergence="none", alpha=0.8, beta=0.5).terms(student, labels, teacher)
    torch.testing.assert_close(alone["ce"], 0.2 * F.cross_entropy(student, labels))  # as beside every divergence
    torch.testing.assert_close(alone["sinkhorn"], 0.5 * sinkhorn_loss(student, teacher))
    pairs = distillation(beta=0.5, group=1).terms(student, labels, teacher)
    torch.testing.assert_close(pairs["sinkhorn"], 0.5 * sinkhorn_loss(student, teacher, group=1))


def test_labels_alone_ask_no_teacher(distillation, monkeypatch):
    module, texts = distillation(divergence="none", alpha=0.0, beta=0.0), data()
    monkeypatch.setattr(module.teacher, "forward", lambda **_: pytest.fail("the teacher was asked"))
    monkeypatch.setattr(module, "log_dict", lambda terms: None)
    found = texts.collate(texts.train[:4])
    expected = F.cross_entropy(module.eval().logits(found), found["labels"])
    torch.testing.assert_close(module.training_step(found, 0), expected)


def test_the_temperature_falls_from_epoch_to_epoch(distillation, monkeypatch):
    module = distillation(annealed=True, temperature=4.0, beta=0.0, alpha=1.0)
    student, labels, teacher = batch()
    module._trainer = SimpleNamespace(max_epochs=4, current_epoch=0)
    for epoch, temperature in enumerate((4.0, 3.0, 2.0, 1.0)):
        module._trainer.current_epoch = epoch
        found = module.terms(student, labels, teacher)["kl"]
        torch.testing.assert_close(found, soft_cross_entropy(student, teacher, temperature))
    module._trainer.max_epochs = -1
    with pytest.raises(UserError, match="counts epochs"):
        module.terms(student, labels, teacher)


def test_only_the_student_learns(distillation, tmp_path):
    module = distillation(beta=0.1)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(module, tmp_path, data(), max_epochs=1)
    after = module.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"net"}
    assert all(p.grad is None for p in module.teacher.parameters())
    assert not module.teacher.training and module.net.training  # the teacher drops nothing out


def test_the_teacher_stays_out_of_checkpoints_and_comes_back(distillation):
    module = distillation()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["state_dict"] and not any(name.startswith("teacher.") for name in checkpoint["state_dict"])
    other = distillation()
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])


def test_the_learning_rate_falls_linearly_to_zero(tmp_path):
    module, rates = Finetuning(TINY, CLASSES, TOKENS, lr=0.4), []
    watch = L.Callback()
    watch.on_train_batch_start = lambda trainer, *_: rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    fit(module, tmp_path, data(), max_epochs=1, callbacks=[watch])
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert (tmp_path / "tokenizer/tokenizer_config.json").exists()  # students read it there


@pytest.mark.parametrize("keep", ["best", "last"])
def test_which_weights_are_handed_on(keep, tmp_path):
    module = Finetuning(TINY, CLASSES, TOKENS, keep=keep, lr=1e-2)
    scores = iter([0.3, 0.9, 0.5])
    module.score.compute = lambda: torch.tensor(next(scores))
    kept = []
    watch = L.Callback()
    watch.on_validation_end = lambda *_: kept.append({k: v.clone() for k, v in module.net.state_dict().items()})
    fit(module, tmp_path, data(), max_epochs=3, num_sanity_val_steps=0, callbacks=[watch])
    chosen = kept[1 if keep == "best" else 2]
    assert all(torch.equal(value, chosen[name]) for name, value in module.exported().state_dict().items())


def test_the_best_weights_survive_a_checkpoint():
    module, other = Finetuning(TINY, CLASSES, TOKENS, keep="best"), Finetuning(TINY, CLASSES, TOKENS, keep="best")
    module.best, module.best_weights = 0.7, {name: value + 1 for name, value in module.net.state_dict().items()}
    checkpoint: dict = {}
    module.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    assert other.best == 0.7
    name, value = next(iter(module.best_weights.items()))
    assert torch.equal(other.exported().state_dict()[name], value)


def test_each_task_s_own_measure():
    predicted, labels = torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 0, 1])
    found = {score: score_metric(score, 2)(predicted, labels).item() for score in ("accuracy", "f1", "matthews")}
    # tp 2, fp 1, tn 1, fn 0
    assert found == pytest.approx({"accuracy": 0.75, "f1": 0.8, "matthews": 2 / math.sqrt(3 * 2 * 2 * 1)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 1.1),
        ("alpha", -0.1),
        ("alpha", math.nan),
        ("temperature", 0.0),
        ("beta", -1e-3),
        ("sinkhorn_temperature", 0.0),
        ("epsilon", 0.0),
        ("iterations", 0),
        ("tolerance", 0.0),
        ("group", -1),
    ],
)
def test_settings_without_a_meaning_are_refused(distillation, name, value):
    with pytest.raises(UserError, match=rf"model\.{name} is {value}: it has to be"):
        distillation(**{name: value})


@pytest.mark.parametrize("family", ["bert", "gpt_neo"])
def test_padding_and_kinds_of_tokens_do_not_change_an_answer(family):
    torch.manual_seed(0)
    net = build_classifier(ClassifierConfig(family=family, hidden=8, layers=2, heads=2), CLASSES, TOKENS).eval()
    texts = data()
    short, long = sorted(texts.train, key=lambda example: len(example.text))[:: len(texts.train) - 1]
    alone, padded = texts.collate([short]), texts.collate([short, long])
    assert padded["input_ids"].shape[1] > alone["input_ids"].shape[1]
    torch.testing.assert_close(logits(net, padded)[:1], logits(net, alone))


def test_a_decoder_sees_what_came_before_alone():
    torch.manual_seed(0)
    net = build_classifier(ClassifierConfig(family="gpt_neo", hidden=8, layers=2, heads=2), CLASSES, TOKENS).eval()
    tokens = torch.tensor([[2, 5, 7, 3]])
    states = [net.transformer(x).last_hidden_state for x in (tokens, torch.tensor([[2, 5, 7, 9]]))]
    torch.testing.assert_close(states[0][:, :3], states[1][:, :3])
    changed = torch.tensor([[2, 6, 7, 3]])
    assert not torch.allclose(net(tokens).logits, net(changed).logits)


def test_errors_before_training(tmp_path):
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        build_classifier(ClassifierConfig(pretrained=str(tmp_path / "absent")), 2, TOKENS)
    with pytest.raises(UserError, match="3 training texts do not fill one batch of 8 on each of 1 processes"):
        fit(Finetuning(TINY, CLASSES, TOKENS), tmp_path, data(train_examples=3), max_epochs=1)


def evaluation(tmp_path: Path, teacher: str, **settings) -> dict[str, float]:
    tasks = {"a": Sentences(val=20, test=24), "b": Sentences(val=8, test=10)}
    build_wordpieces(all_texts(tasks["a"].read("test")), TOKENS).save_pretrained(tmp_path / "tokenizer")
    texts = EvaluationData(tasks, str(tmp_path / "tokenizer"))
    weights = {"a": teacher, "b": teacher}
    scores = {"a": "matthews", "b": "accuracy"}
    module = Evaluation(TINY, TINY, weights, scores, texts.classes, TOKENS, **settings)
    module.run_dir = tmp_path
    trainer = L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    (found, *_) = trainer.test(module, texts, verbose=False)
    return {name.removeprefix("test/"): value for name, value in found.items()}


def published(state: dict[str, torch.Tensor], order: list[int], file: Path) -> str:
    """A weight file as transformers once wrote it, of a net whose class `order[k]` is our class k."""
    theirs = {"bert.embeddings.position_ids": torch.arange(512)[None], **state}
    for name in ("classifier.weight", "classifier.bias"):
        theirs[name] = torch.empty_like(state[name])
        theirs[name][order] = state[name]
    torch.save(theirs, file)
    return str(file)


def test_published_weights_with_another_order_of_classes_score_the_same(tmp_path, teacher):
    torch.manual_seed(3)
    student, order = build_classifier(TINY, CLASSES, TOKENS), torch.randperm(CLASSES).tolist()
    save_model(student, str(tmp_path / "student.safetensors"))
    own = str(tmp_path / "student.safetensors")
    expected = evaluation(tmp_path, teacher, weights={"a": own, "b": own})
    theirs = published(student.state_dict(), order, tmp_path / "pytorch_model.bin")
    taught = published(load_file(teacher), order, tmp_path / "teacher.bin")
    orders = {"a": order, "b": order}
    assert evaluation(tmp_path, taught, weights={"a": theirs, "b": theirs}, class_order=orders) == expected
    assert evaluation(tmp_path, taught, weights={"a": theirs, "b": theirs})["score"] != expected["score"]
    for wrong in ({"a": [0, 1]}, {"a": [0] * CLASSES}, {"c": order}):
        with pytest.raises(UserError, match="is not an order of its classes"):
            evaluation(tmp_path, teacher, class_order=wrong)


def test_validation_texts_count_for_the_premises_alone(tmp_path, teacher, monkeypatch):
    read = Sentences.read

    def other(self, split):
        return read(self, split) if split != "val" else [example._replace(label=0) for example in read(self, split)]

    expected = evaluation(tmp_path, teacher)
    monkeypatch.setattr(Sentences, "read", other)
    found = evaluation(tmp_path, teacher)
    assert found.pop("val_score") != expected.pop("val_score") and found == expected


def test_evaluation_of_the_teacher_and_of_a_student(tmp_path, teacher):
    own = evaluation(tmp_path, teacher)
    assert own["agreement"] == 1 and own["distance"] == 0
    assert own["score"] == pytest.approx((own["a"] + own["b"]) / 2)
    torch.manual_seed(5)
    save_model(build_classifier(TINY, CLASSES, TOKENS), str(tmp_path / "student.safetensors"))
    student = str(tmp_path / "student.safetensors")
    found = evaluation(tmp_path, teacher, weights={"a": student, "b": student})
    assert found["agreement"] < 1 and 0 < found["distance"] < 2
    assert found["params"] == own["params"]
    pictures = saved_pictures(tmp_path)
    assert sorted(picture["reference"] for picture in pictures) == [False, True]
    with pytest.raises(UserError, match="model.weights has nothing for b"):
        evaluation(tmp_path, teacher, weights={"a": student})
