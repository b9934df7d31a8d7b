"""Choose widths for what matters to you: a preference over tasks and a budget of operations. Nothing is trained.

    python -m projects.controllable_mtl.tools.control configure RUN --preference 0.7,0.3 --budget 0.4 --out small.onnx
    python -m projects.controllable_mtl.tools.control sweep RUN --budgets 0.3,0.5,1 --out trade-off.png

RUN is the folder of a finished training of projects.controllable_mtl.train, whose config.yaml names network, tasks and
data. `configure` sizes the decoders by the preference and searches the encoder on validation samples; it tells the
widths, the operations and the figures on these samples, and --out writes the network as ONNX, its batch norms
calibrated. Its input is what training sees: RGB in [0, 1], less ImageNet's mean, by its deviation. `sweep` does so for
preferences from the first task to all others, at each budget: a CSV table to standard output, and with --out a picture
of the first task's figures against the last's.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from common.console import printable
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path

if TYPE_CHECKING:
    from projects.controllable_mtl.bench import Bench
    from projects.controllable_mtl.data import TaskData
    from projects.controllable_mtl.model import Configuration, Costs
    from projects.controllable_mtl.train import Training


def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': give numbers with commas between them, as 0.7,0.3") from None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.controllable_mtl.tools.control",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = command.add_subparsers(dest="command", required=True)
    one = commands.add_parser("configure", help="widths for one preference and one budget")
    one.add_argument("--preference", type=numbers, required=True, help="one number from 0 on for each task, as 0.7,0.3")
    one.add_argument("--budget", type=float, default=1.0, help="share of the whole network's operations (default: 1)")
    one.add_argument("--out", type=given_path, help="write the network, a .onnx file")
    many = commands.add_parser("sweep", help="the trade-off between tasks")
    many.add_argument("--budgets", type=numbers, default=[0.4, 0.7, 1.0], help="shares (default: 0.4,0.7,1)")
    many.add_argument("--points", type=int, default=5, help="preferences at each budget (default: 5)")
    many.add_argument("--out", type=given_path, help="the picture, a .png file")
    for each in (one, many):
        each.add_argument("run", type=given_path, help="folder of a finished training")
        each.add_argument("--evaluations", type=int, default=32, help="encoders to look at (default: 32)")
        each.add_argument("--samples", type=int, default=512, help="training samples to calibrate with (default: 512)")
        device_option(each)
    return command


def check(given: argparse.Namespace) -> None:
    """UserError for what cannot be done, before anything is loaded."""
    for budget in given.budgets if given.command == "sweep" else [given.budget]:
        if not 0 < budget <= 1:
            raise UserError(f"budget {budget:g}: a share above 0, and 1 at most")
    if given.evaluations < 1 or given.samples < 1 or (given.command == "sweep" and given.points < 2):
        raise UserError("--evaluations and --samples have to be at least 1, --points at least 2")
    ending = ".onnx" if given.command == "configure" else ".png"
    if given.out and (given.out.suffix != ending or not given.out.absolute().parent.is_dir() or given.out.is_dir()):
        raise UserError(f"--out {given.out}: give a file in a folder that exists, its name ending in {ending}")
    for name in ("config.yaml", "weights.safetensors"):
        if not (given.run / name).is_file():
            raise UserError(
                f"{given.run} has no {name}: give the run folder of a finished projects.controllable_mtl.train"
            )


def load(run: Path) -> tuple[Training, TaskData]:
    """The network and the data of a training, as its config has them."""
    from jsonargparse import ArgumentParser

    from common.training.runs import read_settings
    from common.training.weights import load_weights
    from projects.controllable_mtl.data import TaskData
    from projects.controllable_mtl.train import Training

    settings = read_settings(run / "config.yaml")
    reader = ArgumentParser(exit_on_error=False)
    reader.add_class_arguments(Training, "model")
    reader.add_class_arguments(TaskData, "data")
    try:
        parts = {name: dict(settings[name]) for name in ("model", "data")}
        parts["model"]["encoder_weights"] = None  # the training's own take their place
        made = reader.instantiate_classes(reader.parse_object(parts))
    except UserError:
        raise
    except Exception as error:  # jsonargparse wraps what classes raise in errors of several kinds
        cause = next((e for e in (error.__cause__, error.__context__) if isinstance(e, UserError)), None)
        raise cause or UserError(f"{run}/config.yaml is not of projects.controllable_mtl.train: {error}") from error
    training, training_data = made.model, made.data
    if training.fixed or not training.subnets:
        raise UserError(f"{run} is a network of fixed widths: give one that was trained with sub-networks")
    load_weights(training.net, run / "weights.safetensors")
    training.net.requires_grad_(False)
    return training, training_data


class Control:
    """A loaded network with its costs and its figures on validation samples."""

    def __init__(self, given: argparse.Namespace):
        import torch

        from projects.controllable_mtl.bench import Bench
        from projects.controllable_mtl.model import Costs

        training, data = load(given.run)
        device = torch.device(device_of(given.device))
        self.net, self.space, self.evaluations = training.net.to(device), training.space, given.evaluations
        self.bench: Bench = Bench(self.net, data, given.samples, True, device)
        self.costs: Costs = Costs(self.net, data.size)
        self.whole = self.costs.total(self.net.full)

    def choose(self, preference: Sequence[float], budget: float) -> Configuration:
        """UserError where no sub-network is that small."""
        from projects.controllable_mtl.search import checked, configure

        asked = checked(preference, len(self.net.tasks))
        among = configure(self.net, self.costs, asked, budget * self.whole, self.space)
        if not among:
            raise UserError(f"budget {budget:g}: no sub-network is that small; give more")
        return self.bench.best(among, self.evaluations)


def tell(control: Control, widths: Configuration) -> None:
    net = control.net
    cost = control.costs.total(widths)
    print(f"encoder   {'  '.join(f'{w:g}' for w in widths.encoder)}")
    print(f"{cost / 1e6:,.3f} million operations a picture, {cost / control.whole:.1%} of {control.whole / 1e6:,.3f}")
    print(f"{'task':<32}{'decoder':>8}{'validation':>12}{'whole net':>12}")
    figures, whole = (control.bench.figures(c, "val") for c in (widths, net.full))
    for task, ratio, figure, best in zip(net.tasks, widths.decoders, figures, whole, strict=True):
        print(f"{printable(task.name):<32}{ratio:>8g}{figure:>12.4f}{best:>12.4f}")


def configure(given: argparse.Namespace) -> None:
    control = Control(given)
    widths = control.choose(given.preference, given.budget)
    tell(control, widths)
    if given.out:
        export(control, widths, given.out)
        print(f"wrote {printable(given.out)}")


def export(control: Control, widths: Configuration, out: Path) -> None:
    """An ONNX file for batches of any size; outputs have the tasks' names."""
    import warnings

    import torch

    from common.data.files import write_atomic

    net = control.bench.deployed(widths).cpu().eval()
    images = torch.zeros(2, 3, *control.bench.data.size)  # of two: torch.export takes a size of one for a constant
    names = [task.name for task in control.net.tasks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net, (images,), dynamo=True, verbose=False, input_names=["images"], output_names=names,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    assert program is not None
    write_atomic(out, program.model_proto.SerializeToString())


def sweep(given: argparse.Namespace) -> None:
    """A table to standard output, and the picture."""
    from PIL import Image

    from common.charts import Line, line_chart
    from common.data.files import write_atomic

    control = Control(given)
    tasks = control.net.tasks
    if len(tasks) < 2:
        raise UserError("a sweep is between tasks, and this network has one")
    rows, lines = [], []
    for budget in given.budgets:
        found = []
        for k in range(given.points):
            part = k / (given.points - 1)
            preference = [1 - part, *[part / (len(tasks) - 1)] * (len(tasks) - 1)]
            widths = control.choose(preference, budget)
            figures = control.bench.figures(widths, "val")
            cost = control.costs.total(widths) / control.whole
            rows.append([budget, *preference, cost, *widths.encoder, *widths.decoders, *figures])
            found.append(figures)
        lines.append(Line([f[0] for f in found], [f[-1] for f in found], f"{budget:.0%}", dots=True))
    names = [t.name for t in tasks]
    head = ["budget", *(f"preference {n}" for n in names), "cost"]
    head += [f"encoder {k + 1}" for k in range(len(control.net.full.encoder))]
    head += [f"decoder {n}" for n in names] + names
    csv.writer(sys.stdout, lineterminator="\n").writerows([head, *([f"{x:.6g}" for x in row] for row in rows)])
    if given.out:
        content = BytesIO()
        Image.fromarray(line_chart(lines, names[0], names[-1], "budgets").light).save(content, "PNG")
        write_atomic(given.out, content.getvalue())
        print(f"wrote {printable(given.out)}", file=sys.stderr)


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    given = parser().parse_args(arguments)
    check(given)
    (configure if given.command == "configure" else sweep)(given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
