"""How the work of the `dct` codec is cut: stripes that fit the cache, two threads, memory that is used again.

It changes no context and no decoded bin, at most the last bit of a float in analysis and synthesis. Whole-picture
temporaries would cost 200 bytes a pixel, and the fresh memory for them more time than what is computed in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.helper import Helper

Floats = NDArray[np.float32]
Item = TypeVar("Item")

STRIPE_VALUES = 3 << 17
"""Numbers of four bytes that the work on a stripe holds: about as much as a core's own cache."""

LEAST_ROWS = 4
"""Rows of blocks in a stripe at least: a stripe sees one row of its neighbour, which is computed again."""

KEPT_BYTES = 1 << 26
"""Arrays up to this size are kept for the next frame, those of larger pictures are not."""

_ONE_THREAD = 1 << 18
"""Multiplications in one matrix product up to which OpenBLAS starts no threads."""


class Scratch:
    """Arrays that are used over and over: fresh memory for each would cost a fifth of the time of a frame."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[np.uint8]] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
        """An array of that shape, contents undefined; the next call with this name takes it back."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        array = self._arrays.get(name)
        if array is None or len(array) < size:
            array = np.empty(size, np.uint8)
            if size <= KEPT_BYTES:
                self._arrays[name] = array
        found: NDArray[Any] = array[:size].view(dtype).reshape(shape)
        return found


class Workspace:
    """The working memory of one codec: one `Scratch` for each of two threads. One frame at a time may use it."""

    def __init__(self) -> None:
        self.first, self.second = Scratch(), Scratch()
        self.helper = Helper("dct")

    def share(self, work: Callable[[Item, Scratch], None], items: Sequence[Item]) -> None:
        """Call `work` for every item, here and in one more thread, each with a scratch of its own."""
        rest = iter(items)

        def run(scratch: Scratch) -> None:
            for item in rest:
                work(item, scratch)

        if len(items) < 2:
            return run(self.first)
        self.helper.beside(lambda: run(self.first), lambda: run(self.second))


def stripes(rows: int, across: int, values: int) -> list[tuple[int, int]]:
    """First and last row (excluded) of the stripes that `rows` rows of `across` blocks are worked in.

    `values` is how many numbers the work holds per block. There is one stripe, or an even number for two threads.
    """
    count = rows // max(LEAST_ROWS, STRIPE_VALUES // (across * values))
    size = -(-rows // max(1, count + count % 2))
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


def apply(matrix: Floats, values: Floats, out: Floats) -> Floats:
    """`matrix @ values` into `out`, for (..., m, k) and (..., k, n), in pieces of columns small enough for the cache.

    That is also small enough for OpenBLAS to stay in this thread: on busy cores its worker threads make a product
    of half a millisecond take fifty. All pieces are of one size, and the last one begins early: BLAS takes its fast
    way for that size only. It may round a product otherwise at another place in a piece.
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
        rest = slice(max(0, n - piece), n)
        np.matmul(matrix, values[..., rest], out=out[..., rest])
    return out
