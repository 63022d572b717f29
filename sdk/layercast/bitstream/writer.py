"""Writes `.lcast` files: every unit reaches the operating system before `write` returns."""

from __future__ import annotations

import errno
import io
import os
from types import TracebackType
from typing import BinaryIO
from zlib import crc32

from layercast.bitstream.container import (
    CRC,
    ENTRY,
    FILE_MAGIC,
    INDEX,
    MAX_UNITS,
    START,
    UNIT,
    VERSION,
    footer,
    record_header,
)
from layercast.bitstream.description import encode_description
from layercast.bitstream.types import StreamDescription
from layercast.bitstream.unit import read_index
from layercast.errors import LimitError, MediaError


class ContainerWriter:
    """Appends access units to a file; a context manager. `len(writer)` units are in it so far.

    A file that could not be finished (a full disk, a killed process) is readable up to its last whole unit.

    Args:
        target: a path, which is created or replaced, or a binary file object to write to from its present
            position, which need not be seekable and stays open.
        description: what the units share.

    Raises:
        MediaError: the file cannot be created or written.
        LimitError, ConfigError: the description is not legal.
    """

    def __init__(self, target: str | os.PathLike[str] | BinaryIO, description: StreamDescription) -> None:
        encoded = encode_description(description)
        self._entries = bytearray()
        self._offset = 0
        self._failure: MediaError | None = None
        self._owned = isinstance(target, str | os.PathLike)
        if isinstance(target, str | os.PathLike):
            self._name = os.fspath(target)
            try:
                # Unbuffered: a buffer would hold units back, and lose them all when the disk fills.
                self._file: BinaryIO | None = io.FileIO(target, "wb")
            except OSError as error:
                raise MediaError(
                    f"cannot create {self._name}: {error.strerror or error}",
                    hint="check the path and its rights",
                ) from error
        else:
            self._name = str(getattr(target, "name", "the container"))
            self._file = target
        try:
            self._append(START.pack(FILE_MAGIC, VERSION, 0, len(encoded)) + encoded)
        except MediaError:
            self.close()
            raise

    def write(self, unit: bytes | memoryview) -> None:
        """Add one access unit.

        Raises:
            BitstreamError: not a whole access unit; the file is unchanged.
            LimitError: the file is full at MAX_UNITS.
            MediaError: the bytes could not be written, now or earlier, or the writer is closed.
        """
        header = read_index(unit).header
        if len(self) == MAX_UNITS:
            raise LimitError(f"a file holds at most {MAX_UNITS} units", hint="go on in a new file")
        entry = ENTRY.pack(self._offset, header.timestamp_us, header.frame_id, header.kind)
        self._append(record_header(UNIT, len(unit)) + unit)
        self._entries += entry

    def __len__(self) -> int:
        return len(self._entries) // ENTRY.size

    def close(self) -> None:
        """Write the index and let go of the file; a second call does nothing.

        Raises:
            MediaError: the index could not be written; the file is readable without it.
        """
        if self._file is None:
            return
        try:
            if self._failure is None:
                entries = bytes(self._entries)
                index = record_header(INDEX, len(entries) + CRC.size) + entries + CRC.pack(crc32(entries))
                self._append(index + footer(self._offset))
                if not self._owned:
                    self._file.flush()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            if self._owned:
                self._file.close()
            self._file = None

    def _append(self, data: bytes) -> None:
        if self._failure is not None:
            raise self._failure
        if self._file is None:
            raise MediaError(f"{self._name} is closed")
        rest = memoryview(data)
        try:
            while rest:
                # An unbuffered file may take only a part; when the disk is full, the next part raises.
                taken = self._file.write(rest)
                if not taken:
                    raise OSError(errno.EAGAIN, "the file takes no more bytes")
                rest = rest[taken:]
        except OSError as error:
            raise self._failed(error) from error
        self._offset += len(data)

    def _failed(self, error: OSError) -> MediaError:
        self._failure = MediaError(
            f"cannot write {self._name}: {error.strerror or error}",
            hint=f"the {len(self)} units already in it are readable",
        )
        return self._failure

    def __enter__(self) -> ContainerWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
