"""What more seeds would decide: a line of power per claim, and what SEEDS=auto would do from here."""

from typing import Any

from benchmarks.judging import power
from benchmarks.judging.forms import OnReported, measures
from benchmarks.judging.tables import Paper
from benchmarks.running import results


def power_lines(found: dict[str, Any], paper: Paper) -> dict[str, str]:
    """What this run could have decided and how many seeds would, by claim with an interval."""
    powers = power.power(found, paper, results.networks(paper.paper))
    return {
        claim.id: f"Power: {power.in_words(powers[claim.id], claim.test, paper.metric(measures(claim.test)[0]))}."
        for claim in paper.claims
        if claim.id in powers and claim.test is not None and not isinstance(claim.test, OnReported)
    }


def outlook(found: dict[str, Any], paper: Paper) -> str:
    """What SEEDS=auto would decide beyond these seeds and how long that takes on this machine; empty for nothing."""
    looks = power.outlook(found, paper, results.networks(paper.paper))
    decides = [claim for look in looks for claim in look.decides]
    if not looks:
        return ""
    last = max((look.seeds for look in looks if look.decides), default=looks[-1].seeds)
    took = {name: results.arm_seconds(arm) for name, arm in found["arms"].items()}
    seconds = sum(runs * took.get(arm, 0.0) for look in looks if look.seeds <= last for arm, runs in look.runs.items())
    what = f"would decide {', '.join(decides)}" if decides else "would decide none of the open claims"
    return (
        f"SEEDS=auto {what} with up to {last} seeds, if effects and spreads hold: about {seconds / 60:.1f} minutes of "
        "one core"
    )
