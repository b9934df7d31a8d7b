"""How much ANNCUR finds in a matrix of exact scores: no data set, no net, no training.

    python -m projects.anncur.tools.recall ment_to_ent_scores_n_m_3374_n_e_10031_all_layers_False.pkl --anchors 500
    python -m projects.anncur.tools.recall m2e_splits/nm_train=500/split_idx=0/train.pkl --tests .../test.pkl
    python -m projects.anncur.tools.recall runs/anncur/mini/emb_scores-.../seed0/scores --anchors 100 --budgets 40 80

Reads what the official code pickles, a NumPy array, or the folder that a stage leaves. Prints Top-k-Recall for each
number of calls per query, with half of them for anchor items (--share), beside random items and, with --oracle, the
best possible CUR.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from common.errors import UserError, user_errors
from common.paths import user_path
from projects.anncur.cur import RCOND
from projects.anncur.linking import split
from projects.anncur.recall import found
from projects.anncur.released import open_scores
from projects.anncur.retrieval import Method, anncur, candidates, oracle, without_anchors


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m projects.anncur.tools.recall", description="How much ANNCUR finds in a matrix of exact scores."
    )
    command.add_argument("scores", type=Path, help="scores [queries, items]: .pkl of the official code, .npy, a folder")
    command.add_argument(
        "--tests", type=Path, help="scores of the test queries; those of `scores` are all anchors then"
    )
    command.add_argument("--anchors", type=int, default=500, help="anchor queries k_q, drawn by --seed (default: 500)")
    command.add_argument("--budgets", type=int, nargs="+", default=[100, 200, 500], help="calls per query")
    command.add_argument("--k", type=int, nargs="+", default=[1, 10, 50, 100], help="k of top-k")
    command.add_argument("--share", type=float, default=0.5, help="of the calls, for anchor items (default: 0.5)")
    command.add_argument("--rcond", type=float, default=RCOND, help="see `cur.link_matrix`")
    command.add_argument("--seed", type=int, default=0, help="draws anchor queries and items")
    command.add_argument("--oracle", action="store_true", help="also the best possible CUR, from all scores (slow)")
    command.add_argument("--json", action="store_true", help="print JSON")
    return command


@user_errors
def main(arguments: Iterable[str] | None = None) -> int:
    given = parser().parse_args(None if arguments is None else list(arguments))
    matrix = open_scores(user_path(given.scores))
    rows = np.stack([matrix[i] for i in range(len(matrix))])
    if given.tests:
        other = open_scores(user_path(given.tests))
        exact = np.stack([other[i] for i in range(len(other))])
        if exact.shape[1] != rows.shape[1]:
            raise UserError(
                f"{given.tests} has {exact.shape[1]} items, {given.scores} {rows.shape[1]}: give one domain's"
            )
    else:
        anchors, tests = split(len(rows), given.anchors, given.seed)
        rows, exact = rows[anchors], rows[tests]
    check(given, exact.shape[1])
    methods: dict[str, Method] = {"anncur": anncur(rows, exact, given.seed, given.rcond)}
    if given.oracle:
        methods["oracle"] = oracle(rows, exact, given.seed)
    methods["random"] = without_anchors(np.random.default_rng(given.seed).random(exact.shape))
    table = {
        name: {budget: recalls(method, exact, budget, given.share, given.k) for budget in given.budgets}
        for name, method in methods.items()
    }
    if given.json:
        print(json.dumps(table))
        return 0
    print(f"{len(rows)} anchor queries, {len(exact)} test queries, {exact.shape[1]} items")
    print(f"{'':10}{'calls':>7}" + "".join(f"{f'k = {k}':>10}" for k in given.k))
    for name, lines in table.items():
        for budget, values in lines.items():
            print(f"{name:10}{budget:7}" + "".join(f"{value:10.3f}" for value in values.values()))
    return 0


def check(given: argparse.Namespace, items: int) -> None:
    """UserError for numbers that do not go together."""
    if not 0 < given.share < 1:
        raise UserError(f"--share {given.share}: a part of the calls between 0 and 1 is for anchor items")
    if min(given.budgets) < 2 or max(given.budgets) > items:
        raise UserError(f"--budgets {' '.join(map(str, given.budgets))}: from 2 calls to the number of items, {items}")
    if min(given.k) < 1 or max(given.k) > items:
        raise UserError(f"--k {' '.join(map(str, given.k))}: from 1 to the number of items, {items}")


def recalls(method: Method, exact: np.ndarray, budget: int, share: float, ks: list[int]) -> dict[int, float]:
    """Top-k-Recall with `budget` calls, by k."""
    approximation = method(max(1, round(share * budget)))
    shares = found(exact, candidates(approximation, budget), ks).mean(1)
    return dict(zip(ks, map(float, shares), strict=True))


if __name__ == "__main__":
    sys.exit(main())
