"""The order in which both ends visit the symbols, and what is known at every step.

A `Walk` goes through the layers of one frame: `keys()` gives the table row of every symbol of the next layer
(running the networks that it needs), the caller codes or decodes those symbols, `put()` takes them. Encoder and
decoder share this class, so they cannot disagree about an order.

All symbols lie in flat arrays, stride 32 first, channels last; in units of the final step a symbol is
`9/16 m + v`, with v counted in 9s, 3s or 1s as planes arrive (balanced ternary digits of one integer). The mean m
is a table by quality at stride 32, and 0 elsewhere.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.base import LayerInfo
from layercast.codecs.hierarchical import kernels
from layercast.codecs.hierarchical.kernels import ROW_MIRROR, ZERO, Ranked
from layercast.codecs.hierarchical.model import GROUP_LETTERS, Model
from layercast.codecs.hierarchical.shifts import QUARTER, cheapest, fitted
from layercast.codecs.stages import StageClock
from layercast.entropy import CdfTables

MEAN_UNIT = 9 / 16
"""One unit of a mean, in final steps: means are in 1/16 of plane 0's step, which is 9."""

COARSE_MEANS = 0.5
"""How much of a mean counts at strides 32 and 16, where trits that have not come stand at it. With all of it pictures
lose 0.03 to 0.05 dB where plane 0 ends and 0.01 to 0.03 where plane 1 does (16 validation pictures, qualities 0.1 to
1); at stride 8 all of it is best. `models/hierarchical/config.py` has the same for training."""

SYMBOL_LIMIT = 3000
"""Largest |symbol| of plane 0; int16 holds nine times this. A latent of a picture stays below 30."""

STRIDE = 32
"""Pictures are padded to multiples of this by repeating their last row and column."""

STEPS = (9, 3, 1)

SAMPLED = 1 << 15
"""So many symbols of a layer of plane 0 say enough for its shifts: of more, every second position, or fourth, is looked
at."""

OFFSETS = 16
"""Rows of plane 0's tables for each scale index: by the magnitude of the distribution's offset from 0."""


def layer_table(model: Model) -> tuple[LayerInfo, ...]:
    rows = [LayerInfo(f"p0.z{stride}", f"plane 0: stride {stride}") for stride in (32, 16)]
    ends = list(itertools.accumulate(model.groups))
    rows += [
        LayerInfo(f"p0.z8{letter}", f"plane 0: stride 8, channels {end - size}-{end - 1}")
        for letter, size, end in zip(GROUP_LETTERS, model.groups, ends, strict=False)
    ]
    for plane, count in enumerate(model.classes, 1):
        rows.append(LayerInfo(f"p{plane}.z", f"plane {plane}: strides 32 and 16"))
        rows += [
            LayerInfo(f"p{plane}.c{c}", f"plane {plane}: stride 8, class {c} of {count} in order of worth")
            for c in range(1, count + 1)
        ]
    return tuple(rows)


class Walk:
    """State of one frame.

    Args:
        model: networks and tables.
        grid: (height, width) at stride 32.
        quality_index: 0..255.
        clock: is told what belongs to the prior and what to the order.
    """

    def __init__(
        self, model: Model, grid: tuple[int, int], quality_index: int, clock: StageClock | None = None
    ) -> None:
        self.model, self.grid, self.quality = model, grid, quality_index
        self._clock = clock or StageClock()
        self.layer, self.plane = 0, 0
        self.threads = model.options.thread_count
        self.parts = 2 + len(model.groups)
        """Layers of plane 0: strides 32, 16, and stride 8 in groups of channels."""
        self._steps = [
            *((0, part) for part in range(self.parts)),
            *((plane, number) for plane, count in enumerate(model.classes, 1) for number in range(count + 1)),
        ]
        self.layers = len(self._steps)
        h, w = grid
        self.shapes = [(1, h * s, w * s, c) for c, s in zip(model.latents, (1, 2, 4), strict=True)]
        self.bounds = np.cumsum([0, *(math.prod(s) for s in self.shapes)]).tolist()
        total = self.bounds[-1]
        self._coarse, self._fine = slice(0, self.bounds[2]), slice(self.bounds[2], None)
        top = np.tile(model.top_mean[quality_index], h * w)
        self.mean: NDArray[np.int16] = top  # of stride 32
        self.value: NDArray[np.int16] = np.zeros(total, np.int16)  # in steps of the last complete plane
        self.scale: NDArray[np.uint8] = np.zeros(total, np.uint8)
        self._begin = 0  # of stride 8, or of everything; the layer's symbols lie at `_places` from there
        self._places: NDArray[np.int32] = np.zeros(0, np.int32)
        self.chosen_keys: NDArray[np.int16] = np.zeros(0, np.int16)
        self._networks = 0  # of the present plane that have run, of coarse and fine
        self._open = False
        # What a network has told of the layer that shifts are of, scale indices and offsets in plane 0, else centre and
        # tilt logits of stride 8; which layer that is; and its shifts.
        self._told: tuple[NDArray[np.uint8], NDArray[np.uint8] | None] = self.scale, None
        self._teller = -1
        self._shifts: NDArray[np.int8] = np.zeros(0, np.int8)
        self._context: dict[str, NDArray[Any]] = {}
        # Of the present plane, from plane 1 on: row keys as far as networks have told them, trits until it is complete,
        # classes of worth and surprises of stride 8, centre logits of the coarse and the fine part, and what the fine
        # network needs of the planes before.
        self._keys: NDArray[np.int16] = np.zeros(0, np.int16)
        self._trits: NDArray[np.int8] = np.zeros(0, np.int8)
        self._classes: list[Ranked] = []
        self._surprise: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._centre: tuple[NDArray[np.uint8], NDArray[np.uint8]] = self._surprise, self._surprise
        self._ranked = 0  # the last plane whose classes are known
        self._before: dict[str, NDArray[np.uint8]] = {}

    def levels(self, flat: NDArray[Any]) -> list[NDArray[Any]]:
        """Views of a flat array, one (1, H, W, C) per level that it reaches to."""
        b = self.bounds
        pairs = zip(b[:-1], b[1:], self.shapes, strict=True)
        return [flat[a:z].reshape(s) for a, z, s in pairs if z <= len(flat)]

    def level(self, flat: NDArray[Any], level: int) -> NDArray[Any]:
        """What lies at one level of a flat array, flat."""
        return flat[self.bounds[level] : self.bounds[level + 1]]

    def _channels(self, part: int) -> tuple[int, tuple[int, int, int]]:
        """Of one of plane 0's layers: its level, and its first channel, how many it has, how many there are."""
        if part < 2:
            return part, (0, self.model.latents[part], self.model.latents[part])
        groups = self.model.groups
        return 2, (sum(groups[: part - 2]), groups[part - 2], self.model.latents[2])

    def keys(self, shifts: NDArray[np.int8] | None = None) -> tuple[NDArray[np.int16], CdfTables]:
        """Row keys of the next layer's symbols, in coding order, and the tables that they count in.

        Args:
            shifts: (`shifted`,) of its channels, see `shifts.py`; None: all 0.
        """
        plane, number = self._steps[self.layer]
        if not self._open or (shifts is not None and not np.array_equal(shifts, self._shifts)):
            self._tell()
            self._shifts = np.zeros(self.shifted, np.int8) if shifts is None else shifts
            if plane == 0:
                self._enter_part(number)
            else:
                if number == 1:
                    self._rank()
                self._choose(number)
            self._open = True
        self._clock.spent("prior")
        return self.chosen_keys, self.model.trit_tables if plane else self.model.base_tables

    @property
    def shifted(self) -> int:
        """Channels of the next layer that it begins with shifts of: a layer of plane 0, or a plane's first class."""
        plane, number = (0, 0) if self.complete else self._steps[self.layer]
        if self.complete or (plane and number != 1):
            return 0
        return self.model.latents[2] if plane else self._channels(number)[1][1]

    def fitted(self, digits: NDArray[Any]) -> NDArray[np.int8]:
        """The next layer's shifts that suit what an encoder has; digits: of its plane, flat."""
        self._tell()
        self._clock.spent("prior")
        plane, number = self._steps[self.layer]
        (first, second), model = self._told, self.model
        if plane == 0:
            level, channels = self._channels(number)
            every = 1 if len(first) < 2 * SAMPLED else 2 if len(first) < 4 * SAMPLED else 4
            given = self.level(digits, level), first, second, channels, model.base_costs
            return cheapest(kernels.shift_costs(*given, every, self.threads) * (every / 256))
        assert second is not None
        tables = model.key_table, model.chances, self.level(digits, 2), model.latents[2]
        return fitted(*kernels.deviations((first, second), *tables, self.threads))

    def rows(self, shifts: NDArray[np.int8] | None = None) -> tuple[NDArray[np.int16], CdfTables]:
        """`keys` as table rows."""
        keys, tables = self.keys(shifts)
        return keys & (ROW_MIRROR - 1), tables

    @property
    def at_last_classes(self) -> bool:
        """Whether the layer that `keys` described is stride 8's first of the last plane."""
        return self._open and self._steps[self.layer] == (len(STEPS) - 1, 1)

    def keys_of(self, level: int) -> NDArray[np.int16]:
        """Row keys of a level's trits in the present plane, flat."""
        return self.level(self._keys, level)

    def completed(self, trits: NDArray[np.int8]) -> list[NDArray[np.float32]]:
        """What a receiver will know when these trits, flat, have completed the last plane: latents in final steps per
        level."""
        value = self.value.copy()
        kernels.finer(value, trits, self.threads)
        return self.levels(self._latents(value, 1))

    def _latents(self, value: NDArray[np.int16], step: int) -> NDArray[np.float32]:
        """Values in a plane's steps as latents in final steps, flat."""
        latents = kernels.scaled(value, step, self.threads)
        latents[: self.bounds[1]] += self.mean * np.float32(MEAN_UNIT)
        return latents

    def symbols_of(self, digits: NDArray[Any]) -> NDArray[np.int32]:
        """Symbols of the layer that `keys` described; digits: of its plane, flat."""
        if self.layer >= self.parts:
            return kernels.symbols_at(self._places, digits[self._begin :], self.chosen_keys, self.threads)
        level, channels = self._channels(self.layer)
        return kernels.part_symbols(self.level(digits, level), self.chosen_keys, channels)

    def expected_removal(self) -> float:
        """Distortion that the trits of the layer that `keys` described are expected to remove, in pixel units
        times the squared final step, from the tables alone and what was expected when the plane began."""
        number, step = self._steps[self.layer][1], STEPS[self.plane]
        *coarse, fine = np.split(self.model.latent_energy, np.cumsum(self.model.latents)[:-1])
        if number:  # ranking counts all of stride 8's channels alike
            removed = self._classes[number - 1].total * float(fine.mean())
        else:
            levels = zip(self.levels(self._keys[self._coarse]), coarse, strict=True)
            removed = sum(
                float((self.model.trit_energy.take(keys) @ energy).sum()) for keys, energy in levels
            )
        return removed * step * step

    def put(self, symbols: NDArray[np.int32]) -> None:
        """Take the layer's symbols, (N,) int32, and go on to the next layer."""
        self._clock.resume()
        plane, number = self._steps[self.layer]
        if plane == 0:
            level, channels = self._channels(number)
            values = self.level(self.value, level)
            kernels.place(symbols, self.chosen_keys, values, channels, SYMBOL_LIMIT, self.threads)
        else:
            last = number == self.model.classes[plane - 1]
            trits = self._trits[self._begin :]
            if number and any(number <= later for later in self.model.follow[plane - 1]):
                known = self.value[self._fine], self.model.surprise, trits, self._surprise
                kernels.learn(self._places, symbols, self.chosen_keys, *known, self.threads)
            else:  # nothing in this plane asks how much they surprise
                kernels.settle(self._places, symbols, self.chosen_keys, trits, self.threads)
            if last:
                kernels.finer(self.value, self._trits, self.threads)
                self._trits = np.zeros(0, np.int8)
        self.layer += 1
        self._open = False
        self._clock.spent("order")

    def state(self) -> bytes:
        """Everything that both ends must agree on, as bytes."""
        arrays = (self.value, self._trits, self.mean, self.scale, self._keys, self.chosen_keys)
        return b"".join(a.tobytes() for a in arrays)

    @property
    def complete(self) -> bool:
        return self.layer == self.layers

    def look_ahead(self) -> None:
        """Run the network that tells the next symbols' means, if what it needs is known: they improve the picture."""
        if not self.complete:
            plane, number = self._steps[self.layer]
            if plane and number < 2:
                self._tell()
                if number and (self._ranked != plane or self._shifts.any()):
                    self._shifts, self._open = np.zeros(self.shifted, np.int8), False
                    self._rank()  # what has come says nothing of shifts

    def _tell(self) -> None:
        """Run what has to say something of the next layer, unless it has."""
        if self._teller != self.layer:
            plane, number = self._steps[self.layer]
            if plane:
                self._run_networks(plane, number)
            else:
                self._told = self._tell_part(number)
            self._teller = self.layer

    def _tell_part(self, part: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Scale indices and offsets of one of plane 0's layers, flat."""
        if part == 0:
            return np.tile(self.model.top_scale[self.quality], math.prod(self.grid)), None
        level, channels = self._channels(part - 1)
        values = self.level(self.value, level)
        if part == 1:
            known = kernels.mean_quarters(values, self.mean, 1).reshape(self.shapes[0])
            out = self.model.prior("base16", self.quality, c32=known)
        else:
            flat = kernels.part_quarters(values, channels, self.threads)
            known = flat.reshape(*self.shapes[level][:3], channels[1])
            if part == 2:
                out = self.model.prior("base8a", self.quality, x16=self._context["x16"], c16=known)
            else:
                name = f"base8{GROUP_LETTERS[part - 2]}"
                out = self.model.prior(name, self.quality, x8=self._context["x8n"], c8=known)
        stride = "16" if part == 1 else "8"
        scale, offset = out.pop(f"scale{stride}"), out.pop(f"offset{stride}", None)
        self._context |= out
        return scale.ravel(), None if offset is None else offset.ravel()

    def _enter_part(self, part: int) -> None:
        """Row keys of one of plane 0's layers, with scales shifted by channel."""
        level, channels = self._channels(part)
        scales = self.level(self.scale, level), channels
        self.chosen_keys = kernels.base_keys(*self._told, self._shifts, *scales, OFFSETS, self.threads)

    def _run_networks(self, plane: int, number: int) -> None:
        """Run what is needed before layer `number` of a plane and has not run."""
        if plane != self.plane:
            self._enter_plane(plane)
        if number and self._networks == 1:
            self._enter_fine()
        if number - 1 in self.model.follow[plane - 1]:
            self._follow(number - 1)

    def _choose(self, number: int) -> None:
        """Find the symbols of layer `number` of the present plane."""
        if number == 0:
            coded, self._begin = self.model.rankings[self.plane - 1].coded, 0
            self._clock.spent("prior")
            self._places, self.chosen_keys = kernels.coded_symbols(self._keys[self._coarse], coded)
            self._clock.spent("order")
            return
        ranked, self._begin = self._classes[number - 1], self.bounds[2]
        self._places, self.chosen_keys = ranked.at, ranked.keys
        if "centre8n" in self._context:  # what was expected has been corrected since
            centre, tilt = (self._context[n].ravel() for n in ("centre8n", "tilt8"))
            logits = centre, tilt, self.model.key_table
            self.chosen_keys = kernels.row_keys_at(self._places, *logits, self.threads)

    def _known(
        self, part: slice, steps: int, sized: int = 0, counted: bool = True
    ) -> dict[str, NDArray[np.uint8]]:
        """What is known of a part of the symbols, as the networks see it, by input and level.

        Args:
            part: `_coarse` or `_fine`.
            steps: how many of the values' steps make one of plane 0's.
            sized: channels of `_fine` whose magnitudes are wanted.
            counted: whether `u` and `g` are, see `kernels.contexts`.
        """
        value = self.value[part]
        if len(self._trits):
            value = value.copy()
            kernels.finer(value, self._trits[part], self.threads)
        if part.start:
            channels = self.model.latents[2]
            return self._named(
                kernels.contexts(value, channels, self.model.signed, sized, self.threads), part
            )
        each = len(value) // math.prod(self.grid)  # so that threads have something to share
        flats = kernels.contexts(value, each, each, each, self.threads, counted)
        top = slice(0, self.bounds[1])
        flats["c"][top] = kernels.mean_quarters(value[top], self.mean, steps)
        return self._named(flats, part)

    def _named(self, flats: dict[str, NDArray[np.uint8]], part: slice) -> dict[str, NDArray[np.uint8]]:
        """Flat arrays over a part of the symbols by name, as (1, H, W, C) by name and level."""
        if part.start:
            shape = *self.shapes[2][:3], -1
            return {f"{name}8": flat.reshape(shape) for name, flat in flats.items()}
        end, (top, middle, _) = self.bounds[1], self.shapes
        found = {f"{name}32": flat[:end].reshape(top) for name, flat in flats.items()}
        return found | {f"{name}16": flat[end:].reshape(middle) for name, flat in flats.items()}

    def _enter_plane(self, plane: int) -> None:
        """Distributions of strides 32 and 16 in a plane."""
        coarse, fine = (self.scale[self._coarse], self.scale[self._fine]) if plane == 1 else self._centre
        x16, x8 = ("x16m", "x8n") if plane == 1 else ("y16", "y8")
        feeds = self._known(self._coarse, 3 ** (plane - 1)) | self._named({"e": coarse}, self._coarse)
        known = self._known(self._fine, 1, self.model.sized[plane - 1])
        self._before = known | self._named({"e": fine}, self._fine)
        self._before["x8"] = self._context[x8]
        out = self.model.prior(f"coarse{plane}", self.quality, **feeds, x16=self._context[x16])
        self._before["x16"] = out["y16"]
        self.plane, self._networks = plane, 1
        self._trits = np.zeros(len(self.value), np.int8)
        self._keys = kernels.row_keys(out["centre"], out["tilt"], self.model.key_table, self.threads)
        self._centre = out["centre"], out["centre"][:0]

    def _enter_fine(self) -> None:
        """Distributions of stride 8 in the present plane, before they are shifted."""
        plane, before = self.plane, self._before
        now = self._known(self._coarse, 3**plane, counted=False)
        out = self.model.prior(f"fine{plane}", self.quality, **before, **now)
        self._context, self._networks = out, 2
        self._told = out["centre8"].ravel(), out["tilt8"].ravel()

    def _rank(self) -> None:
        """Stride 8's classes of worth in the present plane, with centre logits shifted by channel."""
        centre, tilt = self._told
        assert tilt is not None
        if self._shifts.any():
            centre = kernels.shifted(centre, self._shifts * np.int16(QUARTER), 255, self.threads)
        self._context["centre8"] = centre.reshape(self.shapes[2])
        self._ranked = self.plane
        ranking, count = self.model.rankings[self.plane - 1], self.model.classes[self.plane - 1]
        tables = self.model.key_table, self.model.trit_energy
        keys = np.empty(len(self.value), np.int16)
        keys[self._coarse] = self._keys[self._coarse]
        self._clock.spent("prior")
        self._classes = ranking.classes((centre, tilt), *tables, count, keys[self._fine], self.threads)
        self._keys = keys
        if self.model.follow[self.plane - 1]:
            self._surprise = np.full(len(centre), ZERO, np.uint8)
        self._clock.spent("order")
        self._centre = self._centre[0], self._told[0]

    def _follow(self, number: int) -> None:
        """New distributions of stride 8's trits, once `number` classes are known."""
        given = {"x8": self._context["y8"], "centre8": self._context["centre8"]}
        given["r8"] = self._surprise.reshape(self.shapes[2])
        self._context |= self.model.prior(f"follow{self.plane}_{number}", self.quality, **given)

    def known(self) -> tuple[list[NDArray[np.float32]], list[float]]:
        """What a receiver knows: latents in final steps per level, and planes missing, averaged over a level.

        Plane 0 counts as there before it has come: at low quality it is nearly all zero, and pictures from a part of
        it are better so (0.1 dB on 8 validation pictures at qualities up to 0.5).
        Symbols that the present plane has not reached stand at the mean of their trit, or a part of it, once a network
        has told it.
        """
        step = STEPS[self.plane]
        if not len(self._trits):
            missing = 2.0 - self.plane
            return self.levels(self._latents(self.value, step)), [missing] * 3
        latents = self._latents(self.value, STEPS[self.plane - 1])
        told = len(self.value) if self._networks == 2 else self.bounds[2]
        means = (self.model.trit_mean * np.float32(step)).take(self._keys[:told])
        means[self._coarse] *= np.float32(COARSE_MEANS)
        number = self._steps[self.layer][1]
        reached = np.full(len(self.value), number > 0, np.uint8)
        if number and self._networks == 2:
            for later in self._classes[number - 1 :]:
                reached[self._fine][later.at] = 0
        elif number:
            reached[self._fine] = 0
        latents += self._trits * np.float32(step)
        latents[:told] += means * (1 - reached[:told])
        share = [float(flags.mean()) for flags in self.levels(reached)]
        return self.levels(latents), [3.0 - self.plane - s for s in share]
