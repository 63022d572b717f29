"""A JPEG 2000 codestream cut short at any packet, made decodable again (ITU-T T.800, annexes A and B).

OpenJPEG refuses a codestream that ends early. So the bytes are cut at the end of a packet, found through
the PLT markers (A.7.3), the packets that are missing are written as empty ones (one zero byte each,
B.10.3), and the length of the tile-part is corrected. The bytes added say nothing, and are not counted as
received.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from PIL import Image

from benchmarks.pictures import Picture

_SOD, _EOC = b"\xff\x93", b"\xff\xd9"
_SOT, _PLT = 0xFF90, 0xFF58
_PSOT_OFFSET = 6
"""Bytes from the SOT marker to its Psot field: the marker, Lsot and Isot, 2 bytes each."""


@dataclass(frozen=True)
class Codestream:
    """One tile-part taken apart: its header without PLT, and its packets in order."""

    main_header: bytes
    tile_header: bytes
    packets: tuple[bytes, ...]

    def size(self, packets: int) -> int:
        """Bytes received when so many packets have arrived."""
        return len(self.main_header) + len(self.tile_header) + sum(map(len, self.packets[:packets]))

    def cut(self, packets: int) -> bytes:
        """A valid codestream of the first so many packets."""
        body = b"".join(self.packets[:packets]) + bytes(len(self.packets) - packets)
        tile = bytearray(self.tile_header + body)
        struct.pack_into(">I", tile, _PSOT_OFFSET, len(tile))
        return self.main_header + bytes(tile) + _EOC


def encode(picture: Picture, layers: int) -> Codestream:
    """Quality layers whose rates go down from 12:1 (2 bpp) by factors of √2, in layer-resolution order."""
    out = io.BytesIO()
    rates = [12 * 2 ** (i / 2) for i in reversed(range(layers))]
    Image.fromarray(picture).save(
        out,
        "JPEG2000",
        no_jp2=True,
        irreversible=True,
        mct=1,
        progression="LRCP",
        quality_mode="rates",
        quality_layers=rates,
        plt=True,
    )
    return parse(out.getvalue())


def parse(data: bytes) -> Codestream:
    at = 2
    while (marker := _word(data, at)) != _SOT:
        at += 2 + _word(data, at + 2)
    start, lengths = at, []
    tile_header = data[at : at + 2 + _word(data, at + 2)]
    at += len(tile_header)
    while data[at : at + 2] != _SOD:
        marker, length = _word(data, at), _word(data, at + 2)
        if marker == _PLT:
            lengths += _packet_lengths(data[at + 5 : at + 2 + length])
        else:
            tile_header += data[at : at + 2 + length]
        at += 2 + length
    at += 2
    packets = []
    for length in lengths:
        packets.append(data[at : at + length])
        at += length
    if data[at:] != _EOC:
        raise ValueError("not one tile-part with PLT markers")
    return Codestream(data[:start], tile_header + _SOD, tuple(packets))


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _packet_lengths(data: bytes) -> list[int]:
    """Seven bits a byte, the top bit set on all but the last byte of a length."""
    lengths, value = [], 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            lengths.append(value)
            value = 0
    return lengths
