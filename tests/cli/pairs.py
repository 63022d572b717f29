"""A codec small enough to check by eye; run as a program, this is `layercast` with that codec."""

import hashlib
import sys
import zlib

import numpy as np

from layercast.bitstream import PictureInfo
from layercast.cli import main
from layercast.codecs.base import EncodedFrame, LayerInfo
from layercast.codecs.registry import register
from layercast.errors import CorruptError

PLANES = 4


class PairsCodec:
    """Layer k holds bits 7-2k and 6-2k of every sample; all four layers are an exact copy."""

    name = "pairs"
    layer_table = tuple(LayerInfo(f"bits{k}", f"bits {7 - 2 * k} and {6 - 2 * k}") for k in range(PLANES))
    fingerprint = hashlib.md5(b"pairs").digest()

    def encode(self, image, quality=0.7):
        height, width = image.shape[:2]
        picture = PictureInfo(width, height, 3 if image.ndim == 3 else 1, round(255 * quality))
        layers = tuple(
            zlib.compress((image >> (6 - 2 * k) & 3).astype(np.uint8).tobytes()) for k in range(PLANES)
        )
        return EncodedFrame(layers, picture, (20.0, 6.0, 6.0, 6.0))

    def start(self, picture):
        return PairsDecoder(picture)

    def decode(self, layers, picture):
        decoder = self.start(picture)
        for layer in layers:
            decoder.push(layer)
        return decoder.picture()


class PairsDecoder:
    def __init__(self, picture):
        shape = (picture.height, picture.width, 3)[: 3 if picture.channels == 3 else 2]
        self._image = np.zeros(shape, np.uint8)
        self._count = 0

    def push(self, layer):
        try:
            plane = np.frombuffer(zlib.decompress(layer), np.uint8).reshape(self._image.shape)
        except (zlib.error, ValueError) as error:
            raise CorruptError("no such plane") from error
        self._image |= plane << (6 - 2 * self._count)
        self._count += 1

    def picture(self):
        missing = 8 - 2 * self._count
        return self._image | np.uint8((1 << missing) >> 1)


if __name__ == "__main__":
    register("pairs", PairsCodec)
    sys.exit(main())
