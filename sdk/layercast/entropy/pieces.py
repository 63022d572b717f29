"""A piece: symbols grouped by table row, and how each group is coded.

Both sides work out the same groups from the rows alone. In coding order a piece holds the packed parts of long
runs, then the runs that are coded symbol by symbol, then bundles, then symbols of certain rows, which are not
coded; the distances of escapes follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.entropy import escapes
from layercast.entropy.models import BUNDLE, MAX_BUNDLED, NARROW, RowModels, pack, pack_factors, unpack
from layercast.entropy.tables import CdfTables
from layercast.errors import CorruptError

RUN_FROM = 24
"""Fewer symbols of a row are bundled: a run costs about 1 us, a bundled symbol 20 to 50 ns more."""

AS_GIVEN_BELOW = 2048
"""So few symbols are not sorted if their tables are narrow: sorting costs 25 us and gains less."""


class Piece:
    """Symbols by row, and by position within a row, and what the coder is called with.

    Attributes:
        order: positions of the symbols by row, (N,) int64, or a slice of all.
        rows: the rows that occur, ascending, (M,) integers.
        counts: how many symbols each has, (M,) int64.
        packed: (size of the rows, symbols in a number, [(row, where its symbols begin, numbers)]), one item for all
            runs packed alike.
        runs: (row, begin, end) of what is coded symbol by symbol.
        bundles: (columns, where the symbols are (K,), row of each (K,)), narrow ones first.
    """

    __slots__ = ("bundles", "counts", "order", "packed", "rows", "runs", "size")

    def __init__(self, rows: NDArray[Any], tables: CdfTables) -> None:
        self.size = len(rows)
        self.packed: list[tuple[int, int, list[tuple[int, int, int]]]] = []
        self.runs: list[tuple[int, int, int]] = []
        self.bundles: list[tuple[int, NDArray[np.int64], NDArray[Any]]] = []
        if tables.models.widest <= NARROW and len(rows) < AS_GIVEN_BELOW:
            self._take_as_given(rows, tables.models)
        elif len(rows):
            self._group(rows, tables)

    def _take_as_given(self, rows: NDArray[Any], models: RowModels) -> None:
        """Few symbols under narrow tables: every symbol is a group of its own, and all go into one bundle."""
        self.order: NDArray[np.int64] | slice = slice(None)
        self.rows: NDArray[Any] = rows
        self.counts: NDArray[np.int64] = np.ones(len(rows), np.int64)
        if len(at := np.flatnonzero(models.widths[rows] > 1)):
            self.bundles.append((models.widest, at, rows[at]))

    def _group(self, rows: NDArray[Any], tables: CdfTables) -> None:
        models = tables.models
        keys = rows.astype(np.uint16 if len(tables) > 256 else np.uint8, copy=False)
        self.order = np.argsort(keys, kind="stable")
        keys = keys.take(self.order)
        steps = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        bounds = np.concatenate((np.zeros(1, np.int64), steps, np.full(1, len(keys))))
        begins = bounds[:-1]
        self.rows, self.counts = keys[begins], np.diff(bounds)
        widths = models.widths[self.rows]

        factors = pack_factors(models.sizes[self.rows], self.counts)
        taken = self.counts // factors * factors * (factors > 1)
        if len(long := np.flatnonzero(taken)):
            self._pack(long, factors[long], begins[long], models)
        left = (self.counts - taken) * (widths > 1)
        begins = begins + taken
        bundled = (left < RUN_FROM) & (widths <= MAX_BUNDLED) & (left > 0)
        alone = np.flatnonzero((left > 0) & ~bundled)
        columns = (self.rows[alone], begins[alone], begins[alone] + left[alone])
        self.runs = list(zip(*(column.tolist() for column in columns), strict=True))
        for width in sorted(set(widths[bundled].tolist())):
            some = np.flatnonzero(bundled & (widths == width))
            sizes = left[some]
            at = np.repeat(begins[some] - np.cumsum(sizes) + sizes, sizes)
            at += np.arange(len(at))
            self.bundles.append((width, at, np.repeat(self.rows[some], sizes)))

    def _pack(
        self, long: NDArray[np.intp], factors: NDArray[np.int64], begins: NDArray[np.int64], models: RowModels
    ) -> None:
        """List the packed parts of the rows at `long`, of which so many symbols are packed into one."""
        sizes = models.sizes[self.rows[long]]
        kinds = (factors << 32) + sizes
        alike = np.argsort(kinds, kind="stable")
        columns = (self.rows[long], begins, self.counts[long] // factors)
        runs = list(zip(*(column[alike].tolist() for column in columns), strict=True))
        kinds, begin = kinds[alike], 0
        for end in [*(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(runs)]:
            of = alike[begin]
            self.packed.append((int(sizes[of]), int(factors[of]), runs[begin:end]))
            begin = end

    def encode(self, coder: Any, symbols: NDArray[np.int32], tables: CdfTables) -> None:
        """Append the piece's symbols, given in their original order.

        Raises:
            CodecError: a symbol outside a row that has no escape.
        """
        if not self.size:
            return
        models = tables.models
        entries, folded = tables.entries_of(symbols[self.order], self.rows, self.counts)
        for size, factor, runs in self.packed:
            parts = [entries[begin : begin + count * factor] for _, begin, count in runs]
            numbers, at = pack(np.concatenate(parts), size, factor), 0
            for row, _, count in runs:
                coder.encode(numbers[at : at + count], models.packed(row, factor))
                at += count
        for row, begin, end in self.runs:
            coder.encode(entries[begin:end], models.run(row))
        for width, where, rows in self.bundles:
            coder.encode(entries[where], BUNDLE, models.bundle(width, rows))
        if len(folded):
            escapes.encode(coder, folded)

    def decode(self, coder: Any, symbols: NDArray[np.int32], tables: CdfTables) -> None:
        """Take the piece's symbols from a range decoder and put them where they belong, (N,) int32.

        Raises:
            CorruptError: the bytes cannot come from an encoder.
            AssertionError: likewise; it is constriction that raises it.
        """
        if not self.size:
            return
        models = tables.models
        decoded = np.repeat(tables.offsets[self.rows], self.counts)
        for size, factor, runs in self.packed:
            numbers = [coder.decode(models.packed(row, factor), count) for row, _, count in runs]
            entries, at = unpack(np.concatenate(numbers), size, factor), 0
            for _, begin, count in runs:
                decoded[begin : begin + count * factor] += entries[at : at + count * factor]
                at += count * factor
        for row, begin, end in self.runs:
            decoded[begin:end] += coder.decode(models.run(row), end - begin)
        for width, where, rows in self.bundles:
            bundle = coder.decode(BUNDLE, models.bundle(width, rows))
            if (bundle >= models.sizes[rows]).any():
                raise CorruptError("the coded symbols are damaged")
            decoded[where] += bundle
        if tables.may_escape:
            self._escapes(coder, decoded, tables)
        symbols[self.order] = decoded

    def _escapes(self, coder: Any, decoded: NDArray[np.int32], tables: CdfTables) -> None:
        """Replace escapes (they show as the row's limit) by the symbols they stand for, in place."""
        at = np.flatnonzero(decoded == np.repeat(tables.limits[self.rows], self.counts))
        if len(at):
            rows = self.rows[np.searchsorted(np.cumsum(self.counts), at, side="right")]
            folded = escapes.decode(coder, len(at))
            decoded[at] = escapes.unfold(folded, tables.offsets[rows], tables.limits[rows])
