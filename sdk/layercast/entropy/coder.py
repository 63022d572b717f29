"""Symbols to bytes and back under integer tables, one fixed model per run.

The symbols of one call are grouped by table row (stable sort) and each run is coded with one model by the
range coder of `constriction`: that is what makes it several times faster than a model per symbol. Where
nearly all symbols are certain, blocks of 16 share a flag. Both sides derive the same order from the rows
alone. docs/entropy.md has the normative order and the bytes.

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

from layercast.entropy.pieces import Piece
from layercast.entropy.quiet import QuietBlocks
from layercast.entropy.tables import CdfTables
from layercast.errors import CodecError, CorruptError

VERSION = 2
"""Of the coded bytes, as docs/entropy.md has them; for the fingerprints of codecs whose tables stay the same."""

MAX_SYMBOLS = 1 << 28
"""Most symbols of one call; more than the samples of the largest picture (3 x 8192 x 8192)."""

PORTION = 1 << 18
"""Symbols looked at together; bounds what a call needs beside its symbols to a few MB."""


class Plan:
    """How up to PORTION symbols of one call are coded: quiet blocks first, if there are enough, then the others.

    Attributes:
        quiet: the quiet blocks, or None.
        piece: all symbols that are in none.
    """

    __slots__ = ("piece", "quiet")

    def __init__(self, rows: NDArray[Any], tables: CdfTables) -> None:
        self.quiet = QuietBlocks.among(rows, tables.models)
        self.piece = Piece(self.quiet.others(rows) if self.quiet else rows, tables)


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
        plan = Plan(rows, tables)
        if plan.quiet:
            left = plan.quiet.encode(self._coder, symbols, rows, tables)
            Piece(rows[left], tables).encode(self._coder, symbols[left], tables)
            symbols = plan.quiet.others(symbols)
        plan.piece.encode(self._coder, symbols, tables)

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
                self._decode(next(ready, None) or Plan(rows[some], tables), rows[some], tables, symbols[some])
            except AssertionError as error:  # what constriction raises for a number no encoder can end in
                raise CorruptError("the coded symbols are damaged") from error
        return symbols

    def _decode(self, plan: Plan, rows: NDArray[Any], tables: CdfTables, symbols: NDArray[np.int32]) -> None:
        if plan.quiet is None:
            plan.piece.decode(self._coder, symbols, tables)
            return
        left = plan.quiet.decode(self._coder, symbols, rows, tables)
        behind = np.empty(len(left), np.int32)
        Piece(rows[left], tables).decode(self._coder, behind, tables)
        symbols[left] = behind
        others = np.empty(plan.piece.size, np.int32)
        plan.piece.decode(self._coder, others, tables)
        plan.quiet.put_others(symbols, others)


def encode_symbols(symbols: NDArray[np.int32], rows: NDArray[Any], tables: CdfTables) -> bytes:
    """One portion as one bitstream: `SymbolEncoder.push` and `finish`."""
    encoder = SymbolEncoder()
    encoder.push(symbols, rows, tables)
    return encoder.finish()
