"""Frames as a video file, by PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from layercast.errors import MediaError
from layercast.media.base import Image, Sink
from layercast.media.ffmpeg import ffmpeg_errors, import_av

ENCODERS = ("libx264", "mpeg4")
"""In the order of preference; which of them exist depends on how FFmpeg was built."""

CRF = "18"
"""x264's quality: hard to tell from the frames themselves, so that what is seen is layercast's work."""


class VideoSink(Sink):
    """Writes a video at `path`, container by its name's ending, timing by the frames' timestamps (to 1 ms).

    Odd sizes gain a row or a column, since these encoders store colour at half size.

    Args:
        frame_rate: nominal frames per second, for players.

    Raises:
        MediaError: unknown ending, or the file cannot be made.
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(self, path: str | Path, frame_rate: float = 25.0) -> None:
        av = import_av()
        self._path = str(path)
        if not Path(path).parent.is_dir():
            raise MediaError(f"cannot write {path}: no such folder", hint="make the folder first")
        self._shape: tuple[int, int] | None = None
        self._first_us = 0
        self._last_pts = -1
        with ffmpeg_errors(f"cannot write {self._path}"):
            self._container: Any = av.open(self._path, "w")
            name = next(name for name in ENCODERS if name in av.codecs_available)
            self._stream = self._container.add_stream(name, rate=Fraction(frame_rate).limit_denominator(1001))
            if name == "libx264":
                self._stream.options = {"crf": CRF, "preset": "veryfast"}
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, 1000)

    def write(self, image: Image, timestamp_us: int) -> None:
        av = import_av()
        height, width = image.shape[:2]
        if self._shape is None:
            self._shape = (height, width)
            self._first_us = timestamp_us
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
        if (height, width) != self._shape:
            raise MediaError(
                f"{self._path}: the pictures changed their size to {width}x{height}",
                hint="write to a folder instead",
            )
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        with ffmpeg_errors(f"cannot write {self._path}"):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            self._last_pts = max(self._last_pts + 1, round((timestamp_us - self._first_us) / 1000))
            frame.pts, frame.time_base = self._last_pts, Fraction(1, 1000)
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        container, self._container = self._container, None
        if container is None:
            return
        with ffmpeg_errors(f"cannot write {self._path}"):
            try:
                if self._shape is not None:
                    container.mux(self._stream.encode(None))
            finally:
                container.close()
