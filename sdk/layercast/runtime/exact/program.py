"""An ONNX graph as a list of operations on buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from layercast.runtime.exact.compiled import LANES, MAX_WEIGHT, REACH
from layercast.runtime.exact.packing import UNPACKED, ordered, packed_depthwise, packed_pointwise
from layercast.runtime.onnx_file import array, read_graph


class Unsupported(Exception):
    """A graph with something that a program cannot do."""


@dataclass(eq=False)
class Buffer:
    """A tensor: uint8, channels last.

    Attributes:
        channels: how many.
        name: of the graph's input; "" for what the program computes.
        halo: value around it, where a 5x5 filter reads it.
        output: it is one of the graph's outputs, or a part of one.
    """

    channels: int
    name: str = ""
    halo: int | None = None
    output: bool = False

    @property
    def pixel(self) -> int:
        """Bytes of a position."""
        return self.channels if self.name or self.output else -(-self.channels // LANES) * LANES


@dataclass(frozen=True)
class View:
    """Some of a buffer's channels."""

    buffer: Buffer
    begin: int
    channels: int

    @property
    def whole(self) -> bool:
        return self.channels == self.buffer.channels


Value = list[View]
"""What a name in the graph stands for: channels of buffers behind each other."""


@dataclass(frozen=True)
class Bias:
    """Part of the graph's `bias` input."""

    begin: int
    end: int


@dataclass
class Step:
    """One operation.

    Attributes:
        kind: one of KINDS.
        to, sources: what it computes, and from what.
        zero, low, high: see `native/rows.h`.
        arrays: weights, biases and scales as `_exact` wants them.
        bias: where the biases come from when they depend on quality; then they count from `arrays["bias"]`.
    """

    kind: str
    to: View
    sources: list[View]
    zero: int = 0
    low: int = 0
    high: int = 0
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    bias: Bias | None = None


class Program:
    """Operations of a graph.

    Raises:
        Unsupported: the graph has something else.
    """

    def __init__(self, data: bytes, grouped: bool) -> None:
        self._grouped = grouped
        self.steps: list[Step] = []
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, list[Buffer]] = {}
        """Parts of each: one, or what stands behind each other in a flat one."""
        self.takes_bias = False
        self._values: dict[str, Value | Bias | None] = {}
        """None: a shape, which nobody needs here."""
        try:
            self._read(data)
        except (DecodeError, LookupError, ValueError) as error:
            raise Unsupported(f"a graph of another kind: {error}") from error

    def _read(self, data: bytes) -> None:
        graph = read_graph(data)
        self._constants = {t.name: array(t) for t in graph.initializer}
        for given in graph.input:
            if given.name == "bias":
                self.takes_bias = True
                continue
            channels = given.type.tensor_type.shape.dim[3].dim_value
            buffer = Buffer(channels, given.name)
            self.inputs[given.name] = buffer
            self._values[given.name] = [View(buffer, 0, channels)]
        for node in graph.node:
            self._translate(node)
        self.flat = {out.name for out in graph.output if len(out.type.tensor_type.shape.dim) == 1}
        for name in (out.name for out in graph.output):
            value = self._value(name)
            self.outputs[name] = [
                self._finished(part) for part in ([[v] for v in value] if name in self.flat else [value])
            ]

    def _translate(self, node: Any) -> None:
        translate = TRANSLATIONS.get(node.op_type)
        if translate is None:
            raise Unsupported(f"operation {node.op_type}")
        attributes = {a.name: list(a.ints) or a.i for a in node.attribute}
        (output,) = node.output
        self._values[output] = translate(self, list(node.input), attributes)

    def _value(self, name: str) -> Value:
        value = self._values.get(name)
        if not isinstance(value, list):
            raise Unsupported(f"{name} is no tensor")
        return value

    def _number(self, name: str) -> Any:
        if name not in self._constants:
            raise Unsupported(f"{name} is no constant")
        return self._constants[name]

    def _is_shape(self, names: list[str]) -> bool:
        return any(name in self._values and self._values[name] is None for name in names)

    def _step(self, kind: str, channels: int, sources: list[View], **rest: Any) -> View:
        to = View(Buffer(channels), 0, channels)
        self.steps.append(Step(kind, to, sources, **rest))
        return to

    def _together(self, value: Value) -> View:
        """The value in one buffer."""
        if len(value) == 1:
            return value[0]
        to = Buffer(sum(v.channels for v in value))
        begin = 0
        for view in value:
            self.steps.append(Step("copy", View(to, begin, view.channels), [view]))
            begin += view.channels
        return View(to, 0, to.channels)

    def _copied(self, view: View) -> View:
        return self._step("copy", view.channels, [view])

    def _same(self, names: list[str], attributes: dict[str, Any]) -> Value:
        return self._value(names[0])

    def _transpose(self, names: list[str], attributes: dict[str, Any]) -> Value:
        value, perm = self._value(names[0]), attributes["perm"]
        if perm in ([0, 3, 1, 2], [0, 2, 3, 1]):  # channels are last here whatever the graph says
            return value
        if perm != [0, 2, 1, 3, 4]:
            raise Unsupported(f"Transpose {perm}")
        source = self._together(value)  # the middle of a pixel shuffle, between two Reshapes
        return [self._step("shuffle", source.channels // 4, [source])]

    def _shape(self, names: list[str], attributes: dict[str, Any]) -> None:
        return None

    def _mul(self, names: list[str], attributes: dict[str, Any]) -> None:
        if not self._is_shape(names):
            raise Unsupported("Mul of tensors")

    def _concat(self, names: list[str], attributes: dict[str, Any]) -> Value | None:
        if self._is_shape(names):
            return None
        return [view for name in names for view in self._value(name)]

    def _slice(self, names: list[str], attributes: dict[str, Any]) -> Value | Bias | None:
        if self._is_shape(names):
            return None
        begin, end = (int(self._number(n)[0]) for n in names[1:3])
        if names[0] == "bias":
            return Bias(begin, end)
        if int(self._number(names[3])[0]) != 1:
            raise Unsupported("a slice of anything but channels")
        found, at = [], 0
        for view in self._value(names[0]):
            low, high = max(begin - at, 0), min(end - at, view.channels)
            if low < high:
                found.append(View(view.buffer, view.begin + low, high - low))
            at += view.channels
        return found

    def _pad(self, names: list[str], attributes: dict[str, Any]) -> Value:
        ends, source = self._number(names[1]), self._together(self._value(names[0]))
        if np.count_nonzero(ends) > 1 or ends[5] < 0:
            raise Unsupported("padding of anything but channels")
        return [
            self._step("copy", source.channels + int(ends[5]), [source], zero=int(self._number(names[2])))
        ]

    def _clip(self, names: list[str], attributes: dict[str, Any]) -> Value:
        low, high = (int(self._number(n)) for n in names[1:3])
        source = self._source(names[0])
        return [self._step("clip", source.channels, [source], low=low, high=high)]

    def _add(self, names: list[str], attributes: dict[str, Any]) -> Value:
        a, b = (self._source(names[i]) for i in (0, 3))
        scales, zeros = ({float(self._number(names[i + k])) for i in (0, 3, 5)} for k in (1, 2))
        if len(scales) > 1 or len(zeros) > 1 or a.channels != b.channels:
            raise Unsupported("a sum of different grids")
        return [self._step("add", a.channels, [a, b], zero=int(zeros.pop()))]

    def _multiply(self, names: list[str], attributes: dict[str, Any]) -> Value:
        a, b = (self._source(names[i]) for i in (0, 3))
        sa, za, sb, zb, sy, zy = (float(self._number(names[i])) for i in (1, 2, 4, 5, 6, 7))
        if sa != 1 or sb != sy or zb != zy or a.channels != b.channels:
            raise Unsupported("a product that is no multiple of its second factor")
        return [self._step("multiply", a.channels, [a, b], zero=int(zb), low=int(za))]

    def _convolution(self, names: list[str], attributes: dict[str, Any]) -> Value:
        value, weights = self._value(names[0]), self._number(names[3])
        (sx, zx), (sy, zy) = ((self._number(names[i]), int(self._number(names[i + 1]))) for i in (1, 6))
        outputs, inputs, side, _ = weights.shape
        scale = (sx * self._number(names[4]) / sy).astype(np.float32)
        if np.abs(weights.astype(int)).max(initial=0) > MAX_WEIGHT or (np.frexp(scale)[0] != 0.5).any():
            raise Unsupported("weights or scales of another kind")
        pads, channels = attributes.get("pads", [0] * 4), sum(v.channels for v in value)
        bias = self._values.get(names[8])
        given = np.zeros(outputs, np.int32) if isinstance(bias, Bias) else self._number(names[8])
        # sum of w (x - zero) + bias = sum of w x + (bias - zero * sum of w)
        given = given - zx * weights.astype(np.int32).sum((1, 2, 3), np.int32)
        rest: dict[str, Any] = {"zero": zy, "bias": bias if isinstance(bias, Bias) else None}
        if attributes["group"] == 1 and side == 1 and inputs == channels and not any(pads):
            kind, source, order = "pointwise", self._source(names[0]), np.arange(LANES)
            packed = packed_pointwise(weights[:, :, 0, 0], self._grouped)
        elif attributes["group"] == outputs == channels and side == 1 and not any(pads):
            kind, source, order = "scale", self._source(names[0]), np.arange(LANES)
            packed = {"weights": ordered(weights.ravel().astype(np.int32), order)}
        elif attributes["group"] == outputs == channels and side == 5 and pads == [REACH] * 4:
            kind, source, order = "depthwise", self._surrounded(self._together(value), zx), UNPACKED
            packed = {"weights": packed_depthwise(weights[:, 0])}
        else:
            raise Unsupported(f"convolution {weights.shape} of {channels} channels, pads {pads}")
        rest["arrays"] = packed | {"bias": ordered(given, order), "scale": ordered(scale, order)}
        return [self._step(kind, outputs, [source], **rest)]

    def _source(self, name: str) -> View:
        """A value as one view whose channels can be read four at a time, which inputs need to have so many for."""
        view = self._together(self._value(name))
        return self._copied(view) if view.buffer.name and view.channels % 4 else view

    def _surrounded(self, view: View, zero: int) -> View:
        """The view as a buffer with `zero` around it."""
        if view.buffer.name or not view.whole or view.buffer.halo not in (None, zero):
            view = self._copied(view)
        view.buffer.halo = zero
        return view

    def _finished(self, value: Value) -> Buffer:
        """The value in a buffer that is an output."""
        whole = value[0].buffer
        fit = len(value) == 1 and value[0].whole and whole.channels % 4 == 0  # or `_source` could not read it
        if not fit or whole.name or whole.output or whole.halo is not None:
            view = self._copied(value[0]) if len(value) == 1 else self._together(value)
            whole = view.buffer
        whole.output = True
        return whole


TRANSLATIONS: Mapping[str, Callable[[Program, list[str], dict[str, Any]], Value | Bias | None]] = {
    "Clip": Program._clip,
    "Concat": Program._concat,
    "Identity": Program._same,
    "Mul": Program._mul,
    "Pad": Program._pad,
    "QLinearAdd": Program._add,
    "QLinearConv": Program._convolution,
    "QLinearMul": Program._multiply,
    "Reshape": Program._same,
    "Shape": Program._shape,
    "Slice": Program._slice,
    "Transpose": Program._transpose,
}
"""What each operation of a graph becomes; every one has one output."""
