"""How far a decoded picture is from the original, and one rate-distortion curve from another.

PSNR and MS-SSIM are computed on 8-bit RGB, the way the published Kodak figures are, so that a figure made
here may stand beside them; the definitions are fixed here once, for the command line and the benchmarks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.errors import ConfigError, PictureError

PEAK = 255.0
"""Largest value of an 8-bit channel; the peak of PSNR and the dynamic range of MS-SSIM."""

MIN_OVERLAP_DB = 1.0
"""Least PSNR range in dB that two curves must share: over less, one point's noise decides the BD-rate."""

WINDOW_TAPS = 11
"""Width in pixels of MS-SSIM's Gaussian window (Wang, Simoncelli, Bovik 2003, section 2)."""

WINDOW_SIGMA = 1.5
"""Standard deviation in pixels of that window."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (the same paper, section 3.2)."""

_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2

Plane = NDArray[np.float32]
"""A picture as float32, shape (H, W, C), 0..255."""

Picture = NDArray[np.uint8]
"""An 8-bit picture, shape (H, W, 3) RGB or (H, W) grey."""


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio in dB, over all channels together.

    Args:
        a, b: uint8, the same shape, (H, W, 3) or (H, W).

    Returns:
        dB; infinity when the pictures are equal.

    Raises:
        PictureError: another dtype, or shapes that differ.
    """
    _check(a, b)
    difference = a.astype(np.int32) - b
    squared = int((difference * difference).sum(dtype=np.int64))
    return math.inf if squared == 0 else 10.0 * math.log10(PEAK**2 * a.size / squared)


def ms_ssim(a: Picture, b: Picture) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003, eq. 7), mean over the channels.

    Each scale halves the sides (2x2 mean; an odd side is first padded with zeros at both ends, as in the
    `pytorch_msssim` that the published figures were made with); negative contrast-structure terms count as 0.
    Five scales need sides of 161 pixels or more. A smaller picture gets as many scales as its window fits,
    with the weights of those scaled up to the same sum; one narrower than the window gets a narrower window.

    Args:
        a, b: uint8, the same shape, (H, W, 3) or (H, W).

    Returns:
        0.0 (nothing alike) to 1.0 (equal).

    Raises:
        PictureError: another dtype, or shapes that differ.
    """
    _check(a, b)
    x, y = (np.atleast_3d(p).astype(np.float32) for p in (a, b))
    side = min(a.shape[:2])
    window = _window(min(WINDOW_TAPS, side - 1 + side % 2))
    scales = 1
    while scales < len(SCALE_WEIGHTS) and side > (WINDOW_TAPS - 1) * 2**scales:
        scales += 1
    weights = np.array(SCALE_WEIGHTS[:scales])
    weights *= sum(SCALE_WEIGHTS) / weights.sum()
    similarity = np.ones(x.shape[2])
    for scale, weight in enumerate(weights):
        whole, contrast = _ssim(x, y, window)
        term = whole if scale == scales - 1 else contrast
        similarity *= np.maximum(term, 0.0) ** weight
        if scale < scales - 1:
            x, y = _halved(x), _halved(y)
    return min(float(similarity.mean()), 1.0)


@dataclass(frozen=True, slots=True)
class BdRate:
    """What `bd_rate` found.

    Attributes:
        percent: the mean change of the bit rate from curve a to curve b at equal PSNR; below 0, b is smaller.
        low_db, high_db: the range of PSNR that both curves cover, over which the mean was taken.
    """

    percent: float
    low_db: float
    high_db: float

    def __str__(self) -> str:
        return f"{self.percent:+.1f} % over {self.low_db:.1f}-{self.high_db:.1f} dB"


def bd_rate(
    rate_a: Sequence[float], psnr_a: Sequence[float], rate_b: Sequence[float], psnr_b: Sequence[float]
) -> BdRate:
    """Bjøntegaard's mean rate difference of curve b against curve a (VCEG-M33, 2001).

    log(rate) is interpolated over PSNR by monotone piecewise cubics (PCHIP; Fritsch and Butland 1984), as
    JVET does, since one cubic through many points swings; the mean is over the range both curves cover.

    Args:
        rate_a, rate_b: any unit of rate, the same for both, above 0; two points or more.
        psnr_a, psnr_b: dB, one for each rate, in any order; of two points of one PSNR the cheaper counts.

    Raises:
        ConfigError: not a curve, or the two share less than `MIN_OVERLAP_DB`.
    """
    quality_a, log_a = _curve(rate_a, psnr_a)
    quality_b, log_b = _curve(rate_b, psnr_b)
    low, high = float(max(quality_a[0], quality_b[0])), float(min(quality_a[-1], quality_b[-1]))
    if high - low < MIN_OVERLAP_DB:
        raise ConfigError(
            f"the curves share {max(high - low, 0.0):.2f} dB, and a BD-rate needs {MIN_OVERLAP_DB} dB",
            hint="measure both over a wider range of quality",
        )
    area = _pchip_integral(quality_b, log_b, low, high) - _pchip_integral(quality_a, log_a, low, high)
    return BdRate(100.0 * (math.exp(area / (high - low)) - 1.0), low, high)


def _check(a: Picture, b: Picture) -> None:
    for picture in (a, b):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.size == 0:
            raise PictureError(
                f"cannot compare a picture of shape {picture.shape} and type {picture.dtype}",
                hint="pass uint8 arrays of shape (H, W, 3) or (H, W)",
            )
    if a.shape != b.shape:
        raise PictureError(f"cannot compare shapes {a.shape} and {b.shape}", hint="crop or scale one first")


def _window(taps: int) -> NDArray[np.float32]:
    distance = np.arange(taps) - taps // 2
    weights = np.exp(-(distance**2) / (2 * WINDOW_SIGMA**2))
    normalised: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return normalised


def _blurred(x: Plane, window: NDArray[np.float32]) -> Plane:
    """x under the separable window, only where the window fits: (H, W, C) to (H-t+1, W-t+1, C)."""
    for axis in (0, 1):
        size = x.shape[axis] - len(window) + 1
        parts = [x[i : i + size] if axis == 0 else x[:, i : i + size] for i in range(len(window))]
        out = parts[0] * window[0]
        for part, weight in zip(parts[1:], window[1:], strict=True):
            out += part * weight
        x = out
    return x


def _ssim(x: Plane, y: Plane, window: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean SSIM and mean contrast-structure term of each channel (Wang et al. 2004, eq. 13), shape (C,)."""
    mean_x, mean_y = _blurred(x, window), _blurred(y, window)
    xx, yy, xy = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    both_variances = _blurred(x * x + y * y, window) - xx - yy
    covariance = _blurred(x * y, window) - xy
    contrast = (2 * covariance + _C2) / (both_variances + _C2)
    whole = (2 * xy + _C1) / (xx + yy + _C1) * contrast
    return whole.mean(axis=(0, 1), dtype=np.float64), contrast.mean(axis=(0, 1), dtype=np.float64)


def _halved(x: Plane) -> Plane:
    """x at half the size: the mean of each 2x2 block, zeros before and after an odd side."""
    odd_rows, odd_columns = x.shape[0] % 2, x.shape[1] % 2
    if odd_rows or odd_columns:
        x = np.pad(x, ((odd_rows, odd_rows), (odd_columns, odd_columns), (0, 0)))
        x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    quarter = np.float32(0.25)
    mean: Plane = (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) * quarter
    return mean


def _curve(rates: Sequence[float], psnrs: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PSNR, rising, and the logarithm of the rate at each."""
    if len(rates) != len(psnrs):
        raise ConfigError(f"{len(rates)} rates for {len(psnrs)} PSNRs", hint="pass one rate for each PSNR")
    smallest: dict[float, float] = {}
    for rate, quality in zip(rates, psnrs, strict=True):
        if not (math.isfinite(rate) and math.isfinite(quality) and rate > 0):
            raise ConfigError(
                f"({rate}, {quality} dB) is no point of a curve", hint="leave out lossless points"
            )
        smallest[quality] = min(rate, smallest.get(quality, math.inf))
    if len(smallest) < 2:
        raise ConfigError("a curve needs two points of different PSNR", hint="measure more qualities")
    qualities = np.array(sorted(smallest))
    return qualities, np.log([smallest[q] for q in qualities])


def _pchip_integral(x: NDArray[np.float64], y: NDArray[np.float64], low: float, high: float) -> float:
    """The integral from low to high of the monotone piecewise cubic through (x, y)."""
    step, slope = np.diff(x), np.diff(y) / np.diff(x)
    tangent = _pchip_tangents(step, slope)
    # On piece i, with t = x - x[i]: y[i] + tangent[i] t + c[i] t^2 + d[i] t^3 (Hermite's form, expanded).
    c = (3 * slope - 2 * tangent[:-1] - tangent[1:]) / step
    d = (tangent[:-1] + tangent[1:] - 2 * slope) / step**2

    def up_to(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return t * (y[:-1] + t * (tangent[:-1] / 2 + t * (c / 3 + t * d / 4)))

    start, stop = (np.clip(bound - x[:-1], 0.0, step) for bound in (low, high))
    return float((up_to(stop) - up_to(start)).sum())


def _pchip_tangents(step: NDArray[np.float64], slope: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slope at each point: a weighted harmonic mean inside, 0 at an extremum, one-sided at the ends."""
    if len(slope) == 1:
        return np.repeat(slope, 2)
    before, after = slope[:-1], slope[1:]
    weight_before, weight_after = step[:-1] + 2 * step[1:], 2 * step[:-1] + step[1:]
    inside = np.zeros(len(before))
    same = before * after > 0
    inside[same] = (weight_before + weight_after)[same] / (
        weight_before[same] / before[same] + weight_after[same] / after[same]
    )
    first = _end_tangent(step[0], step[1], slope[0], slope[1])
    last = _end_tangent(step[-1], step[-2], slope[-1], slope[-2])
    return np.concatenate([[first], inside, [last]])


def _end_tangent(step: float, next_step: float, slope: float, next_slope: float) -> float:
    tangent = ((2 * step + next_step) * slope - step * next_slope) / (step + next_step)
    if tangent * slope <= 0:
        return 0.0
    return 3 * slope if slope * next_slope <= 0 and abs(tangent) > 3 * abs(slope) else tangent
