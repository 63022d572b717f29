"""The golden files: what version 1 of the bitstream is, byte for byte.

`python -m bitstream.golden`, run in tests/, writes the files that are missing. One that exists is never
changed: code that writes other bytes is a new version of the format, with golden files of its own.
"""

import io
from pathlib import Path
from unittest import mock

from layercast.bitstream import (
    ContainerWriter,
    FrameHeader,
    FrameKind,
    PictureInfo,
    StreamDescription,
    encode_description,
    pack,
    trim,
)

FOLDER = Path(__file__).parent.parent / "golden" / "bitstream"

DESCRIPTION = StreamDescription(
    codec="dct",
    fingerprint=bytes.fromhex("00112233445566778899aabbccddeeff"),
    layer_names=("dc", "ac1", "ac2"),
    frame_rate=25.0,
    title="Zürich, 東京",
)
KEY = FrameHeader(
    frame_id=7,
    timestamp_us=1_700_000_000_123_456,
    picture=PictureInfo(width=768, height=512, channels=3, quality_index=180),
)
DELTA = FrameHeader(
    frame_id=2**32 - 1,
    timestamp_us=2**63 - 1,
    picture=PictureInfo(width=8192, height=1, channels=1, quality_index=0),
    kind=FrameKind.DELTA,
    reference_id=7,
    total_layers=32,
)
LAYERS = [b"coarse", b"", b"the finest"]
GAINS_DB = [21.5, 0.0, 63.5]


def contents() -> dict[str, bytes]:
    """File name -> what today's code writes."""
    key = pack(KEY, LAYERS, GAINS_DB)
    delta = pack(DELTA, LAYERS)
    with mock.patch("layercast.bitstream.unit._MAX_NARROW_BYTES", 8):  # else a wide unit is 16 MiB
        wide = pack(KEY, LAYERS, GAINS_DB)
    file = io.BytesIO()
    with ContainerWriter(file, DESCRIPTION) as writer:
        for unit in (key, trim(key, 1), delta):
            writer.write(unit)
    return {
        "key.unit": key,
        "key-trimmed-to-2.unit": trim(key, 2),
        "key-trimmed-to-0.unit": trim(key, 0),
        "delta.unit": delta,
        "wide.unit": wide,
        "stream.description": encode_description(DESCRIPTION),
        "three-units.lcast": file.getvalue(),
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in contents().items():
        path = FOLDER / name
        if not path.exists():
            path.write_bytes(data)
            print(f"{path}: {len(data)} bytes")
