"""What a late joiner gets at once: the newest key frame and the deltas since."""

from __future__ import annotations

from layercast.bitstream.types import FrameKind
from layercast.transport.shared import SharedFrame

MAX_FRAMES = 64
"""Frames after a key frame that are kept: two seconds at 30 frames/s. A burst of more would only be late."""


class FirstFrameCache:
    """The newest group of frames of one stream, bounded in bytes, frames and age.

    Past the byte or frame bound the deltas go and the key frame stays: a joiner then sees one picture at once
    and moving ones from the next key frame on.
    """

    def __init__(self, max_bytes: int, max_age_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._frames: list[SharedFrame] = []
        self._bytes = 0
        self._complete = True
        self._newest_s = 0.0

    @property
    def size_bytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def add(self, frame: SharedFrame, now_s: float) -> None:
        """Take the newest frame of the stream."""
        if frame.header.kind is FrameKind.KEY:
            self._frames = [frame]
            self._bytes = len(frame.unit)
            self._complete = True
        elif self._frames and self._complete:
            if len(self._frames) < MAX_FRAMES and self._bytes + len(frame.unit) <= self._max_bytes:
                self._frames.append(frame)
                self._bytes += len(frame.unit)
            else:
                self._complete = False
                del self._frames[1:]
                self._bytes = len(self._frames[0].unit)
        self._newest_s = now_s

    def frames(self, now_s: float) -> list[SharedFrame]:
        """The frames for a joiner, key frame first; empty when the stream has been silent for too long."""
        return list(self._frames) if now_s - self._newest_s <= self._max_age_s else []

    def clear(self) -> None:
        """Forget everything: the stream's session ended."""
        self._frames, self._bytes, self._complete = [], 0, True
