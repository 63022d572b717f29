"""Wide rows in two parts: cells of entries of about one probability, and which entry of the cell.

The entries of a row, by falling frequency, are cut into cells of 2**b. A cell is coded under the sum of its
entries' frequencies, which leaves an alphabet short enough to be packed, and the place in the cell as b uniform
bits. What that costs is the divergence of the frequencies from even ones within the cells, and b is the largest
for which it stays below 0.0042 bits a symbol. Sorting brings +x and -x together, so the sign is among these
bits, and so are the long tails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

MOST_UNEVEN = 384
"""Largest sum over entries of (f - mean)**2 / mean in their cells, in units of 2**-16: twice the divergence in
nats, so that 384 is 0.0042 bits, a thousandth of what a symbol of such a row costs."""

NUMBER_BITS = 22
"""Low bits of several symbols are coded as one uniform number of at most so many bits; the coder allows 24."""


@dataclass(frozen=True, slots=True)
class Split:
    """How the entries of a row of n are split.

    Attributes:
        bits: b, 0..15; at 0 a cell is an entry.
        cells: frequencies of the cells, (ceil(n / 2**b),) int64, in the units of the row's.
        entries: the entry of each rank, (cells * 2**b,) int32; a rank beyond the row stands for its last.
        ranks: the rank of each entry, (n,) int32; its high bits are the cell.
    """

    bits: int
    cells: NDArray[np.int64]
    entries: NDArray[np.int32]
    ranks: NDArray[np.int32]


def split(frequencies: NDArray[np.int64]) -> Split:
    """Split a row whose frequencies sum to 2**16."""
    order = np.argsort(-frequencies, kind="stable")  # of equals the first first
    ranked, bits, cells = frequencies[order], 0, frequencies[order]
    while 2 << bits < len(ranked):
        begins = np.arange(0, len(ranked), 2 << bits)
        sums = np.add.reduceat(ranked, begins)
        squares = np.add.reduceat(ranked * ranked, begins)
        if int(((squares << bits + 1) // sums - sums).sum()) > MOST_UNEVEN:
            break
        bits, cells = bits + 1, sums
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order))
    entries = np.full(len(cells) << bits, order[-1], np.int32)
    entries[: len(order)] = order
    return Split(bits, cells, entries, ranks)


def _numbers(bits: int, count: int) -> Iterator[tuple[int, int]]:
    """(how many numbers, low parts in each): all full ones, then what remains."""
    full = NUMBER_BITS // bits
    if count // full:
        yield count // full, full
    if count % full:
        yield 1, count % full


def encode_low(coder: Any, low: NDArray[np.int32], bits: int) -> None:
    """Append low parts, 0..2**bits - 1 each, (N,) int32; in a number the first is the most significant."""
    begin = 0
    for numbers, parts in _numbers(bits, len(low)):
        some = low[begin : begin + numbers * parts]
        packed = some[::parts].copy()
        for place in range(1, parts):
            packed <<= bits
            packed |= some[place::parts]
        coder.encode(packed, constriction.stream.model.Uniform(1 << bits * parts))
        begin += len(some)


def decode_low(coder: Any, bits: int, count: int) -> NDArray[np.int32]:
    """The low parts that `encode_low` took, (count,) int32."""
    low, begin = np.empty(count, np.int32), 0
    for numbers, parts in _numbers(bits, count):
        packed = coder.decode(constriction.stream.model.Uniform(1 << bits * parts), numbers)
        some = low[begin : begin + numbers * parts]
        for place in range(parts):
            np.right_shift(packed, bits * (parts - 1 - place), out=some[place::parts])
        begin += len(some)
    low &= (1 << bits) - 1
    return low
