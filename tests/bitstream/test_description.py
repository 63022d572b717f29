"""The stream description: whole or refused."""

import struct
from dataclasses import replace
from zlib import crc32

import msgpack
import pytest
from hypothesis import given

from layercast.bitstream import decode_description, encode_description
from layercast.bitstream.description import MAX_DESCRIPTION_BYTES
from layercast.errors import (
    BitstreamError,
    ConfigError,
    CorruptError,
    LimitError,
    TruncatedError,
    UnsupportedVersionError,
)

from .cases import DESCRIPTION, descriptions, deterministic

GOOD = encode_description(DESCRIPTION)
FIELDS = ["dct", bytes(16), ["dc", "ac"], 25.0, "title"]


def encoded(fields, version: int = 1) -> bytes:
    data = struct.pack(">2sB", b"LD", version) + msgpack.packb(fields)
    return data + struct.pack(">I", crc32(data))


@deterministic
@given(descriptions)
def test_decode_gives_back_what_encode_was_given(description):
    assert decode_description(encode_description(description)) == description
    assert decode_description(memoryview(encode_description(description))) == description


def test_the_fullest_description_is_far_below_its_bound():
    fullest = replace(
        DESCRIPTION, codec="c" * 64, layer_names=("n" * 16,) * 32, frame_rate=1e6, title="\U0001f600" * 200
    )
    assert len(encode_description(fullest)) < 1600 < MAX_DESCRIPTION_BYTES


def test_every_flipped_bit_and_every_cut_is_noticed():
    for at in range(len(GOOD)):
        with pytest.raises(BitstreamError):
            decode_description(GOOD[:at])
        for bit in range(8):
            damaged = bytearray(GOOD)
            damaged[at] ^= 1 << bit
            with pytest.raises(BitstreamError):
                decode_description(bytes(damaged))


def test_what_is_wrong_is_said_by_the_type_of_the_error():
    with pytest.raises(TruncatedError):
        decode_description(GOOD[:5])
    with pytest.raises(CorruptError, match="not a stream description"):
        decode_description(b"hello, world")
    with pytest.raises(UnsupportedVersionError):
        decode_description(encoded(FIELDS, version=2))
    with pytest.raises(LimitError):
        decode_description(GOOD + bytes(MAX_DESCRIPTION_BYTES))


def test_elements_after_the_known_ones_are_ignored():
    assert decode_description(encoded([*FIELDS, {"new": [1]}])) == decode_description(encoded(FIELDS))


@pytest.mark.parametrize(
    ("position", "value", "error"),
    [
        (0, "", LimitError),
        (0, "c" * 65, LimitError),
        (0, "dçt", CorruptError),
        (0, "a\nb", CorruptError),
        (0, b"dct", CorruptError),
        (1, bytes(15), CorruptError),
        (1, "0123456789abcdef", CorruptError),
        (2, "dc", CorruptError),
        (2, ["n"] * 33, LimitError),
        (2, [""], LimitError),
        (2, ["n" * 17], LimitError),
        (2, [1], CorruptError),
        (3, 25, CorruptError),
        (3, -1.0, LimitError),
        (3, float("nan"), LimitError),
        (3, float("inf"), LimitError),
        (4, None, CorruptError),
        (4, "t" * 201, LimitError),
    ],
)
def test_a_field_out_of_its_bounds_is_refused(position, value, error):
    fields = [value if at == position else old for at, old in enumerate(FIELDS)]
    with pytest.raises(error):
        decode_description(encoded(fields))


def test_encode_refuses_what_decode_would():
    with pytest.raises(ConfigError, match="16 bytes"):
        encode_description(replace(DESCRIPTION, fingerprint=b"short"))
    with pytest.raises(ConfigError, match="Unicode"):
        encode_description(replace(DESCRIPTION, title="\ud800"))
    with pytest.raises(LimitError, match="layer names"):
        encode_description(replace(DESCRIPTION, layer_names=("n",) * 33))
    assert decode_description(encode_description(replace(DESCRIPTION, frame_rate=30))).frame_rate == 30.0
