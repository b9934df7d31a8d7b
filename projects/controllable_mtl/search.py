"""From a preference and a budget to widths: decoders by the preference, the encoder by search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.errors import UserError
from projects.controllable_mtl.model import Configuration, Costs, SuperNet

Ratios = tuple[float, ...]
Rule = Literal["preference", "uniform"]
Pick = Literal["best", "any"]
Score = Callable[[Configuration], float]
TOLERANCE = 0.1
"""Of the SuperNet's operations: encoders count as filling a budget that leave no more of it."""
POPULATION, PARENTS = 12, 4


@dataclass(frozen=True)
class Space:
    """What may be slimmed.

    Attributes:
        encoder: slimmable; or it stays full.
        decoders: slimmable; or they stay full.
    """

    encoder: bool = True
    decoders: bool = True


def sweep(tasks: int) -> list[Ratios]:
    """Preferences over the simplex: equal ones, each task alone, and halfway between."""
    equal = np.full(tasks, 1 / tasks)
    alone = np.eye(tasks)
    found = [*alone, *((alone + equal) / 2), equal] if tasks > 1 else [equal]
    return [tuple(float(x) for x in row) for row in found]


def checked(preference: Sequence[float], tasks: int) -> Ratios:
    """A preference that sums to 1; UserError for one that is none."""
    values = np.asarray(preference, np.float64)
    if len(values) != tasks or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise UserError(f"preference {list(preference)}: give {tasks} numbers from 0 on, one for each task, not all 0")
    return tuple(float(v) for v in values / values.sum())


def decoder_widths(preference: Sequence[float], widths: Sequence[float]) -> Ratios:
    """The ratio of W nearest to w_min + (1 - w_min) p_k / max p; of two that are as near, the larger."""
    least, top = widths[0], max(preference)
    return tuple(min(widths, key=lambda w: (abs(w - least - (1 - least) * p / top), -w)) for p in preference)


def decoders_for(
    net: SuperNet, costs: Costs, preference: Ratios, budget: float, space: Space, rule: Rule
) -> list[Ratios]:
    """Decoders that leave the smallest encoder its share of a budget; none where nothing does.

    By the preference: those of the least preferred tasks shrink first, and equal preferences together.

    Args:
        budget: operations.
        rule: "preference", or "uniform" for all equal widths, whatever the preference is.
    """
    widths = net.sizes.widths
    least = min(costs.encoder(e) for e in (net.encoders() if space.encoder else [net.full.encoder]))

    def fits(ratios: Ratios) -> bool:
        return least + sum(costs.decoder(t, r) for t, r in zip(net.tasks, ratios, strict=True)) <= budget

    if not space.decoders or rule == "uniform":
        equal = [(w,) * len(preference) for w in (widths if space.decoders else [1.0])]
        return [ratios for ratios in equal if fits(ratios)]
    ratios = decoder_widths(preference, widths)
    while not fits(ratios):
        slim = [p for p, r in zip(preference, ratios, strict=True) if r > widths[0]]
        if not slim:
            return []
        ratios = tuple(
            widths[widths.index(r) - 1] if p == min(slim) and r > widths[0] else r
            for p, r in zip(preference, ratios, strict=True)
        )
    return [ratios]


def configure(
    net: SuperNet, costs: Costs, preference: Ratios, budget: float, space: Space, rule: Rule = "preference"
) -> list[Configuration]:
    """Configurations whose encoders fill what the decoders leave of a budget, or else the largest that fits.

    Which of them is the best is for `best` to say; there are none where nothing fits.
    """
    encoders = net.encoders() if space.encoder else [net.full.encoder]
    found = []
    for decoders in decoders_for(net, costs, preference, budget, space, rule):
        costly = {c: costs.total(c) for c in (Configuration(e, decoders) for e in encoders)}
        fits = {c: cost for c, cost in costly.items() if cost <= budget}
        near = [c for c, cost in fits.items() if cost >= budget - TOLERANCE * costs.total(net.full)]
        found += near or sorted(fits, key=fits.__getitem__)[-1:]
    return found


def best(among: Sequence[Configuration], score: Score, evaluations: int, rng: np.random.Generator) -> Configuration:
    """The candidate with the highest score, all of them looked at, or as many as an evolution may look at.

    Evolution: the best few encoders are crossed stage by stage, a stage now and then takes a ratio of another
    candidate; children that are no candidates are drawn anew.
    """
    if len(among) <= evaluations:
        return max(among, key=score)
    known = set(among)
    seen = {among[k]: score(among[k]) for k in rng.permutation(len(among))[: min(POPULATION, evaluations)]}
    while len(seen) < evaluations:
        parents = sorted(seen, key=seen.__getitem__)[-PARENTS:]
        one, other = (parents[int(k)].encoder for k in rng.integers(len(parents), size=2))
        stranger, decoders = (getattr(among[int(rng.integers(len(among)))], part) for part in ("encoder", "decoders"))
        genes = rng.choice(3, len(one), p=(0.4, 0.4, 0.2))
        child = Configuration(tuple(x[g] for g, *x in zip(genes, one, other, stranger, strict=True)), decoders)
        if child not in known or child in seen:
            child = among[int(rng.integers(len(among)))]
        seen[child] = seen[child] if child in seen else score(child)
    return max(seen, key=seen.__getitem__)
