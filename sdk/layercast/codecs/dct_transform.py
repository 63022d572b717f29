"""Analysis and synthesis of the `dct` codec: colour, lapped 8x8 DCT, and a pyramid over the DC coefficients.

The classic pipeline is y = round(D A C x) (Yang, Mandt, Theis 2023, eq. 1.1-1.2): a colour transform C, a block
DCT A and a diagonal scaling D. Here A is an 8x8 DCT behind a 4-pixel overlap filter on every block edge (Tran,
Liang, Tu 2003: time-domain lapped transform), which on the validation pictures saves about a tenth of the bits of
the plain DCT and leaves no block edges; the DC coefficients go through two more 4x4 DCTs (strides 32 and 128).

Coefficients come in *levels*, each an array (channels, frequencies, blocks down, blocks across) of float32 in
units of the quantiser step, scaled so that one step of error costs (nearly) the same squared error in pixels at
every frequency. Nothing here must be exact: only decoded integers reach the contexts.

Both directions work in stripes of block rows. The overlap filter works on *shifted* blocks, whose corners are the
centres of blocks: there is one more row and column of them, and a stripe needs one row from beyond its edge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.dct_work import Floats, Scratch, Workspace, apply, stripes

BLOCK = 8
"""Side of the DCT block, pixels."""

FAN = 4
"""Side of the DCTs of the pyramid: 4x4 blocks make one of stride 32, 4x4 of those one of stride 128."""

_OVERLAP_GAIN = 1.4
"""Scale of the first odd function in the overlap filter; best of 1.0..1.5 in rate-distortion on validation
pictures."""

MID_GREY = 128.0
"""What a picture without layers shows, and the level that the transform subtracts."""

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


Known = Callable[[int, int, int, Floats], Floats]
"""`known(level, first, last, out)` fills and returns `out`, (channels, frequencies, last - first, blocks across), with
the coefficients of these rows of blocks, in steps."""


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


def _regroup(blocks: Floats, first: int, shifted: Floats, first_shifted: int, *, outward: bool) -> None:
    """Copy stripes of blocks to stripes of shifted blocks (`outward`), or back, as far as they overlap.

    Args:
        blocks: (C, 8, 8, rows, across), rows from `first`.
        shifted: (C, 8, 8, rows, across + 1), rows from `first_shifted`.
    """
    h, across = BLOCK // 2, blocks.shape[4]
    halves = ((slice(0, h), slice(h, BLOCK), 0), (slice(h, BLOCK), slice(0, h), 1))
    for i, shifted_i, r in halves:
        low = max(first_shifted, first + r)
        high = min(first_shifted + shifted.shape[3], first + r + blocks.shape[3])
        rows, rows_shifted = (
            slice(low - r - first, high - r - first),
            slice(low - first_shifted, high - first_shifted),
        )
        for j, shifted_j, c in halves:
            one, other = blocks[:, i, j, rows], shifted[:, shifted_i, shifted_j, rows_shifted, c : c + across]
            if outward:
                other[:] = one
            else:
                one[:] = other


def _mirror(shifted: Floats, top: bool, bottom: bool) -> None:
    """Let the half blocks beyond the picture's edges mirror it: the overlap filter leaves them as they are."""
    h = BLOCK // 2
    if top:
        shifted[:, :h, :, 0] = shifted[:, h:, :, 0][:, ::-1]
    if bottom:
        shifted[:, h:, :, -1] = shifted[:, :h, :, -1][:, ::-1]
    shifted[:, :, :h, :, 0] = shifted[:, :, h:, :, 0][:, :, ::-1]
    shifted[:, :, h:, :, -1] = shifted[:, :, :h, :, -1][:, :, ::-1]


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


def _beyond(count: int, padded: int) -> NDArray[np.int64]:
    """Which of `count` lines stand in half a block before them up to half a block behind `padded` lines.

    The last line repeats up to `padded`, then the edges mirror.
    """
    at = np.arange(-BLOCK // 2, padded + BLOCK // 2)
    at = np.where(at < 0, -1 - at, np.where(at < padded, at, 2 * padded - 1 - at))
    return np.minimum(at, count - 1)


def analyse(image: NDArray[np.uint8], geometry: Geometry, step: float, workspace: Workspace) -> list[Floats]:
    """Picture to coefficients.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        geometry: its geometry.
        step: quantiser step in 8-bit pixel values (orthonormal scale).
        workspace: where the work is done.

    Returns:
        One array (channels, frequencies, blocks down, blocks across) per level, coarse to fine, in steps; the last
        one lies in `workspace` as "exact". Frequency 0 of all but the coarsest level is zero: the next coarser
        level holds it.
    """
    m, g, half = _matrices(), geometry, BLOCK // 2
    pixels = image.reshape(g.height, g.width, g.channels)
    lines, columns = _beyond(g.height, g.down * BLOCK), _beyond(g.width, g.across * BLOCK)
    exact = workspace.first.get("exact", (g.channels, BLOCK**2, g.down * g.across))
    to_steps = m["fine"] * np.float32(1 / step)

    def stripe(rows: tuple[int, int], scratch: Scratch) -> None:
        first, last = rows
        shape = (g.channels, BLOCK, BLOCK, last + 1 - first, g.across + 1)
        padded = scratch.get("pixels", (shape[3] * BLOCK, len(columns), g.channels), np.uint8)
        some = lines[first * BLOCK : (last + 1) * BLOCK]
        padded[:, half : half + g.width] = pixels[some]
        for edge in (slice(0, half), slice(half + g.width, None)):
            padded[:, edge] = pixels[some[:, None], columns[edge]]
        shifted, other = scratch.get("a", shape), scratch.get("b", shape)
        blocks = padded.reshape(shape[3], BLOCK, shape[4], BLOCK, g.channels).transpose(4, 1, 3, 0, 2)
        shifted[:] = np.ascontiguousarray(blocks)
        shifted -= np.float32(MID_GREY)
        if g.channels == 3:
            apply(m["colour"], shifted.reshape(3, -1), other.reshape(3, -1))
            shifted, other = other, shifted
        apply(m["pre"], _flat(shifted), _flat(other))
        grid = scratch.get("c", (*shape[:3], last - first, g.across))
        _regroup(grid, first, other, first, outward=False)
        apply(to_steps, _flat(grid), exact[..., first * g.across : last * g.across])

    workspace.share(stripe, stripes(g.down, g.across, 2 * g.channels * BLOCK**2))
    fine = exact.reshape(g.channels, BLOCK**2, g.down, g.across)
    middle = _split(fine[:, 0], "middle")
    d, a = middle.shape[2:]
    coarse = _split(np.pad(middle[:, 0], ((0, 0), (0, -d % FAN), (0, -a % FAN)), mode="edge"), "coarse")
    fine[:, 0] = 0
    middle[:, 0] = 0
    return [coarse, middle, fine]


def synthesise(known: Known, geometry: Geometry, step: float, workspace: Workspace) -> NDArray[np.uint8]:
    """Coefficients in steps to the picture, (H, W, 3) or (H, W), uint8; the inverse of `analyse`.

    Frequency 0 of the finer levels is not looked at.
    """
    m, g, half = _matrices(), geometry, BLOCK // 2
    coarse, middle = (
        known(level, 0, shape[1], np.empty((g.channels, *shape), np.float32))
        for level, shape in enumerate(g.shapes[:2])
    )
    middle[:, 0] = _join(coarse, "coarse")[:, : middle.shape[2], : middle.shape[3]]
    means = _join(middle, "middle")
    image = np.empty((g.height, g.width, g.channels), np.uint8)
    from_steps = m["fine_inverse"] * np.float32(step)

    def stripe(rows: tuple[int, int], scratch: Scratch) -> None:
        first, last = rows
        above, below = max(first - 1, 0), min(last, g.down)
        shape = (g.channels, BLOCK, BLOCK, below - above, g.across)
        fine = known(2, above, below, scratch.get("a", (g.channels, BLOCK**2, *shape[3:])))
        fine[:, 0] = means[:, above:below]
        grid = scratch.get("b", shape)
        apply(from_steps, fine.reshape(g.channels, BLOCK**2, -1), _flat(grid))
        shape = (*shape[:3], last - first, g.across + 1)
        shifted, other = scratch.get("c", shape), scratch.get("a", shape)
        _regroup(grid, above, shifted, first, outward=True)
        _mirror(shifted, first == 0, last == g.down + 1)
        apply(m["post"], _flat(shifted), _flat(other))
        if g.channels == 3:
            apply(m["colour_inverse"], other.reshape(3, -1), shifted.reshape(3, -1))
            other = shifted
        other += np.float32(MID_GREY + 0.5)
        np.clip(other, 0, 255, out=other)
        pixels = scratch.get("pixels", (shape[3], BLOCK, shape[4], BLOCK, g.channels), np.uint8)
        pixels.transpose(4, 1, 3, 0, 2)[:] = other.astype(np.uint8)
        begin = first * BLOCK - half
        top, bottom = max(begin, 0), min(begin + shape[3] * BLOCK, g.height)
        lines = pixels.reshape(shape[3] * BLOCK, -1, g.channels)[top - begin : max(bottom, top) - begin]
        image[top : max(bottom, top)] = lines[:, half : half + g.width]

    workspace.share(stripe, stripes(g.down + 1, g.across, 2 * g.channels * BLOCK**2))
    return image if g.channels == 3 else image[..., 0]


def _flat(blocks: Floats) -> Floats:
    """(C, 8, 8, d, a) as (C, 64, d * a)."""
    return blocks.reshape(len(blocks), BLOCK**2, -1)
