"""A camera of this machine, by PyAV's Video4Linux input."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from layercast.errors import MediaError
from layercast.media.base import Frame, Source
from layercast.media.ffmpeg import ffmpeg_errors, import_av

SILENCE_S = 5.0
"""Seconds without a frame after which a camera counts as gone; webcams in the dark still give 5 frames/s."""


class CameraSource(Source):
    """Frames of a camera, always the newest: a slow consumer skips frames and never sees old ones.

    A thread keeps reading, and keeps exactly one frame: drivers buffer up to 32, a second of staleness.

    Args:
        device: for example ``/dev/video0``.
        size: (width, height) to ask the camera for; None takes its default.
        frame_rate: frames per second to ask for; None takes its default.
        input_format: FFmpeg's name of the capture interface.

    Raises:
        MediaError: no such camera, no permission, in use, or not a camera.
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(
        self,
        device: str = "/dev/video0",
        *,
        size: tuple[int, int] | None = None,
        frame_rate: float | None = None,
        input_format: str = "v4l2",
    ) -> None:
        av = import_av()
        if input_format == "v4l2" and not Path(device).exists():
            raise MediaError(f"no camera at {device}", hint=_cameras())
        options = {"video_size": f"{size[0]}x{size[1]}"} if size else {}
        if frame_rate:
            options["framerate"] = f"{frame_rate:g}"
        self._device = device
        with ffmpeg_errors(f"camera {device}"):
            self._container = av.open(
                device, format=input_format, options=options, timeout=(SILENCE_S, SILENCE_S)
            )
        if not self._container.streams.video:
            self._container.close()
            raise MediaError(f"{device} gives no video", hint=_cameras())
        self.frame_rate = float(self._container.streams.video[0].average_rate or frame_rate or 0)
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: MediaError | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._read, name=f"camera {device}", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._newest is not None or self._error is not None or self._closing,
                    timeout=2 * SILENCE_S,
                )
                frame, self._newest = self._newest, None
                if frame is None:
                    if self._closing:
                        return
                    raise self._error or MediaError(
                        f"camera {self._device}: no frame for {2 * SILENCE_S:g} s",
                        hint="is it still plugged in?",
                    )
            yield frame

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout=2 * SILENCE_S)

    def _read(self) -> None:
        error = MediaError(f"camera {self._device} stopped", hint="is it still plugged in?")
        try:
            with ffmpeg_errors(f"camera {self._device}"), self._container:
                for frame in self._container.decode(video=0):
                    newest = (frame.to_ndarray(format="rgb24"), time.time_ns() // 1000)
                    with self._changed:
                        if self._closing:
                            return
                        self._newest = newest
                        self._changed.notify_all()
        except MediaError as found:
            error = found
        with self._changed:
            self._error = error
            self._changed.notify_all()


def _cameras() -> str:
    found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*")))
    return (
        f"cameras here: {found}" if found else "this machine shows no /dev/video*; plug one in, or use a file"
    )
