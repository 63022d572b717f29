"""Frames handed to a function."""

from __future__ import annotations

from collections.abc import Callable

from layercast.media.base import Image, Sink


class CallbackSink(Sink):
    """Calls `function(image, timestamp_us)` for every frame."""

    def __init__(self, function: Callable[[Image, int], object]) -> None:
        self._function = function

    def write(self, image: Image, timestamp_us: int) -> None:
        self._function(image, timestamp_us)
