"""A frame as a receiver hands it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layercast.bitstream import Damage, unpack
from layercast.bitstream.types import FrameHeader
from layercast.codecs.base import Codec
from layercast.errors import ConfigError, CorruptError

if TYPE_CHECKING:
    from layercast.codecs.base import Image


@dataclass(slots=True)
class ReceivedFrame:
    """One frame: what arrived of it, and the picture that makes.

    Attributes:
        header: frame id, capture time, size; `header.total_layers` is what the encoder made.
        layers: usable layers, 0..total_layers.
        damage: what ended them early (see layercast.bitstream.Damage), None when the frame is whole.
        unit: the access unit as it arrived.
        latency_s: capture to arrival, in seconds; true only if both ends' clocks agree.
    """

    header: FrameHeader
    layers: int
    damage: Damage | None
    unit: bytes
    latency_s: float
    _bitstreams: Sequence[bytes]
    _codec: Codec | None
    _image: Image | None = None

    @property
    def image(self) -> Image:
        """The picture, (H, W, 3) or (H, W) uint8; decoded on first use unless the receiver did it already.

        Raises:
            ConfigError: the receiver was told not to decode.
        """
        if self._image is None:
            self._decode()
        assert self._image is not None
        return self._image

    def _decode(self) -> None:
        if self._codec is None:
            raise ConfigError("this receiver does not decode", hint="open it with decode=True")
        decoder = self._codec.start(self.header.picture)
        for number, layer in enumerate(self._bitstreams):
            try:
                decoder.push(layer)
            except CorruptError as error:
                self.layers, self.damage = number, Damage(number, error.message)
                break
        self._image = decoder.picture()


def receive(unit: bytes, latency_s: float, codec: Codec | None) -> ReceivedFrame:
    """Take an access unit apart and check its layers' checksums.

    Raises:
        BitstreamError: the header is no good; damaged layers are reported in the frame instead.
    """
    parts = unpack(unit)
    return ReceivedFrame(parts.header, len(parts.layers), parts.damage, unit, latency_s, parts.layers, codec)
