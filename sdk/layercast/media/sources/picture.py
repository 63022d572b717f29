"""One picture file: a stream of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from layercast.media.base import Frame, Source
from layercast.media.pictures import read_picture


class PictureSource(Source):
    """The picture at `path`, read at once.

    Raises:
        MediaError: missing, damaged, no picture, or too large.
    """

    length = 1

    def __init__(self, path: str | Path) -> None:
        self._image = read_picture(path)

    def __iter__(self) -> Iterator[Frame]:
        yield self._image, 0
