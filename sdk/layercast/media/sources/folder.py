"""A folder of pictures, in the order of their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from layercast.errors import MediaError
from layercast.media.base import Frame, Source
from layercast.media.pacing import DEFAULT_RATE
from layercast.media.pictures import SUFFIXES, read_picture


class FolderSource(Source):
    """The pictures in `path`; "9.png" comes before "10.png"; other files are passed over.

    Args:
        frame_rate: frames per second that the timestamps tell.

    Raises:
        MediaError: no such folder, or no picture in it.
    """

    def __init__(self, path: str | Path, frame_rate: float = DEFAULT_RATE) -> None:
        self.frame_rate = frame_rate
        self.paths = picture_files(path)
        self.length = len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            yield read_picture(path), round(index * 1e6 / self.frame_rate)


def picture_files(folder: str | Path) -> list[Path]:
    """The picture files in `folder`, numbers in their names ordered as numbers.

    Raises:
        MediaError: no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MediaError(f"{folder}: no such folder", hint="check the path")
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise MediaError(
            f"{folder}: no pictures in this folder", hint=f"looked for {', '.join(sorted(SUFFIXES))}"
        )
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in re.findall(r"\d+|\D+", path.name)
    ]
