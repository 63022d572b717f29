"""Symbols to bytes and back under integer tables, one fixed model per run.

The symbols of one call are grouped by table row (stable sort) and each run is coded with one model by the
range coder of `constriction`: that is what makes it several times faster than a model per symbol. Both sides
derive the same order from the rows alone. docs/entropy.md has the normative order and the bytes.

>>> tables = CdfTables.gaussian([0.3, 2.0, 9.0])
>>> rows = np.array([2, 0, 1, 2]); symbols = np.array([-7, 0, 3, 1000], np.int32)
>>> SymbolDecoder(encode_symbols(symbols, rows, tables)).decode(rows, tables).tolist()
[-7, 0, 3, 1000]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from layercast.entropy import escapes
from layercast.entropy.models import BUNDLE, MAX_BUNDLED, NARROW, pack
from layercast.entropy.tables import CdfTables
from layercast.errors import CodecError, CorruptError

MAX_SYMBOLS = 1 << 28
"""Most symbols of one call; more than the samples of the largest picture (3 x 8192 x 8192)."""

PORTION = 1 << 18
"""Symbols grouped at a time; what sorting needs then stays in the cache, which saves a fifth of the time."""

RUN_FROM = 24
"""Fewer symbols of a row are bundled: a run costs about 1 us, a bundled symbol 20 to 50 ns more."""

AS_GIVEN_BELOW = 2048
"""So few symbols are not sorted if their tables are narrow: sorting costs 25 us and gains less."""

PACK_FROM = 1024
"""From so many symbols on, a run of a small alphabet is packed: that costs about 4 us and saves 4 ns each."""


class Plan:
    """Up to PORTION symbols of one call in coding order: by row, and by position within a row.

    Attributes:
        order: positions of the symbols in coding order, (N,) int64, or a slice of all.
        rows: the rows that occur, ascending, (M,) integers.
        bounds: where the symbols of each of them begin and end in coding order, (M + 1,) int64.
        runs: (row, begin, end, how many symbols are packed into one) of every row that is coded by itself.
        bundles: (columns, positions in coding order (K,), row of each (K,)) of the others, narrow ones first.
    """

    __slots__ = ("bounds", "bundles", "order", "rows", "runs")

    def __init__(self, rows: NDArray[Any], tables: CdfTables) -> None:
        self.runs: list[tuple[int, int, int, int]] = []
        self.bundles: list[tuple[int, NDArray[np.int64], NDArray[Any]]] = []
        if tables.models.widest <= NARROW and len(rows) < AS_GIVEN_BELOW:
            self._take_as_given(rows, tables)
        else:
            self._group(rows, tables)

    def _take_as_given(self, rows: NDArray[Any], tables: CdfTables) -> None:
        """Few symbols under narrow tables: every symbol is a group of its own, and all go into one bundle."""
        self.order: NDArray[np.int64] | slice = slice(None)
        self.rows: NDArray[Any] = rows
        self.bounds: NDArray[np.int64] = np.arange(len(rows) + 1)
        if len(at := np.flatnonzero(tables.models.widths[rows] > 1)):
            self.bundles.append((tables.models.widest, at, rows[at]))

    def _group(self, rows: NDArray[Any], tables: CdfTables) -> None:
        keys = rows.astype(np.uint16 if len(tables) > 256 else np.uint8, copy=False)
        self.order = np.argsort(keys, kind="stable")
        keys = keys.take(self.order)
        steps = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        self.bounds = np.concatenate((np.zeros(1, np.int64), steps, np.full(1, len(keys))))
        self.rows = keys[self.bounds[:-1]]
        counts = np.diff(self.bounds)

        widths = tables.models.widths[self.rows]
        short = (counts < RUN_FROM) & (widths <= MAX_BUNDLED)
        alone = np.flatnonzero(~short & (widths > 1))
        factors = np.where(counts[alone] >= PACK_FROM, tables.models.factors[self.rows[alone]], 1)
        columns = (self.rows[alone], self.bounds[alone], self.bounds[alone + 1], factors)
        self.runs = list(zip(*(column.tolist() for column in columns), strict=True))
        for width in np.unique(widths[short & (widths > 1)]).tolist():
            some = np.flatnonzero(short & (widths == width))
            sizes = counts[some]
            gaps = self.bounds[some] - np.cumsum(sizes) + sizes
            at = np.repeat(gaps, sizes) + np.arange(int(sizes.sum()))
            self.bundles.append((width, at, np.repeat(self.rows[some], sizes)))


def _portions(rows: NDArray[Any], tables: CdfTables) -> Iterator[slice]:
    """The slices of a call that are coded one after the other.

    Raises:
        CodecError: not a vector of at most MAX_SYMBOLS integers, or a row does not exist.
    """
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) > MAX_SYMBOLS:
        raise CodecError("table rows must be a vector of integers", hint=f"at most {MAX_SYMBOLS} of them")
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(tables)):
        raise CodecError(f"a table row outside 0..{len(tables) - 1}")
    return (slice(begin, begin + PORTION) for begin in range(0, len(rows), PORTION))


def plan(rows: NDArray[Any], tables: CdfTables) -> list[Plan]:
    """What `SymbolDecoder.decode` works out of the rows alone; another thread can do it while one decodes.

    Raises:
        CodecError: a row does not exist.
    """
    return [Plan(rows[some], tables) for some in _portions(rows, tables)]


class SymbolEncoder:
    """Collects symbols and gives one bitstream; a decoder asks for them in the same portions and order."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def push(self, symbols: NDArray[np.int32], rows: NDArray[Any], tables: CdfTables) -> None:
        """Append a portion.

        Args:
            symbols: (N,) int32.
            rows: the table row of each, (N,) integers.
            tables: the tables that `rows` count in.

        Raises:
            CodecError: shapes differ, a row does not exist, or a symbol is not in its row and that has no
                escape. The encoder is of no use then.
        """
        if symbols.shape != rows.shape or symbols.dtype != np.int32:
            raise CodecError(
                f"symbols {symbols.dtype} {symbols.shape} for rows {rows.shape}", hint="int32, same shape"
            )
        for some in _portions(rows, tables):
            self._push(symbols[some], rows[some], tables)

    def _push(self, symbols: NDArray[np.int32], rows: NDArray[Any], tables: CdfTables) -> None:
        plan, models, coder = Plan(rows, tables), tables.models, self._coder
        entries, folded = tables.entries_of(symbols[plan.order], np.repeat(plan.rows, np.diff(plan.bounds)))
        for row, begin, end, factor in plan.runs:
            if factor > 1:
                packed_end = end - (end - begin) % factor
                packed = pack(entries[begin:packed_end], int(models.sizes[row]), factor)
                coder.encode(packed, models.packed(row)[0])
                begin = packed_end
            if begin < end:
                coder.encode(entries[begin:end], models.run(row))
        for width, at, rows_at in plan.bundles:
            coder.encode(entries[at], BUNDLE, models.bundle(width, rows_at))
        if len(folded):
            escapes.encode(coder, folded)

    def finish(self) -> bytes:
        """The bitstream of all portions; empty if nothing had to be coded.

        A range coder ends inside an interval, and any number in it decodes alike. This takes the one with the
        most zero bytes at its end and leaves those out, which a decoder fills in: 0.4 bytes over the ideal on
        average, where constriction's own ending costs 4 to 8.
        """
        position, (lower, width) = self._coder.pos()
        words = self._coder.get_compressed()
        tail = int.from_bytes(words[position:].astype(">u4").tobytes().ljust(8, b"\0"), "big")
        low = tail - (tail - lower) % (1 << 64)
        for zeros in range(64, -8, -8):
            ending = -(-low >> zeros) << zeros
            if 0 <= ending < min(low + width, 1 << 64):
                break
        if sys.byteorder == "little":
            words.byteswap(inplace=True)  # a copy of the largest layer is a byte or two per pixel
        if ending:
            return b"".join((words[:position].data, ending.to_bytes(8, "big").rstrip(b"\0")))
        return bytes(words[:position].data).rstrip(b"\0")


class SymbolDecoder:
    """Reads what a `SymbolEncoder` wrote.

    Nearly any bytes decode to some symbols, always as many as asked for: telling damage is the task of the
    checksum around them.
    """

    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(bytes(data) + bytes(-len(data) % 4), ">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(
        self, rows: NDArray[Any], tables: CdfTables, plans: Sequence[Plan] | None = None
    ) -> NDArray[np.int32]:
        """Take the next portion.

        Args:
            rows: the table row of each symbol, (N,) integers, as in the encoder's `push`.
            tables: the tables that `rows` count in.
            plans: `plan(rows, tables)`, where there was time for it before.

        Returns:
            (N,) int32.

        Raises:
            CodecError: a row does not exist.
            CorruptError: the bytes cannot come from an encoder.
        """
        symbols = np.empty(rows.shape, np.int32)
        ready = iter(plans or ())
        for some in _portions(rows, tables):
            try:
                self._decode(next(ready, None) or Plan(rows[some], tables), tables, symbols[some])
            except AssertionError as error:  # what constriction raises for a number no encoder can end in
                raise CorruptError("the coded symbols are damaged") from error
        return symbols

    def _decode(self, plan: Plan, tables: CdfTables, symbols: NDArray[np.int32]) -> None:
        models, coder = tables.models, self._coder
        decoded = np.repeat(tables.offsets[plan.rows], np.diff(plan.bounds))
        for row, begin, end, factor in plan.runs:
            if factor > 1:
                model, unpacking = models.packed(row)
                packed = coder.decode(model, (end - begin) // factor)
                entries = unpacking.take(packed).view(np.uint8)
                part = decoded[begin : begin + len(entries)]
                part += entries
                begin += len(entries)
            if begin < end:
                part = decoded[begin:end]
                part += coder.decode(models.run(row), end - begin)
        for width, at, rows_at in plan.bundles:
            entries = coder.decode(BUNDLE, models.bundle(width, rows_at))
            if (entries >= models.sizes[rows_at]).any():
                raise CorruptError("the coded symbols are damaged")
            decoded[at] += entries
        self._escapes(decoded, plan, tables)
        symbols[plan.order] = decoded

    def _escapes(self, decoded: NDArray[np.int32], plan: Plan, tables: CdfTables) -> None:
        """Replace escapes (they show as the row's limit) by the symbols they stand for, in place."""
        bounds, limits = plan.bounds, tables.limits[plan.rows]
        hit = np.flatnonzero(np.maximum.reduceat(decoded, bounds[:-1]) == limits)
        if not len(hit):
            return
        where = [bounds[k] + np.flatnonzero(decoded[bounds[k] : bounds[k + 1]] == limits[k]) for k in hit]
        rows = np.repeat(plan.rows[hit], [len(some) for some in where])
        at = np.concatenate(where)
        folded = escapes.decode(self._coder, len(at))
        decoded[at] = escapes.unfold(folded, tables.offsets[rows], tables.limits[rows])


def encode_symbols(symbols: NDArray[np.int32], rows: NDArray[Any], tables: CdfTables) -> bytes:
    """One portion as one bitstream: `SymbolEncoder.push` and `finish`."""
    encoder = SymbolEncoder()
    encoder.push(symbols, rows, tables)
    return encoder.finish()
