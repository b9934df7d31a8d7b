"""Damaged pages, configs and tables of GPUs end in a sentence: no traceback, no hang.

`FUZZ=20` tries twenty times as many.
"""

import random
from pathlib import Path

import pytest
import yaml

from benchmarks.judging import tables
from benchmarks.judging.verdict import judge
from benchmarks.planning import gpus
from benchmarks.running import recipes, results
from common.training import runs
from tests.fuzz.damage import BYTES, TEXT, Change, restructured
from tests.fuzz.test_harness_fuzz import INPUTS, tried

PAGES = sorted((recipes.ROOT / "benchmarks/papers").glob("*.yaml"))
ODD_LINES = ["a: [", "? [1]\n: 2", "a: &a [*a]", "x: !!python/object:os.system {}", "- 1", "'", "\t", "a: 2025-99-99"]


def structure(content: bytes, rng: random.Random) -> bytes:
    changed = restructured(yaml.safe_load(content), rng)
    return yaml.safe_dump(changed, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")


def line(content: bytes, rng: random.Random) -> bytes:
    """A line more, a line less, or one further in."""
    rows = content.splitlines()
    place = rng.randrange(len(rows))
    match rng.randrange(3):
        case 0:
            rows.insert(place, rng.choice(ODD_LINES).encode())
        case 1:
            del rows[place]
        case _:
            rows[place] = b"  " + rows[place]
    return b"\n".join(rows) + b"\n"


def bomb(content: bytes, rng: random.Random) -> bytes:
    names = "abcdefghijklmnop"
    rows = [f"{names[0]}: &{names[0]} [x, x]"]
    rows += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip(names, names[1:], strict=False)]
    return "\n".join(rows).encode() + b"\n" + content


CHANGES: list[tuple[str, Change]] = [
    *[("structure", structure), ("line", line)] * 12, ("bomb", bomb), *TEXT.items(), *BYTES.items()
]  # fmt: skip


def damaged(file: Path, whole: bytes, rng: random.Random) -> str:
    what, change = rng.choice(CHANGES)
    try:
        content = change(whole, rng)
    except yaml.YAMLError:  # a value that YAML cannot write
        content = line(whole, rng)
    file.write_bytes(content)
    return what


def read_page(file: Path) -> None:
    """What `make report` does with a page, but for the drawing."""
    name = file.stem
    paper = tables.load_paper(name, recipes.arm_names(name), file.parent)
    for kept in sorted((recipes.ROOT / "benchmarks/results").glob(f"{name}.*.json")):
        found = results.read(kept)
        assert found is not None
        judge(found, paper)


@pytest.mark.parametrize("kind", ["page", "gpus", "config", "run"])
def test_damaged_yaml_is_said(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = []
    for seed in range(INPUTS):
        rng = random.Random(f"{kind} {seed}")
        if kind == "page":
            source = rng.choice(PAGES)
            file, read = tmp_path / source.name, read_page
        elif kind == "gpus":
            source = gpus.TABLE if seed == 0 else source
            file = tmp_path / "gpus.yaml"
            monkeypatch.setattr(gpus, "TABLE", file)
            read = lambda file: gpus.gpu("h100")  # noqa: E731
        else:
            source = rng.choice(sorted((recipes.ROOT / "projects").glob("*/configs/mini/*.yaml")))
            file = tmp_path / "config.yaml"
            read = recipes.read_config if kind == "config" else lambda file: runs.run_config(file.parent)
        what = damaged(file, source.read_bytes(), rng)
        if problem := tried(lambda read=read, file=file: read(file)):
            bad.append(f"{seed}: {source.name}: {what}: {problem}")
    assert not bad, f"{len(bad)} of {INPUTS}:\n" + "\n".join(bad)
