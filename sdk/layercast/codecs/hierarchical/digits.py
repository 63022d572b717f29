"""An encoder's symbols: the nearest integers, as balanced ternary digits.

Weighing bits against the distance from a latent here (rate-distortion optimised quantisation) gains nothing: analysis
was trained on the rate and has done it already. Weighing them against what is wrong with the decoded picture does:
`refine.py`. docs/codecs.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.hierarchical import kernels
from layercast.codecs.hierarchical.walk import MEAN_UNIT, SYMBOL_LIMIT, Walk

LIMIT = 9 * SYMBOL_LIMIT


class Digits:
    """All symbols of one frame.

    Args:
        walk: the encoder's walk, before its first layer.
        latents: in final steps, of each level, flat float32.
    """

    def __init__(self, walk: Walk, latents: Sequence[NDArray[np.float32]]) -> None:
        self._walk = walk
        total = walk.bounds[-1]
        self._planes = np.empty(total, np.int16), np.empty(total, np.int8), np.empty(total, np.int8)
        top, *others = latents
        for level, values in enumerate([top - walk.mean * np.float32(MEAN_UNIT), *others]):
            nines, threes, ones = (walk.level(plane, level) for plane in self._planes)
            kernels.digits(values, LIMIT, (nines, threes, ones), walk.threads)

    @property
    def last(self) -> NDArray[np.int8]:
        """The last plane's trits, of all levels, flat; they may be changed until they are coded."""
        return self._planes[2]

    @property
    def present(self) -> NDArray[Any]:
        """Of the plane that the walk is in, of all levels, flat."""
        return self._planes[self._walk.plane]

    def symbols(self) -> NDArray[np.int32]:
        """Symbols of the layer that the walk's `keys` has just described, (N,) int32."""
        walk = self._walk
        return walk.symbols_of(self.present)
