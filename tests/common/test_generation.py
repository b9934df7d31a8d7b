"""What written answers score."""

import pytest
import torch

from common.evaluators.generation import Answers


def scores(answers, references) -> dict[str, float]:
    metric = Answers()
    metric.update(answers, references)
    return {name: round(value.item(), 4) for name, value in metric.compute().items()}


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("lamp costs 30", ["lamp costs 30"], (1, 1, 1)),
        ("The lamp, costs  30!", ["a lamp costs 30"], (1, 1, 0.75)),  # ROUGE knows no articles
        ("costs 30 lamp", ["lamp costs 30"], (0, 1, 2 / 3)),  # a bag of words against an order
        ("lamp", ["lamp costs 30"], (0, 0.5, 0.5)),
        ("30", ["45", "30"], (1, 1, 1)),  # the best reference counts
        ("mira", ["lamp costs 30"], (0, 0, 0)),
        ("", ["lamp"], (0, 0, 0)),
    ],
)
def test_closed_forms(answer, references, expected):
    assert tuple(scores([answer], [references]).values()) == pytest.approx(expected, abs=1e-4)


def test_without_rouge_the_others_are_the_same():
    metric = Answers(rouge=False)
    metric.update(["lamp"], [["lamp costs 30"]])
    assert {name: round(value.item(), 4) for name, value in metric.compute().items()} == {"exact_match": 0, "f1": 0.5}


def test_batches_add_up_to_the_mean_over_answers():
    metric = Answers()
    metric.update(["a b", "c"], [["b"], ["d"]])
    metric.update(["e"], [["e"]])
    metric.update([], [])
    together = scores(["a b", "c", "e"], [["b"], ["d"], ["e"]])
    assert {name: round(value.item(), 4) for name, value in metric.compute().items()} == together
    assert together["exact_match"] == pytest.approx(2 / 3, abs=1e-4)  # "a" is an article


def test_nothing_measured_is_no_number_and_an_answer_without_a_reference_is_refused():
    assert torch.isnan(Answers().compute()["f1"])
    with pytest.raises(ValueError, match="one or more for each"):
        Answers().update(["a"], [[]])
    with pytest.raises(ValueError, match="one or more for each"):
        Answers().update(["a", "b"], [["a"]])
