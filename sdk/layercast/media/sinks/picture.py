"""One frame as one picture file."""

from __future__ import annotations

from pathlib import Path

from layercast.errors import MediaError
from layercast.media.base import Image, Sink
from layercast.media.pictures import write_picture


class PictureSink(Sink):
    """Writes the one frame that it may get to `path`."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._written = False

    def write(self, image: Image, timestamp_us: int) -> None:
        if self._written:
            raise MediaError(
                f"{self._path} holds one picture, and more came", hint="write to a folder or a video file"
            )
        write_picture(self._path, image)
        self._written = True
