"""Damages bytes, plainly or with the checksums put right again, so that what lies behind them is reached."""

import struct
from zlib import crc32

from layercast.bitstream import FrameHeader, FrameKind, PictureInfo, pack, trim
from layercast.bitstream.container import ENTRY, FOOT, MARK, RECORD, footer, record_header

# Lengths and counts around every limit, as msgpack and as big-endian integers.
_INTEGERS = (0, 1, 31, 32, 33, 64, 127, 128, 255, 256, 4096, 8192, 8193, 2**16 - 1, 2**16, 2**24, 2**28 + 1)
_PIECES = [
    *(value.to_bytes(4, "big") for value in (*_INTEGERS, 2**31, 2**32 - 1)),
    *(value.to_bytes(2, "big") for value in _INTEGERS if value < 2**16),
    *(bytes((code,)) for code in range(0xC0, 0xE0)),  # every msgpack type code that is not a small value
    b"\xdc\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\xff",
    b"\xd7\xff" + b"\xff" * 8,
    b"\xdc\x00\x40" * 80,
    MARK,
    MARK + b"U",
    b"LU\x01",
    b"\0" * 40,
]


def units() -> list[bytes]:
    """Small legal units of every sort: whole, trimmed, empty, delta, wide."""
    picture = PictureInfo(768, 512, 3, 180)
    key = FrameHeader(5, 1_700_000_000_000_000, picture)
    delta = FrameHeader(2**32 - 1, 2**63 - 1, picture, FrameKind.DELTA, 5, 32)
    full = pack(key, [bytes(range(at, at + 9 * at)) for at in range(1, 9)], [float(at) for at in range(1, 9)])
    return [
        full,
        trim(full, 3),
        trim(full, 0),
        pack(delta, [b""] * 32),
        pack(FrameHeader(0, 0, PictureInfo(1, 1, 1, 0)), [b"\xf7LCU" * 5]),
        _widened(pack(delta, [b"one", b"two"])),
    ]


def _widened(unit: bytes) -> bytes:
    """The same unit with lengths of 32 bits."""
    at = 10 + unit[4]
    layers = []
    while at < len(unit):
        length = int.from_bytes(unit[at : at + 3], "big")
        layers.append(unit[at + 8 : at + 8 + length])
        at += 8 + length
    start = bytearray(unit[: 5 + unit[4]])
    start[3] = 1
    head = bytes(start) + bytes(4) + bytes((len(layers),))
    return reseal_unit(head + b"".join(struct.pack(">II", len(layer), 0) + layer for layer in layers))


def mutate(random, data: bytes, corpus: list[bytes]) -> bytes:
    """One to three of: flip, overwrite, cut, delete, double, insert, splice."""
    damaged = bytearray(data)
    for _ in range(random.randint(1, 3)):
        size = len(damaged)
        at = random.randrange(size + 1)
        span = slice(at, at + random.choice((1, 2, 4, 8, random.randint(0, size))))
        match random.randrange(8):
            case 0 | 1 if size:
                damaged[at % size] ^= 1 << random.randrange(8)
            case 2:
                piece = random.choice(_PIECES)
                damaged[at : at + len(piece)] = piece
            case 3:
                del damaged[at:]
            case 4:
                del damaged[span]
            case 5:
                damaged[at:at] = damaged[span]
            case 6:
                damaged[at:at] = random.choice(_PIECES)
            case _:
                other = random.choice(corpus)
                damaged[at:] = other[min(at, len(other)) + random.randint(-4, 4) :]
    return bytes(damaged)


def reseal_unit(unit: bytes) -> bytes:
    """The same bytes with header length, CRC-32s and versions right, as far as there are such fields."""
    if len(unit) < 10:
        return unit
    sealed = bytearray(unit)
    sealed[:3] = b"LU\x01"
    sealed[3] &= 1
    sealed[4] = min(sealed[4], len(sealed) - 10)
    end = 5 + sealed[4]
    crc = crc32(sealed[:end])
    struct.pack_into(">I", sealed, end, crc)
    at = end + 5
    while at + 8 <= len(sealed):
        word = int.from_bytes(sealed[at : at + 4], "big")
        length = word if sealed[3] else word >> 8
        crc = crc32(sealed[at + 8 : at + 8 + length], crc32(sealed[at : at + 4], crc))
        struct.pack_into(">I", sealed, at + 4, crc)
        at += 8 + length
    return bytes(sealed)


def reseal_description(data: bytes) -> bytes:
    body = b"LD\x01" + data[3:-4]
    return body + struct.pack(">I", crc32(body))


def reseal_container(random, file: bytes) -> bytes:
    """The same bytes with record headers and index sealed again, some lengths and entries forged before."""
    sealed = bytearray(file[: -FOOT.size])
    at, last = sealed.find(MARK), None
    while 0 <= at <= len(sealed) - RECORD.size:
        kind, length = sealed[at + 3], int.from_bytes(sealed[at + 4 : at + 8], "big")
        if random.randrange(8) == 0:
            length = random.choice((0, 1, length + 1, len(sealed), 2**28 + 1, 2**32 - 1))
        sealed[at : at + RECORD.size] = record_header(kind, length)
        at, last = sealed.find(MARK, at + 4), at
    if last is None:
        return file
    index = sealed[last + RECORD.size : -4]
    for entry in range(0, len(index) - ENTRY.size, ENTRY.size):
        if random.randrange(4) == 0:
            struct.pack_into(">Q", index, entry, random.choice((0, entry, last, len(sealed), 2**64 - 1)))
    body = bytes(sealed[: last + RECORD.size]) + bytes(index) + struct.pack(">I", crc32(index))
    return body + footer(last)
