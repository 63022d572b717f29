"""Reads `.lcast` files, whole, cut or damaged: by the index when it is there, else by walking the records."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO
from zlib import crc32

from layercast.bitstream.container import (
    CRC,
    ENTRY,
    FILE_MAGIC,
    FOOT,
    INDEX,
    MARK,
    MAX_UNITS,
    RECORD,
    START,
    UNIT,
    VERSION,
    read_footer,
    read_record_header,
)
from layercast.bitstream.description import MAX_DESCRIPTION_BYTES, decode_description
from layercast.bitstream.types import FrameHeader, FrameKind, StreamDescription
from layercast.bitstream.unit import MAX_UNIT_BYTES, MAX_UNIT_START_BYTES, read_header
from layercast.errors import (
    BitstreamError,
    CorruptError,
    LimitError,
    MediaError,
    TruncatedError,
    UnsupportedVersionError,
)

_FIRST_SEARCH_BYTES = 256
_SEARCH_BYTES = 1 << 16
"""A search for the next record reads this many bytes at a time, beginning small: most records are near."""


class ContainerReader:
    """A sequence of access units in a file; a context manager.

    Iterating gives every unit whose header is whole, in file order, and passes over damaged records. A unit
    may still hold damaged layers, which `unpack` reports.

    Attributes:
        description: what the units share.
        truncated: the file has no valid index at its end: it was cut, damaged there, or never finished.
        damaged: damaged records met so far, as far as they can be counted; grows while units are read.

    Args:
        source: a path, or a seekable binary file object that begins with the container and stays open.

    Raises:
        MediaError: the file cannot be read.
        TruncatedError: the file ends before its first record could begin.
        CorruptError: not an `.lcast` file, or its description is damaged.
        UnsupportedVersionError: written by a newer layercast.
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        self._owned = isinstance(source, str | os.PathLike)
        if isinstance(source, str | os.PathLike):
            self._name = os.fspath(source)
            try:
                self._file: BinaryIO = io.BufferedReader(io.FileIO(source))
            except OSError as error:
                raise MediaError(
                    f"cannot open {self._name}: {error.strerror or error}", hint="check the path"
                ) from error
        else:
            self._name = str(getattr(source, "name", "the container"))
            self._file = source
        self._lost: set[int] = set()
        self._scan_damage = 0
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            self.description, first = self._read_start()
            found = self._read_index(first)
            self.truncated = found is None
            self._entries, self._end = found or (self._scan(first), self._size)
        except OSError as error:
            self.close()
            raise MediaError(f"cannot read {self._name}: {error.strerror or error}") from error
        except BitstreamError:
            self.close()
            raise

    @property
    def damaged(self) -> int:
        return self._scan_damage + len(self._lost)

    def __len__(self) -> int:
        return len(self._entries) // ENTRY.size

    def __getitem__(self, position: int) -> bytes:
        """The unit at 0..len - 1, or counted from the end when negative.

        Raises:
            IndexError: no such position.
            CorruptError: that record is damaged.
            MediaError: the file cannot be read.
        """
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"no unit at {position} of {len(self)}")
        offset = self._entry(position)[0]
        limit = self._entry(position + 1)[0] if position + 1 < len(self) else self._end
        try:
            record = read_record_header(self._read(offset, RECORD.size))
            room = min(limit - offset - RECORD.size, MAX_UNIT_BYTES)
            if record is None or record[0] != UNIT or record[1] > room:
                raise CorruptError("no record where it should begin")
            unit = self._read(offset + RECORD.size, record[1])
            read_header(unit)
        except BitstreamError as error:
            self._lost.add(position)
            raise CorruptError(f"unit {position} is damaged: {error.message}") from error
        return unit

    def __iter__(self) -> Iterator[bytes]:
        return self.units()

    def units(self, start: int = 0) -> Iterator[bytes]:
        """The units from a position on, damaged ones left out.

        Raises:
            MediaError: the file cannot be read.
        """
        for position in range(start, len(self)):
            try:
                unit = self[position]
            except CorruptError:
                continue
            yield unit

    def find_frame(self, frame_id: int) -> int:
        """Position of the first frame with this id.

        Raises:
            KeyError: there is none.
        """
        for position, entry in enumerate(ENTRY.iter_unpack(self._entries)):
            if entry[2] == frame_id:
                return position
        raise KeyError(f"no frame {frame_id}")

    def find_time(self, timestamp_us: int) -> int:
        """Position of the last frame captured at or before this time, in microseconds since 1970.

        Raises:
            KeyError: there is none.
        """
        for position in range(len(self) - 1, -1, -1):
            if self._entry(position)[1] <= timestamp_us:
                return position
        raise KeyError(f"no frame at or before {timestamp_us} us")

    def key_before(self, position: int) -> int:
        """Position of the key frame at or nearest before a position: where decoding has to begin.

        Raises:
            KeyError: there is none.
        """
        for candidate in range(position, -1, -1):
            if self._entry(candidate)[3] == FrameKind.KEY:
                return candidate
        raise KeyError(f"no key frame at or before position {position}")

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._owned:
            self._file.close()

    def __enter__(self) -> ContainerReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; never asks for more than the file has."""
        self._file.seek(offset)
        return self._file.read(max(0, min(length, self._size - offset)))

    def _entry(self, position: int) -> tuple[int, int, int, int]:
        offset, time, frame_id, kind = ENTRY.unpack_from(self._entries, position * ENTRY.size)
        return offset, time, frame_id, kind

    def _read_start(self) -> tuple[StreamDescription, int]:
        """The description, and the offset of the first record."""
        start = self._read(0, START.size)
        if start[: len(FILE_MAGIC)] != FILE_MAGIC[: len(start)]:
            raise CorruptError(f"{self._name} is not an .lcast file")
        if len(start) < START.size:
            raise TruncatedError(f"{self._name} ends after {len(start)} bytes")
        _, version, flags, length = START.unpack(start)
        if version != VERSION or flags:
            raise UnsupportedVersionError(
                f"{self._name} is of version {version}, flags {flags:#04x}",
                hint="upgrade layercast to read it",
            )
        if length > MAX_DESCRIPTION_BYTES:
            raise LimitError(f"{self._name} has a description of {length} bytes")
        first = START.size + length
        if first > self._size:
            raise TruncatedError(f"{self._name} ends inside its description")
        return decode_description(self._read(START.size, length)), first

    def _read_index(self, first: int) -> tuple[bytes, int] | None:
        """The entries and the offset where the last unit ends, or None without a valid index."""
        end = self._size - FOOT.size
        offset = read_footer(self._read(end, FOOT.size)) if end >= first else None
        if offset is None or not first <= offset <= end - RECORD.size - CRC.size:
            return None
        length = end - offset - RECORD.size
        if read_record_header(self._read(offset, RECORD.size)) != (INDEX, length):
            return None
        count, rest = divmod(length - CRC.size, ENTRY.size)
        if rest or count > MAX_UNITS:
            return None
        data = self._read(offset + RECORD.size, length)
        entries = data[: -CRC.size]
        if crc32(entries) != CRC.unpack_from(data, len(entries))[0]:
            return None
        previous = first - 1
        for at, _, _, kind in ENTRY.iter_unpack(entries):
            if not previous < at < offset or kind not in (FrameKind.KEY, FrameKind.DELTA):
                return None
            previous = at
        return entries, offset

    def _scan(self, first: int) -> bytes:
        """Index entries of the records found by walking from one to the next."""
        entries = bytearray()
        at, search = first, first + 1
        while at < self._size:
            record = self._record_at(at)
            if record is None:
                # Bytes may be missing from the record before, so the next one may begin inside its length.
                following = self._next_record(search)
                # What nothing follows was cut, not damaged; and a record cut into is counted when it is read.
                self._scan_damage += at <= following < self._size
                at = following
                continue
            end, header = record
            if header is not None:
                entries += ENTRY.pack(at, header.timestamp_us, header.frame_id, header.kind)
            at, search = end, at + 1
        return bytes(entries)

    def _record_at(self, at: int) -> tuple[int, FrameHeader | None] | None:
        """(end, frame header if it is a unit) of the whole record that begins here, or None without one."""
        record = read_record_header(self._read(at, RECORD.size))
        if record is None:
            return None
        kind, length = record
        end = at + RECORD.size + length
        if end > self._size:
            return None
        if kind != UNIT:
            return end, None
        try:
            return end, read_header(self._read(at + RECORD.size, min(length, MAX_UNIT_START_BYTES)))[0]
        except BitstreamError:
            return None

    def _next_record(self, at: int) -> int:
        """Offset of the next whole record at or after `at`, or the file's size."""
        step = _FIRST_SEARCH_BYTES
        while at < self._size:
            chunk = self._read(at, step + RECORD.size - 1)
            found = chunk.find(MARK)
            while found >= 0:
                if read_record_header(chunk, found) is not None and self._record_at(at + found) is not None:
                    return at + found
                found = chunk.find(MARK, found + 1)
            at += step
            step = min(2 * step, _SEARCH_BYTES)
        return self._size
