"""Portions of symbols, coded by `constriction`: what layercast does where its compiled coder was not built.

Both write and read the same bytes (docs/entropy.md). This one has numpy group the symbols, and hands each group
to constriction's range coder with one model, which makes it several times faster than a model per symbol.
"""

from __future__ import annotations

import sys
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from layercast.entropy.pieces import Piece
from layercast.entropy.quiet import QuietBlocks
from layercast.entropy.tables import CdfTables
from layercast.errors import CodecError, CorruptError

ALL_BITS = (1 << 64) - 1
"""Mask for rows of which all bits count."""


class Plan:
    """How the symbols of a portion are coded: quiet blocks first, if there are enough, then the others.

    Attributes:
        quiet: the quiet blocks, or None.
        piece: all symbols that are in none.

    Raises:
        CodecError: a row does not exist.
    """

    __slots__ = ("piece", "quiet")

    def __init__(self, rows: NDArray[Any], tables: CdfTables) -> None:
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(tables)):
            raise CodecError(f"a table row outside 0..{len(tables) - 1}")
        self.quiet = QuietBlocks.among(rows, tables.models)
        self.piece = Piece(self.quiet.others(rows) if self.quiet else rows, tables)


class Encoder:
    """See `SymbolEncoder`."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def push(
        self, tables: CdfTables, rows: NDArray[Any], symbols: NDArray[np.int32], mask: int = ALL_BITS
    ) -> None:
        """Append a portion."""
        rows = masked(rows, mask)
        plan = Plan(rows, tables)
        if plan.quiet:
            left = plan.quiet.encode(self._coder, symbols, rows, tables)
            Piece(rows[left], tables).encode(self._coder, symbols[left], tables)
            symbols = plan.quiet.others(symbols)
        plan.piece.encode(self._coder, symbols, tables)

    def finish(self) -> bytes:
        """The bitstream of all portions.

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


class Decoder:
    """See `SymbolDecoder`."""

    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(bytes(data) + bytes(-len(data) % 4), ">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(
        self, tables: CdfTables, rows: NDArray[Any], symbols: NDArray[np.int32], plan: Plan | None
    ) -> None:
        """Take the next portion, into `symbols`."""
        try:
            self._decode(plan or Plan(rows, tables), rows, tables, symbols)
        except AssertionError as error:  # what constriction raises for a number no encoder can end in
            raise CorruptError("the coded symbols are damaged") from error

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


def decode_together(
    tables: CdfTables,
    portions: list[tuple[Decoder, NDArray[Any], NDArray[np.int32]]],
    threads: int,
    mask: int,
) -> None:
    """Take the next portion of several streams: (decoder, rows, symbols) of each. One after the other: most of the work
    is Python's."""
    for decoder, rows, symbols in portions:
        decoder.decode(tables, masked(rows, mask), symbols, None)


def masked(rows: NDArray[Any], mask: int) -> NDArray[Any]:
    """Bits of the rows that count."""
    return rows if mask == ALL_BITS else rows & rows.dtype.type(mask)
