"""JPEG, WebP and JPEG 2000 as Pillow has them: what a codec here is measured beside, in the same run."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from layercast.bench.metrics import psnr
from layercast.media.base import Image

JPEG_QUALITIES = tuple(range(10, 96, 5))
"""The sweep of the anchor: 10, 15, ... 95."""

WEBP_QUALITIES = (5, 20, 35, 50, 65, 80, 90, 97)
JPEG2000_RATIOS = (160, 96, 64, 40, 24, 16, 10, 7, 5)
"""Compression ratios against 24 bits per pixel; 24 is 1 bit per pixel."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A codec of Pillow, with what to pass to `save` for each step of its quality."""

    name: str
    format: str
    shown: Any
    steps: tuple[Any, ...]

    def options(self, step: Any) -> dict[str, Any]:
        """Arguments of Pillow's `save`."""
        if self.format == "JPEG2000":
            # Without mct, Pillow codes R, G and B apart, which costs 2.7 dB at 1 bit per pixel.
            return {"quality_mode": "rates", "quality_layers": [step], "irreversible": True, "mct": 1}
        if self.format == "JPEG":
            return {"quality": step, "optimize": True, "progressive": True, "subsampling": "4:2:0"}
        return {"quality": step}


JPEG = Peer("JPEG (progressive, 4:2:0)", "JPEG", 75, JPEG_QUALITIES)
PEERS = (
    JPEG,
    Peer("WebP", "WEBP", 75, WEBP_QUALITIES),
    Peer("JPEG 2000", "JPEG2000", 24, JPEG2000_RATIOS),
)


@dataclass(frozen=True, slots=True)
class PeerPoint:
    """One picture through a peer: bits per pixel, PSNR in dB, milliseconds."""

    bpp: float
    psnr: float
    encode_ms: float
    decode_ms: float


def measure_peer(peer: Peer, image: Image, step: Any) -> PeerPoint:
    """Save and load `image` in memory."""
    picture = PillowImage.fromarray(image)
    buffer = io.BytesIO()
    started_s = time.perf_counter()
    picture.save(buffer, peer.format, **peer.options(step))
    middle_s = time.perf_counter()
    decoded = np.asarray(PillowImage.open(buffer).convert(picture.mode))
    ended_s = time.perf_counter()
    size = len(buffer.getvalue())
    return PeerPoint(
        bpp=8 * size / (image.shape[0] * image.shape[1]),
        psnr=psnr(image, decoded),
        encode_ms=(middle_s - started_s) * 1e3,
        decode_ms=(ended_s - middle_s) * 1e3,
    )
