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

import math
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

MID_GREY = 128.0
"""What a picture without layers shows, and the level that the transform subtracts."""

_ONE_THREAD = 1 << 18
"""Multiplications in one matrix product up to which OpenBLAS starts no threads."""

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


class Scratch:
    """Arrays that are used over and over: fresh memory for each would cost a fifth of the time of a frame.

    One thread, or tasks that use different names, may use it at a time.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Floats] = {}

    def get(self, name: str, shape: tuple[int, ...]) -> Floats:
        """An array of that shape, contents undefined; the next call with this name takes it back."""
        size = math.prod(shape)
        array = self._arrays.get(name)
        if array is None or len(array) < size:
            array = self._arrays[name] = np.empty(size, np.float32)
        return array[:size].reshape(shape)


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


def _synthesis_norms(fans: int) -> NDArray[np.float64]:
    """Length of each synthesis function of a level along one axis: (8,) for the blocks, (4,) for the pyramid.

    A function of a level that is `fans` 4-point DCTs above the blocks spans 4**fans blocks and their surroundings.
    """
    blocks = FAN**fans
    signal = np.zeros(((blocks + 2) * BLOCK, BLOCK if fans == 0 else FAN))
    if fans == 0:
        signal[BLOCK:-BLOCK] = _dct(BLOCK).T
    else:
        coarse = np.repeat(_dct(FAN).T, blocks // FAN, axis=0) / np.sqrt(blocks // FAN)
        signal[BLOCK:-BLOCK] = np.repeat(coarse, BLOCK, axis=0) / np.sqrt(BLOCK)
    inverse, half = np.linalg.inv(_overlap_filter()), BLOCK // 2
    for start in range(half, len(signal) - BLOCK, BLOCK):
        signal[start : start + BLOCK] = inverse @ signal[start : start + BLOCK]
    return np.asarray(np.sqrt((signal**2).sum(0)))


def frequency_order(n: int) -> NDArray[np.int64]:
    """Frequencies u * n + v of an n x n DCT from low to high (by u + v), the order of every level, (n * n,)."""
    u, v = np.divmod(np.arange(n * n), n)
    return np.lexsort((u, np.abs(u - v), u + v))


@cache
def _matrices() -> dict[str, Floats]:
    """Both directions of every step as one matrix over the 64 (or 16) values of a block."""
    overlap, order, fan_order = _overlap_filter(), frequency_order(BLOCK), frequency_order(FAN)
    pre, block, fan = (
        np.kron(overlap, overlap),
        np.kron(_dct(BLOCK), _dct(BLOCK)),
        np.kron(_dct(FAN), _dct(FAN)),
    )
    fine, middle, coarse = (np.outer(n, n).reshape(-1, 1) for n in map(_synthesis_norms, range(3)))
    fine[0] = middle[0] = 1  # passed on to the next coarser level
    made: dict[str, Any] = {
        "pre": pre,
        "post": np.linalg.inv(pre),
        "fine": (block * fine)[order],
        "fine_inverse": (block / fine)[order].T,
        "middle": (fan * middle)[fan_order],
        "middle_inverse": (fan / middle)[fan_order].T,
        "coarse": (fan * coarse)[fan_order],
        "coarse_inverse": (fan / coarse)[fan_order].T,
        "colour": COLOUR,
        "colour_inverse": COLOUR.T,
    }
    return {name: np.ascontiguousarray(matrix.astype(np.float32)) for name, matrix in made.items()}


def _regroup(blocks: Floats, out: Floats, *, outward: bool) -> Floats:
    """Blocks on the grid shifted by half a block to blocks on the grid, or back (`outward`).

    (C, 8, 8, down + 1, across + 1) <-> (C, 8, 8, down, across); going outward, the half blocks beyond the
    picture mirror it, which makes the overlap filter leave them as they are.
    """
    h, down, across = BLOCK // 2, *min(blocks.shape[3:], out.shape[3:])
    halves = ((slice(0, h), slice(h, BLOCK), 0), (slice(h, BLOCK), slice(0, h), 1))
    if not outward:
        for i, shifted_i, r in halves:
            for j, shifted_j, c in halves:
                out[:, i, j] = blocks[:, shifted_i, shifted_j, r : r + down, c : c + across]
        return out
    shifted = out
    for i, shifted_i, r in halves:
        for j, shifted_j, c in halves:
            shifted[:, shifted_i, shifted_j, r : r + down, c : c + across] = blocks[:, i, j]
    shifted[:, :h, :, 0] = shifted[:, h:, :, 0][:, ::-1]
    shifted[:, h:, :, down] = shifted[:, :h, :, down][:, ::-1]
    shifted[:, :, :h, :, 0] = shifted[:, :, h:, :, 0][:, :, ::-1]
    shifted[:, :, h:, :, across] = shifted[:, :, :h, :, across][:, :, ::-1]
    return shifted


def apply(matrix: Floats, values: Floats, out: Floats) -> Floats:
    """`matrix @ values` into `out`, for (..., m, k) and (..., k, n), in pieces of columns small enough for the cache.

    That is also small enough for OpenBLAS to stay in this thread: on busy cores its worker threads make a product
    of half a millisecond take fifty.
    """
    m, k = matrix.shape[-2:]
    n = values.shape[-1]
    piece = max(1, _ONE_THREAD // max(1, m * k))
    whole = n - n % piece
    if whole:
        shape = (whole // piece, piece)
        parts, results = (
            np.moveaxis(a[..., :whole].reshape(*a.shape[:-1], *shape), -2, 0) for a in (values, out)
        )
        np.matmul(matrix, parts, out=results)
    if n > whole:
        out[..., whole:] = matrix @ values[..., whole:]
    return out


def _split(plane: Floats, level: str) -> Floats:
    """(C, d, a) with d, a multiples of 4 to DCT coefficients (C, 16, d / 4, a / 4) of a level."""
    c, d, a = plane.shape
    blocks = plane.reshape(c, d // FAN, FAN, a // FAN, FAN).transpose(0, 2, 4, 1, 3).reshape(c, FAN**2, -1)
    return np.asarray(_matrices()[level] @ blocks).reshape(c, FAN**2, d // FAN, a // FAN)


def _join(coefficients: Floats, level: str) -> Floats:
    """Inverse of `_split`."""
    c, _, d, a = coefficients.shape
    blocks = _matrices()[level + "_inverse"] @ coefficients.reshape(c, FAN**2, -1)
    return np.asarray(blocks.reshape(c, FAN, FAN, d, a).transpose(0, 3, 1, 4, 2).reshape(c, d * FAN, a * FAN))


def analyse(image: NDArray[np.uint8], geometry: Geometry, step: float, scratch: Scratch) -> list[Floats]:
    """Picture to coefficients.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        geometry: its geometry.
        step: quantiser step in 8-bit pixel values (orthonormal scale).
        scratch: where the work is done.

    Returns:
        One array (channels, frequencies, blocks down, blocks across) per level, coarse to fine, in steps; the last
        one lies in `scratch` as "exact". Frequency 0 of all but the coarsest level is zero: the next coarser level
        holds it.
    """
    m, g, half = _matrices(), geometry, BLOCK // 2
    pixels = image.reshape(g.height, g.width, g.channels)
    bottom, right = g.down * BLOCK - g.height, g.across * BLOCK - g.width
    pixels = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge")
    pixels = np.pad(pixels, ((half, half), (half, half), (0, 0)), mode="symmetric")
    blocks = pixels.reshape(g.down + 1, BLOCK, g.across + 1, BLOCK, g.channels).transpose(4, 1, 3, 0, 2)
    shifted, other, grid, fine = _work(geometry, scratch)
    shifted[:] = np.ascontiguousarray(blocks)
    shifted -= np.float32(MID_GREY)
    if g.channels == 3:
        apply(m["colour"], shifted.reshape(3, -1), other.reshape(3, -1))
        shifted, other = other, shifted
    apply(m["pre"], _flat(shifted), _flat(other))
    _regroup(other, grid, outward=False)
    apply(m["fine"] * np.float32(1 / step), _flat(grid), _flat(fine))
    fine = fine.reshape(g.channels, BLOCK**2, g.down, g.across)
    middle = _split(fine[:, 0], "middle")
    d, a = middle.shape[2:]
    coarse = _split(np.pad(middle[:, 0], ((0, 0), (0, -d % FAN), (0, -a % FAN)), mode="edge"), "coarse")
    fine[:, 0] = 0
    middle[:, 0] = 0
    return [coarse, middle, fine]


def synthesise(levels: list[Floats], geometry: Geometry, step: float, scratch: Scratch) -> NDArray[np.uint8]:
    """Coefficients in steps to the picture, (H, W, 3) or (H, W), uint8; the inverse of `analyse`.

    Frequency 0 of the finer levels is overwritten.
    """
    m, g, half = _matrices(), geometry, BLOCK // 2
    coarse, middle, fine = levels
    middle[:, 0] = _join(coarse, "coarse")[:, : middle.shape[2], : middle.shape[3]]
    fine[:, 0] = _join(middle, "middle")
    shifted, other, grid, _ = _work(geometry, scratch)
    apply(m["fine_inverse"] * np.float32(step), fine.reshape(g.channels, BLOCK**2, -1), _flat(grid))
    _regroup(grid, shifted, outward=True)
    apply(m["post"], _flat(shifted), _flat(other))
    if g.channels == 3:
        apply(m["colour_inverse"], other.reshape(3, -1), shifted.reshape(3, -1))
        other = shifted
    other += np.float32(MID_GREY + 0.5)
    np.clip(other, 0, 255, out=other)
    blocks = other.astype(np.uint8)
    pixels = blocks.transpose(3, 1, 4, 2, 0).reshape((g.down + 1) * BLOCK, (g.across + 1) * BLOCK, g.channels)
    pixels = pixels[half : half + g.height, half : half + g.width]
    return np.ascontiguousarray(pixels if g.channels == 3 else pixels[..., 0])


def _work(g: Geometry, scratch: Scratch) -> tuple[Floats, Floats, Floats, Floats]:
    """Two arrays of blocks on the shifted grid, two on the grid, (C, 8, 8, blocks down, blocks across)."""
    shifted = (g.channels, BLOCK, BLOCK, g.down + 1, g.across + 1)
    grid = (g.channels, BLOCK, BLOCK, g.down, g.across)
    names = (("shifted", shifted), ("other", shifted), ("grid", grid), ("exact", grid))
    a, b, c, d = (scratch.get(name, shape) for name, shape in names)
    return a, b, c, d


def _flat(blocks: Floats) -> Floats:
    """(C, 8, 8, d, a) as (C, 64, d * a)."""
    return blocks.reshape(len(blocks), BLOCK**2, -1)
