"""What both ends of the `dct` codec know at each point of the stream, and the table rows that follow from it.

Encoder and decoder drive one `Progress` each through the same stages: `rows` says which coefficients a stage codes
and with which table row, `settle` takes their symbols. A row is (plane and kind of coefficient, what is known of
its magnitude, context level). The context level is the logarithm of an expected magnitude, a weighted sum of
magnitudes already known: of all frequencies of the same block and of its eight neighbours, and of the same
frequency in the other channels. Weights and magnitudes are integers held in float32 and every sum stays below
2**24 (checked when the model is made), so any BLAS, any order and any fused multiply give the same number.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.dct_layout import CHROMA, CLASS_BOUNDS, FINE, LUMA, STARTS, Stage
from layercast.codecs.dct_model import CONTEXT_LEVELS, KINDS, MAX_FEATURE, WEIGHT_ONE, DctModel, sources
from layercast.codecs.dct_quantiser import MAX_MAGNITUDE, PLANES
from layercast.codecs.dct_transform import Floats, Geometry, Scratch, apply
from layercast.errors import CorruptError

NO_CLASS = 255
"""Class of a coefficient that is zero for certain: never coded in this plane."""

_LEVEL_BITS = 21
"""Mantissa bits of a float32 left below the context level: four levels per octave."""

_LEVEL_ZERO = int(np.float32(WEIGHT_ONE // 32).view(np.int32)) >> _LEVEL_BITS
"""Context level 0 begins at an expected magnitude of 1/32."""


@dataclass(frozen=True, slots=True)
class Portion:
    """The coefficients of one stage that are coded.

    Attributes:
        positions: where they are in the flattened level, (N,).
        rows: their table rows, (N,) int32.
        before: their bins in the plane before, (N,) int16.
    """

    positions: NDArray[np.intp]
    rows: NDArray[np.int32]
    before: NDArray[np.int16]


class Progress:
    """The state of one frame at one end.

    Args:
        model: the fitted numbers.
        geometry: of the picture.
        quality_index: 0..255.
        complete: code every coefficient, even those whose context says that they are zero for certain.
        scratch: working memory, shared by the frames of one codec.

    Attributes:
        known: per level, the best reconstruction so far, (C, F, d, a) float32 in final steps.
        bins: per level, magnitudes in bins of the plane last coded, (C, F, d, a) int16.
        classes: per part, the class of worth of every coefficient in the plane, (C, f, n) uint8, up to
            the last of 63 frequencies that is coded at all.
    """

    def __init__(
        self, model: DctModel, geometry: Geometry, quality_index: int, complete: bool, scratch: Scratch
    ) -> None:
        shapes = [(geometry.channels, *shape) for shape in geometry.shapes]
        self.known: list[Floats] = [np.zeros(shape, np.float32) for shape in shapes]
        self.bins: list[NDArray[np.int16]] = [np.zeros(shape, np.int16) for shape in shapes]
        self._signs: list[NDArray[np.int8]] = [np.zeros(shape, np.int8) for shape in shapes]
        self._features: list[Floats] = [np.zeros(shape, np.float32) for shape in shapes]
        self._levels: dict[int, NDArray[np.uint8]] = {}
        self.classes: dict[int, NDArray[np.uint8]] = {}
        self._model, self._complete = model, complete
        self._bucket = model.bucket(quality_index)
        self._parts = (LUMA, CHROMA) if geometry.channels == 3 else (LUMA,)
        self._scratch = scratch

    def begin(self, plane: int) -> None:
        """Enter a plane: magnitudes count in its steps from here on. Sets the classes of worth."""
        for bins, features in zip(self.bins, self._features, strict=True):
            np.multiply(bins, np.int16(3), out=features, casting="unsafe")
            np.minimum(features, np.float32(MAX_FEATURE), out=features)
        with ThreadPoolExecutor(
            1
        ) as helper:  # luma and chroma at the same time: neither sees the other's result
            others = [helper.submit(self._rank, plane, part) for part in self._parts[1:]]
            self._rank(plane, LUMA)
            for other in others:
                other.result()

    def _rank(self, plane: int, part: int) -> None:
        """Context levels and classes of worth at the start of a plane."""
        levels = self._context(STARTS[plane, part])
        classes = np.full(levels.shape, len(CLASS_BOUNDS[plane]), np.uint8)
        for bound in CLASS_BOUNDS[plane]:
            classes -= levels >= bound
        zero = levels < self._certain(STARTS[plane, part])
        zero &= self.bins[FINE][_channels(part), 1:].reshape(levels.shape) == 0
        classes[zero] = NO_CLASS
        coded = np.flatnonzero((classes != NO_CLASS).any((0, 2)))
        count = int(coded[-1]) + 1 if len(coded) else 0
        self._levels[part] = np.ascontiguousarray(levels[:, :count])
        self.classes[part] = np.ascontiguousarray(classes[:, :count])

    def _certain(self, stage: Stage) -> int:
        """Context level below which a zero is certain in this stage."""
        return 0 if self._complete else self._model.certain(stage.plane, stage.level, stage.part)

    def inputs(self, stage: Stage, seen: int | None = None) -> tuple[Floats, Floats, list[list[Floats]]]:
        """What the context of a stage sees: magnitudes of the block, of its neighbours, and of other channels.

        Args:
            stage: the stage.
            seen: how many frequencies to give, F; by default all that the stage has weights for.

        Returns:
            own magnitudes (C, F, n) and neighbour sums (C, F, n), valid until the next call; and for each chroma
            channel (f, n) luma and the other chroma channel, at the frequencies of the stage.
        """
        features = self._features[stage.level]
        own = features[_channels(stage.part), : sources(stage) if seen is None else seen]
        shape = (*own.shape[:2], own.shape[2] * own.shape[3])
        band = features[:, stage.first : stage.last].reshape(len(features), -1, shape[2])
        others = [[band[0], band[2]], [band[0], band[1]]] if stage.part == CHROMA else []
        return own.reshape(shape), self._neighbour_sum(own, stage.part).reshape(shape), others

    def _buffer(self, part: int, which: int, shape: tuple[int, ...]) -> Floats:
        """A scratch array of a part; the parts may be at work at the same time."""
        return self._scratch.get(f"{part}.{which}", shape)

    def _neighbour_sum(self, values: Floats, part: int) -> Floats:
        """Sum over each block (4), its neighbours across an edge (2) and a corner (1); borders repeat.

        (C, F, d, a) -> (C, F, d, a).
        """
        c, f, d, a = values.shape
        rows, middle = self._buffer(part, 0, (c, f, d + 1, a)), self._buffer(part, 1, (c, f, d, a))
        np.add(values[..., 1:, :], values[..., :-1, :], out=rows[..., 1:-1, :])
        np.add(values[..., 0, :], values[..., 0, :], out=rows[..., 0, :])
        np.add(values[..., -1, :], values[..., -1, :], out=rows[..., -1, :])
        np.add(rows[..., 1:, :], rows[..., :-1, :], out=middle)
        columns, total = self._buffer(part, 0, (c, f, d, a + 1)), self._buffer(part, 2, (c, f, d, a))
        np.add(middle[..., 1:], middle[..., :-1], out=columns[..., 1:-1])
        np.add(middle[..., 0], middle[..., 0], out=columns[..., 0])
        np.add(middle[..., -1], middle[..., -1], out=columns[..., -1])
        return np.add(columns[..., 1:], columns[..., :-1], out=total)

    def _context(self, stage: Stage, count: int | None = None) -> NDArray[np.uint8]:
        """Context level of every coefficient in the stage's range, (C, f, n), 0..CONTEXT_LEVELS - 1.

        With `count`, only of the first so many frequencies.
        """
        most = self._features[stage.level][_channels(stage.part), : sources(stage)].max((0, 2, 3), initial=0)
        seen = (
            sources(stage) - int((most[::-1] > 0).argmax()) if most.any() else 0
        )  # zeros behind add nothing
        own, around, others = self.inputs(stage, seen)
        weights = self._model.weights(stage)
        count = stage.last - stage.first if count is None else count
        shape = (len(own), count, own.shape[2])
        sums, more = self._buffer(stage.part, 3, shape), self._buffer(stage.part, 0, shape)
        apply(weights.own[:, :count, :seen], own, out=sums)
        sums += weights.bias[self._bucket, :, :count, None]
        sums += apply(weights.around[:, :count, :seen], around, out=more)
        for channel, pair in enumerate(others):
            for weight, values in zip(weights.others[channel], pair, strict=True):
                sums[channel] += np.multiply(weight[:count, None], values[:count], out=more[0])
        levels = sums.view(np.int32)
        levels >>= _LEVEL_BITS
        levels -= _LEVEL_ZERO
        np.clip(levels, 0, CONTEXT_LEVELS - 1, out=levels)
        return levels.astype(np.uint8)

    def portion(self, stage: Stage) -> Portion:
        """Which coefficients the stage codes, and with which table rows."""
        if stage.worth is None:
            levels = self._context(stage)
        elif stage.fresh and stage.worth:
            levels = self._levels[stage.part] = self._context(stage, self._levels[stage.part].shape[1])
        else:
            levels = self._levels[stage.part]
        if stage.worth is not None:
            chosen = np.flatnonzero(self.classes[stage.part] == stage.worth)
        elif stage.plane == 0:
            chosen = np.flatnonzero(levels >= self._certain(stage))
        else:
            chosen = np.arange(levels.size)
        rows = levels.reshape(-1).take(chosen).astype(np.int32)
        positions = self._positions(stage, levels.shape[1], chosen)
        before = self.bins[stage.level].reshape(-1).take(positions)
        if stage.plane:
            rows += np.minimum(before, KINDS - 1) * np.int32(CONTEXT_LEVELS)
        rows += np.int32(self._model.first_row(stage.plane, stage.level, stage.part))
        return Portion(positions, rows, before)

    def _positions(self, stage: Stage, count: int, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        """Positions within the stage's channels and first `count` frequencies to positions within the level."""
        _, frequencies, down, across = self.bins[stage.level].shape
        plane = down * across
        chosen += stage.first * plane
        if stage.part == CHROMA:
            chosen += plane * frequencies
            second = np.searchsorted(chosen, (frequencies + stage.first + count) * plane)
            chosen[second:] += plane * (frequencies - count)
        return chosen

    def settle(
        self, stage: Stage, portion: Portion, symbols: NDArray[np.int32], exact: Floats | None = None
    ) -> float:
        """Take the symbols of a stage.

        A symbol is the signed bin where nothing but zero was known, else the trit away from zero.

        Returns:
            the change of the squared error, in squared steps, if `exact` gives the exact values, (N,) in final
            steps; otherwise 0.

        Raises:
            CorruptError: a magnitude that no encoder makes.
        """
        changed = np.flatnonzero((portion.before != 0) | (symbols != 0))
        positions, before = portion.positions.take(changed), portion.before.take(changed)
        symbols = symbols.take(changed)
        if len(symbols) and int(symbols.max()) - min(int(symbols.min()), 0) > MAX_MAGNITUDE:
            raise CorruptError("a coefficient is larger than any picture's")
        all_signs, fresh = self._signs[stage.level].reshape(-1), before == 0
        signs = np.where(fresh, np.sign(symbols), all_signs.take(positions))
        trits = np.where(fresh, np.abs(symbols), symbols)
        after = 3 * before + trits
        column = np.clip(trits + (1 if stage.plane else -1), 0, 2)
        column += 3 * portion.rows.take(changed)
        values = self._model.offsets.take(column)
        values += after
        values *= signs * np.float32(3 ** (PLANES - 1 - stage.plane))
        known = self.known[stage.level].reshape(-1)
        change = 0.0
        if exact is not None:
            exact = exact.take(changed)
            old, new = exact - known.take(positions), exact - values
            change = float(np.vdot(new, new)) - float(np.vdot(old, old))
        all_signs[positions] = signs
        self.bins[stage.level].reshape(-1)[positions] = after
        self._features[stage.level].reshape(-1)[positions] = np.minimum(after, MAX_FEATURE)
        known[positions] = values
        return change


def _channels(part: int) -> slice:
    return slice(0, 1) if part == LUMA else slice(1, 3)
