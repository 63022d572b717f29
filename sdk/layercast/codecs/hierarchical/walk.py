"""The order in which both ends visit the symbols, and what is known at every step.

A `Walk` goes through the layers of one frame: `rows()` gives the table row of every symbol of the next layer
(running the networks that it needs), the caller codes or decodes those symbols, `put()` takes them. Encoder and
decoder share this class, so they cannot disagree about an order.

All symbols lie in flat arrays, stride 32 first, channels first; in units of the final step a symbol is
`9/16 m + v`, with v counted in 9s, 3s or 1s as planes arrive (balanced ternary digits of one integer). The mean m
is a table by quality at stride 32, and 0 elsewhere.
"""

from __future__ import annotations

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

INT16_SYMBOL = 1500
"""Up to here residuals become context in 16 bits: 16 * 1500 + 3 * 2048 + 2 fits."""


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


def context_value(mean: NDArray[np.int16], value: NDArray[np.int16], steps: int) -> NDArray[np.uint8]:
    """Known values as the networks see them: quarters of a step, rounded half up, clipped at 32 steps.

    Args:
        mean: in 1/16 of plane 0's step.
        value: residual in the present plane's steps.
        steps: how many of the present plane's steps make one of plane 0's.
    """
    if max(-int(value.min()), int(value.max())) > INT16_SYMBOL:
        wide = mean.astype(np.int32) * steps + value.astype(np.int32) * 16 + 2
        context: NDArray[np.uint8] = np.clip((wide >> 2) + ZERO, 0, 255).astype(np.uint8)
        return context
    quarters = mean * np.int16(steps)
    quarters += value << np.int16(4)
    quarters += np.int16(2)
    quarters >>= np.int16(2)
    quarters += np.int16(ZERO)
    context = np.clip(quarters, 0, 255, out=quarters).astype(np.uint8)
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
        self.shapes = [(1, c, h * s, w * s) for c, s in zip(model.latents, (1, 2, 4), strict=True)]
        sizes = [s[1] * s[2] * s[3] for s in self.shapes]
        half = sizes[2] // 2
        self.bounds = np.cumsum([0, sizes[0], sizes[1], half, half]).tolist()
        total = self.bounds[-1]
        self.mean: NDArray[np.int16] = np.zeros(total, np.int16)
        self.value: NDArray[np.int16] = np.zeros(total, np.int16)
        self.scale: NDArray[np.uint8] = np.zeros(total, np.uint8)
        self.refined: NDArray[np.uint8] = np.zeros(total, np.uint8)  # by the present plane
        self.keys: NDArray[np.int16] | None = None
        self._class_of: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.chosen: NDArray[np.intp] = np.zeros(0, np.intp)
        self._index: NDArray[np.int32] = np.zeros(0, np.int32)
        self._context: dict[str, NDArray[Any]] = {}
        self._open = False

    def levels(self, flat: NDArray[Any]) -> list[NDArray[Any]]:
        """Views of a flat array, one (1, C, H, W) per level."""
        b = self.bounds
        return [
            flat[a:z].reshape(s)
            for a, z, s in zip((b[0], b[1], b[2]), (b[1], b[2], b[4]), self.shapes, strict=True)
        ]

    def rows(self) -> tuple[NDArray[Any], CdfTables]:
        """Table rows of the next layer's symbols, in coding order, and the tables they count in."""
        if not self._open:
            if self.layer < PARTS:
                self._enter_part(self.layer)
            else:
                self._enter_class(self.layer - PARTS)
            self._open = True
        if self.layer < PARTS:
            return self.scale[self.bounds[self.layer] : self.bounds[self.layer + 1]], self.model.base_tables
        return self.keys_of_class() & (ROW_MIRROR - 1), self.model.trit_tables

    def keys_of_class(self) -> NDArray[np.int16]:
        """Row keys, mirror flag included, of the class's symbols."""
        assert self.keys is not None
        return self.keys[self.chosen]

    def mirror(self, trits: NDArray[np.int32]) -> NDArray[np.int32]:
        """Trits as the tables count them: mirrored where the row's tilt is negative (an involution)."""
        sign = 1 - 2 * (self.keys_of_class() >= ROW_MIRROR).astype(np.int32)
        mirrored: NDArray[np.int32] = trits * sign
        return mirrored

    def expected_removal(self) -> float:
        """Distortion that the trits of the class that `rows` described are expected to remove, in pixel units
        times the squared final step, from the tables alone."""
        step = STEPS[self.plane]
        return float(self.model.trit_energy.take(self._index[self.chosen]).sum()) * step * step

    def put(self, symbols: NDArray[np.int32]) -> None:
        """Take the layer's symbols, (N,) int32, and go on to the next layer."""
        if self.layer < PARTS:
            part = slice(self.bounds[self.layer], self.bounds[self.layer + 1])
            self.value[part] = np.clip(symbols, -SYMBOL_LIMIT, SYMBOL_LIMIT)
            self.refined[part] = 1
        else:
            self.value[self.chosen] += self.mirror(symbols).astype(np.int16)
            self.refined[self.chosen] = 1
        self.layer += 1
        self._open = False

    def state(self) -> bytes:
        """Everything that both ends must agree on, as bytes."""
        keys = b"" if self.keys is None else self.keys.tobytes()
        return self.value.tobytes() + self.mean.tobytes() + self.scale.tobytes() + keys

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

    def _classes_before(self, plane: int) -> int:
        return sum(t.count for t in self.model.planes[: plane - 1])

    def _enter_part(self, part: int) -> None:
        b = self.bounds
        if part == 0:
            for flat, table in ((self.mean, self.model.top_mean), (self.scale, self.model.top_scale)):
                self.levels(flat)[0][:] = table[self.quality][None, :, None, None]
            return
        before = slice(b[part - 1], b[part])
        known = context_value(self.mean[before], self.value[before], 1)
        shape = list(self.shapes[min(part - 1, 2)])
        if part == 3:
            shape[1] //= 2
        name, inputs, level = (
            ("base16", {}, "16"),
            ("base8a", {"x16": "x16"}, "8a"),
            ("base8b", {"x8": "x8"}, "8b"),
        )[part - 1]
        feeds = {new: self._context[old] for new, old in inputs.items()}
        feeds[("c32", "c16", "c8a")[part - 1]] = known.reshape(shape)
        out = self.model.prior(name, self.quality, **feeds)
        self.scale[b[part] : b[part + 1]] = out[f"scale{level}"].ravel()
        self._context.update(out)

    def _enter_class(self, number: int) -> None:
        plane = 1 if number < self.model.planes[0].count else 2
        if plane != self.plane:
            self._enter_plane(plane)
        self.chosen = np.flatnonzero(self._class_of == number - self._classes_before(plane))

    def _enter_plane(self, plane: int) -> None:
        """Distributions of all trits of a plane, and their classes."""
        size = np.minimum(np.abs(self.value), 15).astype(np.uint8)
        flats = {
            "c": context_value(self.mean, self.value, 3 ** (plane - 1)),
            "s": size * np.uint8(8) + np.uint8(ZERO),
            "u": np.minimum(size, 2),
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
        logits = out["centre"].astype(np.uint16)
        logits <<= 8
        logits |= out["tilt"]
        self.keys, self.plane = self.model.key_table.take(logits), plane
        weight = self.model.channel_weight
        table = self.model.planes[plane - 1].classes
        index = self.keys.astype(np.int32)
        if weight.any():
            start = 0
            for flat in self.levels(index):
                c = flat.shape[1]
                flat += KEYS * weight[start : start + c].astype(np.int32)[None, :, None, None]
                start += c
        self._class_of = table.take(index)
        self._index = index
        self.value *= 3
        self.refined = (self._class_of == SKIP).view(np.uint8)

    def known(self) -> tuple[list[NDArray[np.float32]], list[float]]:
        """What a receiver knows: latents in final steps per level, and planes missing, averaged over a level.

        Symbols that the present plane has not reached stand at the mean of their trit.
        """
        step = STEPS[self.plane]
        latents = self.mean * np.float32(MEAN_UNIT)
        latents += self.value * np.float32(step)
        if self.keys is not None:
            latents += (self.model.trit_mean * np.float32(step)).take(self.keys) * (1 - self.refined)
        planes = [2.0 - (self.plane - 1 if self.plane else 0)] * 3
        missing = [
            p - float(flags.mean()) for p, flags in zip(planes, self.levels(self.refined), strict=True)
        ]
        if not self.plane:
            missing = [m + 1 for m in missing]
        return self.levels(latents), missing
