"""Write the README's table of recipes from what they are and what was measured.

python -m scripts.readme_table
"""

from benchmarks import recipes, results
from benchmarks.catalogue import statuses
from benchmarks.tables import load_paper
from benchmarks.terminal import count_statuses

README = recipes.ROOT / "README.md"
BEGIN, END = "<!-- recipes: written by `python -m scripts.readme_table` -->\n", "<!-- /recipes -->\n"


def table() -> str:
    """The table in Markdown: a row per recipe, with the verdicts of every results file."""
    rows = ["| recipe | paper | about | claims, by the scales that ran here |", "|---|---|---|---|"]
    for name in recipes.names():
        paper = load_paper(name, recipes.arm_names(name))
        year = f"[{paper.year}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else str(paper.year)
        ran = [
            f"{file.stem.split('.', 1)[1]}: {count_statuses(statuses(file))}"
            for file in sorted(results.RESULTS.glob(f"{name}.*.json"), key=lambda file: file.stem)
        ]
        cells = [f"[{name}](projects/{name})", f"{paper.short_title}, {year}", paper.modality, "<br>".join(ran)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def updated(text: str) -> str:
    """The README with the table as it must be now."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
