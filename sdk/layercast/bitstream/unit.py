"""The access unit: the header and the layers of one frame as bytes, cut by slicing.

A unit is a header that never changes, one byte that counts the layers present, and the layers, each behind
its own 8-byte header. Dropping layers is therefore one slice and one patched byte, and drops their share of
the table too. The CRC-32s form a chain: the header's own, then each layer's continues from the one before, so
a layer of another frame, or in another place, shows as surely as a flipped bit. The byte tables, the reasons
and a worked example are in docs/bitstream.md, which is normative.

>>> from layercast.bitstream import FrameHeader, PictureInfo, pack, read_index, trim, unpack
>>> header = FrameHeader(frame_id=7, timestamp_us=0, picture=PictureInfo(768, 512, 3, quality_index=180))
>>> unit = pack(header, [b"coarse", b"finer", b"finest"])
>>> read_index(unit).ends
(24, 38, 51, 65)
>>> unpack(trim(unit, 2)).layers
(b'coarse', b'finer')
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import index
from zlib import crc32

import msgpack

from layercast.bitstream.fields import check_integer, decode_array
from layercast.bitstream.types import MAX_LAYERS, MAX_SIDE, FrameHeader, FrameKind, PictureInfo
from layercast.errors import ConfigError, CorruptError, LimitError, TruncatedError, UnsupportedVersionError

MAGIC = b"LU"
VERSION = 1

MAX_UNIT_BYTES = 1 << 28
"""Largest access unit in bytes: the raw bytes of the largest picture (8192 x 8192 RGB, 192 MiB) and a third
more for a codec that expands noise. A transport may set a lower bound."""

MAX_HEADER_BYTES = 255
"""Largest frame header array in bytes, what its one-byte length can say; version 1 writes at most 30."""

MAX_UNIT_START_BYTES = 10 + MAX_HEADER_BYTES
"""Most bytes of a unit before its first layer: magic, version, flags, length, header array, CRC-32, count."""

MAX_ID = 2**32 - 1
"""Largest frame id: 2.2 years at 60 frames per second."""

MAX_TIMESTAMP_US = 2**63 - 1
"""Largest capture time in microseconds since 1970; fits a signed 64-bit integer in any language."""

GAIN_STEP_DB = 0.25
"""Step of a stored gain in dB; finer than a relay's choice between layers needs."""

MAX_GAIN_DB = 63.5
"""Largest stored gain in dB, 254 steps. An 8-bit picture that is off by one level everywhere has 48 dB."""

_UNKNOWN_GAIN = 255
_MAX_NARROW_BYTES = 2**24 - 1
_WIDE = 0x01
_START = struct.Struct(">2sBBB")  # magic, version, flags, length of the header array
_CRC = struct.Struct(">I")
_LAYER = struct.Struct(">II")  # length and gain (or the wide length), CRC-32
_FIELDS = 8


@dataclass(frozen=True, slots=True)
class UnitIndex:
    """What a relay needs to know of a unit.

    Attributes:
        header: the frame's header.
        kept: how many layers the unit carries, 0..header.total_layers.
        gains_db: PSNR in dB that each kept layer adds, in steps of GAIN_STEP_DB within 0..MAX_GAIN_DB; empty
            unless all of them state it.
        ends: size in bytes of the unit trimmed to k layers, for k = 0..kept; ends[kept] is its present size.
    """

    header: FrameHeader
    kept: int
    gains_db: tuple[float, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Damage:
    """Where a unit stops being usable.

    Attributes:
        layer: number of the first layer that cannot be used.
        reason: one line for people.
    """

    layer: int
    reason: str


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One frame, taken apart.

    Attributes:
        header: the frame's header.
        layers: the usable prefix: every layer before the first damaged one.
        gains_db: PSNR in dB that each of these layers adds, as in `UnitIndex`.
        damage: None when the unit arrived whole.
    """

    header: FrameHeader
    layers: tuple[bytes, ...]
    gains_db: tuple[float, ...]
    damage: Damage | None


def pack(header: FrameHeader, layers: Sequence[bytes], gains_db: Sequence[float] = ()) -> bytes:
    """The access unit of one frame.

    Args:
        header: with total_layers 0, it is set to the number of layers.
        layers: the frame's layers, coarse to fine, 0 to MAX_LAYERS of them; one may be empty bytes.
        gains_db: PSNR in dB that each layer adds, rounded to GAIN_STEP_DB and clipped to 0..MAX_GAIN_DB; NaN
            is "unknown"; empty when the codec does not state them.

    Raises:
        LimitError: a field of the header, the number of layers or the size of the unit is out of bounds.
        ConfigError: kind and reference_id, or the lengths of the arguments, contradict each other.
    """
    if gains_db and len(gains_db) != len(layers):
        raise ConfigError(f"{len(gains_db)} gains for {len(layers)} layers", hint="one per layer, or none")
    if len(layers) > MAX_LAYERS:
        raise LimitError(f"{len(layers)} layers are more than {MAX_LAYERS}")
    if header.total_layers == 0:
        header = replace(header, total_layers=len(layers))
    if header.total_layers < len(layers):
        raise ConfigError(f"{len(layers)} layers, but the header says {header.total_layers} in total")
    wide = any(len(layer) > _MAX_NARROW_BYTES for layer in layers)
    array = _encode_header(header)
    start = _START.pack(MAGIC, VERSION, _WIDE if wide else 0, len(array)) + array
    size = len(start) + _CRC.size + 1 + sum(_LAYER.size + len(layer) for layer in layers)
    if size > MAX_UNIT_BYTES:
        raise LimitError(f"a unit of {size} bytes is above {MAX_UNIT_BYTES}", hint="lower the quality")
    crc = crc32(start)
    parts = [start, _CRC.pack(crc), bytes((len(layers),))]
    for number, layer in enumerate(layers):
        word = len(layer)
        if not wide:
            word = word << 8 | _gain_code(gains_db[number] if gains_db else math.nan)
        crc = crc32(layer, crc32(_CRC.pack(word), crc))
        parts += (_LAYER.pack(word, crc), layer)
    return b"".join(parts)


def read_index(unit: bytes | memoryview) -> UnitIndex:
    """Header and layer sizes of a unit; touches no byte of a layer, so it does not see damage inside one.

    Raises:
        TruncatedError: the unit ends before its last layer does.
        CorruptError: damaged header, or the layers do not fill the unit exactly.
        UnsupportedVersionError: written by a newer layercast.
        LimitError: a size or count is out of bounds.
    """
    header, wide, at = read_header(unit)
    kept, size = unit[at - 1], len(unit)
    ends, codes = [at], []
    for number in range(kept):
        if size - at < _LAYER.size:
            raise TruncatedError(f"the unit ends before layer {number} of {kept}")
        word = _CRC.unpack_from(unit, at)[0]
        at += _LAYER.size + (word if wide else word >> 8)
        if at > size:
            raise TruncatedError(f"the unit ends inside layer {number} of {kept}")
        ends.append(at)
        codes.append(word & 0xFF)
    if at != size:
        raise CorruptError(f"{size - at} bytes follow the last of {kept} layers")
    return UnitIndex(header, kept, () if wide else _gains(codes), tuple(ends))


def trim(unit: bytes, keep: int, index: UnitIndex | None = None) -> bytes:
    """The unit with its first `keep` layers only; `unit` itself when it has no more than that.

    Below 0 is 0, and a unit of no layers is legal: a frame that was captured and not sent.

    Args:
        unit: an access unit.
        keep: layers.
        index: what `read_index` says of `unit`, for who has asked already.

    Raises:
        BitstreamError: as `read_index`.
    """
    found = read_index(unit) if index is None else index
    if keep >= found.kept:
        return unit
    keep = max(keep, 0)
    body = found.ends[0]
    return b"".join((unit[: body - 1], bytes((keep,)), memoryview(unit)[body : found.ends[keep]]))


def unpack(unit: bytes | memoryview) -> AccessUnit:
    """Take a unit apart, checking every layer; the first that is cut or damaged ends the usable prefix.

    Raises:
        TruncatedError: the unit ends before its first layer would begin.
        CorruptError: the header is damaged.
        UnsupportedVersionError: written by a newer layercast.
        LimitError: a size or count is out of bounds.
    """
    header, wide, at = read_header(unit)
    kept, size = unit[at - 1], len(unit)
    crc = _CRC.unpack_from(unit, at - 1 - _CRC.size)[0]
    layers: list[bytes] = []
    codes: list[int] = []
    damage = None
    for number in range(kept):
        if size - at < _LAYER.size:
            damage = Damage(number, "the unit ends before this layer")
            break
        word, stored = _LAYER.unpack_from(unit, at)
        end = at + _LAYER.size + (word if wide else word >> 8)
        if end > size:
            damage = Damage(number, "the unit ends inside this layer")
            break
        layer = bytes(unit[at + _LAYER.size : end])
        crc = crc32(layer, crc32(unit[at : at + _CRC.size], crc))
        if crc != stored:
            damage = Damage(number, "checksum mismatch")
            break
        layers.append(layer)
        codes.append(word & 0xFF)
        at = end
    if damage is None and at != size:
        damage = Damage(kept, f"{size - at} bytes follow the last layer")
    return AccessUnit(header, tuple(layers), () if wide else _gains(codes), damage)


def _encode_header(header: FrameHeader) -> bytes:
    if (header.kind is FrameKind.KEY) != (header.reference_id is None):
        raise ConfigError(
            f"a {header.kind.name.lower()} frame with reference_id {header.reference_id}",
            hint="a delta frame names its reference, a key frame has none",
        )
    picture = header.picture
    fields = (
        index(header.frame_id),
        index(header.timestamp_us),
        index(picture.quality_index),
        index(picture.width),
        index(picture.height),
        index(picture.channels),
        None if header.reference_id is None else index(header.reference_id),
        index(header.total_layers),
    )
    _check_fields(fields)
    encoded: bytes = msgpack.packb(fields)
    return encoded


def _check_fields(fields: Sequence[object]) -> FrameHeader:
    """The header of these array elements, each within its bounds; further elements are a newer writer's."""
    picture = PictureInfo(
        quality_index=check_integer("quality index", fields[2], 0, 255),
        width=check_integer("width", fields[3], 1, MAX_SIDE),
        height=check_integer("height", fields[4], 1, MAX_SIDE),
        channels=check_integer("channels", fields[5], 1, 3),
    )
    if picture.channels == 2:
        raise LimitError("channels is 2, not 1 (grey) or 3 (RGB)")
    reference = None if fields[6] is None else check_integer("reference id", fields[6], 0, MAX_ID)
    return FrameHeader(
        frame_id=check_integer("frame id", fields[0], 0, MAX_ID),
        timestamp_us=check_integer("timestamp", fields[1], 0, MAX_TIMESTAMP_US),
        picture=picture,
        kind=FrameKind.KEY if reference is None else FrameKind.DELTA,
        reference_id=reference,
        total_layers=check_integer("total layers", fields[7], 0, MAX_LAYERS),
    )


def read_header(unit: bytes | memoryview) -> tuple[FrameHeader, bool, int]:
    """(header, whether layer lengths are wide, offset of the first layer); the count is the byte before."""
    size = len(unit)
    if size > MAX_UNIT_BYTES:
        raise LimitError(f"the unit has {size} bytes, more than {MAX_UNIT_BYTES}")
    if unit[:2] != MAGIC[:size]:
        raise CorruptError("not an access unit: it does not begin with 'LU'")
    if size < _START.size:
        raise TruncatedError(f"the unit ends after {size} bytes, inside its header")
    _, version, flags, length = _START.unpack_from(unit)
    if version != VERSION or flags & ~_WIDE:
        raise UnsupportedVersionError(
            f"access unit of version {version}, flags {flags:#04x}", hint="upgrade layercast to read it"
        )
    end = _START.size + length
    at = end + _CRC.size + 1
    if size < at:
        raise TruncatedError(f"the unit ends after {size} bytes, inside its header")
    if crc32(unit[:end]) != _CRC.unpack_from(unit, end)[0]:
        raise CorruptError("the checksum of the unit's header does not match")
    header = _check_fields(decode_array(bytes(unit[_START.size : end]), _FIELDS, "frame header"))
    if unit[at - 1] > header.total_layers:
        raise CorruptError(f"the unit claims {unit[at - 1]} layers of {header.total_layers}")
    return header, bool(flags & _WIDE), at


def _gain_code(gain_db: float) -> int:
    if math.isnan(gain_db):
        return _UNKNOWN_GAIN
    return round(min(max(gain_db, 0.0), MAX_GAIN_DB) / GAIN_STEP_DB)


def _gains(codes: list[int]) -> tuple[float, ...]:
    return () if _UNKNOWN_GAIN in codes else tuple(code * GAIN_STEP_DB for code in codes)
