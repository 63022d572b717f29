"""Portions of symbols, coded by the compiled `_range`: the same bytes as `plain`'s, several times as fast.

Importing this fails with an ImportError where the extension was not built.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.entropy import _range, quiet
from layercast.entropy.plain import ALL_BITS, Plan, masked
from layercast.entropy.tables import CdfTables
from layercast.errors import CodecError, CorruptError


def _made(tables: CdfTables, *flags: Any) -> _range.Tables:
    arrays = (np.diff(tables.starts).astype(np.uint32), tables.offsets, tables.escaped, tables.models.unrest)
    return _range.Tables(tables.frequencies, *arrays, *flags)


def _tables(tables: CdfTables) -> _range.Tables:
    """The compiled form of tables; made once and kept with them."""
    found: _range.Tables | None = tables.compiled
    if found is None:
        found = tables.compiled = _made(tables, *_flags())
    return found


@cache
def _flags() -> tuple[_range.Tables, NDArray[np.uint8]]:
    """How flags of quiet blocks are coded: `quiet.flag_tables`, compiled."""
    tables, row_of = quiet.flag_tables()
    return _made(tables), row_of


def _native(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows as the extension takes them: without gaps, in this machine's order of bytes."""
    return np.ascontiguousarray(rows, rows.dtype.newbyteorder("="))


class Encoder:
    """See `SymbolEncoder`."""

    def __init__(self) -> None:
        self._coder = _range.Encoder()
        self.finish = self._coder.finish

    def push(
        self, tables: CdfTables, rows: NDArray[Any], symbols: NDArray[np.int32], mask: int = ALL_BITS
    ) -> None:
        """Append a portion."""
        try:
            self._coder.push(_tables(tables), _native(rows), np.ascontiguousarray(symbols), mask)
        except IndexError:
            raise CodecError(f"a table row outside 0..{len(tables) - 1}") from None
        except ValueError:
            tables.entries_of(symbols, masked(rows, mask))  # raises, and says which symbol it is
            raise


class Decoder:
    """See `SymbolDecoder`."""

    def __init__(self, data: bytes) -> None:
        self._coder = _range.Decoder(data)

    def decode(
        self, tables: CdfTables, rows: NDArray[Any], symbols: NDArray[np.int32], plan: Plan | None
    ) -> None:
        """Take the next portion, into `symbols`; a plan saves nothing."""
        with _told(tables):
            self._coder.decode(_tables(tables), _native(rows), symbols)


def decode_together(
    tables: CdfTables,
    portions: list[tuple[Decoder, NDArray[Any], NDArray[np.int32]]],
    threads: int,
    mask: int,
) -> None:
    """Take the next portion of several streams: (decoder, rows, symbols) of each."""
    given = [(decoder._coder, _native(rows), symbols) for decoder, rows, symbols in portions]
    with _told(tables):
        _range.decode_together(_tables(tables), given, threads, mask)


@contextmanager
def _told(tables: CdfTables) -> Iterator[None]:
    """What the extension raises, as layercast's errors."""
    try:
        yield
    except IndexError:
        raise CodecError(f"a table row outside 0..{len(tables) - 1}") from None
    except ValueError as error:
        raise CorruptError("the coded symbols are damaged") from error
