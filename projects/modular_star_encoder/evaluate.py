"""Measure every exit: words to code, code to code, and what an exit costs.

    python -m projects.modular_star_encoder.evaluate test \\
        --config projects/modular_star_encoder/configs/mini/evaluate.yaml \\
        --model.weights FILE --data.tokenizer FOLDER ...
"""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from scipy.stats import permutation_test
from torch import nn

from common.cli import main
from common.data.code import Function
from common.errors import UserError
from common.evaluators.retrieval import PairedRetrieval, SameClassRetrieval
from common.paths import expand
from common.training.runs import save_picture
from projects.modular_star_encoder.harness.cost import PAPER_EXITS, PAPER_TOKENS, exit_cost, saved
from projects.modular_star_encoder.harness.pictures import cost_chart, search_listing
from projects.modular_star_encoder.model import MultiExitEncoder, TrunkSizes, load_encoder
from projects.modular_star_encoder.testing import EvaluationData, Labelled, Others, Tested

COST_LENGTH = 512  # tokens, for the saving at the paper's size
SHOWN, LISTED = 3, 5  # searches that are drawn, answers of each
RESAMPLES, SIGNIFICANT = 9999, 0.001


class Evaluation(L.LightningModule):
    """MRR, Recall@1 and NDCG of every exit, by its depth in percent of the whole trunk; parameters and operations.

    The first set's searches are drawn, and a permutation test says whether the first and the last exit give right pairs
    different similarities.

    Args:
        sizes: of the whole trunk.
        exits: that are measured; the file may have more.
        tokens: size of the vocabulary; follows from the data.
        weights: of a fine-tuned encoder.
        compare: weights of encoders with a single exit, by that exit, for the chart of quality against cost.
        facts: a file of what the data follow from; its hash and counts become metrics.
        pretraining: what `pretrain` wrote of the trunk that fine-tuning started from; becomes metrics.
    """

    run_dir: Path

    def __init__(
        self,
        sizes: TrunkSizes,
        exits: tuple[int, ...],
        tokens: int,
        weights: str,
        compare: dict[str, str] | None = None,
        facts: str | None = None,
        pretraining: str | None = None,
    ):
        super().__init__()
        self.sizes, self.exits, self.tokens = sizes, exits, tokens
        self.facts, self.pretraining = facts, pretraining
        self.encoder = load_encoder(MultiExitEncoder(sizes, tokens, exits), expand(weights, "model.weights"))
        self.single = nn.ModuleDict(
            {
                i: load_encoder(MultiExitEncoder(sizes, tokens, [int(i)]), expand(file, "model.compare"))
                for i, file in (compare or {}).items()
            }
        )
        if unknown := sorted(set(map(int, self.single)) - set(exits)):
            raise UserError(f"model.compare has exit {unknown[0]}, which is not in model.exits {list(exits)}")
        self.sets: list[str] = []
        self.found = nn.ModuleDict()
        self.functions: list[Function] = []

    def setup(self, stage: str) -> None:
        data: EvaluationData = self.trainer.datamodule
        self.sets = list(data.sets)
        kinds = ["text", "code"] + ["single"] * bool(len(self.single)) + ["val"] * data.validated
        self.found = nn.ModuleDict(
            {
                kind: nn.ModuleDict(
                    {name: nn.ModuleDict({str(i): PairedRetrieval() for i in self.exits}) for name in self.sets}
                )
                for kind in kinds
            }
        )
        self.clones = nn.ModuleDict({str(i): SameClassRetrieval() for i in self.exits} if data.clones else {})

    def test_step(self, batch: Tested | Others | Labelled, batch_idx: int, dataloader_idx: int = 0) -> None:
        if isinstance(batch, Labelled):
            for i, embeddings in self.encoder(**batch.code).items():
                self.clones[str(i)].update(embeddings, batch.labels)
            return
        kind, name = self.trainer.datamodule.parts[dataloader_idx]
        if isinstance(batch, Others):
            for i, embeddings in self.encoder(**batch.code).items():
                self.found["text"][name][str(i)].update(embeddings[:0], embeddings[:0], embeddings)
            return
        text, code = self.encoder(**batch.text), self.encoder(**batch.code)
        if kind == "val":
            for i in self.exits:
                self.found["val"][name][str(i)].update(text[i], code[i])
            return
        twins = self.encoder(**batch.twin) if batch.twin else {}
        for i in self.exits:
            self.found["text"][name][str(i)].update(text[i], code[i])
            if twins:
                self.found["code"][name][str(i)].update(twins[i], code[i][batch.with_twin])
        for i, encoder in self.single.items():
            self.found["single"][name][i].update(encoder(**batch.text)[int(i)], encoder(**batch.code)[int(i)])
        if name == self.sets[0]:
            self.functions += batch.functions

    def on_test_epoch_end(self) -> None:
        mrr = {i: self._log_exit(i) for i in self.exits}
        self.log("test/mrr", mrr[self.exits[-1]])
        self.log("test/mrr_best", max(mrr.values()))
        if len(self.exits) > 1:
            self.log("test/mrr_early", max(mrr[i] for i in self.exits[:-1]))
            self.log("test/best_depth", float(self.depth(max(mrr, key=mrr.__getitem__))))
            self.log("test/drop", mrr[self.exits[-1]] - mrr[self.exits[0]])
            self.log("test/kept", mrr[self.exits[0]] / mrr[self.exits[-1]])
            self.log("test/paper_flops_saved", saved(TrunkSizes(), PAPER_TOKENS, PAPER_EXITS, COST_LENGTH))
            p = self._exits_differ()
            self.log_dict({"test/p_exits": p, "test/exits_differ": float(p < SIGNIFICANT)})
        if self.facts:
            self._log_facts(json.loads(expand(self.facts, "model.facts").read_text(encoding="utf-8")))
        if self.pretraining:
            measured = json.loads(expand(self.pretraining, "model.pretraining").read_text(encoding="utf-8"))
            self.log_dict({f"test/{name}": float(value) for name, value in measured.items()})
        if self.trainer.is_global_zero:
            self._draw_searches()
            if len(self.single):
                self._draw_costs(mrr)

    def depth(self, layer: int) -> int:
        """A layer in percent of the whole trunk."""
        return round(100 * layer / self.sizes.layers)

    def _log_exit(self, i: int) -> float:
        """Log an exit's metrics, means over the sets; returns its MRR from words to code."""
        depth = self.depth(i)
        found = [self.found["text"][name][str(i)].compute() for name in self.sets]
        mean = {key: torch.stack([values[key] for values in found]).mean().item() for key in found[0]}
        self.log_dict({f"test/{key}_{depth}": mean[key] for key in ("mrr", "r1", "ndcg")})
        if len(self.sets) > 1:
            for name, values in zip(self.sets, found, strict=True):
                self.log(f"test/mrr_{name}_{depth}", values["mrr"])
        if "val" in self.found:
            seen = [self.found["val"][name][str(i)].compute()["mrr"] for name in self.sets]
            self.log(f"test/val_mrr_{depth}", torch.stack(seen).mean())
        code = [metric.compute() for metric in (self.found["code"][n][str(i)] for n in self.sets) if metric.queries]
        if code:
            self.log(f"test/code_mrr_{depth}", torch.stack([values["mrr"] for values in code]).mean())
        if len(self.clones):
            self.log(f"test/poj104_map_{depth}", self.clones[str(i)].compute())
        cost = exit_cost(self.sizes, self.tokens, i, self.trainer.datamodule.max_length)
        self.log_dict({f"test/params_{depth}": float(cost.params), f"test/gflops_{depth}": cost.flops / 1e9})
        return mean["mrr"]

    def _exits_differ(self) -> float:
        """p of a paired permutation test on right pairs' similarities at the first and at the last exit."""
        first, last = (self._similarities(i) for i in (self.exits[0], self.exits[-1]))

        def difference(a: np.ndarray, b: np.ndarray, axis: int) -> Any:
            return np.mean(a - b, axis=axis)

        test = permutation_test(
            (first, last), difference, permutation_type="samples", n_resamples=RESAMPLES, batch=500, rng=0
        )
        return float(test.pvalue)

    def _similarities(self, i: int) -> np.ndarray:
        metric = self.found["text"][self.sets[0]][str(i)]
        return (torch.cat(metric.queries) * torch.cat(metric.candidates)).sum(-1).cpu().numpy()

    def _log_facts(self, facts: dict[str, Any]) -> None:
        """The test functions and what they are: another version of Python has others."""
        major, minor = facts["python"].split(".")[:2]
        self.log("test/python", float(100 * int(major) + int(minor)))
        self.log("test/functions_hash", float(int(facts["sha256"][:6], 16)))
        self.log("test/functions", float(facts["functions"]["test"]))

    def _draw_searches(self) -> None:
        found = self.found["text"][self.sets[0]]
        for query in np.linspace(0, len(self.functions) - 1, SHOWN + 2, dtype=int)[1:-1]:
            columns = {}
            for i in self.exits:
                scores = torch.cat(found[str(i)].candidates) @ torch.cat(found[str(i)].queries)[query]
                best = scores.topk(min(LISTED, len(scores))).indices.tolist()
                columns[f"exit after layer {i}"] = [(headline(self.functions[k]), k == query) for k in best]
            text = self.functions[query].text
            words = f"Search for the description of function {query}; the right answer is green."
            save_picture(self.run_dir, f"search {query}", search_listing(text, columns), words)

    def _draw_costs(self, mrr: dict[int, float]) -> None:
        data: EvaluationData = self.trainer.datamodule
        cost = {i: exit_cost(self.sizes, self.tokens, i, data.max_length).flops / 1e6 for i in self.exits}
        single = {
            int(i): np.mean([self.found["single"][name][i].compute()["mrr"].item() for name in self.sets])
            for i in self.single
        }
        series = {
            "one model with several exits": [(cost[i], mrr[i], f"exit {i}") for i in self.exits],
            "a model cut and trained for each exit": [(cost[i], float(single[i]), f"cut at {i}") for i in single],
        }
        chart = cost_chart(series, f"MFLOP for an input of {data.max_length} tokens", "MRR, words to code, test set")
        words = "Quality of each exit against its cost: one multi-exit model, and single-exit models of the same seed."
        save_picture(self.run_dir, "quality against cost", chart, words)


def headline(function: Function) -> str:
    """The name of a function, or its first line, and where it stands."""
    first = function.code.lstrip().split("\n")[0]
    name = first.removeprefix("async ").removeprefix("def ").split("(")[0]
    return f"{name}  {function.where}"


def links(parser: Any) -> None:
    """The vocabulary follows from the data."""
    parser.link_arguments("data.tokens", "model.tokens", apply_on="instantiate")


if __name__ == "__main__":
    main(Evaluation, EvaluationData, links=links)
