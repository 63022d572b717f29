"""The order in which both ends visit the symbols, and what is known at every step.

A `Walk` goes through the layers of one frame: `rows()` gives the table row of every symbol of the next layer
(running the networks that it needs), the caller codes or decodes those symbols, `put()` takes them. Encoder and
decoder share this class, so they cannot disagree about an order.

All symbols lie in flat arrays, stride 32 first, channels last; in units of the final step a symbol is
`9/16 m + v`, with v counted in 9s, 3s or 1s as planes arrive (balanced ternary digits of one integer). The mean m
is a table by quality at stride 32, and 0 elsewhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.base import LayerInfo
from layercast.codecs.hierarchical.model import KEYS, ROW_MIRROR, SKIP, Model
from layercast.entropy import CdfTables

MEAN_UNIT = 9 / 16
"""One unit of a mean, in final steps: means are in 1/16 of plane 0's step, which is 9."""

SYMBOL_LIMIT = 3000
"""Largest |symbol| of plane 0; int16 holds nine times this. A latent of a picture stays below 30."""

PARTS = 4
"""Layers of plane 0: strides 32, 16, and stride 8 in two halves."""

STRIDE = 32
"""Pictures are padded to multiples of this by repeating their last row and column."""

STEPS = (9, 3, 1)


def layer_table(model: Model) -> tuple[LayerInfo, ...]:
    base = ("stride 32", "stride 16", "stride 8, low frequencies", "stride 8, high frequencies")
    rows = [
        LayerInfo(f"p0.{n}", f"plane 0: {text}")
        for n, text in zip(("z32", "z16", "z8a", "z8b"), base, strict=True)
    ]
    for plane, tables in enumerate(model.planes, 1):
        rows += [
            LayerInfo(
                f"p{plane}.c{c + 1}", f"plane {plane}: class {c + 1} of {tables.count} in order of worth"
            )
            for c in range(tables.count)
        ]
    return tuple(rows)


ZERO = 128
"""What a signed zero is in the networks' uint8 tensors."""


def context_value(value: NDArray[np.int16], mean: NDArray[np.int16] | None, steps: int) -> NDArray[np.uint8]:
    """Known values as the networks see them: quarters of a step, rounded half up, clipped at 32 steps.

    Args:
        value: residual in the present plane's steps.
        mean: in 1/16 of plane 0's step; None where it is 0.
        steps: how many of the present plane's steps make one of plane 0's.
    """
    if mean is None:
        quarters = np.clip(value, -33, 33) * np.int16(4)
    else:
        quarters = (mean.astype(np.int32) * steps + value.astype(np.int32) * 16 + 2) >> 2
    context: NDArray[np.uint8] = np.clip(quarters + np.int16(ZERO), 0, 255).astype(np.uint8)
    return context


class Walk:
    """State of one frame.

    Args:
        model: networks and tables.
        grid: (height, width) at stride 32.
        quality_index: 0..255.
    """

    def __init__(self, model: Model, grid: tuple[int, int], quality_index: int) -> None:
        self.model, self.grid, self.quality = model, grid, quality_index
        self.layer, self.plane = 0, 0
        self.layers = PARTS + sum(t.count for t in model.planes)
        h, w = grid
        self.shapes = [(1, h * s, w * s, c) for c, s in zip(model.latents, (1, 2, 4), strict=True)]
        self.bounds = np.cumsum([0, *(math.prod(s) for s in self.shapes)]).tolist()
        total = self.bounds[-1]
        top = np.tile(model.top_mean[quality_index], h * w)
        self.mean: NDArray[np.int16] = top  # of stride 32
        self.value: NDArray[np.int16] = np.zeros(total, np.int16)
        self.scale: NDArray[np.uint8] = np.zeros(total, np.uint8)
        self.keys: NDArray[np.int16] | None = None
        self._class_of: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.chosen: NDArray[np.intp] = np.zeros(0, np.intp)
        self.chosen_keys: NDArray[np.int16] = np.zeros(0, np.int16)
        self._index: NDArray[np.int32] = np.zeros(0, np.int32)
        self._context: dict[str, NDArray[Any]] = {}
        self._trits: NDArray[np.int8] = np.zeros(0, np.int8)  # of the present plane, until it is complete
        self._surprise: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._open = False

    def levels(self, flat: NDArray[Any]) -> list[NDArray[Any]]:
        """Views of a flat array, one (1, H, W, C) per level."""
        b = self.bounds
        return [flat[a:z].reshape(s) for a, z, s in zip(b[:-1], b[1:], self.shapes, strict=True)]

    def part(self, flat: NDArray[Any], part: int) -> NDArray[Any]:
        """View of what one of plane 0's layers holds of a flat array, (1, H, W, C)."""
        view = self.levels(flat)[min(part, 2)]
        half = self.shapes[2][3] // 2
        return view if part < 2 else view[..., :half] if part == 2 else view[..., half:]

    def by_channel(self, values: NDArray[Any]) -> NDArray[Any]:
        """A number per channel, stride 32's first, as a flat array with one per symbol."""
        flat = np.empty(self.bounds[-1], values.dtype)
        ends = np.cumsum([s[3] for s in self.shapes])[:-1]
        for level, of_level in zip(self.levels(flat), np.split(values, ends), strict=True):
            level[:] = of_level
        return flat

    def rows(self) -> tuple[NDArray[Any], CdfTables]:
        """Table rows of the next layer's symbols, in coding order, and the tables they count in."""
        if not self._open:
            if self.layer < PARTS:
                self._enter_part(self.layer)
            else:
                self._enter_class()
            self._open = True
        if self.layer < PARTS:
            return self.part(self.scale, self.layer).ravel(), self.model.base_tables
        return self.chosen_keys & (ROW_MIRROR - 1), self.model.trit_tables

    def mirror(self, trits: NDArray[np.int32]) -> NDArray[np.int32]:
        """Trits as the tables count them: mirrored where the row's tilt is negative (an involution)."""
        flags = -(self.chosen_keys // np.int16(ROW_MIRROR))  # 0 or -1: in two's complement, x ^ -1 is -x - 1
        mirrored: NDArray[np.int32] = (trits ^ flags) - flags
        return mirrored

    def expected_removal(self) -> float:
        """Distortion that the trits of the class that `rows` described are expected to remove, in pixel units
        times the squared final step, from the tables alone."""
        step = STEPS[self.plane]
        return float(self.model.trit_energy.take(self._index[self.chosen]).sum()) * step * step

    def put(self, symbols: NDArray[np.int32]) -> None:
        """Take the layer's symbols, (N,) int32, and go on to the next layer."""
        if self.layer < PARTS:
            part = self.part(self.value, self.layer)
            part[:] = np.clip(symbols, -SYMBOL_LIMIT, SYMBOL_LIMIT).reshape(part.shape)
        else:
            trits = self.mirror(symbols).astype(np.int8)
            self._trits[self.chosen] = trits
            number = self._number()
            if self.plane == 2 and number < max(self.model.refreshes, default=0):
                sign = np.sign(self.value.take(self.chosen))
                index = self.chosen_keys * np.int16(9) + trits * np.int8(3) + sign + np.int16(4)
                self._surprise[self.chosen] = self.model.surprise.take(index)
            if number == self.model.planes[self.plane - 1].count - 1:
                self.value += self._trits
                self._trits = np.zeros(0, np.int8)
        self.layer += 1
        self._open = False

    def state(self) -> bytes:
        """Everything that both ends must agree on, as bytes."""
        keys = b"" if self.keys is None else self.keys.tobytes()
        return (
            self.value.tobytes() + self._trits.tobytes() + self.mean.tobytes() + self.scale.tobytes() + keys
        )

    @property
    def complete(self) -> bool:
        return self.layer == self.layers

    def look_ahead(self) -> None:
        """Run the networks of the next plane, if the present one is complete: its means improve the picture."""
        if (
            self.layer >= PARTS
            and self.plane < 2
            and self.layer == PARTS + self._classes_before(self.plane + 1)
        ):
            self._enter_plane(self.plane + 1)

    def _number(self) -> int:
        """The present layer's class within its plane."""
        return self.layer - PARTS - self._classes_before(self.plane)

    def _classes_before(self, plane: int) -> int:
        return sum(t.count for t in self.model.planes[: plane - 1])

    def _enter_part(self, part: int) -> None:
        if part == 0:
            self.levels(self.scale)[0][:] = self.model.top_scale[self.quality]
            return
        before = self.part(self.value, part - 1)
        known = context_value(before, self.mean.reshape(before.shape) if part == 1 else None, 1)
        name, inputs, level = (
            ("base16", {}, "16"),
            ("base8a", {"x16": "x16"}, "8a"),
            ("base8b", {"x8": "x8"}, "8b"),
        )[part - 1]
        feeds = {new: self._context[old] for new, old in inputs.items()}
        feeds[("c32", "c16", "c8a")[part - 1]] = known
        out = self.model.prior(name, self.quality, **feeds)
        self.part(self.scale, part)[:] = out[f"scale{level}"]
        self._context.update(out)

    def _enter_class(self) -> None:
        plane = 1 if self.layer - PARTS < self.model.planes[0].count else 2
        if plane != self.plane:
            self._enter_plane(plane)
        number = self._number()
        if plane == 2 and number in self.model.refreshes:
            self._refresh()
        assert self.keys is not None
        self.chosen = np.flatnonzero(self._class_of == number)
        self.chosen_keys = self.keys.take(self.chosen)

    def _refresh(self) -> None:
        """New distributions of stride 8's trits of plane 2, from those that are known."""
        assert self.keys is not None
        fine = slice(self.bounds[2], None)
        _, r16, r8 = self.levels(self._surprise)
        _, _, centre = self.levels(self._context["centre"])
        out = self.model.prior(
            "refresh", self.quality, x8=self._context["y8"], r16=r16, r8=r8, centre8=centre
        )
        self.keys[fine] = self._keys(out["refreshed8"].ravel(), self._context["tilt"][fine])

    def _keys(self, centre: NDArray[np.uint8], tilt: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Row keys of trits with these logits."""
        logits = centre * np.uint16(256)
        logits |= tilt
        keys: NDArray[np.int16] = self.model.key_table.take(logits)
        return keys

    def _enter_plane(self, plane: int) -> None:
        """Distributions of all trits of a plane, and their classes."""
        top = slice(0, self.bounds[1])
        size = np.abs(np.clip(self.value, -15, 15)).astype(np.uint8)
        known = context_value(self.value, None, 1)
        known[top] = context_value(self.value[top], self.mean, 3 ** (plane - 1))
        flats = {
            "c": known,
            "s": size * np.uint8(8) + np.uint8(ZERO),
            "u": np.clip(size, 0, 2),
            "g": (np.clip(self.value, -1, 1) + np.int16(1)).astype(np.uint8),
            "e": self.scale if plane == 1 else self._context["centre"],
        }
        feeds = {
            f"{name}{level}": x
            for name, flat in flats.items()
            for level, x in zip(("32", "16", "8"), self.levels(flat), strict=True)
        }
        names = ("x16m", "x8m") if plane == 1 else ("y16", "y8")
        feeds["x16"], feeds["x8"] = (self._context[n] for n in names)
        out = self.model.prior(f"plane{plane}", self.quality, **feeds)
        self._context = out
        self.keys, self.plane = self._keys(out["centre"], out["tilt"]), plane
        self._surprise = np.full(len(self.keys) if plane == 2 else 0, ZERO, np.uint8)
        self._index = self.by_channel(KEYS * self.model.channel_weight.astype(np.int32))
        self._index += self.keys
        self._class_of = self.model.planes[plane - 1].classes.take(self._index)
        self.value *= 3
        self._trits = np.zeros(len(self.keys), np.int8)

    def known(self) -> tuple[list[NDArray[np.float32]], list[float]]:
        """What a receiver knows: latents in final steps per level, and planes missing, averaged over a level.

        Symbols that the present plane has not reached stand at the mean of their trit.
        """
        step = STEPS[self.plane]
        latents = self.value * np.float32(step)
        latents[: self.bounds[1]] += self.mean * np.float32(MEAN_UNIT)
        if not self.plane:
            before = [self.layer > part for part in range(PARTS)]
            return self.levels(latents), [3.0 - before[0], 3.0 - before[1], 3.0 - (before[2] + before[3]) / 2]
        if not len(self._trits):
            return self.levels(latents), [2.0 - self.plane] * 3
        assert self.keys is not None
        number = self._number()
        known = ((self._class_of < number) | (self._class_of == SKIP)).view(np.uint8)
        means = (self.model.trit_mean * np.float32(step)).take(self.keys)
        latents += np.where(known, self._trits * np.float32(step), means)
        share = [float(flags.mean()) for flags in self.levels(known)]
        return self.levels(latents), [3.0 - self.plane - s for s in share]
