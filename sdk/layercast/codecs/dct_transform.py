"""Analysis and synthesis of the `dct` codec: colour, lapped 8x8 DCT, and a pyramid over the DC coefficients.

The classic pipeline is y = round(D A C x) (Yang, Mandt, Theis 2023, eq. 1.1-1.2): a colour transform C, a block
DCT A and a diagonal scaling D. Here A is an 8x8 DCT behind a 4-pixel overlap filter on every block edge (Tran,
Liang, Tu 2003: time-domain lapped transform), which on the validation pictures saves about a tenth of the bits of
the plain DCT and leaves no block edges; the DC coefficients go through two more 4x4 DCTs (strides 32 and 128).

Coefficients come in *levels*, each an array (channels, frequencies, blocks down, blocks across) of float32 in
units of the quantiser step, scaled so that one step of error costs (nearly) the same squared error in pixels at
every frequency. Nothing here must be exact: only decoded integers reach the contexts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCK = 8
"""Side of the DCT block, pixels."""

FAN = 4
"""Side of the DCTs of the pyramid: 4x4 blocks make one of stride 32, 4x4 of those one of stride 128."""

_OVERLAP_GAIN = 1.4
"""Scale of the first odd function in the overlap filter; best of 1.0..1.5 in rate-distortion on validation
pictures."""

_MID_GREY = 128.0

COLOUR: NDArray[np.float64] = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Orthonormal colour transform C: luma, red minus blue, green against the others."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Block counts of one picture.

    Attributes:
        width, height: pixels.
        channels: 1 or 3.
        down, across: 8x8 blocks of the picture, padded to a multiple of 4.
    """

    width: int
    height: int
    channels: int

    @property
    def down(self) -> int:
        return -(-self.height // (BLOCK * FAN)) * FAN

    @property
    def across(self) -> int:
        return -(-self.width // (BLOCK * FAN)) * FAN

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(frequencies, blocks down, blocks across) of each level: 128-pixel, 32-pixel, 8-pixel blocks."""
        d, a = self.down // FAN, self.across // FAN
        return (FAN**2, -(-d // FAN), -(-a // FAN)), (FAN**2, d, a), (BLOCK**2, self.down, self.across)


def _dct(n: int) -> NDArray[np.float64]:
    """Orthonormal DCT-II, rows are frequencies, (n, n)."""
    u, x = np.arange(n)[:, None], np.arange(n)[None]
    basis = np.cos(np.pi * (2 * x + 1) * u / (2 * n)) * np.sqrt(2 / n)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis)


def _overlap_filter() -> NDArray[np.float64]:
    """Pre-filter across one block edge, four pixels from each side, (8, 8). Symmetric signals pass unchanged."""
    h = BLOCK // 2
    u, x = np.arange(h)[:, None], np.arange(h)[None]
    dct4 = np.cos(np.pi * (2 * x + 1) * (2 * u + 1) / (4 * h)) * np.sqrt(2 / h)
    flip, eye, zero = np.eye(h)[::-1], np.eye(h), np.zeros((h, h))
    gain = np.diag([_OVERLAP_GAIN] + [1.0] * (h - 1))
    odd = flip @ _dct(h).T @ gain @ dct4 @ flip
    butterfly = np.block([[eye, flip], [flip, -eye]])
    return np.asarray(0.5 * butterfly @ np.block([[eye, zero], [zero, odd]]) @ butterfly)


def _synthesis_norms() -> NDArray[np.float64]:
    """Length of each synthesis function of the lapped transform along one axis, (8,)."""
    signal = np.zeros((3 * BLOCK, BLOCK))
    signal[BLOCK : 2 * BLOCK] = _dct(BLOCK).T
    inverse, half = np.linalg.inv(_overlap_filter()), BLOCK // 2
    for start in (half, BLOCK + half):
        signal[start : start + BLOCK] = inverse @ signal[start : start + BLOCK]
    return np.asarray(np.sqrt((signal**2).sum(0)))


def frequency_order(n: int) -> NDArray[np.int64]:
    """Frequencies u * n + v of an n x n DCT from low to high (by u + v), the order of every level, (n * n,)."""
    u, v = np.divmod(np.arange(n * n), n)
    return np.lexsort((u, np.abs(u - v), u + v))


@cache
def _matrices() -> dict[str, Any]:
    """Both directions of every step as one matrix over the 64 (or 16) values of a block."""
    dct, overlap, norms = _dct(BLOCK), _overlap_filter(), _synthesis_norms()
    pre, fan = np.kron(overlap, overlap), np.kron(_dct(FAN), _dct(FAN))[frequency_order(FAN)]
    norm = np.outer(norms, norms).reshape(-1, 1)
    return {
        "pre": pre.astype(np.float32),
        "post": np.linalg.inv(pre).astype(np.float32),
        "forward": (np.kron(dct, dct) * norm)[frequency_order(BLOCK)],
        "inverse": (np.kron(dct, dct) / norm)[frequency_order(BLOCK)].T,
        "fan": fan.astype(np.float32),
        "fan_inverse": np.ascontiguousarray(fan.T.astype(np.float32)),
        "colour": COLOUR.astype(np.float32),
        "colour_inverse": np.ascontiguousarray(COLOUR.T.astype(np.float32)),
    }


def _regroup(blocks: Floats, down: int, across: int, *, outward: bool) -> Floats:
    """Blocks on the grid shifted by half a block to blocks on the grid, or back (`outward`).

    (C, 8, 8, down + 1, across + 1) <-> (C, 8, 8, down, across); going outward, the half blocks beyond the
    picture mirror it, which makes the overlap filter leave them as they are.
    """
    h = BLOCK // 2
    halves = ((slice(0, h), slice(h, BLOCK), 0), (slice(h, BLOCK), slice(0, h), 1))
    if not outward:
        grid = np.empty((blocks.shape[0], BLOCK, BLOCK, down, across), np.float32)
        for i, shifted_i, r in halves:
            for j, shifted_j, c in halves:
                grid[:, i, j] = blocks[:, shifted_i, shifted_j, r : r + down, c : c + across]
        return grid
    shifted = np.empty((blocks.shape[0], BLOCK, BLOCK, down + 1, across + 1), np.float32)
    for i, shifted_i, r in halves:
        for j, shifted_j, c in halves:
            shifted[:, shifted_i, shifted_j, r : r + down, c : c + across] = blocks[:, i, j]
    shifted[:, :h, :, 0] = shifted[:, h:, :, 0][:, ::-1]
    shifted[:, h:, :, down] = shifted[:, :h, :, down][:, ::-1]
    shifted[:, :, :h, :, 0] = shifted[:, :, h:, :, 0][:, :, ::-1]
    shifted[:, :, h:, :, across] = shifted[:, :, :h, :, across][:, :, ::-1]
    return shifted


def _split(plane: Floats) -> Floats:
    """(C, d, a) with d, a multiples of 4 to DCT coefficients (C, 16, d / 4, a / 4)."""
    c, d, a = plane.shape
    blocks = plane.reshape(c, d // FAN, FAN, a // FAN, FAN).transpose(0, 2, 4, 1, 3).reshape(c, FAN**2, -1)
    return np.asarray(_matrices()["fan"] @ blocks).reshape(c, FAN**2, d // FAN, a // FAN)


def _join(coefficients: Floats) -> Floats:
    """Inverse of `_split`."""
    c, _, d, a = coefficients.shape
    blocks = _matrices()["fan_inverse"] @ coefficients.reshape(c, FAN**2, -1)
    return np.asarray(blocks.reshape(c, FAN, FAN, d, a).transpose(0, 3, 1, 4, 2).reshape(c, d * FAN, a * FAN))


def analyse(image: NDArray[np.uint8], geometry: Geometry, step: float) -> list[Floats]:
    """Picture to coefficients.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        geometry: its geometry.
        step: quantiser step in 8-bit pixel values (orthonormal scale).

    Returns:
        One array (channels, frequencies, blocks down, blocks across) per level, coarse to fine, in steps.
        Frequency 0 of all but the coarsest level is zero: the next coarser level holds it.
    """
    m, g, half = _matrices(), geometry, BLOCK // 2
    pixels = image.reshape(g.height, g.width, g.channels)
    bottom, right = g.down * BLOCK - g.height, g.across * BLOCK - g.width
    pixels = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge")
    pixels = np.pad(pixels, ((half, half), (half, half), (0, 0)), mode="symmetric")
    blocks = pixels.reshape(g.down + 1, BLOCK, g.across + 1, BLOCK, g.channels).transpose(4, 1, 3, 0, 2)
    values = np.ascontiguousarray(blocks).astype(np.float32)
    values -= np.float32(_MID_GREY)
    if g.channels == 3:
        values = (m["colour"] @ values.reshape(3, -1)).reshape(values.shape)
    values = m["pre"] @ values.reshape(g.channels, BLOCK**2, -1)
    shifted = values.reshape(g.channels, BLOCK, BLOCK, g.down + 1, g.across + 1)
    grid = _regroup(shifted, g.down, g.across, outward=False)
    fine = (m["forward"] / step).astype(np.float32) @ grid.reshape(g.channels, BLOCK**2, -1)
    fine = fine.reshape(g.channels, BLOCK**2, g.down, g.across)
    middle = _split(fine[:, 0])
    d, a = middle.shape[2:]
    coarse = _split(np.pad(middle[:, 0], ((0, 0), (0, -d % FAN), (0, -a % FAN)), mode="edge"))
    fine[:, 0] = 0
    middle[:, 0] = 0
    return [coarse, middle, fine]


def synthesise(levels: list[Floats], geometry: Geometry, step: float) -> NDArray[np.uint8]:
    """Coefficients in steps to the picture, (H, W, 3) or (H, W), uint8; the inverse of `analyse`.

    Frequency 0 of the finer levels is overwritten.
    """
    m, g, half = _matrices(), geometry, BLOCK // 2
    coarse, middle, fine = levels
    middle[:, 0] = _join(coarse)[:, : middle.shape[2], : middle.shape[3]]
    fine[:, 0] = _join(middle)
    grid = (m["inverse"] * step).astype(np.float32) @ fine.reshape(g.channels, BLOCK**2, -1)
    grid = grid.reshape(g.channels, BLOCK, BLOCK, g.down, g.across)
    shifted = _regroup(grid, g.down, g.across, outward=True)
    values = m["post"] @ shifted.reshape(g.channels, BLOCK**2, -1)
    if g.channels == 3:
        values = m["colour_inverse"] @ values.reshape(3, -1)
    values += np.float32(_MID_GREY + 0.5)
    np.clip(values, 0, 255, out=values)
    blocks = values.astype(np.uint8).reshape(g.channels, BLOCK, BLOCK, g.down + 1, g.across + 1)
    pixels = blocks.transpose(3, 1, 4, 2, 0).reshape((g.down + 1) * BLOCK, (g.across + 1) * BLOCK, g.channels)
    pixels = pixels[half : half + g.height, half : half + g.width]
    return np.ascontiguousarray(pixels if g.channels == 3 else pixels[..., 0])
