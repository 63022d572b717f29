"""Pure bytes: access units and what is said about a stream. Imports nothing heavier than msgpack."""

from layercast.bitstream.description import decode_description, encode_description
from layercast.bitstream.types import (
    MAX_LAYERS,
    MAX_SIDE,
    FrameHeader,
    FrameKind,
    PictureInfo,
    StreamDescription,
)
from layercast.bitstream.unit import (
    MAX_UNIT_BYTES,
    AccessUnit,
    Damage,
    UnitIndex,
    pack,
    read_index,
    trim,
    unpack,
)

__all__ = [
    "MAX_LAYERS",
    "MAX_SIDE",
    "MAX_UNIT_BYTES",
    "AccessUnit",
    "Damage",
    "FrameHeader",
    "FrameKind",
    "PictureInfo",
    "StreamDescription",
    "UnitIndex",
    "decode_description",
    "encode_description",
    "pack",
    "read_index",
    "trim",
    "unpack",
]
