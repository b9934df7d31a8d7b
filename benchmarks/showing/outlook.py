"""What more seeds would decide: a line of power per claim, and what SEEDS=auto would do from here."""

from typing import Any

from benchmarks.judging.tables import Claim, Paper


def power_line(claim: Claim, found: dict[str, Any], paper: Paper) -> str:
    return ""


def outlook(found: dict[str, Any], paper: Paper) -> str:
    return ""
