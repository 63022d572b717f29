"""An encoder's symbols: the nearest integers, as balanced ternary digits.

Weighing bits against error here (rate-distortion optimised quantisation) gains nothing: analysis was trained on the
rate and has done it already. docs/codecs.md has the measurement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.hierarchical import kernels
from layercast.codecs.hierarchical.walk import MEAN_UNIT, SYMBOL_LIMIT, Walk

LIMIT = 9 * SYMBOL_LIMIT


class Digits:
    """All symbols of one frame.

    Args:
        walk: the encoder's walk, before its first layer.
        latents: in final steps, flat float32.
    """

    def __init__(self, walk: Walk, latents: NDArray[np.float32]) -> None:
        self._walk = walk
        whole = latents.copy()
        whole[: len(walk.mean)] -= walk.mean * np.float32(MEAN_UNIT)
        self._nines, *self._trits = kernels.digits(whole, LIMIT, walk.threads)

    def symbols(self) -> NDArray[np.int32]:
        """Symbols of the layer that the walk's `keys` has just described, (N,) int32."""
        walk = self._walk
        if walk.layer < walk.parts:
            return walk.mirror(walk.part(self._nines, walk.layer).ravel().astype(np.int32))
        return walk.symbols_of(self._trits[walk.plane - 1])
