"""The still-picture codecs that layercast is compared with, at fixed settings.

Bytes are those of the complete file, as for layercast they are those of the complete access unit. All
work in 4:4:4 where the format can, since PSNR is taken in RGB; the 4:2:0 rows are what such files usually
are.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import imagecodecs
import numpy as np
from PIL import Image, features

from benchmarks.pictures import Picture


@dataclass(frozen=True)
class Peer:
    """One codec at fixed settings.

    Attributes:
        name: stable name, also of the result file.
        title: for people.
        library: what does the work, a key of `library_versions`.
        settings: everything but the quality, in words.
        qualities: the settings that make its curve, small files first.
        speed_quality: the one used where time is measured, about 37 dB on the bundled pictures.
    """

    name: str
    title: str
    library: str
    settings: str
    qualities: tuple[float, ...]
    speed_quality: float
    encode: Callable[[Picture, float], bytes]
    decode: Callable[[bytes], Picture]


def _pillow_encoder(
    kind: str, quality_name: str = "quality", **options: Any
) -> Callable[[Picture, float], bytes]:
    def encode(picture: Picture, quality: float) -> bytes:
        out = io.BytesIO()
        Image.fromarray(picture).save(out, kind, **{quality_name: quality}, **options)
        return out.getvalue()

    return encode


def pillow_decode(data: bytes) -> Picture:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _jpeg2000_encode(picture: Picture, decibels: float) -> bytes:
    out = io.BytesIO()
    options: dict[str, Any] = {"quality_mode": "dB", "quality_layers": [decibels]}
    Image.fromarray(picture).save(out, "JPEG2000", no_jp2=True, irreversible=True, mct=1, **options)
    return out.getvalue()


def _jpegxl_encode(picture: Picture, distance: float) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(picture, distance=distance, effort=7))


def _jpegxl_decode(data: bytes) -> Picture:
    return np.asarray(imagecodecs.jpegxl_decode(data))


X265_PARAMETERS = "keyint=1:info=0:log-level=none"


def _x265_encode(picture: Picture, crf: float) -> bytes:
    context = av.CodecContext.create("libx265", "w")
    context.width, context.height = picture.shape[1], picture.shape[0]
    context.pix_fmt, context.time_base = "yuv444p", Fraction(1, 25)
    context.options = {"preset": "slow", "crf": str(crf), "tune": "psnr", "x265-params": X265_PARAMETERS}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv444p", dst_colorspace="ITU601", dst_color_range="JPEG"
    )
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def _x265_decode(data: bytes) -> Picture:
    context = av.CodecContext.create("hevc", "r")
    frame = [*context.decode(av.Packet(data)), *context.decode(None)][0]
    full = frame.reformat(
        format="rgb24", src_colorspace="ITU601", src_color_range="JPEG", dst_color_range="JPEG"
    )
    return full.to_ndarray()


_STEPS = tuple(float(q) for q in range(5, 100, 5))
_AVIF_QUALITIES = (20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)


def _integer(encode: Callable[[Picture, float], bytes]) -> Callable[[Picture, float], bytes]:
    return lambda picture, quality: encode(picture, int(quality))


JPEG_444 = Peer(
    "jpeg-444",
    "JPEG 4:4:4",
    "libjpeg_turbo",
    "Pillow, subsampling 4:4:4, optimize, baseline",
    _STEPS,
    85,
    _integer(_pillow_encoder("JPEG", subsampling="4:4:4", optimize=True)),
    pillow_decode,
)
JPEG_420 = Peer(
    "jpeg-420",
    "JPEG 4:2:0",
    "libjpeg_turbo",
    "Pillow, subsampling 4:2:0, optimize, progressive",
    _STEPS,
    75,
    _integer(_pillow_encoder("JPEG", subsampling="4:2:0", optimize=True, progressive=True)),
    pillow_decode,
)
JPEG_PLAIN = Peer(
    "jpeg-plain",
    "JPEG, Pillow's defaults",
    "libjpeg_turbo",
    "Pillow, nothing but quality (4:2:0, baseline, standard Huffman tables): what the published curve is",
    _STEPS,
    75,
    _integer(_pillow_encoder("JPEG")),
    pillow_decode,
)
WEBP = Peer(
    "webp",
    "WebP",
    "webp",
    "Pillow, nothing but quality (method 4; the format has 4:2:0 only)",
    _STEPS,
    75,
    _integer(_pillow_encoder("WEBP")),
    pillow_decode,
)
JPEG2000 = Peer(
    "jpeg2000",
    "JPEG 2000",
    "jpg_2000",
    "Pillow, bare codestream, irreversible, mct=1 (without it Pillow codes R, G and B apart), one "
    "layer set by PSNR in dB",
    (26, 28, 30, 32, 34, 36, 38, 40),
    37,
    _jpeg2000_encode,
    pillow_decode,
)
# Without tiles, which cost bits, and on one thread, since the bits depend on how many there are.
_AVIF_STILL = {"speed": 6, "max_threads": 1, "autotiling": False}

AVIF_444 = Peer(
    "avif-444",
    "AVIF 4:4:4",
    "avif",
    "Pillow, subsampling 4:4:4, speed 6, one thread, no tiles",
    _AVIF_QUALITIES,
    55,
    _integer(_pillow_encoder("AVIF", subsampling="4:4:4", **_AVIF_STILL)),
    pillow_decode,
)
AVIF_420 = Peer(
    "avif-420",
    "AVIF 4:2:0",
    "avif",
    "Pillow, subsampling 4:2:0, speed 6, one thread, no tiles",
    _AVIF_QUALITIES,
    55,
    _integer(_pillow_encoder("AVIF", subsampling="4:2:0", **_AVIF_STILL)),
    pillow_decode,
)
AVIF_FAST = Peer(
    "avif-420",
    "AVIF 4:2:0",
    "avif",
    "Pillow, subsampling 4:2:0, speed 6, as many threads as cores, tiles as it likes",
    _AVIF_QUALITIES,
    55,
    _integer(_pillow_encoder("AVIF", subsampling="4:2:0", speed=6)),
    pillow_decode,
)
JPEGXL = Peer(
    "jpegxl",
    "JPEG XL",
    "libjxl",
    "imagecodecs, effort 7, Butteraugli distance",
    (15, 11, 8, 6, 4, 3, 2, 1.5, 1, 0.5),
    2,
    _jpegxl_encode,
    _jpegxl_decode,
)
X265 = Peer(
    "x265-444",
    "x265 intra 4:4:4",
    "ffmpeg",
    f"PyAV, one intra picture, 8-bit full-range BT.601, preset slow, tune psnr, CRF, {X265_PARAMETERS}",
    (40, 36, 32, 28, 24, 20, 16),
    24,
    _x265_encode,
    _x265_decode,
)

PEERS = (JPEG_444, JPEG_420, WEBP, JPEG2000, AVIF_444, AVIF_420, JPEGXL, X265)


def library_versions() -> dict[str, str]:
    """Versions of the libraries inside the wheels, which the wheels' own versions do not tell."""
    found = {name: str(features.version(name)) for name in ("libjpeg_turbo", "webp", "avif", "jpg_2000")}
    if features.check("avif"):
        from PIL import _avif

        coders = [part.strip() for part in _avif.codec_versions().split(",")]
        found["avif"] += " with " + ", ".join(
            part.replace(" [enc]:", " ") for part in coders if "[enc]" in part
        )
    found["libjxl"] = imagecodecs.jpegxl_version().removeprefix("libjxl ")
    found["ffmpeg"] = str(av.ffmpeg_version_info)
    return found
