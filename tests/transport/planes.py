"""A codec for tests: four layers of two bits of every sample, so that a full prefix is the picture itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from layercast.bitstream.types import PictureInfo
from layercast.codecs.base import EncodedFrame, LayerInfo
from layercast.errors import CorruptError, PictureError

if TYPE_CHECKING:
    from layercast.codecs.base import Image


class PlaneDecoder:
    def __init__(self, picture: PictureInfo) -> None:
        self._shape = (picture.height, picture.width, 3)[: 3 if picture.channels == 3 else 2]
        self._planes: list[np.ndarray] = []

    def push(self, layer: bytes) -> None:
        if len(layer) != np.prod(self._shape):
            raise CorruptError("a plane of the wrong size")
        self._planes.append(np.frombuffer(layer, np.uint8).reshape(self._shape))

    def picture(self) -> Image:
        out = np.zeros(self._shape, np.uint8)
        for number, plane in enumerate(self._planes):
            out |= plane << (6 - 2 * number)
        return out


class PlaneCodec:
    """`gate`, when given, must be set before an encode goes on: a slow encoder without a clock."""

    name: ClassVar[str] = "planes"
    layer_table = tuple(LayerInfo(f"bits{number}", "two bits of every sample") for number in range(4))

    def __init__(self, fingerprint: bytes = b"planes-version-1", gate: threading.Event | None = None) -> None:
        self.fingerprint = fingerprint
        self.encoded: list[int] = []
        self._gate = gate

    def encode(self, image: Image, quality: float = 0.7) -> EncodedFrame:
        if image.dtype != np.uint8:
            raise PictureError(f"pictures are uint8, not {image.dtype}")
        if self._gate is not None:
            assert self._gate.wait(10)
        self.encoded.append(int(image.flat[0]))
        layers = tuple(((image >> shift) & 3).tobytes() for shift in (6, 4, 2, 0))
        info = PictureInfo(image.shape[1], image.shape[0], 3 if image.ndim == 3 else 1, round(quality * 255))
        return EncodedFrame(layers, info, (12.0, 12.0, 12.0, 12.0))

    def start(self, picture: PictureInfo) -> PlaneDecoder:
        return PlaneDecoder(picture)

    def decode(self, layers: Sequence[bytes], picture: PictureInfo) -> Image:
        decoder = self.start(picture)
        for layer in layers:
            decoder.push(layer)
        return decoder.picture()


def picture(value: int) -> Image:
    """A small picture whose first sample tells it from the others."""
    return np.full((8, 12, 3), value, np.uint8)
