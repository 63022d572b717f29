"""Weights in the order in which the compiled part reads them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.runtime.programs.compiled import LANES
from layercast.runtime.programs.parts import Matrix

INT16_END = 2**15
INT16_MOST = INT16_END - 1

MOST_INPUTS = 4096
"""Of a product of floats: `native/matmul.h` has room for so many."""

MOST_STEPS, MOST_TOGETHER, HALF = 8, 6, 4
"""Of four inputs each, in a pass, in a group, and in a group where it does not matter which ones are in it."""

PASSES = (
    *((6, 2), (6, 1, 1), (5, 3), (5, 2, 1), (4, 4), (4, 3, 1), (4, 2, 2), (3, 3, 2)),
    *((6, 1), (5, 2), (5, 1, 1), (4, 3), (4, 2, 1), (3, 3, 1), (3, 2, 2)),
    *((6,), (5, 1), (4, 2), (4, 1, 1), (3, 3), (3, 2, 1), (2, 2, 2)),
    *((5,), (4, 1), (3, 2), (3, 1, 1), (2, 2, 1)),
    *((4,), (3, 1), (2, 2), (2, 1, 1)),
    *((3,), (2, 1), (1, 1, 1)),
    *((2,), (1, 1)),
    *((1,),),
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
        groups = grouped_steps(block) if grouped else [whole[i : i + HALF] for i in whole[::HALF]]
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
    """Groups of up to MOST_TOGETHER steps, whose products two by two sum to less than 2**15.

    Args:
        block: (steps, LANES, 4) weights; inputs are 0..255.
    """
    pairs = block.astype(np.int64).reshape(len(block), -1, 2)
    reach = 255 * np.concatenate([np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2)], 1)
    open_groups: list[tuple[list[int], NDArray[np.int64]]] = []
    for step in np.argsort(-reach.max(1), kind="stable").tolist():
        for members, total in open_groups:
            if len(members) < MOST_TOGETHER and (total + reach[step]).max() < INT16_END:
                members.append(step)
                total += reach[step]
                break
        else:
            open_groups.append(([step], reach[step].copy()))
    return [members for members, _ in open_groups]


def packed_depthwise(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    """(channels, 5, 5) weights as `depthwise_tile` reads them: by 16 channels, pair, channel and which of the pair."""
    lanes = np.pad(weights, ((0, -len(weights) % LANES), (0, 0), (0, 0))).reshape(-1, LANES, 5, 5)
    blocks = len(lanes)
    rows = lanes[:, :, :4].reshape(blocks, LANES, 2, 2, 5).transpose(0, 2, 4, 1, 3)
    last = np.pad(lanes[:, :, 4], ((0, 0), (0, 0), (0, 1))).reshape(blocks, LANES, 3, 2).transpose(0, 2, 1, 3)
    return np.concatenate([rows.reshape(blocks, -1, LANES, 2), last], 1)


def ordered(values: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """Values by channel, filled up with 0 to a multiple of LANES, each LANES of them in an order."""
    full = np.pad(values, (0, -len(values) % LANES))
    return np.ascontiguousarray(full.reshape(-1, LANES)[:, order].ravel())


def packed_matrix(matrix: Matrix, grouped: bool) -> dict[str, NDArray[Any]]:
    """As `matmul` reads it, weights by 16 outputs, two inputs, output and input; of uint8 inputs, as a `pointwise` that
    makes floats does."""
    if matrix.grid is None:
        whole, scale = in_int16(matrix.weights)
        inputs, outputs = whole.shape
        full = np.pad(whole, ((0, inputs % 2), (0, -outputs % LANES)))
        pairs = full.reshape(-1, 2, full.shape[1] // LANES, LANES).transpose(2, 0, 3, 1)
        arrays = {"bias": ordered(matrix.bias, np.arange(LANES)), "scale": ordered(scale, np.arange(LANES))}
        return arrays | {"weights": np.ascontiguousarray(pairs)}
    scale, zero = matrix.grid
    # sum of w (x - zero) + bias / scale = sum of w x + (bias / scale - zero * sum of w)
    whole = np.rint(matrix.bias / scale).astype(np.int32) - zero * matrix.weights.sum(0, np.int32)
    arrays = {"bias": ordered(whole, UNPACKED), "scale": ordered(scale, np.arange(LANES))}
    return packed_pointwise(matrix.weights.T, grouped) | arrays


def largest_input(inputs: int) -> int:
    """What the largest of a product's inputs is in int16. A sum of products has 31 bits; weights are left so many that
    both roundings are alike where the largest input is eight times the usual one."""
    return min(INT16_MOST, math.isqrt(10 * 2**31 // inputs))


def in_int16(weights: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """(inputs, outputs) weights as multiples of a scale for each output, which is as small as it can be: neither a
    weight nor a sum of products may overflow."""
    sizes = np.abs(weights.astype(np.float64))
    inputs = len(weights)
    room = (2**31 - 1) // largest_input(inputs) - inputs  # rounding adds less than 1 to a weight's size
    scale = np.maximum(sizes.sum(0) / room, sizes.max(0) / INT16_MOST)
    scale[scale == 0] = 1
    return np.rint(weights / scale).astype(np.int16), scale.astype(np.float32)


def packed_filter(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """(channels, 5, 5) weights by 8 channels, row, column and channel, and biases (channels,), as `filter` reads
    them."""
    lanes = LANES // 2
    full = np.pad(weights.astype(np.float32), ((0, -len(weights) % lanes), (0, 0), (0, 0)))
    return {
        "weights": np.ascontiguousarray(full.reshape(-1, lanes, *full.shape[1:]).transpose(0, 2, 3, 1)),
        "bias": np.pad(bias.astype(np.float32), (0, -len(bias) % lanes)),
    }
