"""Reports: one self-contained HTML page per paper and scale, and an index of all papers.

python -m benchmarks.report              render every report again from benchmarks/results/ and the run folders
python -m benchmarks.report mobilesam    only this paper's

A page holds its style, charts and pictures; it loads nothing and runs no script.
"""

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from benchmarks.judging.tables import Paper, load_paper
from benchmarks.running import recipes, results
from benchmarks.running.recipes import Job
from benchmarks.running.results import REPORTS
from benchmarks.showing import page
from common.errors import UserError, unknown, user_errors

TEMPLATES = Path(__file__).resolve().parent / "showing/templates"
SCALE_NOTES = {
    "mini": "Small nets on small data, in minutes on a laptop: it shows whether a claim holds in miniature. "
    "Its figures are not comparable with the paper's.",
    "rehearsal": "Two training steps of the paper's configs on stand-in data and weights: it shows that they run. "
    "Its figures mean nothing.",
    "paper": "The paper's own data, models and settings.",
}


def make_report(found: dict[str, Any], paper: Paper, expanded: dict[str, dict[int, list[Job]]] | None) -> Path:
    """Write `reports/<paper>.<label>.html` and the index; returns the page's path.

    Args:
        found: a results file's content, with its verdicts.
        expanded: the recipe's jobs, which say where the run folders are; None looks in `$RUNS` (default: `runs`).
    """
    chains = [chain for arm in (expanded or {}).values() for chain in arm.values()]
    runs = chains[0][0].run_dir.parents[3] if chains else Path(os.environ.get("RUNS", "runs"))
    file = page_file(found)
    known = file.exists()
    write_page(found, paper, runs)
    if not known:  # the paper's other pages link to this one from now on
        for other in result_files(paper.paper):
            if other.stem != file.stem:
                write_page(*read_results(other), runs)
    write_index()
    return file


def page_file(found: dict[str, Any]) -> Path:
    return REPORTS / f"{found['paper']}.{page.label(found)}.html"


def result_files(paper: str) -> list[Path]:
    """The paper's results files, one a label."""
    return sorted(results.RESULTS.glob(f"{paper}.*.json"))


def read_results(file: Path) -> tuple[dict[str, Any], Paper]:
    """A results file and its paper's page."""
    found = results.read(file)
    assert found is not None
    return found, load_paper(found["paper"], recipes.arm_names(found["paper"]))


def write_page(found: dict[str, Any], paper: Paper, runs: Path) -> Path:
    """One paper's page at one scale."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    file = page_file(found)
    pages = {path.stem for path in [file, *result_files(paper.paper), *REPORTS.glob(f"{paper.paper}.*.html")]}
    links = [{"label": name.split(".", 1)[1], "file": f"{name}.html"} for name in sorted(pages)]
    file.write_text(render(found, paper, runs, links), encoding="utf-8")
    return file


def write_index() -> Path:
    """`reports/index.html`: every recipe, with the verdicts of each of its reports."""
    papers = []
    for name in recipes.names():
        verdicts = {file.stem: (results.read(file) or {}).get("verdicts", []) for file in result_files(name)}
        pages = [
            {
                "label": file.stem.split(".", 1)[1],
                "file": file.name,
                "statuses": Counter(verdict["status"] for verdict in verdicts.get(file.stem, [])),
            }
            for file in sorted(REPORTS.glob(f"{name}.*.html"), key=lambda file: file.stem)
        ]
        measured = [page for page in pages if page["label"] != "rehearsal"]
        rehearsals = [page for page in pages if page["label"] == "rehearsal"]
        try:
            paper, problem = load_paper(name, recipes.arm_names(name)), ""
        except UserError as error:  # in one recipe: the others keep their place in the index
            paper, problem = None, str(error)
        entry = {"name": name, "paper": paper, "problem": problem}
        papers.append({**entry, "pages": measured, "rehearsals": rehearsals})
    REPORTS.mkdir(parents=True, exist_ok=True)
    index = REPORTS / "index.html"
    index.write_text(template("index.html").render(papers=papers), encoding="utf-8")
    return index


def template(name: str) -> Template:
    """A page's template; everything that is put into it is escaped."""
    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(name)


def render(found: dict[str, Any], paper: Paper, runs: Path, links: list[dict[str, str]]) -> str:
    """The page's HTML: equal for equal input."""
    verdicts = {verdict["claim"]: verdict for verdict in found.get("verdicts", [])}
    arms = found["arms"]
    numbers = {name: i for i, name in enumerate(sorted(arms, key=lambda name: not arms[name]["method"]))}
    cards = [page.claim_card(claim, verdicts[claim.id], paper) for claim in paper.claims if claim.id in verdicts]
    pictures, left_out = page.picture_rows(found, runs)
    return template("report.html").render(
        found=found,
        paper=paper,
        label=page.label(found),
        pages=links,
        scale_note=SCALE_NOTES[found["scale"]],
        statuses=Counter(card["status"] for card in cards),
        tested=[card for card in cards if card["status"] != "untested"],
        untested=[card for card in cards if card["status"] == "untested"],
        arms=[page.arm_rows(name, arm, numbers[name], paper) for name, arm in arms.items()],
        measured_tables=page.measured_tables(paper),
        names=page.seed_columns(found, paper),
        reported_tables=[page.reported_table(table, found, paper) for table in paper.tables],
        charts=page.charts(found, runs, numbers),
        pictures=pictures,
        left_out=left_out,
        stages=page.stages(found),
        facts=page.facts(found),
    )


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """Render again; a user's error is one message and exit code 2."""
    chosen = sys.argv[1:] if arguments is None else arguments
    runs = Path(os.environ.get("RUNS", "runs"))
    for name in chosen:
        if name not in recipes.names():
            raise unknown("paper", name, recipes.names())
    files = [file for name in chosen or recipes.names() for file in result_files(name)]
    if chosen and not files:
        raise UserError(f"nothing was measured for {chosen[0]} yet: make reproduce PAPER={chosen[0]}")
    for file in files:
        print(f"report   {write_page(*read_results(file), runs)}")
    print(f"index    {write_index()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
