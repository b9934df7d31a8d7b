"""Huffman's code for the numbers of quantization points: lengths, what they cost, and the bits themselves.

Codes are canonical: of one length they are successive numbers, in the order of the symbols. So lengths say all, and the
code word of a position is found by comparing the next bits with the first code of each symbol. A stream is decoded in
blocks side by side, so that NumPy does the work.
"""

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096
"""Symbols between two marks in a stream."""
LONGEST = 56
"""Bits of a code word at most: more need 10^11 symbols."""

Array = NDArray[Any]


def code_lengths(frequencies: Array) -> Array:
    """Length of each symbol's code word, int64 [S]; 0 for symbols that do not occur. A lone symbol has 1 bit."""
    heap = [(float(f), k, [k]) for k, f in enumerate(frequencies) if f > 0]
    lengths = np.zeros(len(frequencies), np.int64)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (f, k, one), (g, _, other) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[one + other] += 1
        heapq.heappush(heap, (f + g, k, one + other))
    return lengths


def mean_bits(frequencies: Array) -> float:
    """Bits per symbol."""
    return float((np.asarray(frequencies, np.float64) * code_lengths(frequencies)).sum() / np.sum(frequencies))


def code_words(lengths: Array) -> tuple[Array, Array]:
    """Symbols in the order of their code words, and the words, at the upper end of 64 bits: uint64."""
    order = np.lexsort((np.arange(len(lengths)), lengths))
    order = order[lengths[order] > 0]
    words, word = np.zeros(len(order), np.uint64), 0
    for k, symbol in enumerate(order):
        words[k] = word
        word += 1 << (64 - int(lengths[symbol]))
    return order, words


def encode(symbols: Array, lengths: Array) -> tuple[Array, Array]:
    """Symbols [n] -> the stream, uint8, and where each block of it begins, in bits, int64."""
    order, words = code_words(lengths)
    by_symbol = np.zeros(len(lengths), np.uint64)
    by_symbol[order] = words
    sizes = lengths[symbols]
    starts = np.cumsum(sizes) - sizes
    bits = np.zeros(int(sizes.sum()), np.uint8)
    for b in range(int(lengths.max(initial=0))):
        long = np.flatnonzero(sizes > b)
        bits[starts[long] + b] = (by_symbol[symbols[long]] >> np.uint64(63 - b)) & np.uint64(1)
    return np.packbits(bits), starts[::BLOCK].copy()


def decode(stream: Array, marks: Array, lengths: Array, count: int) -> Array:
    """The `count` symbols of a stream, int64.

    Raises:
        ValueError: marks, lengths and stream do not belong together.
    """
    blocks, used = -(-count // BLOCK), [int(length) for length in lengths if length]
    taken = sum(1 << (LONGEST - length) for length in used) if max(used, default=LONGEST + 1) <= LONGEST else 0
    if len(marks) != blocks or taken != 1 << (LONGEST if len(used) > 1 else LONGEST - 1):
        raise ValueError("not a Huffman code of that many symbols")
    order, words = code_words(lengths)
    padded = np.concatenate([stream, np.zeros(8, np.uint8)])
    places = np.asarray(marks, np.int64).copy()
    found = np.zeros((blocks, BLOCK), np.int64)
    shifts = np.arange(56, -1, -8, dtype=np.uint64)
    for step in range(min(BLOCK, count)):
        live = slice(None) if step < count - (blocks - 1) * BLOCK else slice(0, blocks - 1)
        at = places[live]
        if len(at) and (at.min() < 0 or at.max() >= 8 * len(stream)):
            raise ValueError("the stream ends too early")
        window = (padded[(at // 8)[:, None] + np.arange(8)].astype(np.uint64) << shifts).sum(1, dtype=np.uint64)
        window <<= (at % 8).astype(np.uint64)
        symbols = order[np.searchsorted(words, window, side="right") - 1]
        found[live, step] = symbols
        places[live] = at + lengths[symbols]
    return found.flatten()[:count]
