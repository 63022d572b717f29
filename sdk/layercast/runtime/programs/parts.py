"""What a program is made of: buffers, views of them, steps, and what else a name in an ONNX graph can stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.runtime.programs.compiled import LANES

UINT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)


@dataclass(eq=False)
class Buffer:
    """A tensor, channels last.

    Attributes:
        channels: how many.
        name: of the graph's input; "" for what the program computes.
        dtype: uint8 or float32.
        halo: value around it, where a 5x5 filter reads it.
        output: it is one of the graph's outputs, or a part of one.
        whole: its positions lie behind each other without a gap.
    """

    channels: int
    name: str = ""
    dtype: np.dtype[Any] = UINT8
    halo: int | None = None
    output: bool = False
    whole: bool = False

    @property
    def pixel(self) -> int:
        """Bytes of a position."""
        tight = self.name or self.output or self.whole or self.dtype != UINT8
        return self.dtype.itemsize * (self.channels if tight else -(-self.channels // LANES) * LANES)


@dataclass(frozen=True)
class View:
    """Some of a buffer's channels; with a `side`, of one position of every side x side, and maybe of those right of it.

    Attributes:
        row, column: which one.
    """

    buffer: Buffer
    begin: int
    channels: int
    side: int = 1
    row: int = 0
    column: int = 0

    @property
    def all(self) -> bool:
        return self.channels == self.buffer.channels and self.side == 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.buffer.dtype

    def part(self, begin: int, channels: int) -> View:
        return View(self.buffer, self.begin + begin, channels, self.side, self.row, self.column)


@dataclass(frozen=True)
class Part:
    """Part of a one-dimensional input of the graph."""

    name: str
    begin: int
    end: int


class Shape(tuple[int | None, ...]):
    """Sizes, those that are known."""


@dataclass(frozen=True)
class Tiled:
    """Within a move between a position's channels and the positions of a `side` x `side` tile."""

    view: View
    side: int
    apart: bool
    """Whether a position becomes a tile, not a tile a position."""


@dataclass(frozen=True)
class Quantised:
    """A float32 tensor that is still uint8: (view - zero) * scale."""

    view: View
    scale: np.float32
    zero: int


@dataclass(frozen=True)
class Convolved:
    """A convolution of uint8 that waits for its output's grid, or for what takes it without one."""

    source: Quantised
    weights: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.int32]
    attributes: dict[str, Any]
    positive: bool = False
    """Whether a ReLU follows."""


@dataclass(frozen=True)
class Clipped:
    """A float32 tensor clipped to 0..255."""

    view: View


@dataclass(frozen=True)
class Weights:
    """int8 weights, or int32 biases, and their scales."""

    integers: NDArray[Any]
    scale: NDArray[np.float32]


Value = list[View] | Part | Shape | Tiled | Quantised | Convolved | Clipped | Weights
"""What a name in the graph stands for; a tensor is channels of buffers behind each other."""


@dataclass(frozen=True)
class Matrix:
    """What a matrix product has beside its source.

    Attributes:
        weights: (inputs, outputs), float32, or int8 where the source is uint8.
        bias: (outputs,).
        grid: where they are int8: what a sum of products is multiplied with, (outputs,), and the source's zero.
    """

    weights: NDArray[Any]
    bias: NDArray[np.float32]
    grid: tuple[NDArray[np.float32], int] | None = None

    def columns(self, some: slice) -> Matrix:
        """Of some of the outputs."""
        grid = None if self.grid is None else (self.grid[0][some], self.grid[1])
        return Matrix(self.weights[:, some], self.bias[some], grid)


@dataclass(eq=False)
class Step:
    """One operation.

    Attributes:
        kind: one of KINDS.
        to, sources: what it computes, and from what.
        added: what is added to that.
        zero, low, high: see `native/rows.h`, `native/matmul.h` and `native/floats.h`.
        arrays: weights, biases and scales as `_programs` wants them.
        part: of an input, which adds to the biases or multiplies the scales.
        matrix: of a matrix product, until it is packed into `arrays`.
    """

    kind: str
    to: View
    sources: list[View]
    added: list[View] = field(default_factory=list)
    zero: int = 0
    low: int = 0
    high: int = 0
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    part: Part | None = None
    matrix: Matrix | None = None

    @property
    def reads(self) -> list[View]:
        """Sources and what is added."""
        return [*self.sources, *self.added]
