"""What the exact prior must compute, in int64: an evaluator of its graphs that shares no code with ONNX Runtime.

    outputs = evaluate(onnx.load("models/zoo/hierarchical-1/plane1.onnx"), feeds)

Scales are powers of two by construction, so that every division here is a shift; a scale that is not is an error.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray


def exponent(scale: Array) -> Array:
    """log2 of power-of-two scales, int64; ValueError for any other scale."""
    mantissa, power = np.frexp(np.asarray(scale, np.float64))
    if (mantissa != 0.5).any():
        raise ValueError(f"scale {scale} is no power of two")
    return power.astype(np.int64) - 1


def shift_half_even(x: Array, bits: Array) -> Array:
    """round(x * 2**-bits), ties to even, in int64."""
    bits = np.broadcast_to(bits, x.shape)
    down = np.maximum(bits, 0)
    unit = np.int64(1) << down
    floor = x >> down
    rest = x - floor * unit
    up = (2 * rest > unit) | ((2 * rest == unit) & (floor % 2 == 1))
    return np.where(bits >= 0, floor + up, x << np.maximum(-bits, 0))


def to_uint8(x: Array, zero: int) -> Array:
    return np.clip(x + zero, 0, 255).astype(np.uint8)


def convolve(x: Array, w: Array, groups: int) -> Array:
    """(1, C, H, W) int64 with zero padding to the same size; 1x1, or one filter per channel."""
    side = w.shape[-1]
    if side == 1 and groups == 1:
        return np.einsum("oc,bchw->bohw", w[:, :, 0, 0], x)
    if groups != x.shape[1]:
        raise ValueError("neither pointwise nor depthwise")
    padded = np.pad(x, ((0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2))
    h, width = x.shape[2:]
    out = np.zeros_like(x)
    for i in range(side):
        for j in range(side):
            out += w[None, :, 0, i, j, None, None] * padded[:, :, i : i + h, j : j + width]
    return out


def evaluate(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """Outputs by name; `largest` holds the largest |accumulator| seen."""
    graph = model.graph
    env: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer} | feeds
    largest = 0
    for node in graph.node:
        v = [env[n] for n in node.input]
        a = {p.name: onnx.helper.get_attribute_value(p) for p in node.attribute}
        if node.op_type == "QLinearConv":
            x, sx, zx, w, sw, _, sy, zy, bias = v
            acc = convolve(x.astype(np.int64) - int(zx), w.astype(np.int64), a["group"])
            acc += bias.astype(np.int64)[None, :, None, None]
            largest = max(largest, int(np.abs(acc).max(initial=0)))
            bits = exponent(sy) - exponent(sx) - exponent(sw)
            y = to_uint8(shift_half_even(acc, bits[None, :, None, None]), int(zy))
        elif node.op_type == "QLinearAdd":
            p, sp, zp, q, sq, zq, sy, zy = v
            if not sp == sq == sy:
                raise ValueError("a sum of different grids")
            y = to_uint8(p.astype(np.int64) - int(zp) + q.astype(np.int64) - int(zq), int(zy))
        elif node.op_type == "QLinearMul":
            p, sp, zp, q, sq, zq, sy, zy = v
            product = (p.astype(np.int64) - int(zp)) * (q.astype(np.int64) - int(zq))
            y = to_uint8(shift_half_even(product, exponent(sy) - exponent(sp) - exponent(sq)), int(zy))
        elif node.op_type == "Clip":
            y = np.clip(v[0], v[1], v[2])
        elif node.op_type == "Concat":
            y = np.concatenate(v, a["axis"])
        elif node.op_type == "Pad":
            y = np.pad(v[0], v[1].reshape(2, -1).T, constant_values=v[2])
        elif node.op_type == "Reshape":
            y = v[0].reshape(v[1])
        elif node.op_type == "Slice":
            part = slice(int(v[1][0]), int(v[2][0]))
            y = v[0][(slice(None),) * int(v[3][0] if len(v) > 3 else 0) + (part,)]
        elif node.op_type == "Transpose":
            y = v[0].transpose(a["perm"])
        elif node.op_type == "Shape":
            y = np.array(v[0].shape, np.int64)
        elif node.op_type == "Mul":
            if v[0].dtype != np.int64:
                raise ValueError("only shapes are multiplied")
            y = v[0] * v[1]
        elif node.op_type == "Identity":
            y = v[0]
        else:
            raise ValueError(f"an operation the exact prior may not use: {node.op_type}")
        env[node.output[0]] = y
    return {o.name: env[o.name] for o in graph.output} | {"largest": np.array(largest)}
