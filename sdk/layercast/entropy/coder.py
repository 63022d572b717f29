"""Symbols to bytes and back under integer tables, one fixed model per run.

The symbols of one call are grouped by table row (stable sort) and each run is coded with one model by the
range coder of `constriction`: that is what makes it several times faster than a model per symbol. Both sides
derive the same order from the rows alone.

>>> tables = CdfTables.gaussian([0.3, 2.0, 9.0])
>>> rows = np.array([2, 0, 1, 2]); symbols = np.array([-7, 0, 3, 1000], np.int32)
>>> SymbolDecoder(encode_symbols(symbols, rows, tables)).decode(rows, tables).tolist()
[-7, 0, 3, 1000]
"""

from __future__ import annotations

from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from layercast.entropy import escapes
from layercast.entropy.tables import CdfTables
from layercast.errors import CodecError, CorruptError

MAX_SYMBOLS = 1 << 28
"""Most symbols of one call; more than four per pixel and channel of the largest picture (8192 x 8192)."""


class _Runs:
    """The symbols of one call in coding order: by row, and by position within a row.

    Attributes:
        order: positions of the symbols in coding order, (N,) int64.
        rows: the rows that occur, ascending, (M,).
        bounds: where the run of each of them begins and ends in coding order, (M + 1,).
    """

    __slots__ = ("bounds", "order", "rows")

    def __init__(self, rows: NDArray[Any], tables: CdfTables) -> None:
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) > MAX_SYMBOLS:
            raise CodecError("table rows must be a vector of integers", hint=f"at most {MAX_SYMBOLS} of them")
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(tables)):
            raise CodecError(f"a table row outside 0..{len(tables) - 1}")
        keys = rows.astype(np.uint16 if len(tables) > 256 else np.uint8, copy=False)
        self.order = np.argsort(keys, kind="stable")
        counts = np.bincount(keys)
        self.rows = np.flatnonzero(counts)
        self.bounds = np.concatenate(([0], np.cumsum(counts[self.rows])))


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
                escape.
        """
        if symbols.shape != rows.shape or symbols.dtype != np.int32:
            raise CodecError(
                f"symbols {symbols.dtype} {symbols.shape} for rows {rows.shape}", hint="int32, same shape"
            )
        runs = _Runs(rows, tables)
        entries, extra = tables.entries_of(symbols[runs.order], rows[runs.order])
        bounds = runs.bounds.tolist()
        for row, begin, end in zip(runs.rows.tolist(), bounds, bounds[1:], strict=False):
            model = tables.model(row)
            if model is not None:
                self._coder.encode(entries[begin:end], model)
        if len(extra):
            escapes.encode(self._coder, extra)

    def finish(self) -> bytes:
        """The bitstream of all portions; empty if nothing had to be coded."""
        return bytes(self._coder.get_compressed().astype(">u4").tobytes().rstrip(b"\0"))


class SymbolDecoder:
    """Reads what a `SymbolEncoder` wrote. Any bytes decode to something: integrity is the access unit's task
    (CRC)."""

    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(bytes(data) + bytes(-len(data) % 4), ">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(self, rows: NDArray[Any], tables: CdfTables) -> NDArray[np.int32]:
        """Take the next portion.

        Args:
            rows: the table row of each symbol, (N,) integers, as in the encoder's `push`.
            tables: the tables that `rows` count in.

        Returns:
            (N,) int32.

        Raises:
            CodecError: a row does not exist.
            CorruptError: the bytes cannot come from an encoder.
        """
        runs = _Runs(rows, tables)
        decoded = np.empty(len(rows), np.int32)
        bounds = runs.bounds.tolist()
        try:
            for row, begin, end in zip(runs.rows.tolist(), bounds, bounds[1:], strict=False):
                model, offset = tables.model(row), tables.offsets[row]
                if model is None:
                    decoded[begin:end] = offset
                else:
                    np.add(self._coder.decode(model, end - begin), offset, out=decoded[begin:end])
            self._escapes(decoded, runs, tables)
        except AssertionError as error:
            raise CorruptError("the coded symbols are damaged") from error
        symbols = np.empty(len(rows), np.int32)
        symbols[runs.order] = decoded
        return symbols

    def _escapes(self, decoded: NDArray[np.int32], runs: _Runs, tables: CdfTables) -> None:
        """Replace escapes (they show as the row's limit) by the symbols they stand for, in place."""
        if not len(decoded):
            return
        limits = tables.limits[runs.rows]
        hit = np.flatnonzero(np.maximum.reduceat(decoded, runs.bounds[:-1]) == limits)
        if not len(hit):
            return
        where = [
            runs.bounds[k] + np.flatnonzero(decoded[runs.bounds[k] : runs.bounds[k + 1]] == limits[k])
            for k in hit
        ]
        rows = np.repeat(runs.rows[hit], [len(some) for some in where])
        at = np.concatenate(where)
        folded = escapes.decode(self._coder, len(at))
        decoded[at] = escapes.unfold(folded, tables.offsets[rows], tables.limits[rows])


def encode_symbols(symbols: NDArray[np.int32], rows: NDArray[Any], tables: CdfTables) -> bytes:
    """One portion as one bitstream: `SymbolEncoder.push` and `finish`."""
    encoder = SymbolEncoder()
    encoder.push(symbols, rows, tables)
    return encoder.finish()
