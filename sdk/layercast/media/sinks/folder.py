"""Frames as numbered PNG files."""

from __future__ import annotations

from pathlib import Path

from layercast.media.base import Image, Sink
from layercast.media.pictures import write_error, write_picture


class FolderSink(Sink):
    """Writes ``000000.png``, ``000001.png``, ... into the folder at `path`, which is made if missing.

    Raises:
        MediaError: the folder cannot be made.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = Path(path)
        self._count = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self._folder, error) from error

    def write(self, image: Image, timestamp_us: int) -> None:
        write_picture(self._folder / f"{self._count:06d}.png", image)
        self._count += 1
