"""Pure bytes: access units and what is said about a stream. Imports nothing heavier than msgpack."""

from layercast.bitstream.description import decode_description, encode_description
from layercast.bitstream.reader import ContainerReader
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
from layercast.bitstream.writer import ContainerWriter

__all__ = [
    "MAX_LAYERS",
    "MAX_SIDE",
    "MAX_UNIT_BYTES",
    "AccessUnit",
    "ContainerReader",
    "ContainerWriter",
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
