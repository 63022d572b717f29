"""A small builder of ONNX graphs of fixed-point layers: QLinearConv with power-of-two scales.

`hierarchical.fixed` says why these give the same integers everywhere. Activations travel as uint8, signed grids
with zero point 128. Biases that depend on quality are slices of one int32 input, `bias`.

Inputs and outputs are channels-last, which is how ONNX Runtime computes QLinearConv: the transposes that the standard
asks for around each of them cancel, a fifth of the time.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from models.hierarchical.fixed import FixedBlock, FixedConv, Grid, Integers, integers

OPSET = 17
IR_VERSION = 8
CHANNELS_FIRST, CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
LANES = 16
"""Channels that a vector register holds. The last ones of a depthwise filter over no multiple of it are computed one by
one: with 108 channels a 5x5 filter takes twice as long as with 112."""

MICROSOFT = "com.microsoft"
"""Domain of QLinearAdd and QLinearMul, which every build of ONNX Runtime has."""


def zero_point(grid: Grid) -> int:
    return 128 if grid.low < 0 else 0


class Value:
    """A tensor in a graph: its name, the grid that its integers count in, and how many channels at its end are 0."""

    def __init__(self, name: str, grid: Grid, zero: int | None = None, spare: int = 0) -> None:
        self.name, self.grid, self.spare = name, grid, spare
        self.zero = zero_point(grid) if zero is None else zero


def widened(n: Integers, inputs: int, outputs: int) -> Integers:
    """The layer with more inputs, which it does not use, and more outputs, which are 0."""
    return Integers(
        np.pad(n.weight, ((0, outputs), (0, inputs), (0, 0), (0, 0))),
        np.pad(n.bias, ((0, 0), (0, outputs))),
        np.pad(n.scale, (0, outputs), constant_values=1),
        np.pad(n.bound, (0, outputs)),
    )


class Graph:
    """Collects nodes; methods that add one return its output.

    Args:
        name: of the graph.
        basis: (qualities, knots) spline basis at every quality index.
    """

    def __init__(self, name: str, basis: Tensor) -> None:
        self.name, self.basis = name, basis
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: dict[bytes, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.bias_rows: list[np.ndarray] = []
        self.largest_accumulator = 0

    def input(self, name: str, channels: int, grid: Grid, zero: int | None = None) -> Value:
        shape = [1, f"{name}_h", f"{name}_w", channels]
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
        return Value(self.op("Transpose", name, perm=CHANNELS_FIRST), grid, zero)

    def output(self, value: Value | str, name: str, rank: int = 4) -> None:
        source = value if isinstance(value, str) else self.op("Transpose", value.name, perm=CHANNELS_LAST)
        self.nodes.append(helper.make_node("Identity", [source], [name]))
        shape = [f"{name}_{i}" for i in range(rank)]
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))

    def constant(self, array: np.ndarray) -> str:
        key = array.dtype.str.encode() + repr(array.shape).encode() + array.tobytes()
        if key not in self.initialisers:
            self.initialisers[key] = numpy_helper.from_array(array, f"const{len(self.initialisers)}")
        return self.initialisers[key].name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        name = f"node{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def scale(self, grid: Grid) -> str:
        return self.constant(np.array(2.0**-grid.fraction, np.float32))

    def zero(self, value: int) -> str:
        return self.constant(np.array(value, np.uint8))

    def format(self, value: Value) -> tuple[str, str, str]:
        return value.name, self.scale(value.grid), self.zero(value.zero)

    def bias(self, table: np.ndarray) -> str:
        """(C,) slice of the graph's `bias` input, whose rows by quality index are `table` (Q, C)."""
        start = sum(t.shape[1] for t in self.bias_rows)
        self.bias_rows.append(table.astype(np.int32))
        ends = [self.constant(np.array([v], np.int64)) for v in (start, start + table.shape[1])]
        return self.op("Slice", "bias", *ends)

    def layer(self, conv: FixedConv, x: Value, order: np.ndarray | None = None) -> Value:
        """`conv` applied to x; `order`: of its output channels, when not their own.

        What a wide depthwise filter returns may have spare channels.
        """
        assert x.grid.fraction == conv.source.fraction
        n = integers(conv, self.basis)
        if order is not None:
            n = Integers(n.weight[order], n.bias[:, order], n.scale[order], n.bound[order])
        size, groups = conv.conv.kernel_size[0], conv.conv.groups
        if conv.depthwise and size > 1 and groups % LANES:
            x = self.padded(x, -groups % LANES)
            n, groups = widened(n, 0, x.spare), groups + x.spare
        elif x.spare:
            n = widened(n, x.spare, 0)
        self.largest_accumulator = max(self.largest_accumulator, int(n.bound.max()))
        bias = self.constant(n.bias[0].astype(np.int32)) if len(n.bias) == 1 else self.bias(n.bias)
        y = Value(
            self.op(
                "QLinearConv",
                *self.format(x),
                self.constant(n.weight.astype(np.int8)),
                self.constant(n.scale.astype(np.float32)),
                self.constant(np.zeros(len(n.scale), np.int8)),
                self.scale(conv.target),
                self.zero(zero_point(conv.target)),
                bias,
                kernel_shape=[size, size],
                pads=[size // 2] * 4,
                group=groups,
            ),
            conv.target,
            spare=groups - conv.conv.groups,
        )
        if conv.target.high - conv.target.low < 255:
            y.name = self.op("Clip", y.name, *self.limits(conv.target))
        return y

    def padded(self, x: Value, spare: int) -> Value:
        """x with spare channels."""
        ends = self.constant(np.array([0, 0, 0, 0, 0, spare, 0, 0], np.int64))
        return Value(self.op("Pad", x.name, ends, self.zero(x.zero)), x.grid, x.zero, spare)

    def limits(self, grid: Grid) -> tuple[str, str]:
        return self.zero(grid.low + zero_point(grid)), self.zero(grid.high + zero_point(grid))

    def add(self, a: Value, b: Value) -> Value:
        """Saturating sum of two values of one grid."""
        assert a.grid is b.grid
        return Value(
            self.op("QLinearAdd", *self.format(a), *self.format(b), *self.format(a)[1:], domain=MICROSOFT),
            a.grid,
        )

    def multiply(self, a: Value, b: Value) -> Value:
        """Product on b's grid; a counts whole numbers."""
        return Value(
            self.op("QLinearMul", *self.format(a), *self.format(b), *self.format(b)[1:], domain=MICROSOFT),
            b.grid,
        )

    def block(self, block: FixedBlock, x: Value) -> Value:
        return self.add(x, self.layer(block.b, self.layer(block.a, self.layer(block.dw, x))))

    def shuffled(self, conv: FixedConv, x: Value) -> Value:
        """`conv` applied to x, and four channels of its output to 2x2 positions (a pixel shuffle).

        The convolution's channels are ordered so that only whole rows of them have to move.
        """
        channels = conv.conv.out_channels // 4
        y = self.layer(conv, x, np.arange(4 * channels).reshape(channels, 4).T.ravel())
        one, two, rest = (self.constant(np.array([v], np.int64)) for v in (1, 2, channels))
        shape = self.op("Shape", y.name)
        h, w = (
            self.op("Slice", shape, *(self.constant(np.array([v], np.int64)) for v in (axis, axis + 1)))
            for axis in (2, 3)
        )
        z = self.op("Transpose", y.name, perm=CHANNELS_LAST)
        z = self.op("Reshape", z, self.op("Concat", h, w, two, two, rest, axis=0))
        z = self.op("Transpose", z, perm=[0, 2, 1, 3, 4])
        z = self.op(
            "Reshape", z, self.op("Concat", one, *(self.op("Mul", n, two) for n in (h, w)), rest, axis=0)
        )
        return Value(self.op("Transpose", z, perm=CHANNELS_FIRST), y.grid)

    def concat(self, values: list[Value]) -> Value:
        """Along channels; all on grids of one fraction and zero point, and only the last with spare ones."""
        first, last = values[0], values[-1]
        assert all(v.grid.fraction == first.grid.fraction and v.zero == first.zero for v in values)
        assert not any(v.spare for v in values[:-1])
        return Value(self.op("Concat", *(v.name for v in values), axis=1), first.grid, spare=last.spare)

    def channels(self, x: Value, begin: int, end: int) -> Value:
        """Some of its channels."""
        first, last, axis = (self.constant(np.array([v], np.int64)) for v in (begin, end, 1))
        return Value(self.op("Slice", x.name, first, last, axis), x.grid, x.zero)

    def flat(self, values: list[Value]) -> str:
        """All values behind each other, channels last, as one vector."""
        shape = self.constant(np.array([-1], np.int64))
        last = [self.op("Transpose", v.name, perm=CHANNELS_LAST) for v in values]
        return self.op("Concat", *(self.op("Reshape", v, shape) for v in last), axis=0)

    def bias_table(self) -> np.ndarray:
        """(qualities, total) int32: row i is the `bias` input at quality index i."""
        return np.concatenate(self.bias_rows, 1)

    def model(self) -> onnx.ModelProto:
        if self.bias_rows:
            width = self.bias_table().shape[1]
            self.inputs.append(helper.make_tensor_value_info("bias", TensorProto.INT32, [width]))
        graph = helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs, list(self.initialisers.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = IR_VERSION
        model.producer_name = "layercast"
        onnx.checker.check_model(model)
        return model
