"""What the report shows: the trade-off between tasks at each budget, and what preferences come to in widths."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.charts import Line, line_chart
from common.visual import Themed

if TYPE_CHECKING:
    from projects.controllable_mtl.evaluate import Setting


def of_sweep(settings: Sequence["Setting"], tasks: Sequence[str]) -> dict[str, tuple[Themed, str]]:
    """Charts of the settings that were served: the first two tasks against each other, scores over preference."""
    served = [s for s in settings if s.widths]
    budgets = sorted({s.budget for s in served})
    if not budgets or len(tasks) < 2:
        return {}
    trade, over, wide = [], [], []
    for budget in budgets:
        here = sorted((s for s in served if s.budget == budget), key=lambda s: s.preference[0])
        name, asked = f"{budget:.0%}", [s.preference[0] for s in here]
        trade.append(Line([s.scores[0] for s in here], [s.scores[1] for s in here], name, dots=True))
        over.append(Line(asked, [s.scores[0] for s in here], name, dots=True))
        wide.append(Line(asked, [float(np.mean(s.widths[0].encoder)) for s in here], name, dots=True))
    first, second = tasks[:2]
    return {
        "trade-off": (
            line_chart(trade, f"score of {first}", f"score of {second}", "budgets"),
            f"Scores (0 a constant answer, 1 perfect) of {first} and {second}: a dot for each preference, a line for "
            "each budget",
        ),
        "preference and score": (
            line_chart(over, f"preference for {first}", f"score of {first}", "budgets"),
            f"How the score of {first} follows the preference for it, at each budget",
        ),
        "preference and encoder": (
            line_chart(wide, f"preference for {first}", "width of the encoder", "budgets", limits=(0, 1.05)),
            "What the decoders leave to the encoder: the mean ratio of its stages, at each budget",
        ),
    }
