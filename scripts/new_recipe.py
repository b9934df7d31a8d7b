"""Begin a recipe: writes one that runs on the world of shapes and passes its test, to be filled with the paper.

python -m scripts.new_recipe my_paper        the same as: make new PAPER=my_paper
"""

import keyword
import re
import sys
from pathlib import Path

from common.errors import UserError, user_errors

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = Path(__file__).resolve().parent / "recipe_template"
ELSEWHERE = {
    "page.yaml": "benchmarks/papers/{}.yaml",
    "test.py": "tests/projects/test_{}.py",
    "rehearsal_test.py": "tests/projects/test_{}_rehearsal.py",
}
"""Where a template goes that is no part of the recipe's folder."""


def create(paper: str, root: Path = ROOT) -> list[Path]:
    """Write the recipe `paper` below `root`; returns its files. UserError for a bad name or one that is taken."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", paper) or keyword.iskeyword(paper):
        raise UserError(f"'{paper}' cannot name a recipe: use lower-case letters, digits and underscores, like sit_v2.")
    files = {}
    for source in sorted(TEMPLATE.rglob("*.template")):
        name = str(source.relative_to(TEMPLATE)).removesuffix(".template")
        target = root / ELSEWHERE.get(name, f"projects/{{}}/{name}").format(paper)
        files[target] = source.read_text(encoding="utf-8").replace("__paper__", paper)
    files[root / "projects" / paper / "__init__.py"] = ""
    if taken := [target for target in files if target.exists()]:
        raise UserError(f"{paper} exists already ({taken[0]}): choose another name, or remove it first.")
    for target, text in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return sorted(files)


@user_errors
def main(arguments: list[str]) -> int:
    """The command line; a user's error is one message and exit code 2."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    files = create(arguments[0])
    print(*(file.relative_to(ROOT) for file in files), sep="\n")
    print(f"\nIt runs as it is: make reproduce PAPER={arguments[0]} (and make rehearse). Begin in train.py.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
