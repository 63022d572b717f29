"""The coder's models of table rows, made exactly from their integers at first use.

`constriction` takes probabilities as floats, so what it makes of them matters. With `perfect=False` it
computes, from the running sum S(i) of n weights, cdf[i] = floor(S(i) * ((2**24 - n) / S(n))) + i. We give it
the weights F - 1, where F are integers >= 1 that sum to 2**24. Then S(n) is exactly 2**24 - n, the factor is
exactly 1, and cdf[i] is exactly the running sum of F. All of it is addition of integers below 2**24 and one
division of a number by itself, which IEEE 754 does exactly in float32 and float64 on every machine; no other
function is called.

What the decoder spends is mostly a search in the cumulative table of each number, 8 ns and 2 ns for each
doubling of the alphabet. So the symbols of a row become as few numbers as possible, by how many there are:

- packed: in a long run, up to 8 symbols become one number of the product distribution;
- a run: one fixed model for all symbols of a row;
- a bundle: symbols of rows that occur too seldom for a call of their own share one with a model per symbol.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

BITS = 24
"""Fixed-point precision of constriction's Python models."""

FACTORS = np.array([1, 2, 4, 8])
"""How many symbols are packed into one number."""

PACK_LIMIT = 1 << 13
"""Largest alphabet of packed symbols: beyond, its table leaves the cache and the search eats the gain."""

PACK_FROM = 128
"""From so many symbols on, a run is packed: that costs about 2 us and saves 4 ns each."""

PACK_LEAST = 1 << 7
"""Up to this alphabet any packed run may pack; larger ones must be worth their table."""

PACK_SHARE = 2
"""A run's alphabet has at most one entry for so many symbols of it: building one costs 10 ns an entry."""

MAX_BUNDLED = 64
"""Largest row in a bundle: a model per symbol is searched linearly."""

NARROW = 16
"""Tables whose widest row has at most so many entries need no sorting in small calls: one bundle does."""

MODELS_KEPT = 1 << 21
"""Entries of all packed models of a set of tables that are kept: 8 MB. Beyond, they are made anew."""

UNREST_LIMIT = 4095
"""Largest unrest of a row, in 2**-14 nats, and what that of a quiet block stays below; sixteen of them fit 16 bits."""

BUNDLE = constriction.stream.model.Categorical(perfect=False)
"""The model family of bundles: takes a (K, width) matrix of weights beside K symbols."""


def exact_model(frequencies: NDArray[np.int64]) -> Any:
    """The model with exactly these n >= 2 frequencies, which are >= 1 and sum to 2**24."""
    return constriction.stream.model.Categorical((frequencies - 1).astype(np.float64), perfect=False)


def pack_factors(sizes: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many symbols are packed into one where there are `counts` of rows of `sizes` entries, (M,) int64."""
    limits = np.minimum(np.maximum(counts // PACK_SHARE, PACK_LEAST), PACK_LIMIT)
    limits[(counts < PACK_FROM) | (sizes == 1)] = 0
    pairs = np.minimum(sizes * sizes, PACK_LIMIT + 1)
    fours = np.minimum(pairs * pairs, PACK_LIMIT + 1)
    fitting = (pairs <= limits).astype(np.intp) + (fours <= limits) + (fours * fours <= limits)
    factors: NDArray[np.int64] = FACTORS[fitting]
    return factors


def exact_weights(weights: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weights F - 1 of a bundle for (K, n) integers 0..2**34 with a positive sum in each line, (K, n) float32.

    F = 1 + floor(w * (2**24 - n) / sum); what is missing to 2**24 is added to the largest, of equals the first.
    """
    free = (1 << BITS) - weights.shape[1]
    shares = weights * free // weights.sum(axis=1, keepdims=True)
    shares[np.arange(len(shares)), shares.argmax(axis=1)] += free - shares.sum(axis=1)
    exact: NDArray[np.float32] = shares.astype(np.float32)
    return exact


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
def _unpacking(size: int, factor: int) -> NDArray[Any]:
    """Packed symbol to its entries: `factor` bytes each, as one unsigned integer of that width to gather."""
    entries = np.stack(np.unravel_index(np.arange(size**factor), (size,) * factor), axis=1).astype(np.uint8)
    return np.ascontiguousarray(entries).view(f"u{factor}").ravel()


def unpack(packed: NDArray[np.int32], size: int, factor: int) -> NDArray[np.uint8]:
    """The entries that `pack` took, (K * factor,) uint8, for a factor of 2, 4 or 8."""
    entries: NDArray[np.uint8] = _unpacking(size, factor).take(packed).view(np.uint8)
    return entries


class RowModels:
    """Models of the rows of one set of tables, each made when first asked for.

    Attributes:
        sizes: entries of each row, (rows,) int64.
        widths: columns of each row in a bundle: its size rounded up to a power of two, (rows,) int64.
        widest: the largest of them.
    """

    def __init__(
        self,
        frequencies: NDArray[np.uint32],
        starts: NDArray[np.int64],
        escaped: NDArray[np.bool_],
        precision: int,
    ) -> None:
        self._frequencies, self._starts, self._shift = frequencies, starts, BITS - precision
        self._escaped = escaped
        self.sizes = np.diff(starts)
        self.widths = np.int64(1) << np.frexp(self.sizes - 1)[1].astype(np.int64)
        self.widest = int(self.widths.max())
        self._runs: dict[int, Any] = {}
        self._packed: dict[tuple[int, int], Any] = {}
        self._kept = 0
        self._bundles: dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}

    def row(self, row: int) -> NDArray[np.int64]:
        """The frequencies F of a row, which sum to 2**24."""
        return self._frequencies[self._starts[row] : self._starts[row + 1]].astype(np.int64) << self._shift

    @cached_property
    def calm(self) -> NDArray[np.int64]:
        """The likeliest entry of each row, of equals the first, (rows,) int64."""
        begins = self._starts[:-1]
        largest = np.repeat(np.maximum.reduceat(self._frequencies, begins), self.sizes)
        inside = np.arange(len(largest)) - np.repeat(begins, self.sizes)
        inside[self._frequencies != largest] = len(largest)
        calm: NDArray[np.int64] = np.minimum.reduceat(inside, begins)
        return calm

    @cached_property
    def events(self) -> NDArray[np.int64]:
        """How often, of 2**16 times, a row's symbol is not its likeliest, (rows,) int64."""
        largest: NDArray[np.int64] = self._frequencies[self._starts[:-1] + self.calm].astype(np.int64)
        return (1 << 16) - largest

    @cached_property
    def unrest(self) -> NDArray[np.uint16]:
        """-ln(1 - events / 2**16) in units of 2**-14, rounded up, (rows,) uint16; UNREST_LIMIT if it is more, if the
        row has more than NARROW entries, or if its likeliest is the escape."""
        q = self.events
        nats = q + (q * q >> 17) + q**3 // (3 << 32)
        nats[(self.sizes > NARROW) | (self._escaped & (self.calm == self.sizes - 1))] = 1 << 16
        unrest: NDArray[np.uint16] = np.minimum(-(-nats >> 2), UNREST_LIMIT).astype(np.uint16)
        return unrest

    def run(self, row: int) -> Any:
        """The model of one row that has at least two entries."""
        model = self._runs.get(row)
        if model is None:
            model = self._runs[row] = exact_model(self.row(row))
        return model

    def packed(self, row: int, factor: int) -> Any:
        """The model of numbers of `factor` symbols of a row."""
        model = self._packed.get((row, factor))
        if model is None:
            joint = self.row(row)
            for _ in range(factor.bit_length() - 1):
                joint = squared(joint)
            if self._kept + len(joint) > MODELS_KEPT:
                self._packed, self._kept = {}, 0
            model = self._packed[row, factor] = exact_model(joint)
            self._kept += len(joint)
        return model

    def _padded(self, chosen: NDArray[np.bool_], width: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Where each row's line is, (rows,) int64, and the frequencies F of the chosen rows, which have at most
        `width` entries, zeros behind them, (M, width) int32."""
        sizes = self.sizes[chosen]
        lines = np.zeros((len(sizes), width), np.int32)
        lines[np.arange(width) < sizes[:, None]] = (
            self._frequencies[np.repeat(chosen, self.sizes)] << self._shift
        )
        return np.cumsum(chosen) - 1, lines

    def bundle(self, width: int, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Weights of a bundle of symbols of these rows, which are at most that wide; (K, width) float32.

        Columns beyond a row's size are entries of frequency 1, taken from its largest; they are never coded.
        """
        if width not in self._bundles:
            chosen = self.widths <= width
            index, lines = self._padded(chosen, width)
            lines[np.arange(len(lines)), lines.argmax(axis=1)] -= width - self.sizes[chosen]
            self._bundles[width] = index, (np.maximum(lines, 1) - 1).astype(np.float32)
        index, weights = self._bundles[width]
        bundle: NDArray[np.float32] = weights[index[rows]]
        return bundle

    def events_bundle(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Weights of a bundle of symbols that are not calm, of rows with an unrest of 1..UNREST_LIMIT - 1, (K, NARROW)
        float32."""
        index, weights = self._event_weights
        bundle: NDArray[np.float32] = weights[index[rows]]
        return bundle

    @cached_property
    def _event_weights(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        chosen = (self.unrest > 0) & (self.unrest < UNREST_LIMIT)
        index, lines = self._padded(chosen, NARROW)
        lines[np.arange(len(lines)), self.calm[chosen]] = 0
        return index, exact_weights(lines.astype(np.int64))
