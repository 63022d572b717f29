"""The `dct` codec: the classic transform pipeline as a progressive codec without any neural network.

Colour transform, lapped 8x8 DCT, scaling, rounding (Yang, Mandt, Theis 2023, eq. 1.1-1.2), and then what the
classic codecs lack: an embedded quantiser in three trit-planes, integer-exact adaptive contexts, and layers in order
of worth, so that every prefix is a good picture.

    dct_transform   pixels <-> coefficients          dct_layout    the order of coding: stages and layers
    dct_quantiser   coefficients <-> nested bins     dct_progress  contexts: what both ends know at each stage
    dct_model       the fitted numbers               dct_work      stripes, threads and memory
    dct             this module: encoder and decoder
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from layercast.bitstream.types import MAX_SIDE, PictureInfo
from layercast.codecs.base import EncodedFrame, LayerInfo
from layercast.codecs.dct_layout import LAYER_TABLE, STAGES, Stage
from layercast.codecs.dct_model import DctModel, load_model
from layercast.codecs.dct_progress import SLAB, Portion, Progress, checked
from layercast.codecs.dct_quantiser import DEAD_ZONE, PLANES, coarsen, quantise
from layercast.codecs.dct_transform import MID_GREY, Geometry, analyse, synthesise
from layercast.codecs.dct_work import Floats, Workspace
from layercast.codecs.stages import StageClock
from layercast.entropy import Plan, SymbolDecoder, SymbolEncoder, plan
from layercast.errors import CodecError, CorruptError, PictureError
from layercast.runtime.memory import keep_freed_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from layercast.codecs.base import Image

COARSEST_STEP = 110.0
FINEST_STEP = 4.5
"""Quantiser steps of quality 0 and 1 in 8-bit pixel values; about 0.1 and 3 bits per pixel."""

_LEAST_ERROR = 1e-10
"""Mean squared error below which gains stop counting, relative to 255 squared (100 dB)."""

_MISSED = 3.0
"""A coefficient above this many steps would never be zeroed for its bits: a context misjudged it."""

_MISSED_SHARE = 0.1
"""Share of the squared error in such coefficients above which the frame is coded again, completely."""

MAX_WAITING = 8
"""Batches of symbols that wait to be coded; 256 Ki symbols of 4 bytes each at most."""

LEAST_SHARED = 1 << 14
"""Symbols of a batch from which on the second thread helps; what it takes over then exceeds the cost of asking."""

_GREY_ROWS = 64
"""Rows of pixels that are compared with mid-grey at a time."""

_Batch = tuple[Stage, list[Portion], "NDArray[np.uint16]", list[Plan]]
"""What is decoded in one go: a stage, coefficients of it, all their rows, and the order that follows from these."""

_LAYER_STAGES = tuple(tuple(s for s in STAGES if s.layer == k) for k in range(len(LAYER_TABLE)))


def step_of(quality_index: int) -> float:
    """Quantiser step of a quality index 0..255, geometric between the two ends."""
    return float(COARSEST_STEP * (FINEST_STEP / COARSEST_STEP) ** (quality_index / 255))


def _geometry(picture: PictureInfo) -> Geometry:
    if not (1 <= picture.width <= MAX_SIDE and 1 <= picture.height <= MAX_SIDE):
        raise PictureError(
            f"a picture of {picture.width}x{picture.height}", hint=f"sides from 1 to {MAX_SIDE} pixels"
        )
    if picture.channels not in (1, 3) or not 0 <= picture.quality_index <= 255:
        raise PictureError(
            f"{picture.channels} channels at quality index {picture.quality_index}",
            hint="1 or 3 channels, quality index 0..255",
        )
    return Geometry(picture.width, picture.height, picture.channels)


def _stages(layer: int, channels: int) -> list[Stage]:
    """The stages of a layer that a picture has: grey has no chroma."""
    return [s for s in _LAYER_STAGES[layer] if channels == 3 or s.part == 0]


class DctCodec:
    """See the module. It keeps nothing but working memory: one instance may serve any number of streams."""

    name: ClassVar[str] = "dct"

    def __init__(self) -> None:
        keep_freed_memory()
        self._model, self._workspace = load_model(), Workspace()
        self.stage_times: Mapping[str, float] = {}

    @property
    def layer_table(self) -> tuple[LayerInfo, ...]:
        return LAYER_TABLE

    @property
    def fingerprint(self) -> bytes:
        return self._model.fingerprint

    def encode(self, image: Image, quality: float = 0.7) -> EncodedFrame:
        """Encode one picture; see `Codec.encode`.

        Raises:
            PictureError: unsupported shape, dtype or size.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise PictureError(
                f"a picture of shape {image.shape} and type {image.dtype}",
                hint="(H, W, 3) RGB or (H, W) grey, uint8",
            )
        if not 0.0 <= quality <= 1.0:
            raise PictureError(f"quality {quality}", hint="0.0 to 1.0")
        picture = PictureInfo(
            image.shape[1], image.shape[0], 3 if image.ndim == 3 else 1, round(quality * 255)
        )
        clock = StageClock()
        with ThreadPoolExecutor(1) as helper:
            encoder = FrameEncoder(self._model, self._workspace, image, picture, clock)
            layers = [encoder.layer(k, helper) for k in range(len(LAYER_TABLE))]
            if encoder.misjudged():
                layers.clear()
                encoder.restart(complete=True)
                layers = [encoder.layer(k, helper) for k in range(len(LAYER_TABLE))]
        coded = tuple(layer.result() for layer in layers)
        clock.spent("entropy")
        self.stage_times = clock.seconds
        return EncodedFrame(coded, picture, tuple(encoder.gains_db))

    def start(self, picture: PictureInfo) -> DctFrameDecoder:
        """A decoder for one frame.

        Raises:
            PictureError: a size or channel count that this codec does not take.
        """
        return DctFrameDecoder(self._model, self._workspace, picture)

    def decode(self, layers: Sequence[bytes], picture: PictureInfo) -> Image:
        """Decode a prefix of the layers in one call."""
        decoder = self.start(picture)
        for layer in layers:
            decoder.push(layer)
        image = decoder.picture()
        self.stage_times = decoder.stage_times
        return image


class FrameEncoder:
    """One frame on its way to layers."""

    def __init__(
        self, model: DctModel, workspace: Workspace, image: Image, picture: PictureInfo, clock: StageClock
    ) -> None:
        self._geometry, self._picture = _geometry(picture), picture
        self._model, self._workspace, self._clock = model, workspace, clock
        step = step_of(picture.quality_index)
        self._exact = analyse(image, self._geometry, step, workspace)
        clock.spent("analysis")
        self._energy = sum(float(np.vdot(level, level)) for level in self._exact)
        self._peak = 255.0**2 * image.size / step**2
        grey = 0.0
        for first in range(0, len(image), _GREY_ROWS):
            off = image[first : first + _GREY_ROWS] - np.float32(MID_GREY)
            grey += float(np.vdot(off, off))
        self._grey_psnr = 10 * float(np.log10(255.0**2 * image.size / max(grey, 1.0)))
        clock.spent("gains")
        self.restart(complete=False)

    def restart(self, complete: bool) -> None:
        """Begin with the first layer, with or without zeros that are certain."""
        self._progress: Progress | None = None  # its memory goes before there is a new one
        self._progress = Progress(
            self._model, self._geometry, self._picture.quality_index, complete, self._workspace
        )
        self._complete, self._plane = complete, 0
        self._error, self._psnr = self._energy, self._grey_psnr
        self._waiting: deque[Future[None]] = deque()
        self.gains_db: list[float] = []

    @property
    def progress(self) -> Progress:
        """What the layers so far say."""
        assert self._progress is not None
        return self._progress

    def _measure(self) -> float:
        """PSNR in dB of what is coded so far; the transform is orthonormal, or nearly so."""
        return 10 * float(np.log10(self._peak / max(self._error, self._peak * _LEAST_ERROR)))

    def layer(self, number: int, helper: Executor) -> Future[bytes]:
        """Choose the symbols of the next layer and note what it gains; the helper codes them meanwhile.

        Args:
            number: of the layer.
            helper: runs one task after the other.
        """
        coder, progress = SymbolEncoder(), self.progress
        for stage in _stages(number, self._picture.channels):
            if stage.plane != self._plane:
                self._plane = stage.plane
                progress.begin(stage.plane)
            level = self._exact[stage.level].reshape(-1)
            for batch in progress.batches(stage):
                self._clock.spent("prior")
                chosen = []
                for portion in batch:
                    exact = level[portion.begin : portion.begin + SLAB].take(portion.at)
                    symbols = choose_symbols(self._model, stage.plane, portion, exact)
                    chosen.append(symbols)
                    self._clock.spent("choice")
                    self._error += progress.settle(stage, portion, symbols, exact)
                    self._clock.spent("prior")
                self._code(helper, coder, chosen, [portion.rows for portion in batch])
        last, self._psnr = self._psnr, self._measure()
        self.gains_db.append(self._psnr - last)
        head = b"" if number else bytes([self._complete])
        return helper.submit(lambda: head + coder.finish())

    def _code(
        self,
        helper: Executor,
        coder: SymbolEncoder,
        symbols: list[NDArray[np.int16]],
        rows: list[NDArray[np.uint16]],
    ) -> None:
        """Have the helper code a batch; wait if it is far behind."""

        def push() -> None:
            coder.push(np.concatenate(symbols, dtype=np.int32), np.concatenate(rows), self._model.tables)

        self._waiting.append(helper.submit(push))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft().result()
            self._clock.spent("entropy")

    def misjudged(self) -> bool:
        """Whether zeros taken for certain hold a relevant part of the error: no photograph, probably."""
        lost = 0.0
        for level, level_bins in zip(self._exact, self.progress.bins, strict=True):
            exact, bins = level.reshape(-1), level_bins.reshape(-1)
            for first in range(0, len(bins), SLAB):
                some = exact[first : first + SLAB]
                missed = np.abs(some) > _MISSED
                missed &= bins[first : first + SLAB] == 0
                if missed.any():
                    lost += float(np.sum(some[missed] ** 2, dtype=np.float64))
        self._clock.spent("choice")
        return lost > _MISSED_SHARE * self._error


def choose_symbols(model: DctModel, plane: int, portion: Portion, exact: Floats) -> NDArray[np.int16]:
    """What the quantiser says of coefficients `exact` (N,), less the ones not worth their bits in the last plane."""
    magnitudes = np.abs(exact)
    fresh = portion.before == 0
    zero = magnitudes < np.float32(DEAD_ZONE * 3 ** (PLANES - 1 - plane))
    zero &= fresh
    if plane == PLANES - 1:
        zero |= magnitudes < model.thresholds.take(portion.rows)
    symbols = coarsen(quantise(magnitudes), plane)
    symbols -= np.abs(portion.before)
    symbols &= zero.astype(np.int16) - np.int16(1)
    fresh &= exact < 0
    downward = -fresh.astype(np.int16)
    symbols ^= downward
    symbols -= downward
    return symbols


class DctFrameDecoder:
    """Decodes one frame layer by layer; see `FrameDecoder`."""

    def __init__(self, model: DctModel, workspace: Workspace, picture: PictureInfo) -> None:
        self._model, self._workspace, self._picture = model, workspace, picture
        self._geometry = _geometry(picture)
        self._layers: list[bytes] = []
        self._clock = StageClock()
        self._restart()

    @property
    def stage_times(self) -> Mapping[str, float]:
        """Seconds by stage so far; see `Timed`."""
        return self._clock.seconds

    def _restart(self) -> None:
        self.progress = Progress(
            self._model, self._geometry, self._picture.quality_index, False, self._workspace
        )
        self._plane = 0

    def push(self, layer: bytes) -> None:
        """Take the next layer.

        Raises:
            CorruptError: the bytes are not a valid layer; the layers before it stay decoded.
            CodecError: all layers have been pushed.
        """
        self._clock.resume()
        if len(self._layers) == len(LAYER_TABLE):
            raise CodecError("the frame already has all its layers", hint="start a new decoder")
        try:
            self._advance(len(self._layers), layer)
        except CorruptError:
            self._restart()
            for number, good in enumerate(self._layers):
                self._advance(number, good)
            raise
        self._layers.append(layer)

    def _advance(self, number: int, layer: bytes) -> None:
        if number == 0:
            if layer[:1] not in (b"\0", b"\1"):
                raise CorruptError("the first layer does not begin with 0 or 1")
            self.progress.complete = layer[0] == 1
            layer = layer[1:]
        coder = SymbolDecoder(layer)
        ready: list[Stage] = []
        for stage in _stages(number, self._picture.channels):
            if stage.plane != self._plane:
                self._plane = stage.plane
                self.progress.begin(stage.plane)
            if stage.fills:
                self._decode(coder, ready)
                ready = []
            ready.append(stage)
        self._decode(coder, ready)

    def _decode(self, coder: SymbolDecoder, stages: list[Stage]) -> None:
        """Decode stages of which only the first may depend on what was settled before.

        While a large batch is decoded, the helper settles the one before it and looks for the one behind it.
        """
        batches = ((stage, batch) for stage in stages for batch in self.progress.batches(stage))
        done: tuple[Stage, list[Portion], NDArray[np.int16]] | None = None
        tables = self._model.tables

        def advance() -> _Batch | None:
            if done:
                self._settle(*done)
            for stage, portions in batches:
                rows = np.concatenate([portion.rows for portion in portions])
                return stage, portions, rows, plan(rows, tables)
            return None

        batch = advance()
        while batch:
            stage, portions, rows, plans = batch
            self._clock.spent("prior")
            if len(rows) < LEAST_SHARED:
                batch = advance()
                symbols = checked(coder.decode(rows, tables, plans))
            else:
                ahead = self._workspace.helper.submit(advance)
                try:
                    symbols = checked(coder.decode(rows, tables, plans))
                finally:
                    batch = ahead.result()
            self._clock.spent("entropy")
            done = stage, portions, symbols
        if done:
            self._settle(*done)
        self._clock.spent("prior")

    def _settle(self, stage: Stage, portions: list[Portion], symbols: NDArray[np.int16]) -> None:
        for portion in portions:
            some, symbols = np.split(symbols, [len(portion.at)])
            self.progress.settle(stage, portion, some)

    def picture(self) -> Image:
        """The picture from the layers pushed so far, (H, W, 3) or (H, W), uint8."""
        self._clock.resume()
        step = step_of(self._picture.quality_index) * self.progress.unit
        image = synthesise(self.progress.known, self._geometry, step, self._workspace)
        self._clock.spent("synthesis")
        return image
