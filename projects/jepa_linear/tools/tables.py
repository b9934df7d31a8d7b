"""Tables of numbers as people have them: CSV with or without names, or NumPy's own files."""

import csv
from pathlib import Path

import numpy as np

from common.console import printable
from common.data.files import is_file, lines_of, readable, shown
from common.errors import UserError
from projects.jepa_linear.theory import Array

SEPARATORS = (",", ";", "\t", " ")


def read_table(path: Path) -> tuple[Array, list[str]]:
    """Numbers [rows, columns] and the columns' names; `x1`, `x2`, ... where the file has none.

    Raises:
        UserError: no such file, no numbers, rows of different lengths, or a value that is not finite; with its line.
    """
    if path.suffix.lower() == ".npy":
        table = _numpy(path)
        return table, [f"x{k + 1}" for k in range(table.shape[1])]
    lines = [(number, line) for number, line in enumerate(lines_of(path), start=1) if line.strip()]
    if not lines:
        raise UserError(f"{printable(path)} is empty")
    separator = max(SEPARATORS, key=lambda one: (lines[-1][1].strip().count(one) > 0, -SEPARATORS.index(one)))
    cells = [(number, [cell.strip() for cell in _cells(line.strip(), separator)]) for number, line in lines]
    names = [f"x{k + 1}" for k in range(len(cells[0][1]))]
    if not any(_number(cell) is not None for cell in cells[0][1]):
        names = cells.pop(0)[1]
    rows = [_row(path, number, row, len(names)) for number, row in cells]
    if not rows:
        raise UserError(f"{printable(path)} has a line of names and no numbers")
    return np.array(rows), names


def covariances(inputs: Array, targets: Array) -> tuple[Array, Array]:
    """E[x x^T] and E[y x^T] of centred samples [N, D]."""
    x, y = inputs - inputs.mean(0), targets - targets.mean(0)
    return x.T @ x / len(x), y.T @ x / len(x)


def _cells(line: str, separator: str) -> list[str]:
    return line.split() if separator == " " else next(csv.reader([line], delimiter=separator))


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _row(path: Path, number: int, cells: list[str], width: int) -> list[float]:
    if len(cells) != width:
        raise UserError(f"{printable(path)}, line {number}: {len(cells)} values, {width} in the line before it")
    values = []
    for place, cell in enumerate(cells, start=1):
        value = _number(cell)
        if value is None or not np.isfinite(value):
            said = "is empty" if not cell else f"is {shown(cell, 40)}, no finite number"
            raise UserError(f"{printable(path)}, line {number}: value {place} {said}")
        values.append(value)
    return values


def _numpy(path: Path) -> Array:
    if not is_file(path):
        raise UserError(f"{printable(path)} is missing")
    try:
        with readable(path):
            table = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{printable(path)} is no array of numbers: {error}") from error
    if table.ndim != 2 or not table.size or table.dtype.kind not in "fiu" or not np.isfinite(table).all():
        raise UserError(
            f"{printable(path)} holds {table.dtype} of shape {table.shape}: a table of finite numbers is needed, a row "
            "for each sample"
        )
    return table.astype(np.float64)
