"""What each layer of a frame is worth, in dB, without decoding it."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.hierarchical.model import Model
from layercast.codecs.hierarchical.walk import MEAN_UNIT, STRIDE, Walk


class Meter:
    """PSNR that each layer adds, estimated without decoding: the transform is close to orthonormal.

    Plane 0's layers and the end of the stream are measured in the latents; what a class of trits removes is the
    tables' expectation.
    """

    def __init__(self, model: Model, walk: Walk, latents: NDArray[np.float32], quality_index: int) -> None:
        self._walk, self._latents = walk, latents
        step = math.exp(-model.log_gain(quality_index))
        h, w = walk.grid
        self._unit = step * step / (3.0 * h * w * STRIDE * STRIDE)
        self._weight = model.latent_energy
        self._removed: list[float] = []

    def before_put(self) -> None:
        """Note what the layer that is about to be put removes."""
        walk = self._walk
        if walk.layer >= walk.parts:
            self._removed.append(walk.expected_removal())
            return
        truth = walk.part(self._latents, walk.layer)
        error = truth
        if walk.layer == 0:
            error = truth - walk.mean.reshape(truth.shape) * np.float32(MEAN_UNIT)
        error = error - np.rint(error * np.float32(1 / 9)) * np.float32(9)
        weight = self._channels(walk.layer)
        self._removed.append(energy(truth, weight) - energy(error, weight))

    def _channels(self, part: int) -> NDArray[np.float32]:
        c = [s[3] for s in self._walk.shapes]
        ends = np.cumsum([0, *c[:2], *self._walk.model.groups]).tolist()
        return self._weight[ends[part] : ends[part + 1]]

    def gains(self) -> tuple[float, ...]:
        """PSNR in dB that each layer adds, >= 0; the first counts from a mid-grey picture."""
        known, _ = self._walk.known()
        left = 0.0
        for i, (level, truth) in enumerate(zip(known, self._walk.levels(self._latents), strict=True)):
            left += energy(level - truth, self._channels(i) if i < 2 else self._weight[-level.shape[3] :])
        psnr = []
        for removed in reversed(self._removed):
            psnr.append(-10 * math.log10(max(left * self._unit, 1e-7)))
            left += max(0.0, removed)
        psnr.append(-10 * math.log10(max(left * self._unit, 1e-7)))
        psnr.reverse()
        return tuple(max(0.0, after - before) for before, after in itertools.pairwise(psnr))


def energy(values: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
    """Sum of the squares of values (..., C), weighted by channel."""
    rows = values.reshape(-1, len(weight))
    return float(np.dot(np.einsum("ij,ij->j", rows, rows), weight))
