"""Blocks in which nothing is likely to happen: one flag for 16 symbols.

Most symbols of a sparse layer are their row's likeliest one, *calm* for short, with a probability near one.
Sorting and decoding them one by one costs more time than bits. So consecutive symbols form blocks, and where
the rows say that a whole block is probably calm, one flag says whether it is. In the few that are not, the
first symbol that is not calm is found (a number 0..15 under the block's own distribution) and told (under its
row without the calm entry); what stands behind it is left over and coded as if there were no blocks. All of it
follows from the rows' integers, and the rate is that of the tables.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from layercast.entropy import escapes
from layercast.entropy.models import BUNDLE, UNREST_LIMIT, RowModels, exact_weights
from layercast.entropy.pieces import Piece
from layercast.entropy.tables import CdfTables
from layercast.errors import CorruptError

Scalar = TypeVar("Scalar", bound=np.generic)

BLOCK = 16
"""Symbols of a block."""

WORTH_FROM = 1024
"""Fewer blocks, or quiet ones, are not worth looking at."""

SAMPLED = 64
"""Every so manieth block is looked at first ..."""

WORTH_SHARE = 2
"""... and if less than one in so many of those is quiet, there are no quiet blocks."""

_STEPS = 2
"""Flags share a row if their blocks' unrest agrees in so many bits behind the leading one."""


@cache
def flag_tables() -> tuple[CdfTables, NDArray[np.uint8]]:
    """The tables of flags (0 calm, 1 not), and the row of each unrest 0..UNREST_LIMIT - 1."""
    shifts = [max(unrest.bit_length() - 1 - _STEPS, 0) for unrest in range(UNREST_LIMIT)]
    row_of = [(unrest >> shift) + (shift << _STEPS) for unrest, shift in enumerate(shifts)]
    rows = []
    for row in range(row_of[-1] + 1):
        first = row_of.index(row)
        middle = (2 * first + row_of.count(row) - 1) // 2
        hit = 4 * middle - (middle**2 >> 13) + middle**3 // (6 << 26)
        rows.append([(1 << 16) - hit, hit] if hit else [1 << 16])
    return CdfTables.from_frequencies(rows, [0] * len(rows)), np.array(row_of, np.uint8)


def _in_blocks(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """All whole blocks as lines of a matrix, (M, 16), without a copy."""
    return values[: len(values) // BLOCK * BLOCK].reshape(-1, BLOCK)


def _unrest_of_blocks(rows: NDArray[Any], costs: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Sums over blocks, (M,) uint16 from (M, 16) rows: four lanes of 16 bits at a time, which cannot
    overflow."""
    each = costs.take(rows.astype(np.intp, copy=False))
    wide = each.reshape(-1).view(np.uint64).reshape(-1, BLOCK // 4)
    total = wide[:, 0].copy()
    for lane in range(1, BLOCK // 4):
        total += wide[:, lane]
    lanes = total.view(np.uint16).reshape(-1, 4)
    sums: NDArray[np.uint16] = lanes[:, 0] + lanes[:, 1] + lanes[:, 2] + lanes[:, 3]
    return sums


class QuietBlocks:
    """The quiet blocks among the symbols of some rows.

    Attributes:
        blocks: their numbers, ascending, (M,) int64; symbol 16 i is the first of block i.
    """

    __slots__ = ("_flags", "_loud", "blocks")

    def __init__(self, unrest: NDArray[np.uint16]) -> None:
        quiet = unrest < UNREST_LIMIT
        self.blocks, self._loud = np.flatnonzero(quiet), np.flatnonzero(~quiet)
        tables, row_of = flag_tables()
        self._flags = Piece(row_of.take(unrest[self.blocks]), tables)

    @classmethod
    def among(cls, rows: NDArray[Any], models: RowModels) -> QuietBlocks | None:
        """None where there are too few to be worth it; looks at a sample first."""
        count = len(rows) // BLOCK
        if count < WORTH_FROM:
            return None
        costs = models.unrest
        sample = _unrest_of_blocks(_in_blocks(rows)[::SAMPLED], costs)
        if np.count_nonzero(sample < UNREST_LIMIT) * WORTH_SHARE < len(sample):
            return None
        found = cls(_unrest_of_blocks(_in_blocks(rows), costs))
        return found if len(found.blocks) >= WORTH_FROM else None

    def others(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Of one value for each symbol, those of all symbols that are in no quiet block, in their order."""
        return np.concatenate(
            (_in_blocks(values)[self._loud].ravel(), values[len(values) // BLOCK * BLOCK :])
        )

    def put_others(self, symbols: NDArray[np.int32], others: NDArray[np.int32]) -> None:
        """Put what `others` would take."""
        coded = len(self._loud) * BLOCK
        _in_blocks(symbols)[self._loud] = others[:coded].reshape(-1, BLOCK)
        symbols[len(symbols) // BLOCK * BLOCK :] = others[coded:]

    def encode(
        self, coder: Any, symbols: NDArray[np.int32], rows: NDArray[Any], tables: CdfTables
    ) -> NDArray[np.int64]:
        """Append flags and what follows from them; gives the positions of the symbols that are left over.

        Raises:
            CodecError: a symbol outside a row that has no escape.
        """
        models = tables.models
        within = _in_blocks(symbols)[self.blocks]
        rows_of = _in_blocks(rows)[self.blocks]
        event = within != _calm(tables)[rows_of]
        flags = event.any(axis=1)
        self._flags.encode(coder, flags.astype(np.int32), flag_tables()[0])
        if not flags.any():
            return np.zeros(0, np.int64)
        rows_of, first = rows_of[flags], event[flags].argmax(axis=1)
        place = np.arange(len(first))
        coder.encode(first.astype(np.int32), BUNDLE, _places(rows_of, models))
        row = rows_of[place, first]
        entries, folded = tables.entries_of(within[flags][place, first], row)
        coder.encode(entries, BUNDLE, models.events_bundle(row))
        if len(folded):
            escapes.encode(coder, folded)
        return _behind(self.blocks[flags], first)

    def decode(
        self, coder: Any, symbols: NDArray[np.int32], rows: NDArray[Any], tables: CdfTables
    ) -> NDArray[np.int64]:
        """Fill in the symbols of quiet blocks; gives the positions of those that are left over.

        Raises:
            CorruptError: the bytes cannot come from an encoder.
        """
        models = tables.models
        flags = np.empty(len(self.blocks), np.int32)
        self._flags.decode(coder, flags, flag_tables()[0])
        calm = _calm(tables)
        usual = calm[models.unrest < UNREST_LIMIT]
        symbols[:] = usual[0] if (usual == usual[0]).all() else calm[rows]
        hit = self.blocks[np.flatnonzero(flags)]
        if not len(hit):
            return np.zeros(0, np.int64)
        rows_of = _in_blocks(rows)[hit]
        first = coder.decode(BUNDLE, _places(rows_of, models))
        row = rows_of[np.arange(len(hit)), first]
        entries = coder.decode(BUNDLE, models.events_bundle(row))
        if (
            (entries >= models.sizes[row]) | (entries == models.calm[row])
        ).any():  # so is any of a certain row
            raise CorruptError("the coded symbols are damaged")
        found = entries + tables.offsets[row]
        out = np.flatnonzero(tables.escaped[row] & (found == tables.limits[row]))
        if len(out):
            folded = escapes.decode(coder, len(out))
            found[out] = escapes.unfold(folded, tables.offsets[row[out]], tables.limits[row[out]])
        symbols[hit * BLOCK + first] = found
        return _behind(hit, first)


def _calm(tables: CdfTables) -> NDArray[np.int32]:
    """The likeliest symbol of each row, (rows,) int32."""
    return tables.offsets + tables.models.calm.astype(np.int32)


def _behind(blocks: NDArray[np.int64], first: NDArray[Any]) -> NDArray[np.int64]:
    """Positions of the symbols behind the first that is not calm, ascending, (K,) int64."""
    inside = np.arange(BLOCK)
    left: NDArray[np.int64] = ((blocks * BLOCK)[:, None] + inside)[inside > first[:, None]]
    return left


def _places(rows: NDArray[Any], models: RowModels) -> NDArray[np.float32]:
    """Where the first symbol that is not calm stands in blocks of these (K, 16) rows: weights of a bundle."""
    chance = models.events[rows]
    before = np.cumsum(chance, axis=1) - chance
    return exact_weights(chance * ((1 << 16) - before))
