"""Reports: one self-contained HTML page per paper and scale, and an index of all papers.

python -m benchmarks.report              render every report again: of what was measured here, else of the reference
python -m benchmarks.report mobilesam    only this paper's

A page holds its style, charts and pictures; it loads nothing and runs no script.
"""

import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from benchmarks.judging.tables import Paper
from benchmarks.running import recipes, results
from benchmarks.running.results import REPORTS
from benchmarks.showing import page
from benchmarks.showing.compare import compare
from benchmarks.showing.outlook import power_lines
from benchmarks.showing.terminal import is_pilot, shared_stages
from common.data.files import write_atomic
from common.errors import UserError, unknown, user_errors
from common.paths import runs_folder
from common.training.runs import updating

TEMPLATES = Path(__file__).resolve().parent / "showing/templates"
SCALE_NOTES = {
    "mini": "Small nets on small data, in minutes on a laptop: it shows whether a claim holds in miniature. "
    "Its figures are not comparable with the paper's.",
    "small": "Small pretrained models on public data, within an hour on two cores: it shows whether a claim holds on "
    "real networks and data. Its figures compare with published ones of the same data, not with the paper's.",
    "rehearsal": "Two training steps of the paper's configs on stand-in data and weights: it shows that they run. "
    "Its figures mean nothing.",
    "paper": "The paper's own data, models and settings.",
}


def make_report(found: dict[str, Any], paper: Paper, runs: Path) -> Path:
    """Write `reports/<paper>.<label>.html` and the index; returns the page's path. Others who do so wait.

    Args:
        found: a results file's content, with its verdicts.
        runs: the folder of the run folders, for curves and pictures.
    """
    with updating(REPORTS / "index.html"):  # which shows the pages of all papers
        file = page_file(found)
        known = file.exists()
        write_page(found, paper, runs)
        if not known:  # the paper's other pages link to this one from now on
            for label, other in result_files(paper.paper, runs).items():
                if label != page.label(found):
                    with suppress(UserError):  # the index says of a damaged file what is wrong with it
                        write_page(results.read_judged(other, paper), paper, runs)
        write_index(runs)
    return file


def page_file(found: dict[str, Any]) -> Path:
    """Where a page lies; a pilot's is apart."""
    pilot = "-pilot" if is_pilot(found) else ""
    return REPORTS / f"{found['paper']}.{page.label(found)}{pilot}.html"


def result_files(paper: str, runs: Path) -> dict[str, Path]:
    """The paper's results by label: what was measured here, else the reference."""
    return {**results.references(paper), **results.own(paper, runs)}


def write_page(found: dict[str, Any], paper: Paper, runs: Path) -> Path:
    """One paper's page at one scale."""
    file = page_file(found)
    labels = {*result_files(paper.paper, runs)} | {
        there.stem.split(".", 1)[1] for there in REPORTS.glob(f"{paper.paper}.*.html")
    }
    links = [
        {"label": label, "file": f"{paper.paper}.{label}.html"}
        for label in sorted({*labels, file.stem.split(".", 1)[1]})
    ]
    write_html(file, render(found, paper, runs, links))
    return file


def write_html(file: Path, text: str) -> None:
    """Write a page, whole or not at all; letters that are none (of a name on the disk, say) as their escapes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text.encode("utf-8", "backslashreplace"))


def write_index(runs: Path) -> Path:
    """`reports/index.html`: every recipe, with the verdicts of the reference and of each of its reports here."""
    papers = []
    for name in recipes.names():
        pages: list[dict[str, Any]] = []
        try:
            paper, problem = recipes.page(name), ""
            pages = index_rows(paper, runs)
        except UserError as error:  # in one recipe: the others keep their place in the index
            paper, problem = None, str(error)
        measured = [page for page in pages if page["label"] != "rehearsal"]
        rehearsals = [page for page in pages if page["label"] == "rehearsal"]
        entry = {"name": name, "paper": paper, "problem": problem}
        papers.append({**entry, "pages": measured, "rehearsals": rehearsals})
    index = REPORTS / "index.html"
    write_html(index, template("index.html").render(papers=papers))
    return index


def index_rows(paper: Paper, runs: Path) -> list[dict[str, Any]]:
    """A row per label and whose results they are: the page, where there is one, and how often each verdict stands.

    Where every claim has the same verdict in both, one row says so.
    """
    references, own = results.references(paper.paper), results.own(paper.paper, runs)
    pages = {file.stem.split(".", 1)[1]: file.name for file in REPORTS.glob(f"{paper.paper}.*.html")}
    rows = []
    for label in sorted({*references, *own, *pages}):
        files = {"reference": references.get(label), "yours": own.get(label)}
        found = {whose: results.statuses(file, paper) for whose, file in files.items() if file}
        if len(found) == 2 and found["reference"] == found["yours"]:
            found = {"reference; yours agree": found["yours"]}
        for whose, statuses in (found or {"": {}}).items():
            counts = Counter(statuses.values())
            rows.append({"label": label, "whose": whose, "file": pages.get(label), "statuses": counts})
    return rows


def template(name: str) -> Template:
    """A page's template; everything that is put into it is escaped."""
    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(name)


def render(found: dict[str, Any], paper: Paper, runs: Path, links: list[dict[str, str]]) -> str:
    """The page's HTML: equal for equal input."""
    verdicts = {verdict["claim"]: verdict for verdict in found.get("verdicts", [])}
    arms = found["arms"]
    numbers = {name: i for i, name in enumerate(sorted(arms, key=lambda name: not arms[name]["method"]))}
    reference = results.reference_for(found, paper) if found["scale"] != "rehearsal" else None
    there = {verdict["claim"]: verdict["status"] for verdict in reference["verdicts"]} if reference else {}
    powers = power_lines(found, paper)
    cards = [
        page.claim_card(claim, verdicts[claim.id], paper, there.get(claim.id), powers.get(claim.id, ""))
        for claim in paper.claims
        if claim.id in verdicts
    ]
    pictures, left_out, unreadable = page.picture_rows(found, runs)
    return template("report.html").render(
        found=found,
        paper=paper,
        label=page.label(found),
        pages=links,
        scale_note=SCALE_NOTES[found["scale"]],
        statuses=Counter(card["status"] for card in cards),
        tested=[card for card in cards if card["status"] != "untested"],
        untested=[card for card in cards if card["status"] == "untested"],
        arms=[page.arm_rows(name, arm, numbers[name], paper, reference) for name, arm in arms.items()],
        comparison=compare(found, reference).sentence() if reference else "",
        pilot=is_pilot(found),
        shared=shared_stages(found),
        measured_tables=page.measured_tables(paper),
        names=page.seed_columns(found, paper),
        reported_tables=[page.reported_table(table, found, paper) for table in paper.tables],
        charts=page.charts(found, runs, numbers),
        pictures=pictures,
        left_out=left_out,
        unreadable=unreadable,
        stages=page.stages(found),
        facts=page.facts(found),
    )


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """Render again; a user's error is one message and exit code 2."""
    chosen = sys.argv[1:] if arguments is None else arguments
    runs = runs_folder()
    for name in chosen:
        if name not in recipes.names():
            raise unknown("paper", name, recipes.names())
    files = {name: list(result_files(name, runs).values()) for name in chosen or recipes.names()}
    if chosen and not any(files.values()):
        raise UserError(f"nothing was measured for {chosen[0]} yet: make reproduce PAPER={chosen[0]}")
    errors: list[UserError] = []
    with updating(REPORTS / "index.html"):
        for name in [name for name in files if files[name]]:
            for file in files[name]:
                try:
                    paper = recipes.page(name)
                    print(f"report   {write_page(results.read_judged(file, paper), paper, runs)}")
                except UserError as error:  # the others are rendered all the same
                    errors.append(error)
        print(f"index    {write_index(runs)}")
    for message in dict.fromkeys(map(str, errors)):
        print(f"error: {message}", file=sys.stderr)
    return 2 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
