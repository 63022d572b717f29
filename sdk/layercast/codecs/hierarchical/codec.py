"""`HierarchicalCodec`: pictures to layers and back through analysis, walk and synthesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from layercast.bitstream.types import MAX_SIDE, PictureInfo
from layercast.codecs.base import EncodedFrame, LayerInfo
from layercast.codecs.hierarchical.digits import Digits
from layercast.codecs.hierarchical.meter import Meter
from layercast.codecs.hierarchical.model import Model
from layercast.codecs.hierarchical.refine import Refiner
from layercast.codecs.hierarchical.shifts import decoded, encoded
from layercast.codecs.hierarchical.streams import StreamCoder, split
from layercast.codecs.hierarchical.walk import STRIDE, Walk, layer_table
from layercast.codecs.stages import StageClock
from layercast.entropy import COMPILED
from layercast.errors import ConfigError, CorruptError, PictureError
from layercast.runtime import SessionOptions

GREY = 128
EFFORTS = (0, 1, 2, 3)


class HierarchicalCodec:
    """The learned flagship codec.

    Args:
        model: folder of a zoo entry; None for the one that ships with layercast.
        provider: execution provider of analysis and synthesis, "auto" or a name.
        threads: threads that share the work; 0 means all cores this process may use.
        optimise: compiled programs where the processor can, and ONNX Runtime's graph optimisations.
        self_test: prove at start that the exact prior computes the expected integers here.
        effort: how often the encoder decodes what it is about to send and chooses the last trits anew by what is wrong
            with it, 0 to 3: fewer bits at equal PSNR, most at high quality, for half as much time again each time.
            The first one gains most. Decoders need not know.

    Raises:
        ModelError: files missing or damaged, or the self-test fails.
        ConfigError: no such execution provider, or no such effort.
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
        effort: int = 0,
    ) -> None:
        if effort not in EFFORTS:
            raise ConfigError(f"an effort of {effort!r}", hint="0 to 3")
        self.model = Model(model, SessionOptions(provider, threads, optimise))
        self._streams = StreamCoder(self.model.options.thread_count)
        self._effort, self._refiner = effort, Refiner(self.model) if effort else None
        self.stage_times: Mapping[str, float] = {}
        if self_test:
            self.model.self_test()

    @cached_property
    def layer_table(self) -> tuple[LayerInfo, ...]:
        return layer_table(self.model)

    @property
    def fingerprint(self) -> bytes:
        return self.model.fingerprint

    @property
    def runs_on(self) -> Mapping[str, str]:
        """See `Situated`."""
        model = self.model
        prior = list(model.networks.values())
        parts = (("analysis", [model.analysis]), ("exact prior", prior), ("synthesis", [model.synthesis]))
        told = {}
        for part, networks in parts:
            # The prior's networks differ where one of them is no program; each way is told once.
            ways = dict.fromkeys(f"{network.provider}: {network.reason}" for network in networks)
            told[part] = "; ".join(ways)
        coder = "compiled" if COMPILED else "NumPy and constriction: nothing is compiled here"
        return told | {"entropy coder": coder}

    def encode(self, image: NDArray[np.uint8], quality: float = 0.7) -> EncodedFrame:
        """Encode (H, W, 3) RGB or (H, W) grey, uint8, at quality 0..1.

        Raises:
            PictureError: unsupported shape, dtype or size.
        """
        picture, clock = picture_info(image, quality), StageClock()
        whole = padded(image, picture)
        latents = self._analyse(whole, picture.quality_index)
        clock.spent("analysis")
        walk = Walk(self.model, grid_of(picture), picture.quality_index, clock)
        digits = Digits(walk, latents)
        meter = Meter(self.model, walk, latents, picture.quality_index)
        clock.spent("choice")
        layers = []
        while not walk.complete:
            shifts, before = None, []
            if walk.shifted:
                shifts = walk.fitted(digits.present)
                before = [encoded(shifts)]
                clock.spent("choice")
            keys, tables = walk.keys(shifts)
            if self._refiner and walk.at_last_classes:
                for _ in range(self._effort):
                    self._refiner.refine(whole, walk, digits)
                clock.spent("refinement")
            symbols = digits.symbols()
            clock.spent("choice")
            layers.append(self._streams.encode(symbols, keys, tables, before))
            clock.spent("entropy")
            meter.before_put()
            clock.spent("gains")
            walk.put(symbols)
        gains = meter.gains()
        clock.spent("gains")
        coded = tuple(layer.layer() for layer in layers)
        clock.spent("entropy")
        self.stage_times = clock.seconds
        return EncodedFrame(coded, picture, gains)

    def start(self, picture: PictureInfo) -> HierarchicalDecoder:
        """A decoder for one frame.

        Raises:
            PictureError: impossible size.
        """
        return HierarchicalDecoder(self.model, picture, self._streams)

    def decode(self, layers: Sequence[bytes], picture: PictureInfo) -> NDArray[np.uint8]:
        """Decode a prefix of the layers, possibly none."""
        decoder = self.start(picture)
        for layer in layers:
            decoder.push(layer)
        image = decoder.picture()
        self.stage_times = decoder.stage_times
        return image

    def analyse(self, image: NDArray[np.uint8], picture: PictureInfo) -> list[NDArray[np.float32]]:
        """Latents in final steps, of strides 32, 16 and 8, flat each."""
        return self._analyse(padded(image, picture), picture.quality_index)

    def _analyse(self, image: NDArray[np.uint8], quality_index: int) -> list[NDArray[np.float32]]:
        scales = self.model.analysis_scales(quality_index)
        out = self.model.analysis.run({"image": image[None], "scales": scales})
        return [out[n].ravel() for n in ("y32", "y16", "y8")]


class HierarchicalDecoder:
    """Decodes one frame; each layer is entropy-decoded once, whenever it arrives."""

    def __init__(self, model: Model, picture: PictureInfo, streams: StreamCoder) -> None:
        check_size(picture.width, picture.height, picture.channels)
        self._model, self._info, self._streams = model, picture, streams
        self._clock = StageClock()
        self._walk = Walk(model, grid_of(picture), picture.quality_index, self._clock)

    @property
    def stage_times(self) -> Mapping[str, float]:
        """Seconds by stage so far; see `Timed`."""
        return self._clock.seconds

    def push(self, layer: bytes) -> None:
        """Take the next layer.

        Raises:
            CorruptError: the bytes are no layer, or there are too many; the layers before stay usable.
        """
        if self._walk.complete:
            raise CorruptError(f"more than {self._walk.layers} layers", hint="the frame is complete")
        self._clock.resume()
        shifts = None
        if self._walk.shifted:
            first, layer = split(layer, 2)
            shifts = decoded(first, self._walk.shifted)
            self._clock.spent("entropy")
        keys, tables = self._walk.keys(shifts)
        symbols = self._streams.decode(layer, keys, tables)
        self._clock.spent("entropy")
        self._walk.put(symbols)

    def state(self) -> bytes:
        """Every symbol, mean and distribution known so far, as bytes: two exact ends have the same."""
        return self._walk.state()

    def synthesis_inputs(self) -> dict[str, NDArray[Any]]:
        """What synthesis gets for the layers so far, by input name: latents, and scales for how precise they are."""
        self._clock.resume()
        self._walk.look_ahead()
        self._clock.spent("prior")
        latents, missing = self._walk.known()
        feeds: dict[str, NDArray[Any]] = dict(zip(("z32", "z16", "z8"), latents, strict=True))
        feeds["scales"] = self._model.synthesis_scales(self._info.quality_index, missing)
        return feeds

    def picture(self) -> NDArray[np.uint8]:
        """The picture from the layers so far, (H, W, 3) or (H, W) uint8; mid-grey before the first."""
        info = self._info
        shape = (info.height, info.width, 3) if info.channels == 3 else (info.height, info.width)
        if self._walk.layer == 0:
            return np.full(shape, GREY, np.uint8)
        feeds = self.synthesis_inputs()
        image: NDArray[np.uint8] = self._model.synthesis.run(feeds)["image"][0]
        self._clock.spent("synthesis")
        image = image[: info.height, : info.width]
        image = np.rint(image.mean(2)).astype(np.uint8) if info.channels == 1 else np.ascontiguousarray(image)
        self._clock.spent("conversion")
        return image


def grid_of(picture: PictureInfo) -> tuple[int, int]:
    """(height, width) of stride 32."""
    return -(-picture.height // STRIDE), -(-picture.width // STRIDE)


def padded(image: NDArray[np.uint8], picture: PictureInfo) -> NDArray[np.uint8]:
    """A picture as RGB whose last row and column are repeated up to multiples of STRIDE."""
    h, w = (s * STRIDE for s in grid_of(picture))
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, 2)
    if image.shape[:2] != (h, w):
        image = np.pad(image, ((0, h - image.shape[0]), (0, w - image.shape[1]), (0, 0)), "edge")
    return np.ascontiguousarray(image)


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
