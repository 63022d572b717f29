"""Weights in the order in which the compiled part reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.runtime.programs.compiled import LANES
from layercast.runtime.programs.parts import Matrix

INT16_END = 2**15

MOST_STEPS = 6
"""Of four inputs each, in a group or a pass."""

PASSES = (
    *((6,), (5, 1), (5,), (4, 2), (4, 1, 1), (4, 1), (4,)),
    *((3, 3), (3, 2, 1), (3, 2), (3, 1, 1), (3, 1), (3,)),
    *((2, 2, 2), (2, 2, 1), (2, 2), (2, 1, 1), (2, 1), (2,), (1, 1, 1), (1, 1), (1,)),
)
"""Sizes of the groups of a pass, in the order of `native/pointwise.h`."""

MOST_GROUPS = max(map(len, PASSES))

UNPACKED = np.r_[0:4, 8:12, 4:8, 12:16]
"""Order of 16 channels in which convolutions compute: packing int32 to int16 leaves them in their own."""

LINE = 64
"""Bytes of a cache line."""


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at a cache line: a vector across two costs twice its time."""
    memory = np.empty(values.nbytes + LINE, np.uint8)
    begin = -memory.ctypes.data % LINE
    copy: NDArray[Any] = memory[begin : begin + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def packed_pointwise(weights: NDArray[np.int8], grouped: bool) -> dict[str, NDArray[Any]]:
    """(outputs, inputs) weights as `native/pointwise.h` reads them, with its steps and passes."""
    full = np.pad(weights, ((0, -len(weights) % LANES), (0, -weights.shape[1] % 4)))
    blocks = full.reshape(len(full) // LANES, LANES, -1, 4)[:, UNPACKED].transpose(0, 2, 1, 3)
    packed, steps, passes = [], [], []
    for block in blocks:
        whole = list(range(len(block)))
        groups = grouped_steps(block) if grouped else [whole[i : i + MOST_STEPS] for i in whole[::MOST_STEPS]]
        for some in in_passes(groups):
            passes.append(PASSES.index(tuple(map(len, some))))
            order = [step for group in some for step in group]
            packed.append(block[order])
            steps += [4 * step for step in order]
        passes.append(-1)
    return {
        "weights": np.concatenate(packed),
        "steps": np.array(steps, np.int32),
        "passes": np.array(passes, np.int32),
    }


def in_passes(groups: list[list[int]]) -> list[list[list[int]]]:
    """Groups by pass; every pass takes as many steps as it can."""
    left, passes = sorted(groups, key=len, reverse=True), []
    while left:
        some: list[list[int]] = []
        room = MOST_STEPS
        for group in list(left):
            if len(group) <= room and len(some) < MOST_GROUPS:
                some.append(group)
                left.remove(group)
                room -= len(group)
        passes.append(some)
    return passes


def grouped_steps(block: NDArray[np.int8]) -> list[list[int]]:
    """Groups of up to MOST_STEPS steps, whose products two by two sum to less than 2**15.

    Args:
        block: (steps, LANES, 4) weights; inputs are 0..255.
    """
    pairs = block.astype(np.int64).reshape(len(block), -1, 2)
    reach = 255 * np.concatenate([np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2)], 1)
    open_groups: list[tuple[list[int], NDArray[np.int64]]] = []
    for step in np.argsort(-reach.max(1), kind="stable").tolist():
        for members, total in open_groups:
            if len(members) < MOST_STEPS and (total + reach[step]).max() < INT16_END:
                members.append(step)
                total += reach[step]
                break
        else:
            open_groups.append(([step], reach[step].copy()))
    return [members for members, _ in open_groups]


def packed_depthwise(weights: NDArray[np.int8]) -> NDArray[np.int16]:
    """(channels, 5, 5) weights as `depthwise_tile` reads them."""
    full = np.pad(weights.astype(np.int16), ((0, -len(weights) % LANES), (0, 1), (0, 0)))
    lanes = full.reshape(-1, LANES, 3, 2, 5)[:, UNPACKED]
    return np.ascontiguousarray(
        lanes.transpose(0, 2, 4, 1, 3)
    )  # block, pair of rows, column, lane, row of the pair


def ordered(values: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """Values by channel, filled up with 0 to a multiple of LANES, each LANES of them in an order."""
    full = np.pad(values, (0, -len(values) % LANES))
    return np.ascontiguousarray(full.reshape(-1, LANES)[:, order].ravel())


def packed_matrix(matrix: Matrix, grouped: bool) -> dict[str, NDArray[Any]]:
    """As `matmul` reads it: weights by 16 outputs, input and output; of uint8 inputs, as a `pointwise` that makes
    floats does."""
    if matrix.grid is None:
        inputs, outputs = matrix.weights.shape
        full = np.pad(matrix.weights.astype(np.float32), ((0, 0), (0, -outputs % LANES)))
        blocks = full.reshape(inputs, -1, LANES).transpose(1, 0, 2)
        return {"weights": np.ascontiguousarray(blocks), "bias": ordered(matrix.bias, np.arange(LANES))}
    scale, zero = matrix.grid
    # sum of w (x - zero) + bias / scale = sum of w x + (bias / scale - zero * sum of w)
    whole = np.rint(matrix.bias / scale).astype(np.int32) - zero * matrix.weights.sum(0, np.int32)
    arrays = {"bias": ordered(whole, UNPACKED), "scale": ordered(scale, np.arange(LANES))}
    return packed_pointwise(matrix.weights.T, grouped) | arrays


def packed_filter(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """(channels, 5, 5) weights by 8 channels, row, column and channel, and biases (channels,), as `filter` reads
    them."""
    lanes = LANES // 2
    full = np.pad(weights.astype(np.float32), ((0, -len(weights) % lanes), (0, 0), (0, 0)))
    return {
        "weights": np.ascontiguousarray(full.reshape(-1, lanes, *full.shape[1:]).transpose(0, 2, 3, 1)),
        "bias": np.pad(bias.astype(np.float32), (0, -len(bias) % lanes)),
    }
