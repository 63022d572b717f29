"""Probability families and their rounding to integers: offline only, never on the coding path.

Floats may differ in the last bit between machines, so what is made here is shipped as bytes
(`CdfTables.to_bytes`) or checked by its fingerprint, and never made again on the other end and trusted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layercast.errors import ConfigError

TOTAL = 1 << 16
"""Sum of the frequencies of a table row."""

MAX_SCALE = 4096.0
"""Largest standard deviation of a Gaussian row in quantiser steps: its row has about 33,000 of 65,536
entries."""

MAX_OFFSET = 16.0
"""Largest mean of a Gaussian row, in standard deviations."""


def to_frequencies(weights: ArrayLike) -> NDArray[np.uint32]:
    """Round weights to integers >= 1 that sum to 2**16 (largest remainder; ties go to the first), (n,)
    uint32.

    Entries whose share is below one are lifted to one first; the others share what is left in proportion.

    Raises:
        ConfigError: empty, negative, not finite, zero sum or more than 65,536 entries.
    """
    p = np.asarray(weights, np.float64)
    if (
        p.ndim != 1
        or not 1 <= len(p) <= TOTAL
        or not np.isfinite(p).all()
        or (p < 0).any()
        or not p.sum() > 0
    ):
        raise ConfigError("table weights must be 1..65536 finite numbers >= 0 with a positive sum")
    lifted = np.zeros(len(p), np.bool_)
    share = p / p.max()
    while True:
        shares = share * ((TOTAL - np.count_nonzero(lifted)) / max(share[~lifted].sum(), 1e-300))
        below = (shares < 1) & ~lifted
        if not below.any():
            break
        lifted |= below
    shares[lifted] = 1
    frequencies = np.floor(shares).astype(np.int64)
    missing = TOTAL - int(frequencies.sum())
    frequencies[np.argsort(frequencies - shares, kind="stable")[:missing]] += 1
    return np.asarray(frequencies, np.uint32)


def gaussian_probabilities(scale: float, tail: float, mean: float = 0.0) -> tuple[int, NDArray[np.float64]]:
    """A Gaussian integrated over unit bins -B..A, then the mass beyond as the escape's: (-B, (A + B + 2,) float64).

    Ballé, Minnen, Johnston 2018, section 4: one table per scale index. A and B >= 1 are the smallest that leave
    at most half of `tail` outside on their side. A scale of 0 gives the certain row, (0, (1,)).

    Raises:
        ConfigError: scale outside 0..4096, tail outside 2**-16..0.5, or a mean further from 0 than 16 scales.
    """
    if not 0 <= scale <= MAX_SCALE or not 1 / TOTAL <= tail <= 0.5 or not abs(mean) <= MAX_OFFSET * scale:
        raise ConfigError(
            f"Gaussian row of scale {scale}, tail {tail} and mean {mean}",
            hint="scale 0..4096, tail 2**-16..0.5, mean within 16 scales of 0",
        )
    if scale == 0:
        return 0, np.ones(1)

    def beyond(x: float) -> float:
        return 0.5 * math.erfc(x / (scale * math.sqrt(2)))

    def side(centre: float) -> tuple[list[float], float, float]:
        """Bins 1, 2, ... on one side of 0, the mass of all of that side, and that beyond the last bin."""
        reach = 1
        while 2 * beyond(reach + 0.5 - centre) > tail:
            reach += 1
        edges = [beyond(k - 0.5 - centre) for k in range(1, reach + 2)]
        return [edges[k] - edges[k + 1] for k in range(reach)], edges[0], edges[-1]

    (above, up, over), (below, down, under) = side(mean), side(-mean)
    return -len(below), np.array([*below[::-1], 1 - (up + down), *above, over + under])
