"""A model's weights on few points, packed with Huffman's code: one safetensors file.

A quantized tensor k has `k.stream` (the code, uint8), `k.marks` (where each block of it begins, bits), `k.lengths` (of
the code words), `k.scale` (alpha and beta of its buckets, float32 [N, 2]) and `k.points` (float32); a tensor that stays
whole is `k.whole`. The metadata have their names, shapes and types.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as schema
from safetensors import SafetensorError, safe_open
from torch import Tensor

from common.errors import UserError
from common.schemas import STRICT, parse
from projects.quantized_distillation.huffman import code_lengths, decode, encode
from projects.quantized_distillation.quantize import Scaled, nearest, quantile_points, scale

FORMAT = "quantized_distillation/1"
"""The one key of the metadata: several come in any order, and two files of one model should be equal."""
TYPES = {str(t).removeprefix("torch."): t for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
STEPS = 30
"""Of learning a tensor's points."""


@schema(config=STRICT, slots=True)
class Entry:
    """A tensor: where it stands, and what it was. `bucket` is 0 for one that stays whole."""

    name: str
    shape: list[int]
    type: str
    bucket: int


ENTRIES = TypeAdapter(list[Entry])


def fit_points(scaled: Scaled, count: int) -> Tensor:
    """Points with a small squared error of the weights, [count]: each is moved to the mean of its own, again and again.

    Weights count by their bucket's alpha^2. It is differentiable quantization with the weights' own error as its loss,
    whose gradient is zero there.
    """
    values = scaled.cut(scaled.values).flatten()
    importance = scaled.cut(scaled.alpha.expand_as(scaled.values)).flatten().double().square()
    points = quantile_points(scaled, count)
    for _ in range(STEPS):
        codes = nearest(values, points)
        total = torch.bincount(codes, importance, count)
        mean = torch.bincount(codes, importance * values, count) / total
        moved = torch.where(total > 0, mean, points.double()).to(points).sort().values
        if torch.equal(moved, points):
            break
        points = moved
    return points


def fits(weights: Tensor) -> bool:
    """Whether weights are finite, and their range too: alpha and beta are float32."""
    low, high = weights.float().aminmax()
    return bool((high - low).isfinite())


def pack(weights: Tensor, points: int, bucket: int, learned: bool) -> dict[str, Tensor]:
    """A tensor's parts by name; on learned points, or on equally spaced ones."""
    scaled = scale(weights.float(), bucket)
    places = fit_points(scaled, points) if learned else torch.linspace(0, 1, points)
    codes = scaled.cut(nearest(scaled.values, places)).flatten().numpy()
    lengths = code_lengths(np.bincount(codes, minlength=points))
    stream, marks = encode(codes, lengths)
    return {
        "stream": torch.from_numpy(stream),
        "marks": torch.from_numpy(marks),
        "lengths": torch.from_numpy(lengths.astype(np.uint8)),
        "scale": torch.cat([scaled.alpha, scaled.beta], 1),
        "points": places,
    }


def unpack(parts: Mapping[str, Tensor], entry: Entry) -> Tensor:
    """The tensor that `pack` has coded.

    Raises:
        ValueError: its parts do not belong together.
    """
    if entry.bucket == 0:
        return parts["whole"]
    count, points, (alpha, beta) = prod(entry.shape), parts["points"], parts["scale"].split(1, 1)
    if min(entry.shape, default=1) < 1 or count > 8 * len(parts["stream"]) or len(points) != len(parts["lengths"]):
        raise ValueError("its code is too short for its shape")
    lengths = parts["lengths"].numpy().astype(np.int64)
    codes = torch.from_numpy(decode(parts["stream"].numpy(), parts["marks"].numpy(), lengths, count))
    size = min(entry.bucket, count)
    if len(alpha) != -(-count // size):
        raise ValueError("it has another number of buckets")
    filled = torch.nn.functional.pad(codes, (0, -count % size)).view(-1, size)
    scaled = Scaled(filled, alpha, beta, torch.Size(entry.shape))
    return scaled.restore(points[filled]).to(TYPES[entry.type])


def contents(
    packed: Mapping[str, Mapping[str, Tensor]], entries: list[Entry]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What a file holds: tensors and metadata. `packed` has the parts of each tensor by its name."""
    tensors = {f"{k}.{part}": v for k, entry in enumerate(entries) for part, v in packed[entry.name].items()}
    return tensors, {FORMAT: json.dumps([asdict(entry) for entry in entries])}


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a packed file, restored; UserError where it is none, or damaged."""
    if not path.is_file():
        raise UserError(f"no packed weights at {path}: correct the path")
    try:
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
            if FORMAT not in metadata:
                raise UserError(f"{path} was not written by `compress pack`: restore takes what that has written")
            entries = parse(ENTRIES, metadata[FORMAT].encode())
            names = list(opened.keys())
            found = {}
            for k, entry in enumerate(entries):
                own = [name for name in names if name.startswith(f"{k}.")]
                found[entry.name] = unpack({name.partition(".")[2]: opened.get_tensor(name) for name in own}, entry)
    except (OSError, SafetensorError, KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{path} is damaged ({reason}): copy it or pack it again") from error
    return found
