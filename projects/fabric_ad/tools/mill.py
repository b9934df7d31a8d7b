"""Find faults in one's own cloth: learn what it looks like without any, then look through pictures.

    python -m projects.fabric_ad.tools.mill fit good/ --out denim.safetensors
    python -m projects.fabric_ad.tools.mill inspect today/ --model denim.safetensors --csv scores.csv --maps maps/

`fit` wants pictures of one kind of cloth without faults, taken as those that will be looked through: the same camera,
distance and light. Thirty are a start, some hundred are better. A fifth of them is held out: it says how high scores
of good cloth are, and the threshold is put so that at most --false-alarms of it lie above. Faults painted onto held-out
pictures then show what will be found and what will not.

`inspect` gives every picture a score, and says where the score lies above the threshold. --csv writes a line for each:
file, score, threshold, faulty (1 or 0), x, y, width and height of the box around the strongest fault in pixels of the
picture, and share, the part of the picture above the threshold. --maps writes each picture with its map laid over it.
A picture that cannot be read is said and passed over.

Pictures are cut into tiles of --tile pixels after being scaled by --scale: a fault should be larger than some five
pixels then, and a tile should show several repeats of the pattern.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import csv
import io
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from common.console import printable
from common.data.files import write_atomic
from common.data.pictures import picture_files, read_picture
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path

if TYPE_CHECKING:
    from projects.fabric_ad.tools.detector import Detector

FEWEST = 5  # pictures to learn from
HELD_OUT = 0.2
COLUMNS = ("file", "score", "threshold", "faulty", "x", "y", "width", "height", "share")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.fabric_ad.tools.mill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = command.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="learn what cloth without faults looks like")
    fit.add_argument("pictures", type=Path, nargs="+", help="pictures without faults, or folders of them")
    fit.add_argument("--out", type=given_path, required=True, help="the detector, a .safetensors file")
    fit.add_argument("--tile", type=int, default=256, help="side of the tiles, a multiple of 32 (default: 256)")
    fit.add_argument("--scale", type=float, default=1.0, help="scale pictures by this first (default: 1)")
    fit.add_argument("--steps", type=int, default=1000, help="of training (default: 1000; a GPU takes a minute)")
    fit.add_argument("--batch", type=int, default=4, help="tiles a step (default: 4)")
    fit.add_argument("--lr", type=float, default=5e-3, help="highest learning rate (default: 0.005)")
    fit.add_argument(
        "--false-alarms",
        type=float,
        default=0.01,
        help="share of good pictures that may be called faulty (default: 0.01)",
    )
    fit.add_argument(
        "--general", action="store_true", help="without residual links: several fabrics at once, or others later"
    )
    fit.add_argument("--teacher", default="resnet34.a1_in1k", help="a ResNet of timm (default: resnet34.a1_in1k)")
    fit.add_argument(
        "--teacher-weights", type=given_path, help="in its place weights.safetensors of this recipe's teacher stage"
    )
    fit.add_argument("--seed", type=int, default=0, help="default: 0")
    device_option(fit)
    look = commands.add_parser("inspect", help="find faults in pictures")
    look.add_argument("pictures", type=Path, nargs="+", help="pictures, or folders of them")
    look.add_argument("--model", type=given_path, required=True, help="what fit has written")
    look.add_argument("--csv", type=given_path, help="the scores, a line for each picture")
    look.add_argument("--maps", type=given_path, help="folder for pictures with their maps")
    look.add_argument("--threshold", type=float, help="in place of the detector's own")
    device_option(look)
    return command


def check_fit(given: argparse.Namespace) -> None:
    """UserError for what cannot be done, before anything is read."""
    if given.tile < 64 or given.tile % 32:
        raise UserError(f"--tile {given.tile}: a multiple of 32, at least 64")
    if not (0 < given.scale <= 16) or not (0 < given.lr < 1):
        raise UserError(f"--scale {given.scale:g}, --lr {given.lr:g}: above 0; at most 16, less than 1")
    if given.steps < 1 or given.batch < 2:
        raise UserError(f"--steps {given.steps}, --batch {given.batch}: at least 1 and 2")
    if not 0 <= given.false_alarms < 1:
        raise UserError(f"--false-alarms {given.false_alarms:g}: a share from 0 to less than 1")
    if not 0 <= given.seed < 2**32:
        raise UserError(f"--seed {given.seed}: from 0 to {2**32 - 1}")
    check_file("--out", given.out, ".safetensors")


def check_file(option: str, file: Path, ending: str) -> None:
    if file.suffix.lower() != ending:
        raise UserError(f"{option} {printable(file)}: the name must end in {ending}")
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise UserError(f"{option} {printable(file)}: give a file in a folder that exists")


def threshold_of(scores: Sequence[float], false_alarms: float) -> float:
    """The least score such that at most this share of the given ones lies above it."""
    ordered = sorted(scores)
    return ordered[len(ordered) - 1 - math.floor(false_alarms * len(ordered))]


def fit(given: argparse.Namespace) -> None:
    """Train, choose the threshold, say what painted faults it finds, write."""
    check_fit(given)
    files = picture_files(given.pictures)
    if len(files) < FEWEST:
        raise UserError(f"{len(files)} pictures: at least {FEWEST} are needed, some hundred are better")
    from projects.fabric_ad.defects import FAULTS, spoil
    from projects.fabric_ad.tools.detector import SMALL, Settings, new

    device = device_of(given.device)
    name = SMALL if given.teacher_weights else given.teacher
    settings = Settings(name, not given.general, given.tile, given.scale)
    detector = new(settings, given.teacher_weights, given.seed).to(device)
    images = [detector.scaled(read_picture(file), printable(file)) for file in files]
    order = np.random.default_rng(given.seed).permutation(len(images))
    held = max(1, round(HELD_OUT * len(images)))
    kept, rest = [images[k] for k in order[:held]], [images[k] for k in order[held:]]
    print(f"{len(rest)} pictures to learn from, {held} held out; {device}", flush=True)

    def tell(step: int, loss: float) -> None:
        print(f"step {step} of {given.steps}: loss {loss:.4f}", flush=True)

    detector.fit(rest, given.steps, given.lr, given.batch, given.seed, tell)
    scores = [float(detector.map(image).max()) for image in kept]
    settings.threshold = threshold_of(scores, given.false_alarms)
    above = sum(score > settings.threshold for score in scores)
    print(f"threshold {settings.threshold:.4g}: {above} of {held} held-out pictures lie above it")
    if held * given.false_alarms < 1:
        print(
            f"  (so few cannot show a share of {given.false_alarms:g}: of new good pictures about 1 in {held + 1} will)"
        )
    for fault in FAULTS:
        rng = np.random.default_rng(given.seed)
        found = sum(float(detector.map(spoil(image, fault, rng)[0]).max()) > settings.threshold for image in kept)
        print(f"painted {fault.replace('_', ' ')}: found on {found} of {held}", flush=True)
    detector.write(given.out)
    print(f"wrote {printable(given.out)}")


def inspect(given: argparse.Namespace) -> None:
    """Score every picture, say which are faulty, write what is asked for."""
    if given.csv:
        check_file("--csv", given.csv, ".csv")
    if given.threshold is not None and not math.isfinite(given.threshold):
        raise UserError(f"--threshold {given.threshold}: a number is needed")
    files = picture_files(given.pictures)
    targets = map_files(given.maps, files) if given.maps else {}
    from projects.fabric_ad.tools.detector import read

    detector = read(given.model).to(device_of(given.device))
    threshold = detector.settings.threshold if given.threshold is None else given.threshold
    rows, failed, seconds = [], 0, 0.0
    for file in files:
        try:
            image = read_picture(file)
            began = time.perf_counter()
            row, drawn = look(detector, image, file, threshold, file in targets)
            seconds += time.perf_counter() - began
        except UserError as error:
            if len(files) == 1:
                raise
            failed += 1
            print(f"passed over: {error}", file=sys.stderr, flush=True)
            continue
        rows.append(row)
        if row["faulty"]:
            print(f"{printable(file)}: fault, score {row['score']} at {row['x']},{row['y']}", flush=True)
        if drawn is not None:
            content = io.BytesIO()
            Image.fromarray(drawn).save(content, "PNG")
            write_atomic(targets[file], content.getvalue())
    faulty = sum(int(row["faulty"]) for row in rows)
    each = f", {1000 * seconds / len(rows):.0f} ms each" if rows else ""
    print(f"{faulty} of {len(rows)} pictures have faults (scores above {threshold:.4g}){each}")
    if given.csv:
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_atomic(given.csv, text.getvalue().encode(errors="surrogateescape"))
        print(f"wrote {printable(given.csv)}")
    if failed:
        raise UserError(f"{failed} of {len(files)} pictures were passed over")


def map_files(folder: Path, files: Sequence[Path]) -> dict[Path, Path]:
    """Where each picture's map is written; UserError where two have one name, or a picture would be lost."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--maps {printable(folder)} is a file: give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, Path] = {}
    for file in files:
        if (first := names.setdefault(file.stem, file)) is not file:
            raise UserError(f"{printable(first)} and {printable(file)} would have one map: look at them one by one")
        target = folder / f"{file.stem}.png"
        if target.exists() and file.exists() and target.samefile(file):
            raise UserError(f"--maps {printable(folder)}: {printable(file)} itself would be lost; give another folder")
    return {file: folder / f"{stem}.png" for stem, file in names.items()}


def look(
    detector: Detector, image: np.ndarray, file: Path, threshold: float, drawn: bool
) -> tuple[dict[str, object], np.ndarray | None]:
    """A picture's line of the table, and, if asked for, the picture under its map, uint8 [h, w, 3]."""
    from scipy.ndimage import find_objects, label

    scaled = detector.scaled(image, printable(file))
    found = detector.map(scaled)
    score, scale = float(found.max()), detector.settings.scale
    row: dict[str, object] = dict.fromkeys(COLUMNS, "")
    row |= {
        "file": str(file),
        "score": f"{score:.6g}",
        "threshold": f"{threshold:.6g}",
        "faulty": int(score > threshold),
    }
    row["share"] = f"{float((found > threshold).mean()):.6g}"
    if score > threshold:
        regions, _ = label(found > threshold)
        rows, columns = find_objects(regions)[regions[np.unravel_index(found.argmax(), found.shape)] - 1]
        corners = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        row |= dict(zip(("x", "y", "width", "height"), (round(n / scale) for n in corners), strict=True))
    if not drawn:
        return row, None
    share = (found / (2 * threshold) if threshold > 0 else found / max(score, 1e-12)).clip(0, 1)[..., None]
    laid = scaled * (1 - 0.7 * share) + np.array((255, 40, 40)) * 0.7 * share
    return row, (laid + 0.5).astype(np.uint8)


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    given = parser().parse_args(arguments)
    (fit if given.command == "fit" else inspect)(given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
