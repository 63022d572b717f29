"""Plain values that every part of layercast shares: no numpy, no I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_SIDE = 8192
"""Largest picture width or height in pixels; bounds every allocation made from a header."""

MAX_LAYERS = 32
"""Most layers of one frame; the flagship uses 8-16, room for a codec with finer ones."""


class FrameKind(enum.IntEnum):
    """Whether a frame has a temporal reference."""

    KEY = 0
    DELTA = 1


@dataclass(frozen=True, slots=True)
class PictureInfo:
    """What a decoder must know about a picture besides its layers.

    Attributes:
        width: pixels, 1..MAX_SIDE.
        height: pixels, 1..MAX_SIDE.
        channels: 1 (grey) or 3 (RGB).
        quality_index: 0..255, the encoder's quality quantised to `quality = index / 255`.
    """

    width: int
    height: int
    channels: int
    quality_index: int


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """One frame's header in an access unit.

    Attributes:
        frame_id: 0..2**32-1, grows by one per captured frame, never reused in a session.
        timestamp_us: capture time in microseconds since the Unix epoch.
        picture: size, channels and quality.
        kind: key or delta frame.
        reference_id: frame id of the reference of a delta frame, else None.
        total_layers: how many layers the encoder made (a trimmed unit carries fewer).
    """

    frame_id: int
    timestamp_us: int
    picture: PictureInfo
    kind: FrameKind = FrameKind.KEY
    reference_id: int | None = None
    total_layers: int = 0


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """What both ends agree on before the first frame.

    Attributes:
        codec: registry name of the codec.
        fingerprint: the codec's 16-byte model or table fingerprint; both ends must hold the same.
        layer_names: one name per layer, coarse to fine.
        frame_rate: nominal frames per second, 0.0 when unknown.
        title: free text for people, at most 200 characters.
    """

    codec: str
    fingerprint: bytes
    layer_names: tuple[str, ...]
    frame_rate: float = 0.0
    title: str = ""
