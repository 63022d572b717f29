"""`HierarchicalCodec`: pictures to layers and back through analysis, walk and synthesis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from layercast.bitstream.types import MAX_SIDE, PictureInfo
from layercast.codecs.base import EncodedFrame, LayerInfo
from layercast.codecs.hierarchical.model import Model
from layercast.codecs.hierarchical.walk import MEAN_UNIT, PARTS, Walk, layer_table
from layercast.entropy import SymbolDecoder, encode_symbols
from layercast.errors import CorruptError, PictureError
from layercast.runtime import SessionOptions

STRIDE = 32
"""Pictures are padded to multiples of this by repeating their last row and column."""

GREY = 128


class HierarchicalCodec:
    """The learned flagship codec.

    Args:
        model: folder of a zoo entry; None for the one that ships with layercast.
        provider: execution provider of analysis and synthesis, "auto" or a name.
        threads: threads per network; 0 means all cores this process may use.
        optimise: ONNX Runtime's graph optimisations.
        self_test: prove at start that the exact prior computes the expected integers here.

    Raises:
        ModelError: files missing or damaged, or the self-test fails.
        ConfigError: no such execution provider.
    """

    name: ClassVar[str] = "hierarchical"

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        provider: str = "auto",
        threads: int = 0,
        optimise: bool = True,
        self_test: bool = True,
    ) -> None:
        self.model = Model(model, SessionOptions(provider, threads, optimise))
        if self_test:
            self.model.self_test()

    @cached_property
    def layer_table(self) -> tuple[LayerInfo, ...]:
        return layer_table(self.model)

    @property
    def fingerprint(self) -> bytes:
        return self.model.fingerprint

    def encode(self, image: NDArray[np.uint8], quality: float = 0.7) -> EncodedFrame:
        """Encode (H, W, 3) RGB or (H, W) grey, uint8, at quality 0..1.

        Raises:
            PictureError: unsupported shape, dtype or size.
        """
        picture = picture_info(image, quality)
        latents = self._analyse(image, picture)
        walk = Walk(self.model, grid_of(picture), picture.quality_index, latents)
        meter = _Meter(self.model, walk, latents, picture)
        layers = []
        while not walk.complete:
            rows, tables = walk.rows()
            symbols = walk.truth()
            layers.append(encode_symbols(symbols, rows, tables))
            meter.before_put()
            walk.put(symbols)
        return EncodedFrame(tuple(layers), picture, meter.gains())

    def start(self, picture: PictureInfo) -> HierarchicalDecoder:
        """A decoder for one frame.

        Raises:
            PictureError: impossible size.
        """
        return HierarchicalDecoder(self.model, picture)

    def decode(self, layers: Sequence[bytes], picture: PictureInfo) -> NDArray[np.uint8]:
        """Decode a prefix of the layers, possibly none."""
        decoder = self.start(picture)
        for layer in layers:
            decoder.push(layer)
        return decoder.picture()

    def _analyse(self, image: NDArray[np.uint8], picture: PictureInfo) -> NDArray[np.float32]:
        """Latents in final steps, flat, strides 32, 16, 8."""
        h, w = (s * STRIDE for s in grid_of(picture))
        if image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, 2)
        if image.shape[:2] != (h, w):
            image = np.pad(image, ((0, h - image.shape[0]), (0, w - image.shape[1]), (0, 0)), "edge")
        gain = np.array([math.exp(self.model.log_gain(picture.quality_index))], np.float32)
        out = self.model.analysis.run({"image": np.ascontiguousarray(image)[None], "gain": gain})
        return np.concatenate([out[n].ravel() for n in ("y32", "y16", "y8")])


class HierarchicalDecoder:
    """Decodes one frame; each layer is entropy-decoded once, whenever it arrives."""

    def __init__(self, model: Model, picture: PictureInfo) -> None:
        check_size(picture.width, picture.height, picture.channels)
        self._model, self._info = model, picture
        self._walk = Walk(model, grid_of(picture), picture.quality_index)

    def push(self, layer: bytes) -> None:
        """Take the next layer.

        Raises:
            CorruptError: the bytes are no layer, or there are too many; the layers before stay usable.
        """
        if self._walk.complete:
            raise CorruptError(f"more than {self._walk.layers} layers", hint="the frame is complete")
        rows, tables = self._walk.rows()
        self._walk.put(SymbolDecoder(layer).decode(rows, tables))

    def picture(self) -> NDArray[np.uint8]:
        """The picture from the layers so far, (H, W, 3) or (H, W) uint8; mid-grey before the first."""
        info, walk = self._info, self._walk
        shape = (info.height, info.width, 3) if info.channels == 3 else (info.height, info.width)
        if walk.layer == 0:
            return np.full(shape, GREY, np.uint8)
        walk.look_ahead()
        latents, missing = walk.known()
        quality = info.quality_index / 255
        precision = np.array([[quality - self._model.plane_quality * m for m in missing]], np.float32)
        feeds: dict[str, NDArray[Any]] = dict(zip(("z32", "z16", "z8"), latents, strict=True))
        feeds["precision"] = precision
        feeds["inverse_gain"] = np.array([math.exp(-self._model.log_gain(info.quality_index))], np.float32)
        image: NDArray[np.uint8] = self._model.synthesis.run(feeds)["image"][0]
        image = image[: info.height, : info.width]
        if info.channels == 1:
            grey: NDArray[np.uint8] = np.rint(image.mean(2)).astype(np.uint8)
            return grey
        return np.ascontiguousarray(image)


class _Meter:
    """PSNR that each layer adds, estimated without decoding: the transform is close to orthonormal.

    Plane 0's layers and the end of the stream are measured in the latents; what a class of trits removes is the
    tables' expectation.
    """

    def __init__(self, model: Model, walk: Walk, latents: NDArray[np.float32], picture: PictureInfo) -> None:
        self._walk, self._latents = walk, latents
        step = math.exp(-model.log_gain(picture.quality_index))
        h, w = walk.grid
        self._unit = step * step / (3.0 * h * w * STRIDE * STRIDE)
        self._weight = model.latent_energy
        self._removed: list[float] = []

    def before_put(self) -> None:
        """Note what the layer that is about to be put removes."""
        walk = self._walk
        if walk.layer >= PARTS:
            self._removed.append(walk.expected_removal())
            return
        part = slice(walk.bounds[walk.layer], walk.bounds[walk.layer + 1])
        truth = self._latents[part]
        error = truth - walk.mean[part] * np.float32(MEAN_UNIT)
        error -= np.rint(error * np.float32(1 / 9)) * np.float32(9)
        weight = self._channels(walk.layer)
        self._removed.append(self._energy(truth, weight) - self._energy(error, weight))

    def _channels(self, part: int) -> NDArray[np.float32]:
        c = [s[1] for s in self._walk.shapes]
        ends = np.cumsum([0, c[0], c[1], c[2] // 2, c[2] // 2]).tolist()
        return self._weight[ends[part] : ends[part + 1]]

    @staticmethod
    def _energy(values: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
        rows = values.reshape(len(weight), -1)
        return float(np.dot(np.einsum("ij,ij->i", rows, rows), weight))

    def gains(self) -> tuple[float, ...]:
        """PSNR in dB that each layer adds, >= 0; the first counts from a mid-grey picture."""
        known, _ = self._walk.known()
        left = 0.0
        for i, (level, truth) in enumerate(zip(known, self._walk.levels(self._latents), strict=True)):
            left += self._energy(
                (level - truth).ravel(), self._channels(i) if i < 2 else self._weight[-level.shape[1] :]
            )
        psnr = []
        for removed in reversed(self._removed):
            psnr.append(-10 * math.log10(max(left * self._unit, 1e-7)))
            left += max(0.0, removed)
        psnr.append(-10 * math.log10(max(left * self._unit, 1e-7)))
        psnr.reverse()
        return tuple(max(0.0, after - before) for before, after in itertools.pairwise(psnr))


def grid_of(picture: PictureInfo) -> tuple[int, int]:
    """(height, width) of stride 32."""
    return -(-picture.height // STRIDE), -(-picture.width // STRIDE)


def check_size(width: int, height: int, channels: int) -> None:
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE) or channels not in (1, 3):
        raise PictureError(
            f"a picture of {width}x{height} pixels with {channels} channels",
            hint=f"1x1 to {MAX_SIDE}x{MAX_SIDE}, grey or RGB",
        )


def picture_info(image: NDArray[np.uint8], quality: float) -> PictureInfo:
    """Check a picture and a quality and describe them."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise PictureError(
            f"expected uint8 (H, W, 3) or (H, W), got {getattr(image, 'dtype', type(image).__name__)} "
            f"{getattr(image, 'shape', '')}",
            hint="convert to 8-bit RGB or grey",
        )
    if not 0.0 <= quality <= 1.0:
        raise PictureError(f"quality {quality} outside 0..1", hint="0.0 is smallest, 1.0 is best")
    height, width = image.shape[:2]
    channels = image.shape[2] if image.ndim == 3 else 1
    check_size(width, height, channels)
    return PictureInfo(width, height, channels, round(quality * 255))
