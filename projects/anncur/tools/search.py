"""Search your own texts with a cross-encoder that need not read all of them for each query.

    python -m projects.anncur.tools.search "how tall?" --items passages.txt --anchors old_queries.txt --index index/
    python -m projects.anncur.tools.search --queries new.txt --json --items ... --anchors ... --index ...

Texts stand a line each. The first run scores every anchor query (past queries, some hundred of them) against every
item and keeps the scores in the index folder; interrupted, it goes on where it stopped, and later runs read them. Each
search then costs --budget calls of the cross-encoder: half of them for random anchor items, half for the items with the
best approximate scores.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from common.data.files import lines_of
from common.errors import UserError, user_errors
from common.paths import user_path
from projects.anncur.cur import RCOND
from projects.anncur.index import Index, Neighbours
from projects.anncur.scorer import Scorer

MODEL = "cross-encoder/ms-marco-MiniLM-L6-v2"


def read_texts(file: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        UserError: not readable, no text, or nothing in it.
    """
    texts = [line.strip() for line in lines_of(user_path(file))]
    texts = [text for text in texts if text]
    if not texts:
        raise UserError(f"{file} has no line with text in it: write a text a line")
    return texts


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m projects.anncur.tools.search",
        description="Search texts with a cross-encoder that need not read all of them for each query.",
    )
    command.add_argument("words", nargs="*", metavar="query", help="what to search for; one or several")
    command.add_argument("--queries", type=Path, help="a file of queries, a line each")
    command.add_argument("--items", type=Path, required=True, help="the texts that are searched, a line each")
    command.add_argument("--anchors", type=Path, required=True, help="anchor queries for the index, a line each")
    command.add_argument("--index", type=Path, required=True, help="folder that keeps the anchor queries' scores")
    command.add_argument("--model", default=MODEL, help=f"hub id or folder of a cross-encoder (default: {MODEL})")
    command.add_argument("--budget", type=int, default=200, help="calls of the cross-encoder per query (default: 200)")
    command.add_argument("--anchor-items", type=int, help="how many of them are for anchor items (default: half)")
    command.add_argument("--top", type=int, default=10, help="items that are printed for each query (default: 10)")
    command.add_argument(
        "--rcond", type=float, default=RCOND, help="drop singular values below this share of the largest; try 0.01"
    )
    command.add_argument("--seed", type=int, default=0, help="draws the anchor items")
    command.add_argument("--batch-size", type=int, default=256, help="pairs that the cross-encoder reads at once")
    command.add_argument("--device", help="where it runs: cpu, cuda, ... (default: the best there is)")
    command.add_argument("--json", action="store_true", help="print a JSON object a query instead of lines for people")
    return command


def load_scorer(model: str, batch_size: int, device: str | None) -> Scorer:
    """A sentence-transformers cross-encoder. UserError where there is none."""
    from sentence_transformers import CrossEncoder  # takes seconds: not before the command line is understood

    try:
        return Scorer(CrossEncoder(model, device=device), batch_size)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{model} cannot be used as a cross-encoder: {error}") from error


@user_errors
def main(arguments: Iterable[str] | None = None) -> int:
    given = parser().parse_args(None if arguments is None else list(arguments))
    for name in ("budget", "top", "batch_size"):
        if getattr(given, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(given, name)}: at least 1 is needed")
    queries = [*given.words, *(read_texts(given.queries) if given.queries else [])]
    if not queries or not all(query.strip() for query in queries):
        raise UserError("nothing to search for: give words, or a file with --queries; none of them empty")
    items, anchors = read_texts(given.items), read_texts(given.anchors)
    budget, top = min(given.budget, len(items)), min(given.top, len(items))
    anchor_items = given.anchor_items or max(1, budget // 2)
    scorer = load_scorer(given.model, given.batch_size, given.device)
    index = Index.build(
        scorer, anchors, items, user_path(given.index), given.model, anchor_items, given.seed, given.rcond
    )
    if scorer.calls:
        print(f"{scorer.calls:,} calls of {given.model} for the index in {given.index}", file=sys.stderr)
    for query, best in zip(queries, index.search_many(scorer, queries, items, top, budget), strict=True):
        print(as_json(query, best, items) if given.json else as_lines(query, best, items))
    return 0


def as_json(query: str, best: Neighbours, items: list[str]) -> str:
    """A query's results as one line of JSON."""
    results = [
        {"score": float(s), "item": int(i), "text": items[i]} for i, s in zip(best.items, best.scores, strict=True)
    ]
    return json.dumps({"query": query, "calls": best.calls, "results": results}, ensure_ascii=False)


def as_lines(query: str, best: Neighbours, items: list[str]) -> str:
    """A query's results for people."""
    found = [f"{score:8.3f}  {items[i]}" for i, score in zip(best.items, best.scores, strict=True)]
    return "\n".join([f"{query}  ({best.calls} calls)", *found])


if __name__ == "__main__":
    sys.exit(main())
