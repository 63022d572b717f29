"""What each layer of a frame is worth, in dB, without decoding it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.hierarchical import kernels
from layercast.codecs.hierarchical.model import Model
from layercast.codecs.hierarchical.walk import MEAN_UNIT, STEPS, STRIDE, Walk


class Meter:
    """PSNR that each layer adds, estimated without decoding: the transform is close to orthonormal.

    Plane 0's layers and the end of the stream are measured in the latents; what a class of trits removes is the
    tables' expectation when its plane begins.
    """

    def __init__(
        self, model: Model, walk: Walk, latents: Sequence[NDArray[np.float32]], quality_index: int
    ) -> None:
        self._walk = walk
        step = math.exp(-model.log_gain(quality_index))
        h, w = walk.grid
        self._unit = step * step / (3.0 * h * w * STRIDE * STRIDE)
        self._weights = np.split(model.latent_energy, np.cumsum([s[3] for s in walk.shapes])[:-1])
        removed, self._left = self._measured(latents)
        ends = np.cumsum([0, *(s[3] for s in walk.shapes[:2]), *model.groups]).tolist()
        self._removed = [float(removed[a:b].sum()) for a, b in itertools.pairwise(ends)]

    def before_put(self) -> None:
        """Note what the layer that is about to be put removes."""
        if self._walk.layer >= self._walk.parts:
            self._removed.append(self._walk.expected_removal())

    def _measured(self, latents: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float64], float]:
        """What plane 0 removes, by channel of all levels, and what is left when everything has come."""
        removed, left, threads = [], 0.0, self._walk.threads
        for i, (flat, weight) in enumerate(zip(latents, self._weights, strict=True)):
            channels = len(weight)
            before, after, least = kernels.squares(flat, channels, STEPS[0], threads)
            if i == 0:  # before it the picture is grey, and its grid begins at the mean
                flat = flat - self._walk.mean * np.float32(MEAN_UNIT)
                _, after, least = kernels.squares(flat, channels, STEPS[0], threads)
            removed.append((before - after) * weight)
            left += float(np.dot(least, weight))
        return np.concatenate(removed), left

    def gains(self) -> tuple[float, ...]:
        """PSNR in dB that each layer adds, >= 0; the first counts from a mid-grey picture."""
        left, psnr = self._left, []
        for removed in reversed(self._removed):
            psnr.append(-10 * math.log10(max(left * self._unit, 1e-7)))
            left += max(0.0, removed)
        psnr.append(-10 * math.log10(max(left * self._unit, 1e-7)))
        psnr.reverse()
        return tuple(max(0.0, after - before) for before, after in itertools.pairwise(psnr))
