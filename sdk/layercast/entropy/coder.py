"""Symbols to bytes and back under integer tables.

The symbols of one call are grouped by table row (stable sort) and each run is coded with one model by a range
coder. Where nearly all symbols are certain, blocks of 16 share a flag. Both sides derive the same order from the
rows alone. docs/entropy.md has the normative order and the bytes.

Two modules do it, with the same bytes: `compiled` where layercast's extension was built, else `plain`.

>>> tables = CdfTables.gaussian([0.3, 2.0, 9.0])
>>> rows = np.array([2, 0, 1, 2]); symbols = np.array([-7, 0, 3, 1000], np.int32)
>>> SymbolDecoder(encode_symbols(symbols, rows, tables)).decode(rows, tables).tolist()
[-7, 0, 3, 1000]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.entropy import plain
from layercast.entropy.plain import ALL_BITS, Plan
from layercast.entropy.tables import CdfTables
from layercast.errors import CodecError
from layercast.extensions import extension

VERSION = 2
"""Of the coded bytes, as docs/entropy.md has them; for the fingerprints of codecs whose tables stay the same."""

MAX_SYMBOLS = 1 << 28
"""Most symbols of one call; more than the samples of the largest picture (3 x 8192 x 8192)."""

PORTION = 1 << 18
"""Symbols looked at together; bounds what a call needs beside its symbols to a few MB."""

backend: Any = extension("layercast.entropy.compiled") or plain
"""The module that does the work."""

COMPILED = backend is not plain
"""Whether symbols are coded by the compiled extension in this process."""


def _portions(rows: NDArray[Any]) -> Iterator[slice]:
    """The slices of a call that are coded one after the other.

    Raises:
        CodecError: not a vector of at most MAX_SYMBOLS integers.
    """
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) > MAX_SYMBOLS:
        raise CodecError("table rows must be a vector of integers", hint=f"at most {MAX_SYMBOLS} of them")
    return (slice(begin, begin + PORTION) for begin in range(0, len(rows), PORTION))


def plan(rows: NDArray[Any], tables: CdfTables) -> list[Plan]:
    """What `SymbolDecoder.decode` works out of the rows alone; another thread can do it while one decodes. Empty if
    the compiled coder decodes, which needs less time for it than two threads to agree.

    Raises:
        CodecError: a row does not exist.
    """
    return [] if backend is not plain else [Plan(rows[some], tables) for some in _portions(rows)]


class SymbolEncoder:
    """Collects symbols and gives one bitstream; a decoder asks for them in the same portions and order."""

    def __init__(self) -> None:
        self._coder = backend.Encoder()

    def push(
        self, symbols: NDArray[np.int32], rows: NDArray[Any], tables: CdfTables, mask: int = ALL_BITS
    ) -> None:
        """Append a portion.

        Args:
            symbols: (N,) int32.
            rows: the table row of each, (N,) integers.
            tables: the tables that `rows` count in.
            mask: bits of `rows` that count, for a caller who has others there.

        Raises:
            CodecError: shapes differ, a row does not exist, or a symbol is not in its row and that has no
                escape. The encoder is of no use then.
        """
        if symbols.shape != rows.shape or symbols.dtype != np.int32:
            raise CodecError(
                f"symbols {symbols.dtype} {symbols.shape} for rows {rows.shape}", hint="int32, same shape"
            )
        for some in _portions(rows):
            self._coder.push(tables, rows[some], symbols[some], mask)

    def finish(self) -> bytes:
        """The bitstream of all portions; empty if nothing had to be coded. More can be pushed behind it."""
        stream: bytes = self._coder.finish()
        return stream


class SymbolDecoder:
    """Reads what a `SymbolEncoder` wrote.

    Nearly any bytes decode to some symbols, always as many as asked for: telling damage is the task of the
    checksum around them.
    """

    def __init__(self, data: bytes) -> None:
        self._coder = backend.Decoder(data)

    def decode(
        self,
        rows: NDArray[Any],
        tables: CdfTables,
        plans: Sequence[Plan] | None = None,
        out: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """Take the next portion.

        Args:
            rows: the table row of each symbol, (N,) integers, as in the encoder's `push`.
            tables: the tables that `rows` count in.
            plans: `plan(rows, tables)`, where there was time for it before.
            out: where the symbols go, (N,) int32 without gaps; new memory if there is none.

        Returns:
            (N,) int32.

        Raises:
            CodecError: a row does not exist, or `out` is of another kind.
            CorruptError: the bytes cannot come from an encoder; `out` may hold anything then.
        """
        symbols = np.empty(rows.shape, np.int32) if out is None else out
        if symbols.shape != rows.shape or symbols.dtype != np.int32 or not symbols.flags.c_contiguous:
            raise CodecError(f"symbols into {symbols.dtype} {symbols.shape}", hint="int32, as many as rows")
        ready = iter(plans or ())
        for some in _portions(rows):
            self._coder.decode(tables, rows[some], symbols[some], next(ready, None))
        return symbols


def encode_symbols(
    symbols: NDArray[np.int32], rows: NDArray[Any], tables: CdfTables, mask: int = ALL_BITS
) -> bytes:
    """One portion as one bitstream: `SymbolEncoder.push` and `finish`."""
    encoder = SymbolEncoder()
    encoder.push(symbols, rows, tables, mask)
    return encoder.finish()


def decode_streams(
    streams: Sequence[bytes],
    rows: NDArray[Any],
    tables: CdfTables,
    parts: Sequence[slice],
    threads: int,
    mask: int = ALL_BITS,
) -> NDArray[np.int32]:
    """Decode several bitstreams of one portion each, side by side.

    Args:
        streams: what `encode_symbols` made of each part.
        rows: the table row of each symbol, (N,) integers.
        tables: the tables that `rows` count in.
        parts: where in `rows` each stream's symbols are; together all of them.
        threads: that may share the work.
        mask: bits of `rows` that count, as for the encoder.

    Returns:
        (N,) int32.

    Raises:
        CodecError: a row does not exist.
        CorruptError: the bytes cannot come from an encoder.
    """
    symbols = np.empty(len(rows), np.int32)
    given = [
        [(decoder, rows[part][some], symbols[part][some]) for some in _portions(rows[part])]
        for decoder, part in zip(map(backend.Decoder, streams), parts, strict=True)
    ]
    for together in itertools.zip_longest(*given):
        some = [portion for portion in together if portion is not None]
        backend.decode_together(tables, some, threads, mask)
    return symbols
