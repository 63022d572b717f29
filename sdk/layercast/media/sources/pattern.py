"""A moving test picture, made from the frame number alone: the same on every machine, with no file at all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layercast.bitstream.types import MAX_SIDE
from layercast.errors import ConfigError
from layercast.media.base import Frame, Image, Source


class PatternSource(Source):
    """Smooth colour, sharp checks, a disc that circles once a second, and the frame number in binary.

    Args:
        width, height: pixels, 1..8192.
        frame_rate: frames per second.
        frames: how many, None for ever.

    Raises:
        ConfigError: a size or rate out of range.
    """

    def __init__(self, width: int, height: int, frame_rate: float = 25.0, frames: int | None = None) -> None:
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and 0 < frame_rate <= 1000):
            raise ConfigError(
                f"impossible pattern {width}x{height}@{frame_rate:g}",
                hint=f'write "pattern:640x480@30", with sides up to {MAX_SIDE}',
            )
        self._width, self._height = width, height
        self.frame_rate = frame_rate
        self.length = frames

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while self.length is None or index < self.length:
            yield self.draw(index), round(index * 1e6 / self.frame_rate)
            index += 1

    def draw(self, index: int) -> Image:
        """Frame `index`, (H, W, 3) uint8."""
        width, height = self._width, self._height
        seconds = index / self.frame_rate
        x = np.arange(width, dtype=np.float32)[None, :] / width
        y = np.arange(height, dtype=np.float32)[:, None] / height
        image = np.empty((height, width, 3), np.uint8)
        image[..., 0] = 255 * x + 0 * y
        image[..., 1] = 255 * y + 0 * x
        image[..., 2] = 127.5 + 127.5 * np.sin(6.2832 * (x + y + 0.25 * seconds))
        # Checks of 4 pixels that move one pixel per frame: hard edges for the codec.
        checks = (((np.arange(width) + index) // 4)[None, :] + (np.arange(height) // 4)[:, None]) % 2
        image[: height // 4][checks[: height // 4] == 1] = 32
        centre_x = 0.5 + 0.3 * np.cos(6.2832 * seconds)
        centre_y = 0.5 + 0.3 * np.sin(6.2832 * seconds)
        disc = ((x - centre_x) * width) ** 2 + ((y - centre_y) * height) ** 2 < (
            0.1 * min(width, height)
        ) ** 2
        image[disc] = (250, 220, 40)
        bit_width = max(1, width // 32)
        for bit in range(16):
            left = width - (bit + 1) * bit_width
            if left >= 0:
                image[height - height // 16 :, left : left + bit_width] = 255 * (index >> bit & 1)
        return image
