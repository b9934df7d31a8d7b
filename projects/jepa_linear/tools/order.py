"""Which features of your data JEPA and MAE learn first, by the theory of deep linear networks.

    python -m projects.jepa_linear.tools.order --lambda 0.9 0.75 --rho 0.7 0.94 --depth 5
    python -m projects.jepa_linear.tools.order --inputs xx.csv --cross yx.csv --out order.png
    python -m projects.jepa_linear.tools.order --data x.csv --targets y.csv
    python -m projects.jepa_linear.tools.order --data series.csv --lag 1 --networks

Give lambda and rho of the features; or the covariances of the inputs, E[x x^T], and of the targets with the inputs,
E[y x^T]; or a table of samples, a row each, with the targets in another table or so many rows later in the same one.
Tables are CSV (commas, semicolons, tabs or spaces, with or without a line of names) or .npy. Samples are centred; they
are not scaled. Features are the directions in which both covariances are diagonal. Where the two share no basis the
theory is an approximation: a warning says so, and --networks trains networks of either kind on the covariances
themselves.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import eigh

from common.console import printable
from common.data.files import is_folder, write_atomic
from common.errors import UserError, user_errors
from common.paths import user_path
from projects.jepa_linear.order import conflicts, first_reached
from projects.jepa_linear.theory import HALF, OBJECTIVES, Array, Objective, fixed_point, learning_time, trajectory
from projects.jepa_linear.tools.tables import covariances, read_table

SHOWN = 8  # lines of a chart
APART = 0.05  # what covariances may lack of a common basis without a warning
MOST = 256  # features that networks are trained on
STEPS = 20_000  # of a network's training, about
SIZES = (1e-30, 1e30)  # of covariances: their products are still numbers


@dataclass(frozen=True)
class Found:
    """Features, the strongest first: directions [D, F] (columns, unit length), lambda and rho [F]."""

    directions: Array
    lam: Array
    rho: Array
    names: list[str]

    def label(self, feature: int) -> str:
        """The direction in the names of the columns: those that make up most of it."""
        weights = self.directions[:, feature]
        largest = np.argsort(-np.abs(weights))[:3]
        parts = [k for k in largest if weights[k] ** 2 >= 0.1]
        return " ".join(
            self.names[k] if abs(weights[k]) > 0.995 else f"{weights[k]:+.2f} {self.names[k]}" for k in parts
        )


def features_of(inputs: Array, cross: Array, names: list[str]) -> Found:
    """The directions v with Sigma_yx v = rho Sigma_xx v, Sigma_yx made symmetric; sigma^2 is the input's along them.

    Raises:
        UserError: the inputs' covariance is none, or not positive, so that some direction of theirs never varies.
    """
    smallest = np.linalg.eigvalsh(inputs)[0]
    if smallest < -1e-6 * np.abs(inputs).max():
        raise UserError(
            f"the inputs' covariance has the eigenvalue {smallest:.3g}, and is none: variances are not below 0"
        )
    if smallest <= 1e-10 * max(inputs.trace(), 0):
        raise UserError(
            f"the inputs' covariance has the eigenvalue {smallest:.3g}: some direction does not vary. Leave out "
            "columns that are constant or that follow from others, or give more samples than columns"
        )
    rho, vectors = eigh((cross + cross.T) / 2, inputs)
    lengths = np.linalg.norm(vectors, axis=0)
    order = np.argsort(-rho / lengths**2)
    return Found((vectors / lengths)[:, order], (rho / lengths**2)[order], rho[order], names)


def apart(inputs: Array, cross: Array) -> float:
    """How far two covariances are from sharing a basis: 0 where they are symmetric and commute, up to about 1."""
    skew = np.linalg.norm(cross - cross.T) / (2 * np.linalg.norm(cross))
    commutator = np.linalg.norm(inputs @ cross - cross @ inputs) / (2 * np.linalg.norm(inputs) * np.linalg.norm(cross))
    return float(max(skew, commutator))


def times_of(objective: Objective, found: Found, depth: int, eps: float) -> Array:
    """Times to half of the fixed point, [F]: NaN for features that do not grow to it."""
    grows = found.rho > 0
    times = np.full(len(found.rho), np.nan)
    times[grows] = learning_time(objective, found.lam[grows], found.rho[grows], depth, eps)
    return np.where(np.isfinite(times), times, np.nan)


def state(objective: Objective, rho: float, depth: int, eps: float) -> str:
    """Why a feature has no time."""
    if rho <= 0:
        return "never"
    return "shrinks" if eps > fixed_point(objective, np.array(rho), depth) else "at start"


def trained(
    objective: Objective, inputs: Array, cross: Array, found: Found, depth: int, eps: float, until: float
) -> Array:
    """Times at which a network of this kind, trained on the covariances, has half of a feature's fixed point, [F]; of
    its final amplitude, where the covariances share no basis and the fixed point is not the theory's. NaN for features
    that never get there, or that do not double."""
    import torch

    from projects.jepa_linear.flow import GradientFlow
    from projects.jepa_linear.model import DeepLinear, amplitudes, half_square

    torch.manual_seed(0)
    values, vectors = np.linalg.eigh(inputs)
    points = vectors * np.sqrt(values * len(values)) @ vectors.T  # their mean square is the covariance
    targets = points @ np.linalg.solve(inputs, cross.T)
    x, y = torch.from_numpy(points), torch.from_numpy(targets)
    net = DeepLinear(len(inputs), depth, eps, objective)
    flow = GradientFlow(net.parameters(), until)
    directions, seen = torch.from_numpy(found.directions.copy()), []

    def loss() -> Any:
        flow.zero_grad()
        target = net.encode(y).detach() if objective == "jepa" else y
        value = half_square(net.predict(net.encode(x)), target)
        value.backward()
        return value

    time = flow.param_groups[0]
    seen.append((0.0, amplitudes(net, x, directions)[0].detach().numpy()))
    while time["time"] < until:
        flow.step(loss)
        seen.append((time["time"], amplitudes(net, x, directions)[0].detach().numpy()))
    moments, sizes = np.array([t for t, _ in seen]), np.stack([a for _, a in seen])
    known = apart(inputs, cross) <= APART
    ends = fixed_point(objective, np.maximum(found.rho, 0.0), depth) if known else sizes[-1]
    times = first_reached(moments, sizes, HALF * ends)
    return np.where(sizes[-1] < 2 * sizes[0], np.nan, times)


def picture(found: Found, depth: int, eps: float, shown: list[int]) -> bytes:
    """PNG: how the features shown grow, by JEPA and by MAE."""
    from PIL import Image

    from common.charts import Line, line_chart, side_by_side

    panels = []
    for objective in OBJECTIVES:
        times = times_of(objective, found, depth, eps)
        drawn = [k for k in shown if not np.isnan(times[k])]
        moments = np.linspace(0, 1.3 * max((times[k] for k in drawn), default=1.0), 200)
        lam, rho = found.lam[drawn], found.rho[drawn]
        part = trajectory(objective, lam, rho, depth, eps, moments) / fixed_point(objective, rho, depth)
        lines = [Line(moments, part[:, n], f"{k + 1}: rho {found.rho[k]:.2g}") for n, k in enumerate(drawn)]
        title = f"{objective.upper()}, L = {depth}"
        panels.append(line_chart(lines, "time", "amplitude, by its end", title, limits=(0.0, 1.05), size=(520, 380)))
    content = BytesIO()
    Image.fromarray(side_by_side(*panels).light).save(content, "PNG")
    return content.getvalue()


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m projects.jepa_linear.tools.order",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--lambda", dest="lam", type=float, nargs="+", help="lambda of each feature")
    command.add_argument("--rho", type=float, nargs="+", help="rho of each feature")
    command.add_argument("--inputs", type=Path, help="table: covariance of the inputs, [D, D]")
    command.add_argument("--cross", type=Path, help="table: covariance of targets (rows) with inputs (columns), [D, D]")
    command.add_argument("--data", type=Path, help="table: inputs, a row for each sample")
    command.add_argument("--targets", type=Path, help="table: targets, as many rows and columns")
    command.add_argument("--lag", type=int, help="the target of a row is the one so many rows later")
    command.add_argument("--depth", type=int, default=3, help="matrices of the encoder, L (default: 3)")
    command.add_argument("--eps", type=float, default=0.02, help="amplitude at the start (default: 0.02)")
    command.add_argument("--networks", action="store_true", help="train networks too; their times are given beside")
    command.add_argument("--top", type=int, default=20, help="features to list (default: 20)")
    command.add_argument("--out", type=Path, help="picture to write: a .png")
    command.add_argument("--json", action="store_true", help="print JSON")
    return command


def check(given: argparse.Namespace) -> None:
    """UserError for options that do not go together."""
    ways = {
        "--lambda and --rho": given.lam is not None or given.rho is not None,
        "--inputs and --cross": given.inputs is not None or given.cross is not None,
        "--data": given.data is not None,
    }
    chosen = [name for name, there in ways.items() if there]
    if len(chosen) != 1:
        raise UserError(f"give one of {', '.join(ways)}" + (f", not {' with '.join(chosen)}" if chosen else ""))
    for names, one, other in ((chosen[0], given.lam, given.rho), (chosen[0], given.inputs, given.cross)):
        if (one is None) != (other is None):
            raise UserError(f"{names} go together: give both")
    if given.lam is not None:
        if len(given.lam) != len(given.rho):
            raise UserError(f"{len(given.lam)} --lambda and {len(given.rho)} --rho: give one of each for every feature")
        if wrong := [v for v in (*given.lam, *given.rho) if not (np.isfinite(v) and v > 0)]:
            raise UserError(f"--lambda and --rho have to be above 0, not {wrong[0]:g}")
    if given.data is None and (given.targets is not None or given.lag is not None):
        raise UserError("--targets and --lag belong to --data")
    if given.data is not None and (given.targets is None) == (given.lag is None):
        raise UserError("--data needs either --targets, another table, or --lag, a number of rows")
    for name, sound, wanted in (
        ("depth", 1 <= given.depth <= 50, "from 1 to 50"),
        ("eps", 1e-12 <= given.eps < 1, "from 1e-12 to less than 1"),
        ("lag", given.lag is None or given.lag >= 1, "at least 1"),
        ("top", given.top >= 1, "at least 1"),
    ):
        if not sound:
            raise UserError(f"--{name} {getattr(given, name)}: it has to be {wanted}")
    if given.out is not None:
        if given.out.suffix.lower() != ".png":
            raise UserError(f"--out {printable(given.out)}: the picture is a .png, end the name so")
        if not is_folder(user_path(given.out).parent):
            raise UserError(f"--out {printable(given.out)}: there is no such folder, create it first")


def read(given: argparse.Namespace) -> tuple[Array, Array, list[str]]:
    """Covariances of the inputs and of targets with inputs, and the columns' names."""
    if given.lam is not None:
        lam, rho = np.array(given.lam), np.array(given.rho)
        return np.diag(lam / rho), np.diag(lam), [f"feature {k + 1}" for k in range(len(lam))]
    if given.data is None:
        (inputs, names), (cross, _) = read_table(user_path(given.inputs)), read_table(user_path(given.cross))
        for file, matrix in ((given.inputs, inputs), (given.cross, cross)):
            if matrix.shape[0] != matrix.shape[1] or matrix.shape != inputs.shape:
                shape = " x ".join(map(str, matrix.shape))
                raise UserError(f"{printable(file)} is {shape}: both covariances are square, and of one size")
        if not np.allclose(inputs, inputs.T, rtol=1e-4, atol=1e-6 * np.abs(inputs).max()):
            raise UserError(f"{printable(given.inputs)} is not symmetric, as a covariance of inputs is")
        return (inputs + inputs.T) / 2, cross, names
    data, names = read_table(user_path(given.data))
    if given.lag is not None:
        if len(data) <= given.lag + 1:
            raise UserError(f"{printable(given.data)} has {len(data)} rows: too few for --lag {given.lag}")
        return *covariances(data[: -given.lag], data[given.lag :]), names
    targets, _ = read_table(user_path(given.targets))
    if targets.shape != data.shape:
        said = " and ".join(f"{' x '.join(map(str, table.shape))}" for table in (data, targets))
        raise UserError(f"--data and --targets are {said}: rows and columns have to agree, for JEPA encodes both alike")
    return *covariances(data, targets), names


def rows_of(found: Found, depth: int, eps: float, networks: dict[Objective, Array]) -> list[dict[str, Any]]:
    """What is known of each feature, as printed and as JSON."""
    times = {objective: times_of(objective, found, depth, eps) for objective in OBJECTIVES}
    places = {objective: np.argsort(np.argsort(t)) + 1 for objective, t in times.items()}  # NaN comes last
    rows = []
    for k in range(len(found.lam)):
        row: dict[str, Any] = {"feature": k + 1, "lambda": float(found.lam[k]), "rho": float(found.rho[k])}
        for objective in OBJECTIVES:
            time = float(times[objective][k])
            known = not np.isnan(time)
            row[objective] = int(places[objective][k]) if known else state(objective, found.rho[k], depth, eps)
            row[f"{objective}_time"] = time if known else None
            if objective in networks:
                measured = float(networks[objective][k])
                row[f"{objective}_network"] = None if np.isnan(measured) else measured
        rows.append(row | {"direction": found.label(k)})
    return rows


def tell(rows: list[dict[str, Any]], found: Found, depth: int, eps: float, top: int) -> None:
    """The table, which feature comes first, and how the pairs at odds are decided."""
    columns = [name for name in rows[0] if name != "direction"]
    print("".join(f"{name.replace('_', ' '):>14}" for name in columns) + "  direction")
    for row in rows[:top]:
        print("".join(f"{shown(row[name]):>14}" for name in columns) + f"  {row['direction']}")
    if len(rows) > top:
        print(f"... and {len(rows) - top} more (--top)")
    times = {objective: times_of(objective, found, depth, eps) for objective in OBJECTIVES}
    for objective, t in times.items():
        if not np.isnan(t).all():
            print(f"{objective.upper()} learns feature {int(np.nanargmin(t)) + 1} first")
    both = ~np.isnan(times["jepa"]) & ~np.isnan(times["mae"])
    large, small = conflicts(found.lam[both], found.rho[both])
    if len(large):
        won = [int((t[both][large] < t[both][small]).sum()) for t in times.values()]
        print(
            f"where one of two features has the larger rho and the other the larger lambda ({len(large)} pairs), the "
            f"larger rho comes first in {won[0]} (JEPA) and {won[1]} (MAE)"
        )


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


@user_errors
@np.errstate(all="ignore")  # powers of features far from the start overflow: they have no time, which is said
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    given = parser().parse_args(arguments)
    check(given)
    inputs, cross, names = read(given)
    if not np.any(cross):
        raise UserError("targets and inputs have no covariance at all: there is nothing to learn")
    sizes = [np.abs(one).max() for one in (inputs, cross)]
    if wrong := [size for size in sizes if size and not SIZES[0] < size < SIZES[1]]:
        raise UserError(f"a covariance of {wrong[0]:.3g}: scale the data, so that covariances are nearer to 1")
    found = features_of(inputs, cross, names)
    gap = apart(inputs, cross)
    networks: dict[Objective, Array] = {}
    if gap > APART:
        hint = "" if given.networks else "; --networks trains them"
        print(
            f"warning: the covariances lack {gap:.0%} of a common basis, the theory is an approximation{hint}",
            file=sys.stderr,
        )
    if given.networks:
        if len(found.lam) > MOST:
            raise UserError(f"--networks: {len(found.lam)} features are too many, at most {MOST}")
        for objective in OBJECTIVES:
            times = times_of(objective, found, given.depth, given.eps)
            if np.isnan(times).all():
                raise UserError(
                    f"--networks: no feature grows at --depth {given.depth} from --eps {given.eps:g}: lower it"
                )
            until = 2 * float(np.nanmax(times))
            if until * (found.lam * found.rho ** (2 * given.depth - 1)).max() > STEPS:
                raise UserError(
                    f"--networks: from --eps {given.eps:g} one of --depth {given.depth} would be trained for hours: "
                    "features end fast and begin slowly. Raise --eps or lower --depth"
                )
            networks[objective] = trained(objective, inputs, cross, found, given.depth, given.eps, until)
    rows = rows_of(found, given.depth, given.eps, networks)
    if given.json:
        print(json.dumps({"apart": gap, "features": rows}))
    else:
        tell(rows, found, given.depth, given.eps, given.top)
    if given.out is not None:
        target = user_path(given.out)
        write_atomic(target, picture(found, given.depth, given.eps, list(range(min(SHOWN, len(rows))))))
        print(f"wrote {printable(target)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
