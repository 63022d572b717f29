"""Integer frequency tables: the only form in which a probability enters the coder.

A table row is a run of consecutive integer symbols with integer frequencies that sum to 2**16, and optionally
an *escape* entry behind them, through which every other int32 can be coded. Rows are made offline from a
family (`layercast.entropy.families`), ship as bytes, and are the same integers on every machine. No float is
rounded after a table has been loaded.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layercast.entropy import escapes
from layercast.entropy.families import gaussian_probabilities, to_frequencies
from layercast.entropy.models import RowModels
from layercast.errors import (
    CodecError,
    ConfigError,
    CorruptError,
    LimitError,
    TruncatedError,
    UnsupportedVersionError,
)

MAX_ROWS = 1 << 16
"""Most rows of one set: row numbers are sorted as uint16 keys."""

MAX_ENTRIES = 1 << 22
"""Most entries of all rows together: 8 MiB of file and 16 MiB of frequencies, far above what a codec ships."""

_MAGIC = b"LCDF"
_VERSION = 1
_HEADER = struct.Struct("<4sBBHIII")
"""magic, version, precision, zero, rows, entries, CRC-32 of the body before it was deflated."""


class CdfTables:
    """An immutable set of integer tables ("rows").

    Attributes:
        frequencies: all rows behind each other, (entries,) uint32, >= 1; each row sums to 2**precision.
        starts: where each row begins in `frequencies`, (rows + 1,) int64.
        offsets: symbol value of each row's first entry, (rows,) int32.
        limits: one past each row's last symbol, (rows,) int32; the value under which the coder sees an escape.
        escaped: which rows end in an escape entry, (rows,) bool.
        may_escape: whether any row does.
        models: what `plain` uses of these tables; not for other callers.
        compiled: what `compiled` uses of them, once it does; likewise.
    """

    precision: ClassVar[int] = 16

    __slots__ = (
        "_fingerprint",
        "compiled",
        "escaped",
        "frequencies",
        "limits",
        "may_escape",
        "models",
        "offsets",
        "starts",
    )

    def __init__(
        self,
        frequencies: NDArray[np.uint32],
        sizes: NDArray[np.int64],
        offsets: NDArray[np.int64],
        escaped: NDArray[np.bool_],
    ) -> None:
        rows = len(sizes)
        if not 1 <= rows <= MAX_ROWS or int(sizes.sum()) > MAX_ENTRIES:
            raise LimitError(
                f"{rows} rows with {int(sizes.sum())} entries",
                hint=f"1..{MAX_ROWS} rows, {MAX_ENTRIES} entries",
            )
        if (sizes < 1 + escaped).any():
            raise ConfigError(
                "a table row without any symbol", hint="an escape entry comes on top of >= 1 symbol"
            )
        self.starts: NDArray[np.int64] = np.concatenate(([0], np.cumsum(sizes)))
        if (
            frequencies.min() < 1
            or (np.add.reduceat(frequencies, self.starts[:-1], dtype=np.int64) != 1 << 16).any()
        ):
            raise ConfigError("table frequencies must be >= 1 and sum to 65536 in each row")
        limits = offsets + sizes - escaped
        if offsets.min() < -(1 << 31) or limits.max() > (1 << 31) - 1:
            raise ConfigError("a table row reaches beyond int32")
        self.frequencies: NDArray[np.uint32] = frequencies
        self.offsets: NDArray[np.int32] = offsets.astype(np.int32)
        self.limits: NDArray[np.int32] = limits.astype(np.int32)
        self.escaped: NDArray[np.bool_] = escaped
        for array in (self.frequencies, self.starts, self.offsets, self.limits, self.escaped):
            array.setflags(write=False)
        self.may_escape = bool(escaped.any())
        self.models = RowModels(frequencies, self.starts, escaped, self.precision)
        self.compiled: Any = None
        self._fingerprint: bytes | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CdfTables) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"CdfTables({len(self)} rows, {len(self.frequencies)} entries, {self.fingerprint.hex()[:8]})"

    @classmethod
    def from_frequencies(
        cls,
        freqs: Sequence[ArrayLike],
        offsets: Sequence[int] | NDArray[Any],
        escaped: bool | Sequence[bool] = False,
    ) -> CdfTables:
        """Rows from integers.

        Args:
            freqs: per row, integers >= 1 that sum to 2**16; with an escape, the last is the escape's.
            offsets: per row, the symbol value of its first entry.
            escaped: whether rows end in an escape entry, for all rows or each.

        Raises:
            ConfigError: the integers break a rule above.
            LimitError: more than MAX_ROWS rows or MAX_ENTRIES entries.
        """
        if len(freqs) != len(offsets) or (not isinstance(escaped, bool) and len(escaped) != len(freqs)):
            raise ConfigError("frequencies, offsets and escape flags of table rows differ in number")
        rows = [np.asarray(row) for row in freqs]
        if any(
            row.ndim != 1 or row.dtype.kind not in "iu" or (row < 1).any() or (row > 1 << 16).any()
            for row in rows
        ):
            raise ConfigError("table frequencies must be vectors of integers in 1..65536")
        return cls(
            np.concatenate([row.astype(np.uint32) for row in rows]) if rows else np.zeros(0, np.uint32),
            np.array([len(row) for row in rows], np.int64),
            np.array(offsets, np.int64),
            np.broadcast_to(np.asarray(escaped, np.bool_), len(rows)).copy(),
        )

    @classmethod
    def from_probabilities(
        cls,
        probabilities: Sequence[ArrayLike],
        offsets: Sequence[int] | NDArray[Any],
        escaped: bool | Sequence[bool] = False,
    ) -> CdfTables:
        """Rows from non-negative weights (offline): the nearest integers >= 1, by largest remainder.

        Raises:
            ConfigError: a row is empty, negative, not finite, sums to zero or has more than 65,536 entries.
        """
        return cls.from_frequencies([to_frequencies(p) for p in probabilities], offsets, escaped)

    @classmethod
    def gaussian(
        cls,
        scales: Sequence[float] | NDArray[Any],
        tail: float = 2.0**-14,
        means: Sequence[float] | NDArray[Any] | None = None,
    ) -> CdfTables:
        """One row per standard deviation: Gaussians over unit bins, with an escape for the tails (offline).

        Args:
            scales: standard deviations in quantiser steps, 0..4096; 0 makes a certain row that holds only
                symbol 0.
            tail: the plain symbols of a row leave out at most this much probability; it becomes the escape's.
            means: of the rows, in quantiser steps, at most 16 standard deviations from 0; None for 0.

        Raises:
            ConfigError: a scale, mean or tail out of range, or not as many means as scales.
        """
        means = np.zeros(len(scales)) if means is None else means
        if len(means) != len(scales):
            raise ConfigError(f"{len(scales)} scales and {len(means)} means")
        made = [gaussian_probabilities(float(s), tail, float(m)) for s, m in zip(scales, means, strict=True)]
        rows = [row for _, row in made]
        return cls.from_probabilities(rows, [offset for offset, _ in made], [len(row) > 1 for row in rows])

    @classmethod
    def categorical(cls, probabilities: ArrayLike, offset: int = 0) -> CdfTables:
        """One row per line of an (R, n) matrix of weights, symbols from `offset` on, no escape (offline)."""
        matrix = np.atleast_2d(np.asarray(probabilities, np.float64))
        return cls.from_probabilities(list(matrix), [offset] * len(matrix))

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that differ whenever two sets of tables differ (truncated SHA-256)."""
        if self._fingerprint is None:
            self._fingerprint = hashlib.sha256(
                _MAGIC + bytes([_VERSION, self.precision]) + self._body()
            ).digest()[:16]
        return self._fingerprint

    def row(self, row: int) -> NDArray[np.uint32]:
        """The frequencies of one row, (size,) uint32, read-only; its symbols start at `offsets[row]`."""
        return self.frequencies[self.starts[row] : self.starts[row + 1]]

    def cost_bits(self, symbols: NDArray[np.int32], rows: NDArray[Any]) -> NDArray[np.float64]:
        """Ideal code length of each symbol in bits under its row, escapes included, (N,) float64.

        Raises:
            CodecError: a symbol outside a row that has no escape.
        """
        entries, extra = self.entries_of(symbols, rows)
        bits = self.precision - np.log2(self.frequencies[self.starts[rows] + entries].astype(np.float64))
        if len(extra):
            bits[entries == self.limits[rows].astype(np.int64) - self.offsets[rows]] += escapes.cost_bits(
                extra
            )
        return np.asarray(bits, np.float64)

    def entries_of(
        self, symbols: NDArray[np.int32], rows: NDArray[Any], counts: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Where each symbol stands in its row, (N,) int32, and the folded excess of the escaped ones, (K,)
        int64.

        Args:
            symbols: (N,) int32.
            rows: the row of each; with `counts`, of each run of so many symbols.
            counts: how many symbols each row stands for; they sum to N.

        Raises:
            CodecError: a symbol outside a row that has no escape.
        """
        offsets = self.offsets.take(rows)
        plain = self.limits.take(rows) - offsets
        if counts is not None:
            offsets, plain = np.repeat(offsets, counts), np.repeat(plain, counts)
        entries: NDArray[np.int32] = symbols - offsets  # modulo 2**32, so that what is outside stays outside
        outside = np.flatnonzero(entries.view(np.uint32) >= plain.view(np.uint32))
        if not len(outside):
            return entries, np.zeros(0, np.int64)
        if counts is not None:
            rows = np.repeat(rows, counts)
        if not self.escaped[rows[outside]].all():
            at = outside[~self.escaped[rows[outside]]][0]
            raise CodecError(
                f"symbol {symbols[at]} is not in table row {rows[at]}",
                hint="clip it, or use rows with an escape",
            )
        entries[outside] = plain[outside]
        at = rows[outside]
        return entries, escapes.fold(symbols[outside], self.offsets[at], self.limits[at])

    def _body(self) -> bytes:
        sizes = np.diff(self.starts).astype("<u4")
        shrunk = (self.frequencies - 1).astype("<u2")
        return b"".join(
            a.tobytes() for a in (sizes, self.offsets.astype("<i4"), self.escaped.astype("u1"), shrunk)
        )

    def to_bytes(self) -> bytes:
        """The tables as bytes, deflated, with a CRC-32; `from_bytes` gives an equal set back."""
        body = self._body()
        header = _HEADER.pack(
            _MAGIC, _VERSION, self.precision, 0, len(self), len(self.frequencies), zlib.crc32(body)
        )
        return header + zlib.compress(body, 9)

    @classmethod
    def from_bytes(cls, data: bytes) -> CdfTables:
        """Tables from `to_bytes`; never allocates more than MAX_ROWS and MAX_ENTRIES account for.

        Raises:
            TruncatedError: the bytes end too early.
            CorruptError: not tables, or damaged.
            UnsupportedVersionError: a newer format.
            LimitError: more rows or entries than the bounds.
        """
        if len(data) < _HEADER.size:
            raise TruncatedError(f"tables end after {len(data)} bytes", hint="copy the file again")
        magic, version, precision, zero, rows, entries, crc = _HEADER.unpack_from(data)
        if magic != _MAGIC or zero:
            raise CorruptError("these bytes are not entropy tables")
        if version != _VERSION or precision != cls.precision:
            raise UnsupportedVersionError(
                f"entropy tables of version {version}.{precision}", hint="update layercast"
            )
        if not 1 <= rows <= MAX_ROWS or not rows <= entries <= MAX_ENTRIES:
            raise LimitError(f"tables with {rows} rows and {entries} entries")
        expected = rows * 9 + entries * 2
        inflate = zlib.decompressobj()
        try:
            body = inflate.decompress(data[_HEADER.size :], expected + 1)
        except zlib.error as error:
            raise CorruptError("entropy tables are damaged") from error
        if not inflate.eof and len(body) <= expected:
            raise TruncatedError("entropy tables end too early", hint="copy the file again")
        if len(body) != expected or inflate.unused_data or zlib.crc32(body) != crc:
            raise CorruptError("entropy tables fail their checksum")
        sizes = np.frombuffer(body, "<u4", rows).astype(np.int64)
        offsets = np.frombuffer(body, "<i4", rows, rows * 4).astype(np.int64)
        flags = np.frombuffer(body, "u1", rows, rows * 8)
        shrunk = np.frombuffer(body, "<u2", entries, rows * 9)
        if int(sizes.sum()) != entries or flags.max() > 1:
            raise CorruptError("entropy tables contradict themselves")
        try:
            return cls(shrunk.astype(np.uint32) + 1, sizes, offsets, flags.astype(np.bool_))
        except ConfigError as error:
            raise CorruptError(f"entropy tables contradict themselves: {error.message}") from error
