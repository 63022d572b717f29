"""The stream description as bytes: what both ends agree on before the first frame."""

from __future__ import annotations

import struct
from typing import Any
from zlib import crc32

import msgpack

from layercast.bitstream.fields import decode_array
from layercast.bitstream.types import MAX_LAYERS, StreamDescription
from layercast.errors import ConfigError, CorruptError, LimitError, TruncatedError, UnsupportedVersionError

MAGIC = b"LD"
VERSION = 1

MAX_DESCRIPTION_BYTES = 4096
"""Largest encoded description: the fullest legal one has under 1600 bytes, and a handshake that carries it in
gRPC metadata has 8 KiB for everything."""

MAX_NAME_CHARACTERS = 64
"""Longest codec name, in printable ASCII characters; the shipped ones have at most 12."""

MAX_LAYER_NAME_CHARACTERS = 16
"""Longest layer name, in printable ASCII characters, so that a table of 32 layers fits a terminal."""

MAX_TITLE_CHARACTERS = 200
"""Longest title in Unicode characters; one line for people."""

FINGERPRINT_BYTES = 16
"""Length of a fingerprint: 128 bits never collide by chance."""

MAX_FRAME_RATE = 1e6
"""Largest nominal frame rate in frames per second: timestamps cannot tell faster frames apart."""

_START = struct.Struct(">2sB")  # magic, version
_CRC = struct.Struct(">I")
_FIELDS = 5


def encode_description(description: StreamDescription) -> bytes:
    """The description as bytes, at most MAX_DESCRIPTION_BYTES.

    Raises:
        LimitError: a name, the title or the frame rate is out of bounds.
        ConfigError: a fingerprint of other than 16 bytes, or a field of the wrong type.
    """
    fields = (
        description.codec,
        description.fingerprint,
        tuple(description.layer_names),
        float(description.frame_rate),
        description.title,
    )
    try:
        _check_fields(fields)
    except CorruptError as error:
        raise ConfigError(error.message) from error
    data: bytes = _START.pack(MAGIC, VERSION) + msgpack.packb(fields)
    return data + _CRC.pack(crc32(data))


def decode_description(data: bytes | memoryview) -> StreamDescription:
    """The description in these bytes.

    Raises:
        TruncatedError: too short to be one.
        CorruptError: not a description, or damaged.
        UnsupportedVersionError: written by a newer layercast.
        LimitError: a size or count is out of bounds.
    """
    size = len(data)
    if size > MAX_DESCRIPTION_BYTES:
        raise LimitError(f"the stream description has {size} bytes, more than {MAX_DESCRIPTION_BYTES}")
    if data[:2] != MAGIC[:size]:
        raise CorruptError("not a stream description: it does not begin with 'LD'")
    end = size - _CRC.size
    if end < _START.size:
        raise TruncatedError(f"the stream description ends after {size} bytes")
    if data[2] != VERSION:
        raise UnsupportedVersionError(
            f"stream description of version {data[2]}", hint="upgrade layercast to read it"
        )
    if crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise CorruptError("the checksum of the stream description does not match")
    return _check_fields(decode_array(bytes(data[_START.size : end]), _FIELDS, "stream description"))


def _check_fields(fields: tuple[Any, ...]) -> StreamDescription:
    """The description of these array elements; further elements are a newer writer's."""
    codec, fingerprint, layer_names, frame_rate, title = fields[:_FIELDS]
    _check_name("codec name", codec, MAX_NAME_CHARACTERS)
    if type(fingerprint) is not bytes or len(fingerprint) != FINGERPRINT_BYTES:
        raise CorruptError(f"the fingerprint is not {FINGERPRINT_BYTES} bytes")
    if type(layer_names) is not tuple:
        raise CorruptError("the layer names are not an array")
    if len(layer_names) > MAX_LAYERS:
        raise LimitError(f"{len(layer_names)} layer names are more than {MAX_LAYERS}")
    for name in layer_names:
        _check_name("layer name", name, MAX_LAYER_NAME_CHARACTERS)
    if type(frame_rate) is not float:
        raise CorruptError("the frame rate is not a float")
    if not 0.0 <= frame_rate <= MAX_FRAME_RATE:
        raise LimitError(f"frame rate {frame_rate} is outside 0..{MAX_FRAME_RATE:.0f}")
    if type(title) is not str or any("\ud800" <= character <= "\udfff" for character in title):
        raise CorruptError("the title is not Unicode text")
    if len(title) > MAX_TITLE_CHARACTERS:
        raise LimitError(f"a title of {len(title)} characters is longer than {MAX_TITLE_CHARACTERS}")
    return StreamDescription(codec, fingerprint, layer_names, frame_rate, title)


def _check_name(what: str, name: object, longest: int) -> None:
    if type(name) is not str or not (name.isascii() and name.isprintable()):
        raise CorruptError(f"the {what} is not printable ASCII")
    if not 1 <= len(name) <= longest:
        raise LimitError(f"a {what} of {len(name)} characters is outside 1..{longest}")
