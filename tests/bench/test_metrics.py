"""The promise: figures made here may stand beside published ones; nothing that is no figure is printed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from layercast.bench.metrics import bd_rate, ms_ssim, psnr
from layercast.errors import ConfigError, PictureError


def texture(height: int, width: int) -> np.ndarray:
    """A picture with edges, gradients and fine detail, the same on every machine: integers only."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * 3 + y) % 256, (x * x // 16 + y * 5) % 256, ((x // 8 + y // 8) % 2) * 180 + (x ^ y) % 64]
    return np.stack(planes, axis=-1).astype(np.uint8)


def coarsened(picture: np.ndarray, step: int) -> np.ndarray:
    return np.minimum(picture // step * step + step // 2, 255).astype(np.uint8)


def test_psnr_counts_all_channels_together_and_is_infinite_for_equal_pictures() -> None:
    a = texture(20, 30)
    b = a.copy()
    b[0, 0, 0] ^= 16
    assert psnr(a, a) == math.inf
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 * a.size / 16**2))


def test_psnr_of_black_against_white_is_zero_even_for_the_largest_sums() -> None:
    assert psnr(np.zeros((2000, 3000, 3), np.uint8), np.full((2000, 3000, 3), 255, np.uint8)) == 0.0


# What pytorch_msssim 1.0.0 (data_range=255), which the published figures were made with, gives for these.
REFERENCE = [((208, 336), 32, 0.971660), ((208, 336), 96, 0.871059), ((163, 181), 96, 0.840930)]


@pytest.mark.parametrize(("size", "step", "expected"), REFERENCE)
def test_ms_ssim_agrees_with_the_tool_behind_the_published_figures(
    size: tuple[int, int], step: int, expected: float
) -> None:
    a = texture(*size)
    assert ms_ssim(a, coarsened(a, step)) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("side", [1, 2, 9, 12, 90])
def test_ms_ssim_of_a_picture_too_small_for_five_scales_still_ranks_damage(side: int) -> None:
    a = texture(side, side + 3)
    little, much = ms_ssim(a, coarsened(a, 8)), ms_ssim(a, coarsened(a, 128))
    assert ms_ssim(a, a) == pytest.approx(1.0, abs=1e-6)
    assert 0.0 <= much < little < 1.0


def test_ms_ssim_takes_grey_pictures() -> None:
    grey = texture(200, 200)[..., 0]
    assert ms_ssim(grey, coarsened(grey, 96)) == ms_ssim(grey[..., None], coarsened(grey, 96)[..., None])


@pytest.mark.parametrize("metric", [psnr, ms_ssim])
def test_pictures_that_cannot_be_compared_are_refused(metric) -> None:
    with pytest.raises(PictureError, match="shapes"):
        metric(texture(8, 8), texture(8, 9))
    with pytest.raises(PictureError, match="float64"):
        metric(texture(8, 8) / 255.0, texture(8, 8))
    with pytest.raises(PictureError):
        metric(np.zeros((0, 8, 3), np.uint8), np.zeros((0, 8, 3), np.uint8))


RATES, PSNRS = [0.2, 0.45, 0.9, 1.8], [28.0, 31.0, 34.2, 37.9]


def test_a_curve_at_half_the_rate_has_a_bd_rate_of_minus_fifty_percent() -> None:
    result = bd_rate(RATES, PSNRS, [r / 2 for r in RATES], PSNRS)
    assert result.percent == pytest.approx(-50.0)
    assert (result.low_db, result.high_db) == (28.0, 37.9)


def test_bd_rate_is_the_integral_of_scipys_pchip() -> None:
    """Expected: PchipInterpolator(psnr, log(rate)).integrate over the overlap, scipy 1.18.1."""
    result = bd_rate(RATES, PSNRS, [0.3, 0.5, 1.1, 1.2, 2.5], [29.0, 31.5, 35.0, 34.5, 39.0])
    assert result.percent == pytest.approx(2.6883501594689108, abs=1e-6)
    assert str(result).endswith("over 29.0-37.9 dB")


def test_bd_rate_takes_points_in_any_order_and_the_cheaper_of_two_alike() -> None:
    expected = bd_rate(RATES, PSNRS, [0.3, 2.0], [28.0, 37.0])
    assert bd_rate(RATES[::-1], PSNRS[::-1], [2.0, 0.3, 0.4], [37.0, 28.0, 28.0]) == expected


def test_no_bd_rate_is_given_over_less_than_one_decibel() -> None:
    with pytest.raises(ConfigError, match=r"share 0\.90 dB"):
        bd_rate(RATES, PSNRS, [1.0, 2.0], [37.0, 40.0])
    with pytest.raises(ConfigError, match=r"share 0\.00 dB"):
        bd_rate(RATES, PSNRS, [1.0, 2.0], [40.0, 42.0])


@pytest.mark.parametrize(
    ("rates", "psnrs"),
    [
        ([1.0], [30.0]),
        ([1.0, 2.0], [30.0]),
        ([0.0, 2.0], [30.0, 35.0]),
        ([1.0, 2.0], [30.0, math.inf]),
        ([1.0, 2.0], [30.0, 30.0]),
    ],
)
def test_what_is_no_curve_is_refused(rates: list[float], psnrs: list[float]) -> None:
    with pytest.raises(ConfigError):
        bd_rate(RATES, PSNRS, rates, psnrs)
