"""How a symbol outside its row is coded: an escape in the row, then its distance as an Elias-gamma number.

The distance is folded with its side into one number u >= 0, and u + 1 is sent as its bit length (one fixed
integer table) and the bits below its leading one (uniform). All int32 symbols fit: u + 1 < 2**33.
"""

from __future__ import annotations

from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from layercast.entropy.models import exact_model
from layercast.errors import CorruptError

_LENGTHS = 33
_LENGTH_FREQUENCIES = np.maximum(1, (1 << 15) >> np.arange(_LENGTHS))
"""P(length k) = 2**-(k + 1) in units of 2**-16, at least 1; the first takes what is missing. Normative."""
_LENGTH_FREQUENCIES[0] -= int(_LENGTH_FREQUENCIES.sum()) - (1 << 16)
_LENGTH_MODEL = exact_model(_LENGTH_FREQUENCIES << 8)
_UNIFORM = constriction.stream.model.Uniform()
_HALF = 16
"""Bits below the leading one go in two parts of at most 16 bits: the coder's alphabets end at 2**24."""


def fold(
    symbols: NDArray[np.int32], offsets: NDArray[np.int32], limits: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Distance to the row [offset, limit) and side, as one number: even above, odd below; (K,) int64 >= 0."""
    above = symbols.astype(np.int64) - limits
    return np.where(above >= 0, 2 * above, 2 * (offsets.astype(np.int64) - 1 - symbols) + 1)


def unfold(
    folded: NDArray[np.int64], offsets: NDArray[np.int32], limits: NDArray[np.int32]
) -> NDArray[np.int32]:
    """The symbols that `fold` took, (K,) int32.

    Raises:
        CorruptError: a symbol beyond int32.
    """
    distance = folded >> 1
    symbols = np.where(
        folded & 1, offsets.astype(np.int64) - 1 - distance, limits.astype(np.int64) + distance
    )
    if len(symbols) and (symbols.min() < -(1 << 31) or symbols.max() > (1 << 31) - 1):
        raise CorruptError("an escaped symbol lies beyond int32")
    return symbols.astype(np.int32)


def _lengths(folded: NDArray[np.int64]) -> NDArray[np.int32]:
    """floor(log2(u + 1)), exact: below 2**53 float64 holds u + 1 and frexp only reads its exponent."""
    return (np.frexp((folded + 1).astype(np.float64))[1] - 1).astype(np.int32)


def encode(coder: Any, folded: NDArray[np.int64]) -> None:
    """Append K folded numbers to a range encoder."""
    lengths = _lengths(folded)
    below = folded + 1 - (np.int64(1) << lengths.astype(np.int64))
    coder.encode(lengths, _LENGTH_MODEL)
    for some, sizes, shift in _parts(lengths):
        coder.encode(((below[some] >> shift) & 0xFFFF).astype(np.int32), _UNIFORM, sizes)


def decode(coder: Any, count: int) -> NDArray[np.int64]:
    """Take `count` folded numbers from a range decoder, (count,) int64."""
    lengths = coder.decode(_LENGTH_MODEL, count)
    folded = (np.int64(1) << lengths.astype(np.int64)) - 1
    for some, sizes, shift in _parts(lengths):
        folded[some] += coder.decode(_UNIFORM, sizes).astype(np.int64) << shift
    return np.asarray(folded, np.int64)


def _parts(lengths: NDArray[np.int32]) -> list[tuple[NDArray[np.intp], NDArray[np.int32], int]]:
    """Which numbers have low and high bits, how many values these take, and where they stand."""
    low, high = np.flatnonzero(lengths), np.flatnonzero(lengths > _HALF)
    one = np.int32(1)
    parts = [(low, one << np.minimum(lengths[low], _HALF), 0), (high, one << (lengths[high] - _HALF), _HALF)]
    return [part for part in parts if len(part[0])]


def cost_bits(folded: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ideal code length of folded numbers in bits, (K,) float64, without the escape entry itself."""
    lengths = _lengths(folded)
    return np.asarray(16 - np.log2(_LENGTH_FREQUENCIES[lengths]) + lengths, np.float64)
