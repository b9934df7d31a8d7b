"""Put the weights of any model on few points and pack them with Huffman's code; and get weights back.

    python -m projects.quantized_distillation.tools.compress pack model.safetensors --bits 4 --out model.q4
    python -m projects.quantized_distillation.tools.compress restore model.q4 --out restored.safetensors

`pack` reads safetensors, or what torch.save has written (.pt, .pth, .bin, .ckpt; no code in it is run). It quantizes
every floating-point tensor of two and more dimensions; vectors (biases, norms and their statistics) stay whole, unless
--vectors is given, and so does what --keep names. Points are learned for each tensor: there being no data, so that the
squared error of the weights is small; or they are equally spaced between the least and the largest weight of a bucket.
It says how large the file was and is, and how far weights have moved. `restore` writes safetensors with the names,
shapes and types of the model, for whatever reads that one.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from common.console import printable
from common.errors import UserError, user_errors
from common.paths import given_path

if TYPE_CHECKING:
    from torch import Tensor

STATISTICS = ("*running_mean", "*running_var")
"""Batch norms': a variance on a few points would divide by zero."""
SHOWN = 12


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.quantized_distillation.tools.compress",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = command.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="quantize and pack a model's weights")
    packing.add_argument("model", type=given_path, help="safetensors, or a file of torch.save")
    packing.add_argument("--bits", type=int, default=4, help="2^bits points for each tensor, 1 to 8 (default: 4)")
    packing.add_argument("--bucket", type=int, default=256, help="weights that are scaled together (default: 256)")
    packing.add_argument("--points", choices=("learned", "uniform"), default="learned", help="default: learned")
    packing.add_argument("--vectors", action="store_true", help="quantize tensors of one dimension too, but statistics")
    packing.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PATTERN",
        help="tensors that stay whole, as 'head.*'; again and again",
    )
    packing.add_argument("--out", type=given_path, required=True, help="the packed file")
    restoring = commands.add_parser("restore", help="weights as safetensors again")
    restoring.add_argument("packed", type=given_path, help="what pack has written")
    restoring.add_argument("--out", type=given_path, required=True, help="a .safetensors file")
    return command


def check(given: argparse.Namespace) -> None:
    """UserError for what cannot be done, before anything is read."""
    source = given.model if given.command == "pack" else given.packed
    if given.out.exists() and source.exists() and given.out.samefile(source):
        raise UserError(f"--out {given.out} is the file that is read: give another one")
    if given.out.is_dir() or not given.out.absolute().parent.is_dir():
        raise UserError(f"--out {given.out}: give a file in a folder that exists")
    if given.command == "restore":
        if given.out.suffix != ".safetensors":
            raise UserError(f"--out {given.out}: weights are written as safetensors, end it so")
        return
    if not 1 <= given.bits <= 8:
        raise UserError(f"--bits {given.bits}: 1 to 8")
    if given.bucket < 2:
        raise UserError(f"--bucket {given.bucket}: at least 2")


def quantized(name: str, value: Tensor, vectors: bool, keep: Sequence[str]) -> bool:
    """Whether a tensor is put on points."""
    if value.numel() == 0 or not value.is_floating_point() or any(fnmatchcase(name, pattern) for pattern in keep):
        return False
    return value.dim() > 1 or (vectors and value.dim() == 1 and not any(fnmatchcase(name, s) for s in STATISTICS))


def pack(given: argparse.Namespace) -> None:
    """Quantize, pack, write, and say what it came to."""
    import torch
    from safetensors.torch import save

    from common.data.files import write_atomic
    from common.training.weights import load_state
    from projects.quantized_distillation.tools import packed

    state = {name: value.detach() for name, value in load_state(given.model).items()}
    if odd := [name for name, value in state.items() if value.layout != torch.strided or value.is_meta]:
        raise UserError(
            f"{given.model}: {odd[0]} holds no plain numbers (it is sparse, or without content): give dense ones"
        )
    if lost := [pattern for pattern in given.keep if not any(fnmatchcase(name, pattern) for name in state)]:
        raise UserError(f"--keep {lost[0]}: no tensor has such a name; the first is {next(iter(state), 'none')}")
    entries, parts, told = [], {}, []
    for name, value in state.items():
        chosen = quantized(name, value, given.vectors, given.keep)
        kind = str(value.dtype).removeprefix("torch.")
        if chosen and kind not in packed.TYPES:
            raise UserError(f"{name} is {kind}, which is not quantized: leave it whole with --keep '{name}'")
        if chosen and not packed.fits(value):
            raise UserError(
                f"{name} has values that are not finite, or too far apart for float32: leave it whole with "
                f"--keep '{name}'"
            )
        entry = packed.Entry(name, list(value.shape), kind, given.bucket if chosen else 0)
        entries.append(entry)
        if not chosen:
            parts[name] = {"whole": value.clone().contiguous()}
            continue
        parts[name] = packed.pack(value, 2**given.bits, given.bucket, given.points == "learned")
        error = (packed.unpack(parts[name], entry).double() - value.double()).abs()
        scale = float(value.double().square().mean().sqrt()) or 1.0
        told.append((name, value.numel(), float(error.square().mean().sqrt()) / scale, float(error.max())))
    if not told:
        raise UserError(
            f"{given.model} has no tensor to quantize, of {len(state)}: taken are floating-point numbers in two "
            "and more dimensions that --keep does not name, and with --vectors in one"
        )
    content = save(*packed.contents(parts, entries))
    write_atomic(given.out, content)
    tell(told, state, given.model.stat().st_size, len(content), given.out)


def tell(
    told: list[tuple[str, int, float, float]], state: dict[str, Tensor], before: int, after: int, out: Path
) -> None:
    """The tensors with the largest errors, and the sizes."""
    told.sort(key=lambda row: -row[2])
    print(f"{'RMS error / RMS':>16}{'largest error':>16}{'weights':>12}  tensor")
    for name, count, relative, largest in told[:SHOWN]:
        print(f"{relative:16.4f}{largest:16.4g}{count:12,}  {printable(name)}")
    if len(told) > SHOWN:
        print(f"... and {len(told) - SHOWN} more with smaller errors")
    weights = sum(row[1] for row in told)
    print(f"{weights:,} weights in {len(told)} tensors quantized, {len(state) - len(told)} tensors whole")
    print(f"{before:,} bytes before, {after:,} after: {before / after:.1f} times smaller; wrote {printable(out)}")


def restore(given: argparse.Namespace) -> None:
    from safetensors.torch import save

    from common.data.files import write_atomic
    from projects.quantized_distillation.tools import packed

    state = packed.read(given.packed)
    write_atomic(given.out, save(state, {"format": "pt"}))
    print(f"wrote {printable(given.out)}: {len(state)} tensors")


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    given = parser().parse_args(arguments)
    check(given)
    (pack if given.command == "pack" else restore)(given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
