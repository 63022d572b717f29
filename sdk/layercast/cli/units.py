"""One picture to one access unit, for the commands that work on files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layercast.bitstream import pack
from layercast.bitstream.types import FrameHeader
from layercast.codecs.base import Codec

if TYPE_CHECKING:
    from layercast.codecs.base import Image


def encode_unit(codec: Codec, image: Image, frame_id: int, timestamp_us: int, quality: float) -> bytes:
    """The access unit of one picture.

    Raises:
        PictureError: the codec does not take the picture.
    """
    encoded = codec.encode(image, quality)
    header = FrameHeader(
        frame_id, timestamp_us, encoded.picture, encoded.kind, total_layers=len(encoded.layers)
    )
    return pack(header, encoded.layers, encoded.gains_db)
