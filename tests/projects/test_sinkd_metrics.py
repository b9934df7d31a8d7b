"""SinKD's metrics on answers whose worth is known: perfect, constant, uniform, or changed where it must not matter."""

import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor
from torch.nn import functional as F

from common.models.text_classifier import ClassifierConfig, build_classifier
from projects.sinkd.evaluate import Evaluation
from projects.sinkd.finetune import score_metric

TINY = ClassifierConfig(hidden=8, layers=1, heads=2)
LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
NAMES = ("a", "b", "c")
SURE = 40 * F.one_hot(LABELS, 3).float()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_model(build_classifier(TINY, 3, 300), str(file))
    return str(file)


@pytest.fixture
def measured(weights, monkeypatch):
    def measure(student: Tensor, teacher: Tensor = SURE) -> dict[str, float]:
        """What an evaluation logs of these logits [6, 3], on the test texts and on the validation texts."""
        given = {"text": weights}
        module = Evaluation(TINY, TINY, given, {"text": "accuracy"}, {"text": NAMES}, 300, given)
        found: dict[str, float] = {}
        monkeypatch.setattr(module, "logits", lambda nets, task, batch: teacher if nets is module.teachers else student)
        monkeypatch.setattr(module, "draw", lambda *_: None)
        monkeypatch.setattr(module, "log", lambda name, value: found.update({name: float(value)}))
        monkeypatch.setattr(module, "log_dict", lambda values: found.update({k: float(v) for k, v in values.items()}))
        for loader in (0, 1):
            module.test_step({"labels": LABELS}, 0, loader)
        module.on_test_epoch_end()
        return {name.removeprefix("test/"): value for name, value in found.items()}

    return measure


def test_sanity_of_the_evaluation(measured):
    constant = torch.tensor([40.0, 0, 0]).expand(6, 3)
    names = ("score", "accuracy", "val_score", "macro_f1", "agreement", "distance")
    for student, expected in (
        (SURE, (1, 1, 1, 1, 1, 0)),
        (constant, (0.5, 0.5, 0.5, 2 / 3 / 3, 0.5, 1.0)),  # always the commonest class: the floor
        (SURE.roll(1, -1), (0, 0, 0, 0, 0, 2)),
    ):
        assert [measured(student)[name] for name in names] == pytest.approx(expected, abs=1e-5)
    assert measured(torch.zeros(6, 3))["distance"] == pytest.approx(2 * (1 - 1 / 3))  # uniform, from a sure teacher


def test_what_the_evaluation_must_not_see(measured):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 3)
    plain = measured(student, teacher)
    shifted = measured(student + torch.randn(6, 1), teacher - 3)  # a softmax does not see it
    assert shifted == pytest.approx(plain, abs=1e-5)
    sharper = measured(5 * student, teacher)
    assert sharper.pop("distance") != pytest.approx(plain.pop("distance"))
    assert sharper == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize(
    ("score", "perfect", "constant_no", "constant_yes", "reversed_"),
    [("accuracy", 1, 0.25, 0.75, 0), ("f1", 1, 0, 6 / 7, 0), ("matthews", 1, 0, 0, -1)],
)
def test_sanity_of_the_tasks_own_measures(score, perfect, constant_no, constant_yes, reversed_):
    labels = torch.tensor([1, 1, 1, 0])
    answers = labels, torch.zeros(4).long(), torch.ones(4).long(), 1 - labels
    found = [score_metric(score, 2)(answer, labels).item() for answer in answers]
    assert found == pytest.approx([perfect, constant_no, constant_yes, reversed_])
