"""Written answers against those that were wanted: exact match and token F1 as SQuAD counts them, ROUGE-L."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.text import rouge_score, squad


class Answers(Metric):
    """Means over answers, in [0, 1], each answer against the best of its references.

    `exact_match` and `f1` are SQuAD's (Rajpurkar et al. 2016, section 6.1): lower case, no punctuation, no articles,
    single blanks; F1 is that of the bags of words. `rouge_l` is the F1 of the longest common subsequence of words (Lin
    2004), without stemming.

    Args:
        rouge: whether `rouge_l` is counted, which takes most of the time.

    Example:
        metric.update(["the lamp costs 30"], [["30", "lamp costs 30"]])
        metric.compute()["exact_match"]
    """

    full_state_update = False
    totals: Tensor
    count: Tensor

    def __init__(self, rouge: bool = True) -> None:
        super().__init__()
        self.names = ("exact_match", "f1", "rouge_l") if rouge else ("exact_match", "f1")
        self.add_state("totals", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, answers: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add answers with their references, at least one each."""
        if len(answers) != len(references) or not all(references):
            raise ValueError(f"{len(answers)} answers, {len(references)} lists of references: one or more for each")
        if not answers:
            return
        given: list[Any] = [{"prediction_text": text, "id": str(k)} for k, text in enumerate(answers)]
        wanted: list[Any] = [
            {"answers": {"text": list(texts), "answer_start": [0] * len(texts)}, "id": str(k)}
            for k, texts in enumerate(references)
        ]
        matched = squad(given, wanted)  # in percent
        means = [matched["exact_match"] / 100, matched["f1"] / 100]
        if "rouge_l" in self.names:
            rouge = rouge_score(list(answers), [list(texts) for texts in references], rouge_keys="rougeL")
            means.append(rouge["rougeL_fmeasure"])
        self.totals += len(answers) * torch.stack(means).to(self.totals)
        self.count += len(answers)

    def compute(self) -> dict[str, Tensor]:
        """NaN where no answer was added."""
        means = (self.totals / self.count).float()
        return dict(zip(self.names, means, strict=True))
