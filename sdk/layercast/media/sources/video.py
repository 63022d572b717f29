"""A video file, by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from layercast.bitstream.types import MAX_SIDE
from layercast.errors import MediaError
from layercast.media.base import Frame, Source
from layercast.media.ffmpeg import ffmpeg_errors, import_av


class VideoSource(Source):
    """The first video track of the file at `path`, as upright RGB, with its own timestamps.

    Raises:
        MediaError: missing, damaged, no video in it, or larger than MAX_SIDE.
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        with self._open() as container:
            stream = container.streams.video[0]
            self.frame_rate = float(stream.average_rate or 0)
            self.length = stream.frames or None

    def __iter__(self) -> Iterator[Frame]:
        with self._open() as container:
            frames = container.decode(video=0)
            first_s: float | None = None
            index = 0
            while True:
                with ffmpeg_errors(f"{self._path}: frame {index}"):
                    frame = next(frames, None)
                    if frame is None:
                        break
                    image = frame.to_ndarray(format="rgb24")
                if frame.rotation % 360:
                    image = np.ascontiguousarray(np.rot90(image, k=frame.rotation // 90))
                seconds = frame.time if frame.time is not None else index / (self.frame_rate or 25.0)
                first_s = seconds if first_s is None else first_s
                yield image, max(0, round((seconds - first_s) * 1e6))
                index += 1
        if index == 0:
            raise MediaError(
                f"{self._path}: no frame in it can be decoded", hint="the file is damaged or empty"
            )

    def _open(self) -> Any:
        av = import_av()
        with ffmpeg_errors(self._path):
            container = av.open(self._path)
        if not container.streams.video:
            container.close()
            raise MediaError(
                f"{self._path}: no video in this file", hint="pass a video, a picture or a folder"
            )
        codec = container.streams.video[0].codec_context
        if max(codec.width, codec.height) > MAX_SIDE:
            container.close()
            raise MediaError(
                f"{self._path}: {codec.width}x{codec.height} pixels is too large",
                hint=f"no side may exceed {MAX_SIDE}",
            )
        return container
