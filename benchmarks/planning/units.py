"""Numbers for people: a prefix and three digits."""

SIZES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float, unit: str = "") -> str:
    """Three digits and a prefix: `5.74 M`, `77.5 GFLOP`."""
    size, prefix = next(((size, prefix) for size, prefix in SIZES if abs(value) >= size), (1.0, ""))
    number = value / size
    digits = 0 if number >= 100 or number == round(number) else 1 if number >= 10 else 2
    return f"{number:.{digits}f} {prefix}{unit}".rstrip()


def duration(seconds: float) -> str:
    """`12 ms`, `40 s`, `25 min`, `3.4 h`, `12 days`."""
    for size, unit in ((86400 * 4, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            value = seconds / (86400 if unit == "days" else size)
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{seconds * 1e3:.3g} ms"
