"""Measure encoders on the official STS and SICK files, or on one's own, beside word overlap and TF-IDF: Spearman x 100.

    python -m projects.trans_encoder.tools.sts --sts FOLDER --sick FOLDER --bi <hub id>

A model is a hub id, or the `model/` folder that a training stage leaves. The files' layouts are explained in
`common/data/readers/sts.py`; a data set without a folder is left out, of the table and of the mean. A file of one's own
has lines of two sentences and a score with tabs between. Several models of a kind are measured together, too: the mean
of their scores (the paper's ensembles).
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from common.console import table_console
from common.data.pairs import Pair
from common.data.readers.sts import SUBSETS, SemEvalSTS, Sick, STSBenchmark
from common.errors import UserError, user_errors
from projects.trans_encoder.sources import PairFile

if TYPE_CHECKING:
    from torch import Tensor


def read_sets(options: argparse.Namespace) -> tuple[dict[str, list[Pair]], list[str]]:
    """The test sets there are, by name, and remarks on what a year lacks."""
    sets, remarks = {}, []
    if options.sts:
        for year in SUBSETS:
            source = SemEvalSTS(year, options.sts)  # type: ignore[arg-type]
            name = f"STS{year % 100}"
            sets[name] = source.read("test")
            if missing := source.missing():
                remarks.append(
                    f"{name} lacks {', '.join(missing)}: not comparable with published figures, nor is the mean"
                )
    if options.stsb:
        sets["STS-B"] = STSBenchmark(options.stsb).read("test")
    if options.sick:
        sets["SICK-R"] = Sick(options.sick).read("test")
    for file in options.pairs:
        sets[Path(file).stem] = PairFile(file).read("test")
    if not sets:
        raise UserError("nothing to measure on: give at least one of --sts, --stsb, --sick, --pairs and its place")
    return sets, remarks


def tf_idf(pairs: list[Pair]) -> Tensor:
    """Cosines of word counts, rare words weighing more, [N]. The weights are those of the test sentences themselves."""
    import torch
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(sublinear_tf=True).fit_transform([pair.a for pair in pairs] + [pair.b for pair in pairs])
    first, second = vectors[: len(pairs)], vectors[len(pairs) :]
    return torch.from_numpy(first.multiply(second).sum(1).A1).float()


def measure(scores: dict[str, Tensor], sets: dict[str, list[Pair]]) -> list[float]:
    """Spearman x 100 by set, and their mean."""
    import torch

    from projects.trans_encoder.data import agreement

    found = [
        100 * agreement(False)(scores[name], torch.tensor([float(pair.score or 0) for pair in pairs])).item()
        for name, pairs in sets.items()
    ]
    return [*found, sum(found) / len(found)]


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sts", help="folder of the SemEval tasks of 2012 to 2016")
    parser.add_argument("--stsb", help="folder of the STS benchmark")
    parser.add_argument("--sick", help="folder of SICK")
    parser.add_argument("--pairs", nargs="*", default=[], help="files of one's own with scored pairs")
    parser.add_argument("--bi", nargs="*", default=[], help="bi-encoders")
    parser.add_argument("--cross", nargs="*", default=[], help="cross-encoders")
    parser.add_argument("--pooling", choices=("cls", "mean"), default="cls", help="of the bi-encoders (default: cls)")
    options = parser.parse_args(arguments)
    sets, remarks = read_sets(options)
    import torch

    from projects.trans_encoder.distill import mutual
    from projects.trans_encoder.evaluate import lexical_overlap
    from projects.trans_encoder.model import load_pair_model, score_pairs

    rows = {"word overlap": measure({name: lexical_overlap(pairs) for name, pairs in sets.items()}, sets)}
    rows["TF-IDF"] = measure({name: tf_idf(pairs) for name, pairs in sets.items()}, sets)
    for kind, sources in (("bi", options.bi), ("cross", options.cross)):
        found = []
        for source in sources:
            model = load_pair_model(kind, source, options.pooling)
            model.to("cuda" if torch.cuda.is_available() else "cpu")
            found.append({name: score_pairs(model, pairs) for name, pairs in sets.items()})
            rows[f"{source} ({kind})"] = measure(found[-1], sets)
        if len(found) > 1:
            both = {name: mutual([scores[name] for scores in found]) for name in sets}
            rows[f"their mean ({kind})"] = measure(both, sets)
    table = Table(*["", *(f"{name}\n{len(pairs):,}" for name, pairs in sets.items()), "mean"], box=None)
    for name, figures in rows.items():
        table.add_row(name, *(f"{figure:.2f}" for figure in figures))
    console = table_console(140)
    console.print(table)
    for remark in remarks:
        console.print(remark)
    return 0


if __name__ == "__main__":
    sys.exit(main())
