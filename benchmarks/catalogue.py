"""Every recipe, what it is about, where it ran here and what came of it.

python -m benchmarks.catalogue     the same as `make list`
"""

import sys
from collections import Counter
from pathlib import Path

from rich.table import Table
from rich.text import Text

from benchmarks.judging.tables import Paper
from benchmarks.running import recipes, results
from benchmarks.showing.terminal import count_statuses
from common.console import table_console
from common.errors import UserError, user_errors
from common.paths import runs_folder


@user_errors
def main() -> int:
    """Print the list; what is broken is named below it, with exit code 2."""
    console = table_console(110)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("modality")
    table.add_column("claims, by scale: the reference's verdicts, and yours")
    errors: list[str] = []
    for name in recipes.names():
        try:
            paper = recipes.page(name)
        except UserError as error:
            errors.append(str(error))
            table.add_row(Text(name, "bold"), "broken, see below")
            continue
        lines = Text("\n".join(run_lines(paper, errors))) or Text("not run yet", "dim")
        table.add_row(Text(name, "bold"), Text(paper.modality), lines)
    console.print(table)
    for message in errors:
        print(f"error: {message}", file=sys.stderr)
    return 2 if errors else 0


def run_lines(paper: Paper, errors: list[str]) -> list[str]:
    """`mini: 5 confirmed, 1 refuted, 2 inconclusive`: a line per scale with a reference, another where it ran here.

    Args:
        errors: broken results files are added to it.
    """
    name = paper.paper
    lines = ["rehearsal: ran; it tests no claim"] if (results.REPORTS / f"{name}.rehearsal.html").exists() else []
    references, own = results.references(name), results.own(name, runs_folder())
    for label in sorted({*references, *own}):
        for files, whose in ((references, ""), (own, ", yours")):
            try:
                if label in files:
                    lines.append(f"{label}{whose}: {count_statuses(statuses(files[label], paper))}")
            except UserError as error:
                errors.append(str(error))
    return lines


def statuses(file: Path, paper: Paper) -> Counter[str]:
    """How often each verdict stands in a results file, claims that its scale does not test left out."""
    found = results.read(file)
    assert found is not None
    counts = Counter(verdict["status"] for verdict in results.judged(found, paper)["verdicts"])
    del counts["untested"]
    return counts


if __name__ == "__main__":
    sys.exit(main())
