"""The layout of an `.lcast` file, shared by its writer and its reader.

A file is a start with the stream description, one record per access unit, an index, and a footer that points
to the index. Everything is appended, nothing is rewritten, so a file is readable at every moment of its
making. docs/bitstream.md is normative.
"""

from __future__ import annotations

import struct
from zlib import crc32

FILE_MAGIC = b"\x89LCAST\r\n"
"""Begins a file; not ASCII, and broken by any transfer that rewrites line ends, like PNG's."""

VERSION = 1

MAX_UNITS = 1 << 22
"""Most units of one file, 38 hours at 30 frames per second; both ends keep the index in memory, 84 MiB."""

MARK = b"\xf7LC"
"""Begins every record; its fourth byte is the record's type. What a reader looks for after damage."""

UNIT = ord("U")
INDEX = ord("I")
FOOTER = ord("E")

START = struct.Struct(">8sBBH")  # magic, version, flags, length of the description
RECORD = struct.Struct(">3sBII")  # mark, type, length, CRC-32 of the 8 bytes before
FOOT = struct.Struct(">3sBQI")  # mark, type, offset of the index record, CRC-32 of the 12 bytes before
ENTRY = struct.Struct(">QQIB")  # offset of a unit's record, timestamp, frame id, kind
CRC = struct.Struct(">I")


def record_header(kind: int, length: int) -> bytes:
    """The 12 bytes before a record's `length` bytes."""
    checked = RECORD.pack(MARK, kind, length, 0)[: -CRC.size]
    return checked + CRC.pack(crc32(checked))


def read_record_header(data: bytes, at: int = 0) -> tuple[int, int] | None:
    """(type, length) of the record that begins at data[at], or None when none does."""
    if len(data) - at < RECORD.size:
        return None
    mark, kind, length, stored = RECORD.unpack_from(data, at)
    if mark != MARK or crc32(data[at : at + RECORD.size - CRC.size]) != stored:
        return None
    return kind, length


def footer(index_offset: int) -> bytes:
    """The last 16 bytes of a file that was closed properly."""
    checked = FOOT.pack(MARK, FOOTER, index_offset, 0)[: -CRC.size]
    return checked + CRC.pack(crc32(checked))


def read_footer(data: bytes) -> int | None:
    """Offset of the index record, or None when these bytes are not a footer."""
    if len(data) != FOOT.size:
        return None
    mark, kind, offset, stored = FOOT.unpack(data)
    if (mark, kind) != (MARK, FOOTER) or crc32(data[: -CRC.size]) != stored:
        return None
    return int(offset)
