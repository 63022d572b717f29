"""Frames kept in memory."""

from __future__ import annotations

from layercast.media.base import Image, Sink


class ArraySink(Sink):
    """Keeps what it gets, in `images` and `timestamps_us`: for tests and notebooks, no endless streams."""

    def __init__(self) -> None:
        self.images: list[Image] = []
        self.timestamps_us: list[int] = []

    def write(self, image: Image, timestamp_us: int) -> None:
        self.images.append(image)
        self.timestamps_us.append(timestamp_us)
