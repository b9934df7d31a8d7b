"""Measure the bi- and cross-encoders of all cycles on the test sets, with the cycle that the validation set chooses.

    python -m projects.trans_encoder.evaluate test --config projects/trans_encoder/configs/mini/evaluate.yaml \\
        --model.bi.1 MODEL --model.cross.1 MODEL
"""

import re

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from common.cli import main
from common.data.pairs import Pair
from common.errors import UserError
from common.training.runs import save_picture
from projects.trans_encoder.data import EvaluationData, agreement
from projects.trans_encoder.distill import mutual
from projects.trans_encoder.harness.pictures import cycles_chart, listing, scatter
from projects.trans_encoder.model import Kind, Pooling, load_pair_model

SHOWN = 8  # pairs of the picture
WORD = re.compile(r"\w+")


class Evaluation(L.LightningModule):
    """Spearman's rank correlation with the gold scores, or the area under the ROC curve where those are classes; x 100.

    `bi` and `cross` are means over the test sets for the cycle that is best on the validation set, each kind's own
    (the paper's protocol; it needs scored pairs); `bi_last` and `cross_last` are the last cycle's. `bi_ensemble` and
    `cross_ensemble` are those of the mean of two models' scores, `bi_0_ensemble` that of the two start points.
    `val_bi` and `val_cross` are the chosen cycle's on the validation set, `val_bi_0` the start point's there.
    `cross_1_start` is Spearman's rho between the first cross-encoder's and the start point's scores of the test pairs:
    100 where the student has become a copy of its teacher.

    Args:
        bi: hub ids or folders of bi-encoders by cycle, in the cycles' order.
        cross: the same of cross-encoders.
        partner_bi: the other language model's bi-encoders, for the ensemble.
        partner_cross: the other language model's cross-encoders.
        start: the bi-encoder before the first cycle, for the record; it is not chosen.
        partner_start: the other language model's.
        sets: names of the data's sets, that to choose by first.
        binary: whether gold scores are classes, for each set.
        pooling: of all bi-encoders.
    """

    def __init__(
        self,
        sets: list[str],
        binary: list[bool],
        bi: dict[str, str] | None = None,
        cross: dict[str, str] | None = None,
        partner_bi: dict[str, str] | None = None,
        partner_cross: dict[str, str] | None = None,
        start: str | None = None,
        partner_start: str | None = None,
        pooling: Pooling = "cls",
    ):
        super().__init__()
        given: dict[str, tuple[Kind, dict[str, str]]] = {
            "bi": ("bi", bi or {}), "cross": ("cross", cross or {}),
            "partner_bi": ("bi", partner_bi or {}), "partner_cross": ("cross", partner_cross or {}),
            "start": ("bi", {"0": start} if start else {}),
            "partner_start": ("bi", {"0": partner_start} if partner_start else {}),
        }  # fmt: skip
        self.sets, self.binary = sets, binary
        self.groups = {group: list(models) for group, (_, models) in given.items() if models}
        self.models = nn.ModuleDict(
            {
                f"{group}_{cycle}": load_pair_model(kind, source, pooling)
                for group, (kind, models) in given.items()
                for cycle, source in models.items()
            }
        ).requires_grad_(False)
        if any("." in name for name in self.models):
            raise UserError("names of cycles are numbers or words without dots")
        self.pairs: list[list[Pair]] = [[] for _ in sets]
        self.scores: dict[str, list[list[Tensor]]] = {name: [[] for _ in sets] for name in self.models}

    def test_step(self, pairs: list[Pair], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.pairs[dataloader_idx] += pairs
        for name, model in self.models.items():
            self.scores[name][dataloader_idx].append(model.score(pairs).cpu())

    def on_test_epoch_end(self) -> None:
        scores = {name: [torch.cat(parts) for parts in found] for name, found in self.scores.items()}
        chosen: dict[str, str] = {}
        for group, cycles in self.groups.items():
            measured = {cycle: self.measure(scores[f"{group}_{cycle}"]) for cycle in cycles}
            best = max(cycles, key=lambda cycle: measured[cycle]["val"])
            chosen[group] = f"{group}_{best}"
            if group == "start":
                self.log_dict({"test/bi_0": mean(measured[best]), "test/val_bi_0": measured[best]["val"]})
            if group not in ("bi", "cross"):
                continue
            self.log_dict({f"test/{group}": mean(measured[best]), f"test/val_{group}": measured[best]["val"]})
            self.log(f"test/{group}_last", mean(measured[cycles[-1]]))
            self.log(f"test/{group}_cycle", float(cycles.index(best) + 1))
            self.log_dict({f"test/{group}_{cycle}": mean(found) for cycle, found in measured.items()})
            if len(self.sets) > 2:
                self.log_dict({f"test/{group}_{name}": measured[best][name] for name in self.sets[1:]})
        for group, name in (("bi", "bi"), ("cross", "cross"), ("start", "bi_0")):
            if {group, f"partner_{group}"} <= set(chosen):
                both = zip(scores[chosen[group]], scores[chosen[f"partner_{group}"]], strict=True)
                self.log(f"test/{name}_ensemble", mean(self.measure([mutual(list(pair)) for pair in both])))
        if {"start", "cross"} <= set(chosen):
            first = scores[f"cross_{self.groups['cross'][0]}"]
            self.log("test/cross_1_start", copied(first[1:], scores["start_0"][1:]))
        self.log("test/lexical", mean(self.measure([lexical_overlap(pairs) for pairs in self.pairs])))
        if self.trainer.is_global_zero:
            self.draw(scores, chosen)

    def measure(self, scores: list[Tensor]) -> dict[str, float]:
        """Agreement with the gold scores by set, x 100."""
        found = {}
        for name, binary, predicted, pairs in zip(self.sets, self.binary, scores, self.pairs, strict=True):
            gold = torch.tensor([pair.score for pair in pairs])
            found[name] = 100 * agreement(binary)(predicted, gold).item()
        return found

    def draw(self, scores: dict[str, list[Tensor]], chosen: dict[str, str]) -> None:
        """Scores against the truth, the cycles, and some pairs with all scores."""
        pairs = self.pairs[1]
        gold = [float(pair.score or 0) for pair in pairs]
        shown = {"bi": "bi-encoder", "cross": "cross-encoder"}
        panels = {words: scores[chosen[kind]][1].tolist() for kind, words in shown.items() if kind in chosen}
        if not panels:
            return
        save_picture(
            self.run_dir, "scores against the truth", scatter(gold, panels),
            f"Every dot is a test pair of {self.sets[1]}: its rank by the gold score (across) and by the model's (up).",
        )  # fmt: skip
        save_picture(
            self.run_dir, "pairs and their scores", listing(pairs[:SHOWN], gold, panels),
            "Test pairs, with the share of test pairs that have a lower score: by the truth and by the models.",
        )  # fmt: skip
        lines = {
            words: [mean(self.measure(scores[f"{kind}_{cycle}"])) for cycle in self.groups[kind]]
            for kind, words in shown.items()
            if kind in chosen
        }
        if "start" in chosen:
            save_picture(
                self.run_dir, "cycles", cycles_chart(mean(self.measure(scores["start_0"])), lines),
                "Test agreement x 100 before the first cycle and after each.",
            )  # fmt: skip


def mean(found: dict[str, float]) -> float:
    """Over the test sets; the validation set is not one of them."""
    tests = [value for name, value in found.items() if name != "val"]
    return sum(tests) / len(tests)


def copied(student: list[Tensor], teacher: list[Tensor]) -> float:
    """Spearman's rho x 100 between two models' scores by test set, the mean over the sets."""
    found = [100 * agreement(False)(one, other).item() for one, other in zip(student, teacher, strict=True)]
    return sum(found) / len(found)


def lexical_overlap(pairs: list[Pair]) -> Tensor:
    """Share of common words, |A and B| / |A or B|, [N]: what any encoder has to beat."""
    words = [(set(WORD.findall(pair.a.lower())), set(WORD.findall(pair.b.lower()))) for pair in pairs]
    return torch.tensor([len(a & b) / max(1, len(a | b)) for a, b in words])


def links(parser: object) -> None:
    """What the data is."""
    parser.link_arguments("data.names", "model.sets", apply_on="instantiate")  # type: ignore[attr-defined]
    parser.link_arguments("data.binary", "model.binary", apply_on="instantiate")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(Evaluation, EvaluationData, links=links)
