"""Closed-loop choice of an encoder's last trits: by what they make of the decoded picture, and by the bits they cost.

Analysis cannot know what synthesis' correction will be, least of all at high quality, and rounding leaves no more than
half a step of it to chance. So the encoder decodes its own picture, projects what is wrong with it on stride 8's
functions, and moves a trit by one where that lowers rate + lambda * distortion. Planes 0 and 1, and with them what the
prior expects of plane 2, are coded by then: what a trit costs is known exactly, and no prefix before it changes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.hierarchical import kernels
from layercast.codecs.hierarchical.digits import Digits
from layercast.codecs.hierarchical.kernels import KEYS, ROW_MIRROR
from layercast.codecs.hierarchical.model import Model
from layercast.codecs.hierarchical.walk import Walk


class Refiner:
    """Chooses stride 8's last trits anew.

    Args:
        model: networks and tables.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._costs = trit_costs(model)

    def refine(self, image: NDArray[np.uint8], walk: Walk, digits: Digits) -> None:
        """Look once, and change the last plane's trits in `digits`.

        Args:
            image: (H, W, 3) RGB, H and W multiples of 32.
            walk: an encoder's, when the classes of the last plane are known and none has been coded.
        """
        model = self._model
        scales = model.synthesis_scales(walk.quality, [0.0] * 3)
        feeds = dict(zip(("z32", "z16", "z8"), walk.completed(digits.last), strict=True))
        painted = model.synthesis.run({**feeds, "scales": scales})["image"]
        error = np.subtract(image[None], painted, dtype=np.float32)
        projected = model.projection.run({"error": error})["projected"].ravel()
        # Per symbol, rate + lambda * distortion in bits: an error e of the picture that a change by t adds t J to costs
        # weight * |e - t J|^2, whose slope in t is -2 weight <e, J>, and whose curvature weight |J|^2.
        step = scales[sum(model.latents[:2]) : sum(model.latents)]
        weight = math.exp(model.log_lambda_at(walk.quality)) * 255**2 / 3
        slope = (2 * weight * step).astype(np.float32)
        curvature = (weight * model.filter_energy * step**2).astype(np.float32)
        trits = walk.level(digits.last, 2)
        kernels.move_trits(projected, slope, curvature, self._costs, walk.keys_of(2), trits, walk.threads)


def trit_costs(model: Model) -> NDArray[np.float32]:
    """(KEYS, 3) bits of trits -1, 0, +1 at each row key; infinite where the last plane does not code them."""
    tables = model.trit_tables
    rows = np.arange(len(tables))
    costs = np.full((KEYS, 3), np.inf, np.float32)
    for trit in (-1, 0, 1):
        bits = tables.cost_bits(np.full(len(rows), trit, np.int32), rows)
        costs[rows, 1 + trit] = costs[ROW_MIRROR + rows, 1 - trit] = bits
    absent = ~model.rankings[-1].coded
    costs[absent] = np.inf
    costs[absent, 1] = 0  # what nobody codes is 0
    return costs
