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
    """`mini: 5 confirmed, 1 refuted`: a line per scale with a reference, another where other verdicts came out here.

    Args:
        errors: broken results files are added to it.
    """
    name = paper.paper
    lines = ["rehearsal: ran; it tests no claim"] if (results.REPORTS / f"{name}.rehearsal.html").exists() else []
    references, own = results.references(name), results.own(name, runs_folder())
    for label in sorted({*references, *own}):
        reference, yours = (verdicts(files.get(label), paper, errors) for files in (references, own))
        if reference is not None:
            lines.append(f"{label}: {counted(reference)}{'; yours agree' if yours == reference else ''}")
        if yours is not None and yours != reference:
            differ = [claim for claim in yours if reference and reference.get(claim) != yours[claim]]
            lines.append(f"{label}, yours: {counted(yours)}{f' ({len(differ)} differ)' if differ else ''}")
    return lines


def verdicts(file: Path | None, paper: Paper, errors: list[str]) -> dict[str, str] | None:
    """The verdict of each claim in a results file; None where there is no file, or none that can be read."""
    try:
        return results.statuses(file, paper) if file else None
    except UserError as error:
        errors.append(str(error))
        return None


def counted(found: dict[str, str]) -> str:
    """How often each verdict stands, claims that the scale does not test left out."""
    return count_statuses(Counter(status for status in found.values() if status != "untested"))


if __name__ == "__main__":
    sys.exit(main())
