"""The coder's models of table rows, made exactly from their integers at first use.

`constriction` takes probabilities as floats, so what it makes of them matters. With `perfect=False` it
computes, from the running sum S(i) of n weights, cdf[i] = floor(S(i) * ((2**24 - n) / S(n))) + i. We give it
the weights F - 1, where F are integers >= 1 that sum to 2**24. Then S(n) is exactly 2**24 - n, the factor is
exactly 1, and cdf[i] is exactly the running sum of F. All of it is addition of integers below 2**24 and one
division of a number by itself, which IEEE 754 does exactly in float32 and float64 on every machine; no other
function is called.

Three models code the symbols of a row, whichever is fastest for how many there are in a call:

- a run: one fixed model for all of them;
- packed: in a long run of a small alphabet, 2, 4 or 8 symbols become one symbol of the product distribution;
- a bundle: symbols of rows that occur too seldom for a call of their own share one with a model per symbol.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

BITS = 24
"""Fixed-point precision of constriction's Python models."""

PACK_LIMIT = 1 << 10
"""Largest alphabet of packed symbols; more search steps would eat the gain."""

MAX_BUNDLED = 64
"""Largest row in a bundle: a model per symbol is searched linearly."""

NARROW = 16
"""Tables whose widest row has at most so many entries need no sorting in small calls: one bundle does."""

BUNDLE = constriction.stream.model.Categorical(perfect=False)
"""The model family of bundles: takes a (K, width) matrix of weights beside K symbols."""


def exact_model(frequencies: NDArray[np.int64]) -> Any:
    """The model with exactly these n >= 2 frequencies, which are >= 1 and sum to 2**24."""
    return constriction.stream.model.Categorical((frequencies - 1).astype(np.float64), perfect=False)


def pack_factor(size: int) -> int:
    """How many symbols of a row of `size` entries are packed into one: 1, 2, 4 or 8."""
    factor = 1
    while factor < 8 and size ** (2 * factor) <= PACK_LIMIT:
        factor *= 2
    return factor


def squared(frequencies: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distribution of two symbols, (n * n,): products >> 24, at least 1; the largest takes the
    rounding."""
    product: NDArray[np.int64] = np.maximum(np.multiply.outer(frequencies, frequencies).ravel() >> BITS, 1)
    product[np.argmax(product)] += (1 << BITS) - product.sum()
    return product


def pack(entries: NDArray[np.int32], size: int, factor: int) -> NDArray[np.int32]:
    """Every `factor` entries 0..size-1 as one number, the first most significant; (K * factor,) to (K,)
    int32."""
    while factor > 1:
        entries, size, factor = entries[0::2] * np.int32(size) + entries[1::2], size * size, factor // 2
    return entries


@cache
def unpacking(size: int, factor: int) -> NDArray[Any]:
    """Packed symbol to its entries: `factor` bytes each, as one unsigned integer of that width to gather."""
    entries = np.stack(np.unravel_index(np.arange(size**factor), (size,) * factor), axis=1).astype(np.uint8)
    return np.ascontiguousarray(entries).view(f"u{factor}").ravel()


class RowModels:
    """Models of the rows of one set of tables, each made when first asked for.

    Attributes:
        widths: columns of each row in a bundle: its size rounded up to a power of two, (rows,) int64.
        widest: the largest of them.
        factors: how many symbols of each row are packed into one, (rows,) int64.
    """

    def __init__(self, frequencies: NDArray[np.uint32], starts: NDArray[np.int64], precision: int) -> None:
        self._frequencies, self._starts, self._shift = frequencies, starts, BITS - precision
        self.sizes = np.diff(starts)
        self.widths = np.int64(1) << np.frexp(self.sizes - 1)[1].astype(np.int64)
        self.widest = int(self.widths.max())
        factors = {size: pack_factor(size) for size in np.unique(self.sizes).tolist()}
        self.factors = np.array([factors[size] for size in self.sizes.tolist()], np.int64)
        self._runs: dict[int, Any] = {}
        self._packed: dict[int, tuple[Any, NDArray[Any]]] = {}
        self._bundles: dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}

    def _row(self, row: int) -> NDArray[np.int64]:
        return self._frequencies[self._starts[row] : self._starts[row + 1]].astype(np.int64) << self._shift

    def run(self, row: int) -> Any:
        """The model of one row that has at least two entries."""
        model = self._runs.get(row)
        if model is None:
            model = self._runs[row] = exact_model(self._row(row))
        return model

    def packed(self, row: int) -> tuple[Any, NDArray[Any]]:
        """The model of `factors[row]` symbols of a row, and the table that unpacks them."""
        packed = self._packed.get(row)
        if packed is None:
            size, factor, joint = int(self.sizes[row]), int(self.factors[row]), self._row(row)
            for _ in range(factor.bit_length() - 1):
                joint = squared(joint)
            packed = self._packed[row] = exact_model(joint), unpacking(size, factor)
        return packed

    def bundle(self, width: int, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Weights of a bundle of symbols of these rows, which are at most that wide; (K, width) float32.

        Columns beyond a row's size are entries of frequency 1, taken from its largest; they are never coded.
        """
        if width not in self._bundles:
            fitting = np.flatnonzero(self.widths <= width)
            weights = np.zeros((len(fitting), width), np.float32)
            for line, row in zip(weights, fitting.tolist(), strict=True):
                frequencies = self._row(row)
                frequencies[np.argmax(frequencies)] -= width - len(frequencies)
                line[: len(frequencies)] = frequencies - 1
            index = np.zeros(len(self.widths), np.int64)
            index[fitting] = np.arange(len(fitting))
            self._bundles[width] = index, weights
        index, weights = self._bundles[width]
        chosen: NDArray[np.float32] = weights[index[rows]]
        return chosen
