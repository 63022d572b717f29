"""The encoder's choice of symbols: rounding that weighs what a symbol costs against what it repairs.

Rounding to the nearest grid point is best only when all symbols cost the same. Each digit is chosen to minimise
`bits + lambda * distortion` (rate-distortion optimised quantisation, Karczewicz et al. 2008), digit by digit in coding
order: the distortion counted is the least that the later digits can still reach. The decoder does not notice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.hierarchical.model import Model
from layercast.codecs.hierarchical.walk import MEAN_UNIT, PARTS, STEPS, SYMBOL_LIMIT, Walk

REACH = 4
"""Planes 1 and 2 reach four final steps around plane 0's grid point, plane 2 one around plane 1's."""


class Chooser:
    """Chooses the symbols of one frame.

    Args:
        model: tables and distortion weights.
        walk: the encoder's walk.
        latents: in final steps, flat float32.
        strength: factor on the bits; 0 rounds to the nearest.
    """

    def __init__(self, model: Model, walk: Walk, latents: NDArray[np.float32], strength: float) -> None:
        self._model, self._walk, self._strength = model, walk, strength
        self.residual = latents.copy()
        area = [s[2] * s[3] for s in walk.shapes]
        per_pixel = np.repeat(model.latent_energy, np.repeat(area, [s[1] for s in walk.shapes]))
        self._weight: NDArray[np.float32] = per_pixel * np.float32(model.step_energy / 3)

    def symbols(self) -> NDArray[np.int32]:
        """Symbols of the layer that the walk's `rows` has just described, (N,) int32."""
        walk = self._walk
        if walk.layer < PARTS:
            return self._base(slice(walk.bounds[walk.layer], walk.bounds[walk.layer + 1]))
        return walk.mirror(self._trits())

    def _base(self, part: slice) -> NDArray[np.int32]:
        residual = self.residual[part]
        residual -= self._walk.mean[part] * np.float32(MEAN_UNIT)
        grid = np.clip(np.rint(residual * np.float32(1 / STEPS[0])), -SYMBOL_LIMIT, SYMBOL_LIMIT)
        symbols: NDArray[np.int32] = grid.astype(np.int32)
        where = np.flatnonzero(symbols)
        if self._strength and len(where):
            near = symbols[where]
            lower = near - np.sign(near)
            r = residual[where]
            saved = self._model.base_bits(self._walk.scale[part][where], near)
            saved -= self._model.base_bits(self._walk.scale[part][where], lower)
            worse = reachable(r, STEPS[0] * lower, REACH) - reachable(r, STEPS[0] * near, REACH)
            cheaper = worse * self._weight[part][where] < saved * self._strength
            symbols[where] = np.where(cheaper, lower, near)
        return symbols

    def _trits(self) -> NDArray[np.int32]:
        walk, chosen = self._walk, self._walk.chosen
        step = STEPS[walk.plane]
        x = self.residual[chosen] - walk.value[chosen] * np.float32(step)
        if not self._strength:
            nearest: NDArray[np.int32] = np.clip(np.rint(x * np.float32(1 / step)), -1, 1).astype(np.int32)
            return nearest
        bits = self._model.trit_bits[:, walk.keys_of_class()]  # (2, N): of -1 and +1, less that of 0
        weight = self._weight[chosen] / np.float32(self._strength)
        reach = (step - 1) // 2
        zero = reachable(x, 0, reach)
        minus = (reachable(x, -step, reach) - zero) * weight + bits[0]
        plus = (reachable(x, step, reach) - zero) * weight + bits[1]
        trits: NDArray[np.int32] = (plus < 0).astype(np.int32)
        trits[(minus < 0) & (minus < plus)] = -1
        return trits


def reachable(x: NDArray[np.float32], centre: NDArray[np.int32] | int, reach: int) -> NDArray[np.float32]:
    """Least squared distance from x to an integer within `reach` of `centre`."""
    if reach == 0:
        distance = x - np.float32(centre) if isinstance(centre, int) else x - centre.astype(np.float32)
    else:
        distance = x - np.clip(np.rint(x), centre - reach, centre + reach).astype(np.float32)
    squared: NDArray[np.float32] = distance * distance
    return squared
