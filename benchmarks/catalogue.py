"""Every recipe, what it is about, where it ran here and what came of it.

python -m benchmarks.catalogue     the same as `make list`
"""

import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.judging.checked import shown
from benchmarks.judging.tables import load_paper
from benchmarks.running import recipes, results
from benchmarks.showing.terminal import count_statuses
from common.errors import UserError


def main() -> int:
    """Print the list; what is broken is named below it, with exit code 2."""
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("modality")
    table.add_column("claims, by the scales that ran here")
    errors: list[str] = []
    for name in recipes.names():
        try:
            modality = load_paper(name, recipes.arm_names(name)).modality
        except UserError as error:
            errors.append(str(error))
            modality = "broken, see below"
        verdicts = Text("\n").join(Text(line) for line in run_lines(name, errors)) or Text("not run yet", "dim")
        table.add_row(Text(name, "bold"), Text(modality), verdicts)
    console.print(table)
    for message in errors:
        print(f"error: {message}", file=sys.stderr)
    return 2 if errors else 0


def run_lines(name: str, errors: list[str]) -> list[str]:
    """`mini: 5 confirmed, 1 refuted, 2 inconclusive`, a line per scale that ran here.

    Args:
        errors: broken results files are added to it.
    """
    lines = ["rehearsal: ran; it tests no claim"] if (results.REPORTS / f"{name}.rehearsal.html").exists() else []
    for file in sorted(results.RESULTS.glob(f"{name}.*.json"), key=lambda file: file.stem):
        try:
            lines.append(f"{file.stem.split('.', 1)[1]}: {count_statuses(statuses(file))}")
        except UserError as error:
            errors.append(str(error))
    return lines


def statuses(file: Path) -> Counter[str]:
    """How often each verdict stands in a results file, claims that its scale does not test left out."""
    found = results.read(file) or {}
    try:
        counts = Counter(verdict["status"] for verdict in found["verdicts"])
    except (KeyError, TypeError):
        raise UserError(f"{shown(file)}: holds no verdicts: {results.REMEDY}") from None
    del counts["untested"]
    return counts


if __name__ == "__main__":
    sys.exit(main())
