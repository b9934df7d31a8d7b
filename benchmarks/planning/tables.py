"""A plan in the terminal: work, memory, time and money per stage, then bytes, sums and the assumptions."""

from rich.table import Table
from rich.text import Text

from benchmarks.planning.cost import LAUNCH
from benchmarks.planning.gpus import Gpu
from benchmarks.planning.stages import FRAGMENTATION, RESERVED, StagePlan
from benchmarks.planning.units import duration, quantity
from common.console import table_console
from common.recipe import Recipe


def table(heads: list[str], rows: list[list[str | Text]], left: int = 1) -> Table:
    """Columns from the `left`-th on are aligned to the right."""
    made = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for position, head in enumerate(heads):
        made.add_column(head, justify="left" if position < left else "right", no_wrap=position < left)
    for row in rows:
        made.add_row(*row)
    return made


def print_plan(
    paper: str, recipe: Recipe, stages: list[StagePlan], card: Gpu, price: float, utilisation: float, seeds: int
) -> None:
    """Print everything; reads well in a pipe."""
    console = table_console(120)
    devices = max(stage.devices for stage in stages)
    what = f" ({card.memory:g} GB, {card.bandwidth:g} GB/s, bf16 {card.bf16:g} TFLOP/s; {card.source})\n"
    console.print(Text.assemble((f"{paper} at paper scale on {devices} x {card.name}", "bold"), what))
    console.print(work(stages), "")
    console.print(memory(stages, card), "")
    console.print(times(stages, price), "")
    console.print(totals(recipe, stages, price, seeds), "")
    for note in notes(stages, card, utilisation):
        console.print(Text(f"- {note}", "dim"))


def work(stages: list[StagePlan]) -> Table:
    rows: list[list[str | Text]] = []
    for stage in stages:
        rows.append(
            [
                label(stage), quantity(stage.trained), quantity(stage.frozen), stage.unit,
                quantity(stage.forward, "FLOP"), quantity(stage.backward, "FLOP") if stage.backward else "–",
                f"{stage.samples:,}", f"{stage.steps:,}",
                quantity((stage.forward + stage.backward) * stage.samples, "FLOP"),
            ]
        )  # fmt: skip
    heads = ["stage", "trained", "frozen", "a sample", "forward", "backward", "samples", "steps", "one run"]
    return table(heads, rows)


def label(stage: StagePlan) -> Text:
    arms = stage.arms[0] if len(stage.arms) == 1 else f"{len(stage.arms)} arms"
    return Text.assemble((stage.stage, "bold"), (f" ({arms})" if arms != stage.stage else "", "dim"))


def memory(stages: list[StagePlan], card: Gpu) -> Table:
    rows: list[list[str | Text]] = []
    for stage in stages:
        gigabytes = [stage.weights, stage.gradients, stage.optimizer, stage.activations, stage.peak]
        fits = Text("yes", "green") if stage.fits else Text(f"NO: {card.name} has {card.memory:g}", "bold red")
        rows.append(
            [
                label(stage), stage.precision, str(stage.batch),
                *(f"{size / 1e9:.2f}" for size in gigabytes), fits,
                "–" if stage.largest_batch is None else str(stage.largest_batch),
            ]
        )  # fmt: skip
    heads = [
        "GB per device",
        "precision",
        "batch",
        "weights",
        "gradients",
        "optimiser",
        "activations",
        "peak",
        "fits",
        "largest batch",
    ]
    return table(heads, rows, left=2)


def times(stages: list[StagePlan], price: float) -> Table:
    rows: list[list[str | Text]] = []
    for stage in stages:
        share, bound = max((share, name) for name, share in stage.bound.items())
        mostly = "loading" if waits(stage) else f"{bound} {share:.0%}"
        money = [f"{stage.device_hours * price:,.2f}"] if price else []
        rows.append(
            [
                label(stage), duration(stage.step_seconds), mostly,
                duration(stage.seconds), str(stage.runs), f"{stage.device_hours:.1f}", *money,
                Text(stage.reported or "–", "dim"),
            ]
        )  # fmt: skip
    heads = [
        "time",
        "a step",
        "mostly",
        "one run",
        "runs",
        "GPU hours",
        *(["money"] if price else []),
        "the paper says it cost",
    ]
    made = table(heads, rows)
    made.columns[-1].justify = "left"
    return made


def waits(stage: StagePlan) -> bool:
    """Whether the GPU waits for the loader's processes."""
    return stage.loader_seconds is not None and stage.loader_seconds >= 0.95 * stage.step_seconds


def totals(recipe: Recipe, stages: list[StagePlan], price: float, seeds: int) -> Table:
    """Sums over all runs, and what goes over the network and onto the disk."""
    hours = sum(stage.device_hours for stage in stages)
    known = [download.gigabytes for download in recipe.downloads if download.gigabytes is not None]
    unknown = [download.name for download in recipe.downloads if download.gigabytes is None]
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_row(
        "in all",
        f"{hours:.1f} GPU hours with {seeds} seeds" + (f", {hours * price:,.2f} at {price:g} an hour" if price else ""),
    )
    made.add_row(
        "to download", f"{sum(known):.1f} GB" + (f", and {', '.join(unknown)} of unknown size" if unknown else "")
    )
    for download in recipe.downloads:
        size = "size not known" if download.gigabytes is None else f"{download.gigabytes:g} GB"
        made.add_row("", Text(f"{size}  {download.name}", "dim"))
    made.add_row("to store", f"{recipe.disk:g} GB that the runs write, beside the downloads")
    return made


def notes(stages: list[StagePlan], card: Gpu, utilisation: float) -> list[str]:
    """The assumptions behind the figures, and what to mind."""
    found = [
        f"time: an operation takes the longest of its arithmetic at {utilisation:.0%} of {card.name}'s peak, its "
        f"memory traffic at {utilisation:.0%} of its bandwidth, and {LAUNCH * 1e6:g} µs; eager PyTorch, in which only "
        "attention is fused. Float32 products run without tensor cores, convolutions in TF32: PyTorch's defaults",
        f"memory: every tensor of a step from its first to its last use, {FRAGMENTATION - 1:.0%} for the allocator and "
        f"{RESERVED:g} GB for CUDA; kernels' workspaces are not counted",
        "operations: products and convolutions, a multiply-add is two (papers often count it as one)",
        "not counted: validation, checkpoints, start-up, the exchange of gradients between devices",
    ]
    unmeasured = list(dict.fromkeys(stage.stage for stage in stages if stage.loader_seconds is None))
    if unmeasured:
        which = "any stage" if len(unmeasured) == len({stage.stage for stage in stages}) else ", ".join(unmeasured)
        found.append(f"loading the data is taken to keep up, which nobody has measured for {which}")
    for stage in stages:
        if waits(stage):
            found.append(f"{stage.stage} waits for its data: more data.num_workers, if there are cores for them")
    several = [stage for stage in stages if stage.run == "fit" and stage.devices > 1]
    if several:
        number, names = several[0].devices, ", ".join(dict.fromkeys(stage.stage for stage in several))
        found.append(
            f"batch and steps are per device as configured: {names} on {number} devices see {number} times the samples "
            "in the same time. For one device's budget divide trainer.max_steps by it, and scale model.lr"
        )
    return found
