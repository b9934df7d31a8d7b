"""Ways in which files get damaged, or were never what they seem: bytes, places, structures, types of values."""

import copy
import gzip
import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DEEP = 200_000
ODD: list[Any] = [
    None, True, -7, 10**12, 10**400, 0.5, float("nan"), float("inf"), "", "text", "\ud800", "\0", [], ["a"], {},
    {"a": 1},
    [None], [["a", 1]], -0.0, "1_0", "../../etc/hostname", "/etc/hostname",
]  # fmt: skip
HTML = b"<!DOCTYPE html>\n<html><head><title>404</title></head>\n<body>Not\tfound\t1\t2</body></html>\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 17528917\n"

Change = Callable[[bytes, random.Random], bytes]


def position(content: bytes, rng: random.Random) -> int:
    return rng.randrange(len(content)) if content else 0


def flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 20])):
        if changed:
            changed[position(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeroed(content: bytes, rng: random.Random) -> bytes:
    start, size = position(content, rng) // 512 * 512, rng.choice([16, 512, 4096])
    return content[:start] + bytes(len(content[start : start + size])) + content[start + size :]


def noise(content: bytes, rng: random.Random) -> bytes:
    start = position(content, rng)
    return content[:start] + rng.randbytes(rng.choice([1, 8, 300])) + content[start:]


def without_part(content: bytes, rng: random.Random) -> bytes:
    start = position(content, rng)
    return content[:start] + content[start + rng.choice([1, 7, 512]) :]


def repeated(content: bytes, rng: random.Random) -> bytes:
    start = position(content, rng)
    return content[:start] + content[start : start + rng.choice([9, 512, 2048])] + content[start:]


BYTES: dict[str, Change] = {
    "flipped": flipped,
    "zeroed": zeroed,
    "noise": noise,
    "part missing": without_part,
    "part twice": repeated,
    "cut": lambda content, rng: content[: position(content, rng)],
    "cut at a block": lambda content, rng: content[: position(content, rng) // 512 * 512],
    "empty": lambda content, rng: b"",
    "web page": lambda content, rng: HTML,
    "pointer": lambda content, rng: POINTER,
    "random": lambda content, rng: rng.randbytes(rng.choice([1, 100, 5000])),
    "garbage behind": lambda content, rng: content + rng.randbytes(40),
    "twice": lambda content, rng: content + content,
}


# text

TEXT: dict[str, Change] = {
    "latin-1": lambda content, rng: at_a_letter(content, rng, "é".encode("latin-1")),
    "windows-1252": lambda content, rng: at_a_letter(content, rng, b"\x92"),
    "utf-16": lambda content, rng: decoded(content).encode("utf-16"),
    "utf-16 without mark": lambda content, rng: decoded(content).encode("utf-16-le"),
    "byte-order mark": lambda content, rng: b"\xef\xbb\xbf" + content,
    "NUL": lambda content, rng: at_a_letter(content, rng, b"\0"),
    "crlf": lambda content, rng: content.replace(b"\n", b"\r\n"),
    "cr": lambda content, rng: content.replace(b"\n", b"\r"),
    "blank lines at the end": lambda content, rng: content + b"\n" * rng.choice([1, 2]),
    "blank line inside": lambda content, rng: content.replace(b"\n", b"\n\n", 1),
    "line separator": lambda content, rng: at_a_letter(content, rng, "\u2028".encode()),
    "lone surrogate": lambda content, rng: at_a_letter(content, rng, b"\xed\xa0\x80"),
}


def decoded(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def at_a_letter(content: bytes, rng: random.Random, what: bytes) -> bytes:
    places = [k for k, byte in enumerate(content) if chr(byte).isalpha()]
    place = rng.choice(places) if places else 0
    return content[:place] + what + content[place:]


def table(content: bytes, rng: random.Random) -> bytes:
    """A field of a table is another, is missing or is one too many."""
    rows = [row.split("\t") for row in decoded(content).split("\n")]
    row = rng.choice(rows[:-1] or rows)
    place = rng.randrange(len(row))
    match rng.randrange(4):
        case 0:
            del row[place]
        case 1:
            row.insert(place, "more")
        case _:
            row[place] = rng.choice(
                [
                    "-7",
                    "1000000000000",
                    "9" * 5000,
                    "nan",
                    "inf",
                    "",
                    " ",
                    "text",
                    "1_0",
                    "２",
                    "2,5",
                    "1e3",
                    "-0",
                    "0x1",
                ]
            )
    return "\n".join("\t".join(row) for row in rows).encode()


# JSON


def values(node: Any) -> list[tuple[Any, Any]]:
    """All places of a value in a structure: container and key."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [place for key in keys for place in [(node, key), *values(node[key])]]


def restructured(content: Any, rng: random.Random) -> Any:
    """A value is missing, repeated or of another type."""
    content = copy.deepcopy(content)
    container, key = rng.choice(values(content))
    match rng.randrange(5):
        case 0:
            del container[key]
        case 1 if isinstance(container, list):
            container.append(container[key])
        case 2 if isinstance(container, dict):
            container[f"{key}x"] = container.pop(key)
        case _:
            container[key] = rng.choice(ODD)
    return content


def json_text(content: Any) -> bytes:
    return json.dumps(content).encode()


def deep(text: str, rng: random.Random) -> str:
    """Brackets in brackets in place of a number or behind a colon."""
    place = rng.choice([k for k, letter in enumerate(text) if letter in ":["] or [0]) + 1
    opened, closed = rng.choice([("[", "]"), ('{"a":', "}")])
    return text[:place] + opened * DEEP + "1" + closed * rng.choice([DEEP, 0]) + "," + text[place:]


def document(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return deep(decoded(content), rng).encode()
    return json_text(rng.choice(ODD) if rng.random() < 0.05 else restructured(json.loads(content), rng))


def json_lines(content: bytes, rng: random.Random) -> bytes:
    rows = content.splitlines()
    place = rng.randrange(len(rows))
    if rng.random() < 0.15:
        rows[place] = deep(rows[place].decode(), rng).encode()
    elif rng.random() < 0.15:
        rows.insert(place, rng.choice([rows[place], json_text(rng.choice(ODD)), b"{", b"\xff\xfe"]))
    else:
        rows[place] = json_text(restructured(json.loads(rows[place]), rng))
    return b"\n".join(rows) + b"\n"


# parquet


def columns(content: bytes, rng: random.Random) -> bytes:
    """A column of another type, with a null, without rows, missing, twice as long; or an odd value in it."""
    found = pq.read_table(io.BytesIO(content))
    place = rng.randrange(found.num_columns)
    name, column = found.column_names[place], found.column(place)
    odd: list[Any] = [None, -7, 10**12, 0.5, float("nan"), "text", "", b"\xff", [1], {"a": 1}, True]
    rows = column.to_pylist()
    match rng.randrange(5):
        case 0:
            found = found.drop_columns([name])
        case 1:
            found = found.slice(0, 0)
        case 2:
            found = found.rename_columns([f"{c}x" if c == name else c for c in found.column_names])
        case 3:
            found = found.set_column(place, name, pa.array([rng.choice(odd)] * len(found)))
        case _:
            rows[rng.randrange(len(rows))] = rng.choice(odd)
            try:
                found = found.set_column(place, name, pa.array(rows))
            except pa.ArrowException:
                found = found.set_column(place, name, pa.array(map(str, rows)))
    target = io.BytesIO()
    pq.write_table(found, target, row_group_size=2)
    return target.getvalue()


def bad_text(content: bytes, rng: random.Random) -> bytes:
    """Strings that are not UTF-8, in a parquet that says they are."""
    found = pq.read_table(io.BytesIO(content))
    for place, name in enumerate(found.column_names):
        if pa.types.is_string(found.column(place).type):
            broken = pa.array([b"caf\xe9"] * len(found), pa.binary()).view(pa.string())
            found = found.set_column(place, name, broken)
    target = io.BytesIO()
    pq.write_table(found, target)
    return target.getvalue()


# tars


def headers(content: bytes) -> list[int]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return [member.offset for member in archive]


def checksummed(content: bytearray, header: int) -> None:
    content[header + 148 : header + 156] = b" " * 8
    content[header + 148 : header + 156] = b"%06o\0 " % sum(content[header : header + 512])


def member(content: bytes, rng: random.Random) -> bytes:
    """A header with a wrong bit, or with an odd field and the right checksum; or members that are missing or odd."""
    changed, header = bytearray(content), rng.choice(headers(content))
    match rng.randrange(6):
        case 0:
            changed[header + rng.randrange(345)] ^= 1 << rng.randrange(7)
        case 1:
            changed[header + 156] = rng.choice(b"0123456789DKLMNSVXgxz\0\xff")
            checksummed(changed, header)
        case 2:
            odd = [b"77777777777\0", b"00000000000\0", b"\xff" * 12, b"\x80" + b"\0" * 3 + b"\x7f" * 8, b"abc\0" * 3]
            changed[header + 124 : header + 136] = rng.choice(odd)
            checksummed(changed, header)
        case 3:
            changed[header : header + 20] = rng.choice(
                [b"\0" * 20, b"\xff" * 20, b"/" * 20, b"../../x.jpg\0\0\0\0\0\0\0\0\0"]
            )
            checksummed(changed, header)
        case 4:
            return content[:header]  # at a member's border
        case _:
            changed[header : header + 512] = bytes(512)  # as the end of the archive looks
    return bytes(changed)


def repacked(content: bytes, rng: random.Random) -> bytes:
    """One member's content is damaged, the tar is whole."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    name = rng.choice(list(files))
    files[name] = rng.choice(changes(name))[1](files[name], rng)
    target = io.BytesIO()
    with tarfile.open(
        fileobj=target, mode="w", format=rng.choice([tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
    ) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


# files


def replaced(path: Path, rng: random.Random) -> str:
    """Something else stands where a file belongs."""
    kind = rng.choice(["gone", "folder", "loop", "pipe", "dangling", "no rights"])
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "pipe":
            os.mkfifo(path)
        case "dangling":
            path.symlink_to(path.parent / "nothing there")
        case "no rights":
            path.write_bytes(b"")
            path.chmod(0)
    return kind


def changes(name: str) -> list[tuple[str, Change]]:
    """Named damages for a file of this name; those of its structure as often as those of its bytes."""
    kind = name.rsplit(".", 1)[-1].lower()
    own: list[tuple[str, Change]] = []
    if kind == "json" and not name.startswith(("mentions/", "documents/")):
        own = [("structure", document)]
    elif kind in ("jsonl", "json"):
        own = [("structure", json_lines)]
    elif kind in ("tsv", "csv", "txt"):
        own = [("field", table)]
    elif kind == "parquet":
        own = [("column", columns), ("column", columns), ("bad text", bad_text)]
    elif kind == "tar":
        own = [("member", member), ("content", repacked)]
    elif kind == "gz":
        inner = name.removesuffix(".gz")
        own = [
            (f"{what} inside", lambda content, rng, change=change: gzip.compress(change(gzip.decompress(content), rng)))
            for what, change in changes(inner)
        ]
    if kind in ("json", "jsonl", "tsv", "csv", "txt", "py"):
        own = [*own * (len(TEXT) + len(BYTES)), *TEXT.items()]
    elif kind in ("tar", "parquet"):
        own = own * (len(BYTES) // 2)
    return [*own, *BYTES.items()]


def damage(folder: Path, rng: random.Random) -> str:
    """Damage one file of a folder; says which and how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kind = rng.choice(sorted({path.suffix for path in files}))
    path = rng.choice([path for path in files if path.suffix == kind])
    name = str(path.relative_to(folder))
    if rng.random() < 0.08:
        return f"{name}: {replaced(path, rng)}"
    what, change = rng.choice(changes(name))
    path.write_bytes(change(path.read_bytes(), rng))
    return f"{name}: {what}"
