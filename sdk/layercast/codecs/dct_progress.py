"""What both ends of the `dct` codec know at each point of the stream, and the table rows that follow from it.

Encoder and decoder drive one `Progress` each through the same stages: `batches` says which coefficients a stage codes
and with which table row, `settle` takes their symbols. A row is (plane and kind of coefficient, what is known of
its magnitude, context level). The context level is the logarithm of an expected magnitude, a weighted sum of
magnitudes already known: of all frequencies of the same block and of its eight neighbours, and of the same
frequency in the other channels. Weights and magnitudes are integers held in float32 and every sum stays below
2**24 (checked when the model is made), so any BLAS, any order and any fused multiply give the same number.

The state is four bytes per coefficient; everything else exists for one stripe or one slab at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.dct_layout import CHROMA, CLASS_BOUNDS, FINE, LUMA, STARTS, Stage
from layercast.codecs.dct_model import (
    CONTEXT_LEVELS,
    KINDS,
    MAX_FEATURE,
    OFFSET_COLUMNS,
    OFFSET_ONE,
    WEIGHT_ONE,
    DctModel,
    sources,
)
from layercast.codecs.dct_quantiser import MAX_MAGNITUDE, PLANES
from layercast.codecs.dct_transform import Geometry
from layercast.codecs.dct_work import Floats, Scratch, Workspace, apply, stripes
from layercast.entropy.coder import PORTION
from layercast.errors import CorruptError

NO_CLASS = 255
"""Cell of a coefficient that is zero for certain: not coded in this plane."""

LEVEL_CELL = 64
"""A cell is LEVEL_CELL * class of worth + context level."""

SLAB = 1 << 17
"""Coefficients that are searched for coded ones at a time: their bins and their exact values fit a core's cache."""

_LEVEL_BITS = 21
"""Mantissa bits of a float32 left below the context level: four levels per octave."""

_LEVEL_ZERO = int(np.float32(WEIGHT_ONE // 32).view(np.int32)) >> _LEVEL_BITS
"""Context level 0 begins at an expected magnitude of 1/32."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Some coefficients of one stage that are coded.

    Attributes:
        begin: where their slab begins in the flattened level.
        at: where they are in the slab, (N,).
        rows: their table rows, (N,) uint16.
        before: their bins, in steps of this plane, (N,) int16.
    """

    begin: int
    at: NDArray[np.intp]
    rows: NDArray[np.uint16]
    before: NDArray[np.int16]

    def __getitem__(self, some: slice) -> Portion:
        return Portion(self.begin, self.at[some], self.rows[some], self.before[some])


class Progress:
    """The state of one frame at one end.

    Args:
        model: the fitted numbers.
        geometry: of the picture.
        quality_index: 0..255.
        complete: code every coefficient, even those whose context says that they are zero for certain.
        workspace: working memory, shared by the frames of one codec.

    Attributes:
        complete: as above; may be set before the first stage.
        bins: per level, signed bins in steps of the plane that is being coded, (C, F, d, a) int16.
        offsets: per level, what to add to a bin for its reconstruction, in 1 / OFFSET_ONE, (C, F, d, a) int8.
        cells: per level, class of worth and context level of what is coded or NO_CLASS, (C, F, d, a) uint8.
    """

    def __init__(
        self, model: DctModel, geometry: Geometry, quality_index: int, complete: bool, workspace: Workspace
    ) -> None:
        shapes = [(geometry.channels, *shape) for shape in geometry.shapes]
        self.bins: list[NDArray[np.int16]] = [np.zeros(shape, np.int16) for shape in shapes]
        self.offsets: list[NDArray[np.int8]] = [np.zeros(shape, np.int8) for shape in shapes]
        self.cells: list[NDArray[np.uint8]] = [np.empty(shape, np.uint8) for shape in shapes]
        self._plane = 0
        self._last = [0, 0]  # per part, one past the last frequency that is coded in this plane
        self._model, self.complete = model, complete
        self._bucket = model.bucket(quality_index)
        self._parts = (LUMA, CHROMA) if geometry.channels == 3 else (LUMA,)
        self._workspace = workspace

    @property
    def unit(self) -> int:
        """The step in which bins count, in final steps."""
        return int(3 ** (PLANES - 1 - self._plane))

    def begin(self, plane: int) -> None:
        """Enter a plane: bins count in its steps from here on."""
        self._plane = plane
        for bins, offsets in zip(self.bins, self.offsets, strict=True):
            bins *= np.int16(3)
            offsets *= np.int8(3)
        self.rank()

    def rank(self) -> None:
        """Set the classes of worth of this plane."""
        plane = self._plane
        last: tuple[list[int], list[int]] = ([], [])

        def rank(task: tuple[int, int, int], scratch: Scratch) -> None:
            part, *rows = task
            last[part].append(self._rank(STARTS[plane, part], rows[0], rows[1], scratch))

        _, _, down, across = self.bins[FINE].shape
        tasks = [
            (part, *some)
            for part in self._parts[::-1]
            for some in stripes(down, across, self._values(STARTS[plane, part]))
        ]
        self._workspace.share(rank, tasks)
        self._last = [max(some, default=0) for some in last]

    @staticmethod
    def _values(stage: Stage) -> int:
        """Numbers per block that the contexts of a stage take to compute."""
        return (1 + stage.part) * (2 * sources(stage) + stage.last - stage.first)

    def _rank(self, stage: Stage, first: int, last: int, scratch: Scratch) -> int:
        """Context levels and classes of worth in a stripe; returns one past the last frequency with a class."""
        levels = self._levels(stage, first, last, stage.last - stage.first, scratch)
        zero = levels < self._certain(stage)
        region = (_channels(stage.part), slice(stage.first, stage.last), slice(first, last))
        zero &= self.bins[FINE][region].reshape(levels.shape) == 0
        bounds = CLASS_BOUNDS[stage.plane]
        better = np.zeros(levels.shape, np.uint8)
        for bound in bounds:
            better += levels >= bound
        levels += np.uint8(len(bounds) * LEVEL_CELL)
        better *= np.uint8(LEVEL_CELL)
        levels -= better
        levels |= np.negative(zero.view(np.uint8))
        cells = self.cells[FINE][region]
        cells[:] = levels.reshape(cells.shape)
        coded = np.flatnonzero((levels != NO_CLASS).any((0, 2)))
        return stage.first + int(coded[-1]) + 1 if len(coded) else stage.first

    def _certain(self, stage: Stage) -> int:
        """Context level below which a zero is certain in this stage."""
        return 0 if self.complete else self._model.certain(stage.plane, stage.level, stage.part)

    def inputs(
        self, stage: Stage, first: int, last: int, scratch: Scratch
    ) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """Magnitudes that the context of a stage sees in rows of blocks `first` to `last` (excluded).

        Returns:
            own (C, F, rows, a), and the sum over each block (4), its neighbours across an edge (2) and a corner (1)
            with the picture's border repeated; without the frequencies behind the last one that is not zero.
        """
        region = self.bins[stage.level][_channels(stage.part), : sources(stage)]
        down, above, below = region.shape[2], max(first - 1, 0), last + 1
        region = region[:, :, above:below]
        values = _magnitudes(region, scratch.get("magnitudes", region.shape, np.int16))
        most = values.max((0, 2, 3), initial=0)
        seen = len(most) - int((most[::-1] > 0).argmax()) if most.any() else 0
        values = values[:, :seen]
        c, f, _, a = values.shape
        rows, total = last - first, scratch.get("around", (c, f, last - first, a), np.int16)
        pairs = scratch.get("pairs", (c, f, rows + 1, a), np.int16)
        inner = slice(1 if first == 0 else 0, rows if last == down else rows + 1)
        np.add(values[:, :, 1:], values[:, :, :-1], out=pairs[:, :, inner])
        if first == 0:
            np.add(values[:, :, 0], values[:, :, 0], out=pairs[:, :, 0])
        if last == down:
            np.add(values[:, :, -1], values[:, :, -1], out=pairs[:, :, -1])
        np.add(pairs[:, :, 1:], pairs[:, :, :-1], out=total)
        columns = scratch.get("pairs", (c, f, rows, a + 1), np.int16)
        np.add(total[..., 1:], total[..., :-1], out=columns[..., 1:-1])
        np.add(total[..., 0], total[..., 0], out=columns[..., 0])
        np.add(total[..., -1], total[..., -1], out=columns[..., -1])
        np.add(columns[..., 1:], columns[..., :-1], out=total)
        return values[:, :, first - above : first - above + rows], total

    def _levels(self, stage: Stage, first: int, last: int, count: int, scratch: Scratch) -> NDArray[np.uint8]:
        """Context levels, 0..CONTEXT_LEVELS - 1, of `count` frequencies of a stage in a stripe, (C, count, n)."""
        own, around = self.inputs(stage, first, last, scratch)
        channels, seen, rows, across = own.shape
        inputs = scratch.get("inputs", (channels, seen, 2, rows, across))
        inputs[:, :, 0], inputs[:, :, 1] = own, around
        inputs = inputs.reshape(channels, 2 * seen, rows * across)
        weights = self._model.weights(stage)
        sums: Floats = scratch.get("sums", (channels, count, rows * across))
        apply(weights.both[:, :count, : 2 * seen], inputs, out=sums)
        sums += weights.bias[self._bucket, :, :count, None]
        if stage.part == CHROMA:
            self._add_others(stage, first, last, inputs[:, ::2], sums, scratch)
        bits = sums.view(np.int32)
        bits >>= _LEVEL_BITS
        levels = bits.astype(
            np.int8
        )  # modulo 256; what is below level 0 or above the last one fits after the shift
        levels -= np.int8(_LEVEL_ZERO % 256)
        return np.clip(levels, 0, CONTEXT_LEVELS - 1, out=levels).view(np.uint8)

    def _add_others(
        self, stage: Stage, first: int, last: int, own: Floats, sums: Floats, scratch: Scratch
    ) -> None:
        """Add to the sums of a chroma stage what luma and the other chroma channel say of the same frequency.

        Args:
            own: (2, F, n), magnitudes of the chroma channels, up to the last one that is not zero.
            sums: (2, count, n), by channel.
        """
        count, shape = sums.shape[1], (sums.shape[1], last - first, self.bins[stage.level].shape[3])
        bins = self.bins[stage.level][0, stage.first : stage.first + count, first:last]
        luma = scratch.get("luma", shape)
        luma[:] = _magnitudes(bins, scratch.get("pairs", shape, np.int16))
        product = scratch.get("product", sums.shape[1:])
        own = own[:, stage.first : stage.first + count]
        for channel, (by_luma, by_other) in enumerate(self._model.weights(stage).others):
            sums[channel] += np.multiply(by_luma[:count, None], luma.reshape(product.shape), out=product)
            other, some = own[1 - channel], product[: own.shape[1]]
            sums[channel, : len(some)] += np.multiply(by_other[: len(some), None], other, out=some)

    def _fill(self, stage: Stage, first: int, last: int, scratch: Scratch) -> None:
        """Set the cells of a stripe for a stage without classes, or renew the levels of what is still to code."""
        region = (_channels(stage.part), slice(stage.first, stage.last), slice(first, last))
        cells = self.cells[stage.level][region]
        if stage.worth is None:
            levels = self._levels(stage, first, last, cells.shape[1], scratch).reshape(cells.shape)
            if stage.plane == 0:
                levels |= np.negative((levels < self._certain(stage)).view(np.uint8))
            cells[:] = levels
            return
        coded = np.flatnonzero((cells != NO_CLASS).any((0, 2, 3)))
        count = int(coded[-1]) + 1 if len(coded) else 0
        cells = cells[:, :count]
        levels = self._levels(stage, first, last, count, scratch).reshape(cells.shape)
        levels |= cells & np.uint8(NO_CLASS - LEVEL_CELL + 1)
        levels |= np.negative((cells == NO_CLASS).view(np.uint8))
        cells[:] = levels

    def batches(self, stage: Stage) -> Iterator[list[Portion]]:
        """What the stage codes and with which table rows, in order, PORTION coefficients (the last time: fewer)."""
        if stage.fills:
            _, _, down, across = self.bins[stage.level].shape
            rows = stripes(down, across, self._values(stage))
            self._workspace.share(lambda some, scratch: self._fill(stage, *some, scratch), rows)
        batch: list[Portion] = []
        free = PORTION
        for portion in self._portions(stage):
            while len(portion.at) >= free:
                yield [*batch, portion[:free]]
                batch, portion, free = [], portion[free:], PORTION
            if len(portion.at):
                batch.append(portion)
                free -= len(portion.at)
        if batch:
            yield batch

    def _portions(self, stage: Stage) -> Iterator[Portion]:
        """What the stage codes, slab by slab."""
        cells, bins = self.cells[stage.level].reshape(-1), self.bins[stage.level].reshape(-1)
        channels, frequencies, down, across = self.bins[stage.level].shape
        last = stage.last if stage.worth is None else self._last[stage.part]
        here, found = (self._workspace.first.get(name, (SLAB,), np.uint8) for name in ("here", "found"))
        for channel in range(channels)[_channels(stage.part)]:
            begin, end = ((channel * frequencies + f) * down * across for f in (stage.first, last))
            for first in range(begin, end, SLAB):
                some = cells[first : min(first + SLAB, end)]
                mine, hits = here[: len(some)], found[: len(some)].view(np.bool_)
                np.bitwise_xor(some, np.uint8((stage.worth or 0) * LEVEL_CELL), out=mine)
                at = np.flatnonzero(np.less(mine, CONTEXT_LEVELS, out=hits))
                rows = mine.take(at).astype(np.uint16)
                before = bins[first : first + len(some)].take(at)
                if stage.plane:
                    kinds = np.abs(before)
                    np.clip(kinds, 0, 3 * (KINDS - 1), out=kinds)
                    kinds //= np.int16(3)
                    kinds *= np.int16(CONTEXT_LEVELS)
                    rows += kinds.view(np.uint16)
                rows += np.uint16(self._model.first_row(stage.plane, stage.level, stage.part))
                yield Portion(first, at, rows, before)

    def settle(
        self, stage: Stage, portion: Portion, symbols: NDArray[np.int16], exact: Floats | None = None
    ) -> float:
        """Take the symbols of a portion, within +-MAX_MAGNITUDE.

        A symbol is the signed bin where nothing but zero was known, else the trit away from zero.

        Returns:
            the change of the squared error, in squared steps, if `exact` gives the exact values, (N,) in final
            steps; otherwise 0.
        """
        changed = np.flatnonzero((portion.before | symbols).view(np.uint16) > 0)
        at, before = portion.at.take(changed), portion.before.take(changed)
        symbols = symbols.take(changed)
        row_offsets = portion.rows.take(changed)
        row_offsets *= np.uint16(OFFSET_COLUMNS)
        half = OFFSET_COLUMNS // 2
        columns = np.clip(symbols, -half, half)
        columns += np.int16(half)
        row_offsets += columns.view(np.uint16)
        offsets = self._model.signed_offsets.take(row_offsets)
        downward = before >> np.int16(15)  # -1 where the bin is negative: away from zero is down
        symbols ^= downward
        symbols -= downward
        symbols += before
        side = downward.astype(np.int8)
        offsets ^= side
        offsets -= side
        all_bins, all_offsets = (
            a[stage.level].reshape(-1)[portion.begin : portion.begin + SLAB]
            for a in (self.bins, self.offsets)
        )
        change = 0.0
        if exact is not None:
            exact = exact.take(changed)
            new, old = offsets.astype(np.float32), all_offsets.take(at).astype(np.float32)
            for values, bins, sign in ((new, symbols, 1), (old, before, -1)):
                values *= np.float32(1 / OFFSET_ONE)
                values += bins
                values *= np.float32(self.unit)
                values -= exact
                change += sign * float(np.vdot(values, values))
        all_bins[at] = symbols
        all_offsets[at] = offsets
        return change

    def known(self, level: int, first: int, last: int, out: Floats) -> Floats:
        """The best reconstruction so far, see `dct_transform.Known`, in steps of `unit`."""
        np.multiply(self.offsets[level][:, :, first:last], np.float32(1 / OFFSET_ONE), out=out)
        out += self.bins[level][:, :, first:last]
        return out


def checked(symbols: NDArray[np.int32]) -> NDArray[np.int16]:
    """Symbols as they come from a decoder, narrowed.

    Raises:
        CorruptError: a magnitude that no encoder makes.
    """
    if len(symbols) and int(symbols.max()) - min(int(symbols.min()), 0) > MAX_MAGNITUDE:
        raise CorruptError("a coefficient is larger than any picture's")
    return symbols.astype(np.int16)


def _magnitudes(bins: NDArray[np.int16], out: NDArray[np.int16]) -> NDArray[np.int16]:
    """Magnitudes as contexts see them, 0..MAX_FEATURE."""
    return np.clip(np.abs(bins, out=out), 0, MAX_FEATURE, out=out)  # ten times as fast as np.minimum


def _channels(part: int) -> slice:
    return slice(0, 1) if part == LUMA else slice(1, 3)
