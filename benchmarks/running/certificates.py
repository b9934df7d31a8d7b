"""Certificates: what the last complete rehearsal of a recipe covered, in `benchmarks/rehearsals/<paper>.json`.

A rehearsal is a measurement like any other: it holds for the configs, the project's code and the libraries it ran with.
`make rehearse` writes a certificate when every stage passed, and leaves a file alone that says the same but for its
times. `make test` rehearses the recipes whose certificate no longer holds, and of the others two, which the commit
chooses: every recipe has its turn. Of a library, the first two numbers of the version count: a patch makes nothing
stale. The harness's own code is not part of a fingerprint; those that have their turn try it.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.running import recipes
from benchmarks.running.recipes import ROOT, Job, Request
from common.training.runs import updating, write_json

FOLDER = ROOT / "benchmarks" / "rehearsals"
LIBRARIES = (
    "torch", "torchvision", "lightning", "jsonargparse", "torchmetrics", "transformers", "tokenizers", "diffusers",
    "datasets", "peft", "sentence-transformers", "timm", "open_clip_torch", "safetensors", "numpy",
)  # fmt: skip
AT_A_TIME = 2
"""Recipes with a certificate that holds, of which `make test` rehearses so many all the same."""
BUDGET = 60
"""Processor-seconds of a recipe's rehearsal."""


def path(paper: str) -> Path:
    return FOLDER / f"{paper}.json"


def read(paper: str) -> dict[str, Any] | None:
    """A recipe's certificate; None where there is none, or none that can be read."""
    try:
        found = json.loads(path(paper).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and all(isinstance(found.get(key), dict) for key in ("versions", "stages"))
    return found if whole and all(isinstance(stage, dict) for stage in found["stages"].values()) else None


def versions(found: dict[str, str] | None = None) -> dict[str, str]:
    """The first two numbers of the versions of what a rehearsal runs on: those of `found`, or the installed ones."""
    if found is None:
        found = {name: metadata.version(name) for name in LIBRARIES if _installed(name)}
    return {name: ".".join(version.split(".")[:2]) for name, version in found.items()}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def stages(jobs: Iterable[Job]) -> dict[str, str]:
    """A digest for every stage of a rehearsal, over its settings, their code and the stand-ins."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        found.setdefault(job.stage.name, []).append(job.fingerprint)
    return {name: hashlib.sha256(" ".join(sorted(those)).encode()).hexdigest()[:10] for name, those in found.items()}


def present(paper: str) -> dict[str, str]:
    """`stages` of a recipe's rehearsal as configs and code are now."""
    return stages(recipes.unique(recipes.jobs(Request(paper, scale="rehearsal", seeds=1))))


def fingerprint(digests: dict[str, str], libraries: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps([digests, libraries], sort_keys=True).encode()).hexdigest()[:16]


def lapsed(paper: str) -> str:
    """Why a recipe has no certificate that holds; empty where it has."""
    found = read(paper)
    if found is None:
        return "it has a certificate that cannot be read" if path(paper).exists() else "it has no certificate"
    now, libraries = present(paper), versions()
    if found.get("fingerprint") == fingerprint(now, libraries):
        return ""
    before = {name: stage.get("fingerprint") for name, stage in found["stages"].items()}
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        listed = "all stages" if len(changed) >= len(now) else ", ".join(changed)
        return f"code or configs have changed since its certificate: {listed}"
    kept = found["versions"]
    others = [f"{name} {kept.get(name, 'none')} -> {is_now}" for name, is_now in libraries.items()
              if kept.get(name) != is_now]  # fmt: skip
    return (
        f"its certificate is for other versions: {', '.join(others)}" if others else "its certificate does not add up"
    )


def due(papers: list[str]) -> dict[str, str]:
    """Recipes that `make test` rehearses, with the reason."""
    reasons = {paper: why for paper in papers if (why := lapsed(paper))}
    return reasons | dict.fromkeys(
        turn([paper for paper in papers if paper not in reasons], commit()), "it is its turn"
    )


def turn(papers: list[str], commit: str) -> list[str]:
    """The recipes whose turn it is at a commit: neighbours in the list, from a place that its hash gives."""
    start = int(commit, 16) if commit else 0
    return [papers[(start + k) % len(papers)] for k in range(min(AT_A_TIME, len(papers)))]


def commit() -> str:
    """The hash of the checkout's commit; empty outside version control."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace"
        )
    except OSError:
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


def write(paper: str, coverage: dict[str, dict[str, Any]], digests: dict[str, str], others: float) -> str:
    """Write what a complete rehearsal covered, unless a certificate says the same but for its times.

    Args:
        coverage: what became of every stage.
        digests: `stages` of the jobs that ran.
        others: processor-seconds beside the stages': making the stand-ins.

    Returns:
        what was done, for people.
    """
    now, libraries = present(paper), versions()
    if now != digests:
        return "no certificate: code or configs were changed while it ran; run it again"
    seconds = sum(stage["cpu_seconds"] for stage in coverage.values()) + others
    found = {
        "paper": paper,
        "fingerprint": fingerprint(now, libraries),
        "versions": libraries,
        "cpu_seconds": round(seconds, 1),
        "stages": {name: {"fingerprint": now[name], **stage} for name, stage in coverage.items()},
    }
    with updating(path(paper)):
        old = read(paper)
        if old is not None and _substance(old) == _substance(found):
            return f"certificate as before: {path(paper).relative_to(FOLDER.parents[1])}"
        write_json(path(paper), found, durable=True)
    return f"certificate  {path(paper).relative_to(FOLDER.parents[1])} ({seconds:.0f} of {BUDGET} processor-seconds)"


def _substance(content: Any) -> Any:
    """A certificate without its times."""
    if isinstance(content, dict):
        return {key: _substance(value) for key, value in content.items() if key != "cpu_seconds"}
    return content
