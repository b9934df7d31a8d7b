"""Tables of numbers as people have them: CSV with or without names, or NumPy's own files."""

import csv
from array import array
from math import isfinite
from pathlib import Path

import numpy as np

from common.console import printable
from common.data.files import is_file, lines_of, readable, reason, shown
from common.errors import UserError
from projects.jepa_linear.theory import Array

SEPARATORS = (";", "\t", ",", " ")  # with the first two a comma may be a decimal one


def read_table(path: Path) -> tuple[Array, list[str]]:
    """Numbers [rows, columns] and the columns' names; `x1`, `x2`, ... where the file has none.

    A first column without a name among names holds labels of the rows, as pandas and R write them: it is left out.

    Raises:
        UserError: no such file, no numbers, rows of different lengths, or a value that is not finite; with its line.
    """
    if path.suffix.lower() == ".npy":
        table = _numpy(path)
        return table, [f"x{k + 1}" for k in range(table.shape[1])]
    lines = [(number, line) for number, line in enumerate(lines_of(path), start=1) if line.strip()]
    if not lines:
        raise UserError(f"{printable(path)} is empty")
    separator = _separator(lines[-1][1]) or _separator(lines[0][1]) or ","
    names, labels = _cells(path, *lines[0], separator), 0
    if any(_number(cell, separator) is not None for cell in names):
        names = [f"x{k + 1}" for k in range(len(names))]
    else:
        del lines[0]
        names[0] = names[0].lstrip("# ")  # as np.savetxt begins them
        labels = int(len(names) > 1 and not names[0])
    values = array("d")
    for number, line in lines:
        values.extend(_row(path, number, line, separator, len(names), labels))
    if not values:
        raise UserError(f"{printable(path)} has a line of names and no numbers")
    return np.array(values).reshape(len(lines), -1), names[labels:]


def covariances(inputs: Array, targets: Array) -> tuple[Array, Array]:
    """E[x x^T] and E[y x^T] of centred samples [N, D]."""
    x, y = inputs - inputs.mean(0), targets - targets.mean(0)
    return x.T @ x / len(x), y.T @ x / len(x)


def _separator(line: str) -> str | None:
    return next((one for one in SEPARATORS if one in line.strip(" ")), None)


def _cells(path: Path, number: int, line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    except csv.Error as error:
        raise UserError(f"{printable(path)}, line {number}: no line of a table ({error})") from error


def _number(cell: str, separator: str) -> float | None:
    try:
        return float(cell.replace(",", ".") if separator in ";\t" else cell)
    except ValueError:
        return None


def _row(path: Path, number: int, line: str, separator: str, width: int, labels: int) -> list[float]:
    """The numbers of a line behind its labels; plain ones without looking at each cell, for tables may be long."""
    try:
        plain = [float(cell) for cell in line.split(None if separator == " " else separator)[labels:]]
        if len(plain) == width - labels and isfinite(sum(plain)):
            return plain
    except ValueError:
        pass
    cells, values = _cells(path, number, line, separator), []
    if len(cells) != width:
        raise UserError(f"{printable(path)}, line {number}: {len(cells)} values, {width} in the line before it")
    for place, cell in enumerate(cells[labels:], start=labels + 1):
        value = _number(cell, separator)
        if value is None or not isfinite(value):
            said = "is empty" if not cell else f"is {shown(cell, 40)}, no finite number"
            raise UserError(f"{printable(path)}, line {number}: value {place} {said}")
        values.append(value)
    return values


def _numpy(path: Path) -> Array:
    if not is_file(path):
        raise UserError(f"{printable(path)} is missing")
    try:
        with readable(path), open(path, "rb") as file:
            table = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{printable(path)} is no array of numbers ({reason(error)}); np.save writes one") from error
    if table.ndim != 2 or not table.size or table.dtype.kind not in "fiu" or not np.isfinite(table).all():
        raise UserError(
            f"{printable(path)} holds {table.dtype} of shape {table.shape}: a table of finite numbers is needed, a row "
            "for each sample"
        )
    return table.astype(np.float64)
