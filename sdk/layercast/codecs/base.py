"""What a codec is: pictures to an ordered list of layers and back.

The one rule: *any prefix of the layers decodes*. A codec never sees the network, a file or a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from layercast.bitstream.types import FrameKind, PictureInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One row of a codec's layer table.

    Attributes:
        name: short stable name, e.g. ``"p1.c3"``; at most 16 ASCII characters.
        about: one line for people.
    """

    name: str
    about: str


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """What `Codec.encode` returns: layers, and what a decoder must know besides them.

    Attributes:
        layers: the bitstreams, coarse to fine; a layer may be empty bytes.
        picture: size, channels and quality index.
        gains_db: PSNR in dB that each layer adds when appended to the ones before it (same length as
            layers, layer 0's is its PSNR over a mid-grey picture); empty when the codec does not state it.
        kind: key frame, or delta frame against an earlier one.
    """

    layers: tuple[bytes, ...]
    picture: PictureInfo
    gains_db: tuple[float, ...] = ()
    kind: FrameKind = FrameKind.KEY


class FrameDecoder(Protocol):
    """Decodes one frame layer by layer; pushing one more layer never decodes an earlier one again."""

    def push(self, layer: bytes) -> None:
        """Take the next layer.

        Raises:
            CorruptError: the bytes are not a valid layer; the decoder stays usable with the layers before it.
        """

    def picture(self) -> Image:
        """The picture from the layers pushed so far, shape (H, W, 3) or (H, W), uint8."""


@runtime_checkable
class Codec(Protocol):
    """A registered codec. Instances are cheap to share between frames, not between threads."""

    name: ClassVar[str]

    @property
    def layer_table(self) -> tuple[LayerInfo, ...]:
        """The layers that `encode` makes, coarse to fine, always the same number."""

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that differ whenever two ends would not decode alike."""

    def encode(self, image: Image, quality: float = 0.7) -> EncodedFrame:
        """Encode one picture.

        Args:
            image: (H, W, 3) RGB or (H, W) grey, uint8, 1x1 to 8192x8192.
            quality: 0.0 (smallest) to 1.0 (best); stands for the rate-distortion trade-off lambda.

        Raises:
            PictureError: unsupported shape, dtype or size.
        """

    def start(self, picture: PictureInfo) -> FrameDecoder:
        """A decoder for one frame.

        Raises:
            PictureError: a size or channel count that this codec does not take.
        """

    def decode(self, layers: Sequence[bytes], picture: PictureInfo) -> Image:
        """Decode a prefix of the layers (possibly none: a mid-grey picture) in one call."""


@runtime_checkable
class Timed(Protocol):
    """What a codec has besides that says where its time goes; optional."""

    @property
    def stage_times(self) -> Mapping[str, float]:
        """Seconds by stage of the last `encode` or `decode`, empty before the first; names from
        `layercast.codecs.stages.STAGES`. They add up to no more than the call took."""


@runtime_checkable
class Situated(Protocol):
    """What a codec has besides that says what it runs on; optional."""

    @property
    def runs_on(self) -> Mapping[str, str]:
        """By part of the codec: what it runs on and why, a line for people."""
