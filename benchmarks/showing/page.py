"""What a report's page shows, as plain data for its template: claims, tables, curves, pictures, commands."""

import base64
import io
import math
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.judging.formats import as_reported, figure, mean_spread
from benchmarks.judging.forms import claimed_range
from benchmarks.judging.tables import Claim, Metric, Paper, Table
from benchmarks.judging.wording import effect_name
from benchmarks.running import results
from benchmarks.showing.charts import Line, interval_chart, line_chart, short
from common.training.runs import axes, saved_pictures

PICTURE_BYTES = 4_000_000  # of a page; what does not fit stays in the run folders
WIDE = 280  # pixels; wider pictures hold charts and words, and keep their size so that these can be read
TYPES = {".png": "image/png", ".gif": "image/gif", ".wav": "audio/wav", ".mp3": "audio/mpeg"}


def label(found: dict[str, Any]) -> str:
    """`mini`, or `mini-coco` with another data set, as in `Request.label`."""
    return found["scale"] if found["data"] == "default" else f"{found['scale']}-{found['data']}"


def claim_card(
    claim: Claim, verdict: dict[str, Any], paper: Paper, reference: str | None = None, power: str = ""
) -> dict[str, Any]:
    """A claim with its verdict and, where it was tested, its interval, the reference's verdict and a line of power."""
    card = {
        "id": claim.id,
        "text": claim.text,
        "source": claim.source,
        "status": verdict["status"],
        "reason": verdict["reason"],
        "reference": reference,
        "power": power,
    }
    estimate, low, high = verdict["estimate"], verdict["low"], verdict["high"]
    if claim.test is None or any(value is None or not math.isfinite(value) for value in (estimate, low, high)):
        return {**card, "chart": None}
    measure = effect_name(claim.test, paper)
    ends = "" if low == high else f", interval from {short(low)} to {short(high)}"
    description = f"{measure}: {short(estimate)}{ends}; {verdict['status']}"
    chart = interval_chart(estimate, low, high, claimed_range(claim.test), verdict["status"], description)
    return {**card, "chart": chart, "measure": measure}


def measured_tables(paper: Paper) -> list[dict[str, Any]]:
    """The main metrics and the others, a table each."""
    main = [metric for metric in paper.metrics.values() if metric.main]
    others = [metric for metric in paper.metrics.values() if not metric.main]
    tables = [{"title": "Main metrics", "metrics": main}, {"title": "Further metrics", "metrics": others}]
    return [table for table in tables if table["metrics"]]


def seed_columns(found: dict[str, Any], paper: Paper) -> list[str]:
    """Every measured metric, those of the paper's page first."""
    measured = {name for arm in found["arms"].values() for values in arm["seeds"].values() for name in values}
    return [name for name in paper.metrics if name in measured] + sorted(measured - set(paper.metrics))


def measured(arm: dict[str, Any], paper: Paper) -> dict[str, str]:
    """An arm's figures over its seeds, formatted, by metric."""
    return {
        metric.name: mean_spread(values, metric)
        for metric in paper.metrics.values()
        if (values := [seed[metric.name] for seed in arm["seeds"].values() if metric.name in seed])
    }


def arm_rows(
    name: str, arm: dict[str, Any], number: int, paper: Paper, reference: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An arm with its formatted figures: `measured` over all seeds, `seeds` one by one; the reference's beside them."""
    before = reference["arms"].get(name) if reference else None
    single = {
        seed: {
            key: figure(value, paper.metrics[key]) if key in paper.metrics else f"{value:.4g}"
            for key, value in values.items()
        }
        for seed, values in arm["seeds"].items()
    }
    return {
        "name": name,
        "method": arm["method"],
        "description": arm["description"],
        "colour": Line(name, number, []).colour,
        "measured": measured(arm, paper),
        "reference": measured(before, paper) if before else {},
        "seeds": single,
    }


def reported(value: float | str | None, metric: Metric | None) -> str | None:
    """A figure as the paper gives it; None where it is not known."""
    if value is None or isinstance(value, str):
        return value
    return f"{value:.10g}" if metric is None else as_reported(value, metric)


def reported_table(table: Table, found: dict[str, Any], paper: Paper) -> dict[str, Any]:
    """One of the paper's tables, with what was measured beside each figure that has an arm and a metric.

    Where several columns hold one metric (by distance, say), the measured figure stands once, under the row's name.
    """
    metrics = [paper.metrics[column.metric] if column.metric else None for column in table.columns]
    rows = []
    for row in table.rows:
        beside = measured(found["arms"][row.arm], paper) if row.arm in found["arms"] else {}
        cells = [
            {
                "reported": reported(value, metric),
                "measured": beside.get(metric.name) if metric and metrics.count(metric) == 1 else None,
            }
            for value, metric in zip(row.values, metrics, strict=True)
        ]
        several = [m for m in dict.fromkeys(metrics) if m and metrics.count(m) > 1 and m.name in beside]
        shown = [f"{metric.label}: {beside[metric.name]}" for metric in several]
        rows.append({"label": row.label, "cells": cells, "measured": shown})
    return {
        "title": table.title,
        "source": table.source,
        "columns": [column.label for column in table.columns],
        "rows": rows,
        "note": table.note,
    }


def run_folders(found: dict[str, Any], arm: str, runs: Path) -> list[tuple[dict[str, Any], list[Path]]]:
    """An arm's own stages, each with its run folders by seed; a stage that the seeds share has only the first."""
    entry = found["arms"][arm]
    own = [stage for stage in entry["stages"] if not stage["module"].startswith("common.foundations.")]
    folder = runs / found["paper"] / label(found)
    return [
        (stage, [folder / f"{stage['stage']}-{stage['fingerprint']}" / f"seed{seed}" for seed in entry["seeds"]])
        for stage in own
    ]


def charts(found: dict[str, Any], runs: Path, numbers: dict[str, int]) -> list[dict[str, Any]]:
    """A chart per training script and logged series, with a line per arm; a stage that arms share is drawn once."""
    lines: dict[tuple[str, str], list[Line]] = {}
    drawn = set()
    across: dict[str, str] = {}
    for arm, entry in found["arms"].items():
        for stage, folders in run_folders(found, arm, runs):
            if stage["fingerprint"] in drawn:
                continue
            drawn.add(stage["fingerprint"])
            series: dict[str, list[Any]] = {}
            for folder in folders:
                across |= axes(folder)
                for name, points in results.curves(folder).items():
                    series.setdefault(name, []).append(points)
            for name, seeds in series.items():
                chart = lines.setdefault((stage["module"], name), [])
                again = any(line.number == numbers[arm] for line in chart)
                title = f"{arm}: {stage['stage']}" if again else arm
                chart.append(Line(title, numbers[arm], seeds, entry["method"]))
    made = []
    for (module, name), chart in lines.items():
        axis = across.get(name, "step")
        made.append(
            {"module": module, "name": name, "lines": chart, "svg": line_chart(chart, f"{name} by {axis}", axis)}
        )
    return [chart for chart in made if chart["svg"]]


def picture_rows(found: dict[str, Any], runs: Path) -> tuple[list[dict[str, Any]], int, list[str]]:
    """A row per key: what all arms share first, then each arm's picture of its first seed that has one.

    A reference belongs to the row whose key its own begins with: "scene 3, box, truth" to "scene 3, box". Returns the
    rows that fit into `PICTURE_BYTES`, how many did not, and what is wrong with files that are none.
    """
    by_arm: dict[str, dict[str, dict[str, Any]]] = {}
    references: dict[str, dict[str, Any]] = {}
    for arm in found["arms"]:
        for _, folders in run_folders(found, arm, runs):
            entries = next((entries for folder in folders if (entries := saved_pictures(folder))), [])
            for entry in entries:
                if entry["reference"]:
                    references.setdefault(entry["key"], entry)
                else:
                    by_arm.setdefault(entry["key"], {})[arm] = entry
    shared: dict[str, list[dict[str, Any]]] = {}
    for key, entry in references.items():
        owners = [row for row in by_arm if key == row or key.startswith(f"{row}, ")]
        shared.setdefault(max(owners, key=len, default=key), []).append(entry)
    rows, used, left_out, unreadable = [], 0, 0, []
    for key in dict.fromkeys([*by_arm, *shared]):
        named = [(entry, entry["key"].removeprefix(f"{key}, "), False) for entry in shared.get(key, [])]
        named += [(entry, arm, found["arms"][arm]["method"]) for arm, entry in by_arm.get(key, {}).items()]
        cells = []
        for entry, name, method in named:
            try:
                cells.append(picture(entry, name, method))
            except UnreadablePicture as error:
                unreadable.append(str(error))
        used += sum(len(cell["uri"]) + len(cell["dark"]) for cell in cells)
        if used > PICTURE_BYTES:
            left_out += 1
        elif cells:
            rows.append({"key": key, "pictures": cells})
    return rows, left_out, unreadable


class UnreadablePicture(Exception):
    """A file that is no picture, or a damaged one."""


def picture(entry: dict[str, Any], name: str, method: bool = False) -> dict[str, Any]:
    """A picture, animation or sound as data URIs: for light pages and, where it has one, for dark ones."""
    uri, width = data_uri(entry["file"])
    dark = entry.get("dark")
    return {
        "name": name,
        "caption": entry["caption"],
        "method": method,
        "width": width if width > WIDE else None,
        "audio": uri.startswith("data:audio/"),
        "uri": uri,
        "dark": data_uri(dark)[0] if dark else "",
    }


def data_uri(file: Path) -> tuple[str, int]:
    """A file's content as a data URI, and the width of a picture; large PNG files are stored as WebP.

    Raises:
        UnreadablePicture: another kind of file, not readable, or damaged.
    """
    if (known := TYPES.get(file.suffix)) is None:
        raise UnreadablePicture(f"{file}: neither picture nor sound")
    kind, width = known, 0
    try:
        content = file.read_bytes()
        if kind.startswith("image/"):
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                width = image.width
                if kind == "image/png" and len(content) > 20_000:
                    packed = io.BytesIO()
                    image.convert("RGB").save(packed, "WEBP", quality=85)
                    if len(packed.getvalue()) < len(content):
                        kind, content = "image/webp", packed.getvalue()
    except Exception as error:  # Pillow's decoders have no common base class for what a damaged file does to them
        raise UnreadablePicture(f"{file}: {error}") from error
    return f"data:{kind};base64,{base64.b64encode(content).decode()}", width


def stages(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Every distinct stage once, with the arms that use it."""
    distinct: dict[str, dict[str, Any]] = {}
    for arm, entry in found["arms"].items():
        for stage in entry["stages"]:
            distinct.setdefault(stage["fingerprint"], {**stage, "arms": []})["arms"].append(arm)
    return [{**stage, "time": duration(stage["seconds"])} for stage in distinct.values()]


def duration(seconds: float | None) -> str:
    """Wall time for people."""
    if seconds is None:
        return "time unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """When, on what and with which versions it was measured."""
    names = {"cpu": "Processor", "gpu": "GPU", "cores": "Cores", "memory_gib": "Memory, GiB", "system": "System"}
    hardware = [(names.get(key, key), str(value)) for key, value in found["hardware"].items()]
    seeds = sorted({int(seed) for arm in found["arms"].values() for seed in arm["seeds"]})
    return [
        ("Measured", found["created"].replace("T", " ").replace("Z", " UTC")),
        ("Scale", found["scale"]),
        ("Data", "the recipe's own" if found["data"] == "default" else found["data"]),
        *(
            (f"{what.capitalize()}, {name}", said)
            for what, those in found.get("origins", {}).items()
            for name, said in those.items()
        ),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Wall time of all stages", duration(found["stage_seconds"])),
        *hardware,
        ("Versions", ", ".join(f"{name} {version}" for name, version in found["versions"].items())),
    ]
