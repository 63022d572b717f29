"""The embedded quantiser of the `dct` codec: trit-planes with a dead zone.

Plane 0 codes a coefficient at step 9, plane 1 refines it to step 3, plane 2 to step 1 (in units of the final step).
The grids nest: magnitude q of the last plane is round(q / 3) in plane 1 and round(q / 9) in plane 0. Inside
9 * DEAD_ZONE the bins are 2 * DEAD_ZONE wide instead of 1, so that the zero bin of *every* plane is wider than the
others by that factor, as it should be for Laplacian sources.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.dct_work import Floats

PLANES = 3
"""Refinements: steps 9, 3 and 1."""

DEAD_ZONE = 0.6
"""Half width of the zero bin in steps; chosen on validation pictures."""

MAX_MAGNITUDE = 3000
"""Largest magnitude in plane 0, steps of 9. The smallest step needs 600; 9 * 3000 + 4 still fits int16."""


def quantise(magnitudes: Floats) -> NDArray[np.int16]:
    """Magnitudes in steps (>= 0) to bin numbers of the last plane, same shape."""
    near = magnitudes * np.float32(0.5 / DEAD_ZONE)
    near += np.float32(0.5)
    far = magnitudes + np.float32(5 - 9 * DEAD_ZONE)
    np.maximum(near, far, out=near)
    np.clip(near, 0, 9 * MAX_MAGNITUDE, out=near)
    return near.astype(np.int16)


def coarsen(bins: NDArray[Any], plane: int) -> NDArray[Any]:
    """Bin numbers of the last plane to those of an earlier one."""
    ratio = 3 ** (PLANES - 1 - plane)
    return bins if ratio == 1 else (bins + ratio // 2) // ratio
