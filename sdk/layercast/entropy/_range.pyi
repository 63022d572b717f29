"""The compiled coder of docs/entropy.md. Arrays are contiguous and in the machine's order of bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SYMBOLS: int
RUN_FROM: int
AS_GIVEN_BELOW: int
NARROW: int
MAX_BUNDLED: int
PACK_LIMIT: int
PACK_FROM: int
PACK_LEAST: int
PACK_SHARE: int
UNREST_LIMIT: int
BLOCK: int
WORTH_FROM: int
SAMPLED: int
WORTH_SHARE: int

class Tables:
    """Rows of integer tables, immutable; see `CdfTables` and `RowModels.unrest`.

    Args:
        frequencies: of all rows, uint32; each row's sum to 2**16.
        sizes: entries of each row, uint32.
        offsets: symbol of each row's first entry, int32.
        escaped: which rows end in an escape, bool.
        unrest: of each row, uint16.
        flags: how flags of quiet blocks are coded; without, no blocks are quiet.
        flag_rows: the flag's row of each unrest below UNREST_LIMIT, uint8.

    Raises:
        ValueError: the arrays contradict each other.
    """

    def __new__(
        cls,
        frequencies: NDArray[np.uint32],
        sizes: NDArray[np.uint32],
        offsets: NDArray[np.int32],
        escaped: NDArray[np.bool_],
        unrest: NDArray[np.uint16],
        flags: Tables = ...,
        flag_rows: NDArray[np.uint8] = ...,
        /,
    ) -> Tables: ...

class Encoder:
    """Puts portions of symbols into one stream."""

    def push(
        self, tables: Tables, rows: NDArray[Any], symbols: NDArray[np.int32], mask: int = ..., /
    ) -> None:
        """Append at most MAX_SYMBOLS symbols; mask: bits of the rows that count, all if there is none.

        Raises:
            IndexError: a row does not exist.
            TypeError: rows are no integers.
            ValueError: a symbol that its row cannot code, or another number of symbols than rows.
            RuntimeError: another thread is in a call.
        """

    def finish(self) -> bytes:
        """The stream so far."""

class Decoder:
    """Takes the portions out of a stream again."""

    def __new__(cls, data: bytes, /) -> Decoder: ...
    def decode(self, tables: Tables, rows: NDArray[Any], symbols: NDArray[np.int32], /) -> None:
        """Fill in at most MAX_SYMBOLS symbols.

        Raises:
            IndexError: a row does not exist.
            TypeError: rows are no integers.
            ValueError: the stream is damaged, or another number of symbols than rows.
            RuntimeError: another thread is in a call.
        """

def decode_together(
    tables: Tables,
    portions: list[tuple[Decoder, NDArray[Any], NDArray[np.int32]]],
    threads: int,
    mask: int,
    /,
) -> None:
    """`decode` of several streams, (decoder, rows, symbols) each, which up to so many threads share; mask: bits of the
    rows that count.

    Raises:
        as `decode`, what the first stream that has something to say says.
    """
