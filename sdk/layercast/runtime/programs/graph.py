"""An ONNX graph as a list of operations on buffers.

Of fixed point: convolutions of uint8 (QLinearConv), sums and a few moves, as the exact prior has them. Of float32:
matrix products, and convolutions in int8 between QuantizeLinear and DequantizeLinear, as analysis and synthesis do.
Sums, scales and ReLUs become part of the product that they follow, where nothing else asks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from layercast.runtime.onnx_file import DTYPES, array, read_graph
from layercast.runtime.programs.compiled import ADDITIONS, LANES, MAX_FILTER, MAX_WEIGHT, REACH
from layercast.runtime.programs.packing import (
    MOST_INPUTS,
    UNPACKED,
    aligned,
    largest_input,
    ordered,
    packed_depthwise,
    packed_filter,
    packed_matrix,
    packed_pointwise,
)
from layercast.runtime.programs.parts import (
    FLOAT32,
    UINT8,
    Buffer,
    Clipped,
    Convolved,
    Matrix,
    Part,
    Quantised,
    Shape,
    Step,
    Tiled,
    Value,
    View,
    Weights,
)

COPIES = {UINT8: "copy", FLOAT32: "copy_floats"}
"""Kinds of steps that move what is there."""

PRODUCTS = ("matmul", "pointwise_floats")
"""Kinds of steps that are matrix products, of floats and of bytes."""

ADDING = ("pointwise", "scale", "multiply")
"""Kinds of steps of fixed point that can add something to what they make."""

BYTES = 0, 255
"""What values are clipped to that become uint8."""

FEW = 24
"""Runs of so many channels are copied together before they are mixed; longer ones are mixed one after the other, for
which each product but the first reads what the others have made."""


class Unsupported(Exception):
    """A graph with something that a program cannot do."""


class Program:
    """Operations of a graph.

    Args:
        data: the ONNX file's bytes.
        grouped: whether some products are summed in int16 first.
        exact: all scales have to be powers of two, so that every machine computes the same integers.

    Raises:
        Unsupported: the graph has something else.
    """

    def __init__(self, data: bytes, grouped: bool, exact: bool) -> None:
        self._grouped, self._exact = grouped, exact
        self.steps: list[Step] = []
        self.inputs: dict[str, Buffer] = {}
        self.vectors: dict[str, tuple[np.dtype[Any], int]] = {}
        """One-dimensional inputs: their types and sizes."""
        self.outputs: dict[str, list[Buffer]] = {}
        """Parts of each: one, or what stands behind each other in a flat one."""
        self._values: dict[str, Value] = {}
        self._channels_first: set[str] = set()
        """Names that the graph lays out (1, C, H, W); here channels are last whatever it says."""
        self._flat: set[str] = set()
        """Names of one dimension, which is the channels of one position behind those of another."""
        self._shared: set[Buffer] = set()
        """What more than one operation reads."""
        self._joined: dict[tuple[View, ...], View] = {}
        """Views that have been put into one buffer, and which."""
        try:
            self._read(data)
        except (DecodeError, LookupError, ValueError, TypeError) as error:
            raise Unsupported(f"a graph of another kind: {error}") from error

    def _read(self, data: bytes) -> None:
        graph = read_graph(data)
        self._constants = {t.name: array(t) for t in graph.initializer}
        for given in graph.input:
            shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
            dtype = DTYPES[given.type.tensor_type.elem_type]
            if len(shape) == 1:
                self.vectors[given.name] = dtype, shape[0]
                self._values[given.name] = Part(given.name, 0, shape[0])
                continue
            buffer = Buffer(shape[3], given.name, dtype)
            self.inputs[given.name] = buffer
            self._values[given.name] = [View(buffer, 0, shape[3])]
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._uses.update(out.name for out in graph.output)
        for node in graph.node:
            self._translate(node)
        self.flat = {out.name for out in graph.output if len(out.type.tensor_type.shape.dim) == 1}
        for name in (out.name for out in graph.output):
            value = self._tensor(name)
            self.outputs[name] = [
                self._finished(part) for part in ([[v] for v in value] if name in self.flat else [value])
            ]
        for step in self.steps:
            if step.matrix is not None:
                if step.kind == "matmul":
                    step.low = largest_input(len(step.matrix.weights))
                    step.zero = int(self._is_given(step.sources[0].buffer))
                step.arrays = packed_matrix(step.matrix, self._grouped)
            step.arrays = {name: aligned(values) for name, values in step.arrays.items()}

    def _translate(self, node: Any) -> None:
        names, attributes = list(node.input), {a.name: list(a.ints) or a.i for a in node.attribute}
        (output,) = node.output
        first = names[0] in self._channels_first
        if node.op_type != "Reshape" and any(isinstance(self._values.get(n), Shape) for n in names):
            self._values[output] = self._sizes(node.op_type, names)
            return
        translate = TRANSLATIONS.get(node.op_type)
        if translate is None:
            raise Unsupported(f"operation {node.op_type}")
        value = translate(self, names, attributes)
        if node.op_type == "Transpose" and len(attributes["perm"]) == 4 and not isinstance(value, Tiled):
            first = attributes["perm"] == [0, 3, 1, 2]
        if first:
            self._channels_first.add(output)
        if names[0] in self._flat or (
            node.op_type == "Reshape" and len(self._constants.get(names[1], ())) == 1
        ):
            self._flat.add(output)
        if isinstance(value, list) and self._uses[output] != 1:
            self._shared.update(view.buffer for view in value)
        self._values[output] = value

    def _sizes(self, kind: str, names: list[str]) -> Shape:
        """Of shape arithmetic only joined constants are known."""
        if kind != "Concat":
            return Shape((None,))
        found: list[int | None] = []
        for name in names:
            value = self._values.get(name)
            found += value if isinstance(value, Shape) else self._number(name).ravel().tolist()
        return Shape(found)

    def _tensor(self, name: str) -> list[View]:
        value = self._values.get(name)
        if not isinstance(value, list):
            raise Unsupported(f"{name} is no tensor")
        return value

    def _number(self, name: str) -> Any:
        if name not in self._constants:
            raise Unsupported(f"{name} is no constant")
        return self._constants[name]

    def _step(self, kind: str, channels: int, sources: list[View], **rest: Any) -> View:
        dtype = FLOAT32 if kind in ("matmul", "pointwise_floats", "filter", "weigh") else UINT8
        to = View(Buffer(channels, dtype=dtype), 0, channels)
        self.steps.append(Step(kind, to, sources, **rest))
        return to

    def _together(self, value: list[View]) -> View:
        """The value in one buffer, the same one each time."""
        if len(value) == 1:
            return value[0]
        parts = tuple(value)
        if parts not in self._joined:
            self._joined[parts] = self._moved(COPIES[value[0].dtype], value, value[0].dtype)
        return self._joined[parts]

    def _moved(self, kind: str, value: list[View], dtype: np.dtype[Any]) -> View:
        """What a step of this kind makes of each part of the value, in one buffer."""
        to, begin = Buffer(sum(v.channels for v in value), dtype=dtype), 0
        for view in value:
            self.steps.append(Step(kind, View(to, begin, view.channels), [view]))
            begin += view.channels
        return View(to, 0, to.channels)

    def _copied(self, view: View) -> View:
        return self._moved(COPIES[view.dtype], [view], view.dtype)

    def _maker(self, value: Value | None, kinds: Collection[str]) -> Step | None:
        """The step of one of these kinds that makes a value, if nothing else reads it: it may do more."""
        if not isinstance(value, list) or len(value) != 1 or value[0].buffer in self._shared:
            return None
        made = [step for step in self.steps if step.to.buffer is value[0].buffer]
        return made[0] if len(made) == 1 and made[0].kind in kinds and made[0].to == value[0] else None

    def _product(self, value: Value | None) -> Step | None:
        """The matrix product, of floats or of bytes, that makes a value."""
        return self._maker(value, PRODUCTS)

    def _is_given(self, buffer: Buffer) -> bool:
        """Whether it is an input of the graph in float32, or something in it is, copied or scaled: latents, then, of
        which most are 0."""
        if buffer.name:
            return buffer.dtype == FLOAT32
        made = [
            step for step in self.steps if step.to.buffer is buffer and step.kind in ("weigh", "copy_floats")
        ]
        return any(self._is_given(step.sources[0].buffer) for step in made)

    def _add_to(self, step: Step, view: View) -> None:
        step.added.append(view)
        self.steps.remove(step)  # it runs once both are there
        self.steps.append(step)

    def _same(self, names: list[str], attributes: dict[str, Any]) -> Value:
        return self._values[names[0]]

    def _transpose(self, names: list[str], attributes: dict[str, Any]) -> Value:
        value, perm = self._values[names[0]], attributes["perm"]
        if isinstance(value, Tiled) and perm == [0, 2, 1, 3]:
            return value
        if not isinstance(value, Tiled) and perm in ([0, 3, 1, 2], [0, 2, 3, 1]):
            return value  # channels are last here whatever the graph says
        if perm != [0, 2, 1, 3, 4]:
            raise Unsupported(f"Transpose {perm}")
        source = self._together(self._tensor(names[0]))  # the middle of a pixel shuffle, between two Reshapes
        return [self._step("shuffle", source.channels // 4, [source])]

    def _shape(self, names: list[str], attributes: dict[str, Any]) -> Value:
        return Shape((None,) * 4)

    def _reshape(self, names: list[str], attributes: dict[str, Any]) -> Value:
        value, shape = self._values[names[0]], self._values.get(names[1])
        if isinstance(value, Tiled):
            return self._untiled(value) if value.apart else self._tile(value)
        if isinstance(value, list) and isinstance(shape, Shape) and len(shape) == 4 and shape[0] is None:
            _, side, apart, _ = shape
            if side is not None:
                return Tiled(self._together(value), side, False)
            if apart is not None:
                return Tiled(self._together(value), apart, True)
        return value

    def _untiled(self, moved: Tiled) -> list[View]:
        """Channels (y, x, C) of a position as positions of a tile: rows of it lie behind each other."""
        view, side = moved.view, moved.side
        run = view.channels // side
        to = Buffer(run // side, dtype=view.dtype, whole=True)
        parts = [View(to, 0, run, side, row) for row in range(side)]
        product = self._product([view])
        if product is None or product.matrix is None:
            kind = COPIES[view.dtype]
            self.steps += [Step(kind, part, [view.part(i * run, run)]) for i, part in enumerate(parts)]
            return [View(to, 0, to.channels)]
        self.steps.remove(product)  # it writes each row of the tile where it belongs
        for i, part in enumerate(parts):
            matrix = product.matrix.columns(slice(i * run, (i + 1) * run))
            added = [view.part(i * run, run) for view in product.added]
            self.steps.append(replace(product, to=part, added=added, matrix=matrix))
        return [View(to, 0, to.channels)]

    def _tile(self, moved: Tiled) -> list[View]:
        """Positions of a tile as channels (y, x, C) of a position."""
        view, side = moved.view, moved.side
        rows = range(side)
        if view.side != 1:
            raise Unsupported("tiles of tiles")
        if view.all and view.buffer.pixel == view.channels * view.dtype.itemsize:
            view.buffer.whole = True  # so that a row of a tile is one run
            return [View(view.buffer, 0, side * view.channels, side, row) for row in rows]
        return [View(view.buffer, view.begin, view.channels, side, y, x) for y in rows for x in rows]

    def _mul(self, names: list[str], attributes: dict[str, Any]) -> Value:
        part = self._values.get(names[1])
        if not isinstance(part, Part):
            raise Unsupported("Mul of tensors")
        source = self._together(self._tensor(names[0]))
        if source.dtype != FLOAT32 or part.end - part.begin != source.channels:
            raise Unsupported("scales that are not one for each channel")
        return [self._step("weigh", source.channels, [source], arrays=_scale(source.channels), part=part)]

    def _concat(self, names: list[str], attributes: dict[str, Any]) -> Value:
        self._check_axis(names[0], attributes["axis"])
        return [view for name in names for view in self._tensor(name)]

    def _check_axis(self, name: str, axis: int) -> None:
        channels = 0 if name in self._flat else 1 if name in self._channels_first else 3
        if axis != channels:
            raise Unsupported("other axes than channels")

    def _slice(self, names: list[str], attributes: dict[str, Any]) -> Value:
        begin, end = (int(self._number(n)[0]) for n in names[1:3])
        value = self._values[names[0]]
        if isinstance(value, Part):
            return Part(value.name, value.begin + begin, value.begin + min(end, value.end - value.begin))
        self._check_axis(names[0], int(self._number(names[3])[0]))
        found, at = [], 0
        for view in self._tensor(names[0]):
            low, high = max(begin - at, 0), min(end - at, view.channels)
            if low < high:
                found.append(view.part(low, high - low))
            at += view.channels
        return found

    def _pad(self, names: list[str], attributes: dict[str, Any]) -> Value:
        ends, source = self._number(names[1]), self._together(self._tensor(names[0]))
        if np.count_nonzero(ends) > 1 or ends[5] < 0 or source.dtype != UINT8:
            raise Unsupported("padding of anything but channels")
        return [
            self._step("copy", source.channels + int(ends[5]), [source], zero=int(self._number(names[2])))
        ]

    def _clip(self, names: list[str], attributes: dict[str, Any]) -> Value:
        low, high = (float(self._number(n)) for n in names[1:3])
        if self._tensor(names[0])[0].dtype == FLOAT32:
            if (low, high) != BYTES:
                raise Unsupported("values clipped to anything but a byte's range")
            return Clipped(self._together(self._tensor(names[0])))
        maker = self._maker(self._values[names[0]], ("pointwise",))
        if maker is not None:
            maker.low, maker.high = max(maker.low, int(low)), min(maker.high, int(high))
            return self._tensor(names[0])
        source = self._source(names[0])
        return [self._step("clip", source.channels, [source], low=int(low), high=int(high))]

    def _cast(self, names: list[str], attributes: dict[str, Any]) -> Value:
        value, dtype = self._values[names[0]], DTYPES[attributes["to"]]
        if isinstance(value, Clipped) and dtype == UINT8:
            return [self._step("to_bytes", value.view.channels, [value.view])]
        if not isinstance(value, list) or dtype != FLOAT32 or any(v.dtype != UINT8 for v in value):
            raise Unsupported("a cast of anything but bytes")
        return [self._moved("to_floats", value, FLOAT32)]

    def _sum(self, names: list[str], attributes: dict[str, Any]) -> Value:
        """A bias, or a residual, of which one is a product or a convolution that nothing else reads."""
        for name in names:
            value = self._values.get(name)
            if isinstance(value, Convolved):
                self._values[name] = [self._widened(value)]
        for one, other in (names, names[::-1]):
            value, product = self._values.get(other), self._product(self._values.get(one))
            if product is not None and product.matrix is not None:
                if other in self._constants:
                    bias = product.matrix.bias + self._constants[other]
                    product.matrix = replace(product.matrix, bias=bias)
                    return self._tensor(one)
                if isinstance(value, list) and not product.added:
                    self._add_to(product, self._together(value))
                    return self._tensor(one)
        raise Unsupported("a sum without a product")

    def _widened(self, made: Convolved) -> View:
        """A convolution of uint8 whose results stay floats."""
        side = made.weights.shape[2]
        pads = made.attributes.get("pads", [0])
        if side != 1 or made.attributes["group"] != 1 or made.positive or any(pads):
            raise Unsupported("floats made of bytes by anything but a matrix product")
        bias = (made.bias * made.scale).astype(np.float32)
        return self._mixed_bytes(made.source, made.weights[:, :, 0, 0].T, made.scale, bias)

    def _mixed_bytes(
        self,
        source: Quantised,
        weights: NDArray[np.int8],
        scale: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> View:
        """A matrix product of bytes, (inputs, outputs), that makes floats.

        Args:
            scale: what a sum of products is multiplied with, (outputs,).
            bias: in floats, (outputs,).
        """
        inputs, outputs = weights.shape
        _check_weights(weights)
        if source.view.channels != inputs or self._exact:
            raise Unsupported(f"a product of {source.view.channels} bytes and a matrix of {inputs}")
        matrix = Matrix(weights, bias, (scale.astype(np.float32), source.zero))
        return self._step("pointwise_floats", outputs, [self._readable([source.view])], matrix=matrix)

    def _relu(self, names: list[str], attributes: dict[str, Any]) -> Value:
        value = self._values.get(names[0])
        if isinstance(value, Convolved):
            return replace(value, positive=True)
        product = self._product(self._values.get(names[0]))
        if product is None:
            raise Unsupported("a ReLU without a product")
        product.high = 1
        return self._tensor(names[0])

    def _matmul(self, names: list[str], attributes: dict[str, Any]) -> Value:
        source, weights = self._values[names[0]], self._values.get(names[1])
        if isinstance(source, Quantised) and isinstance(weights, Weights):
            scale, bias = weights.scale * source.scale, np.zeros(weights.integers.shape[1], np.float32)
            return [self._mixed_bytes(source, weights.integers, scale, bias)]
        matrix = self._number(names[1])
        return [self._mixed(self._tensor(names[0]), matrix, np.zeros(matrix.shape[1], np.float32))]

    def _mixed(self, value: list[View], matrix: NDArray[np.float32], bias: NDArray[np.float32]) -> View:
        """A matrix product, (inputs, outputs), and biases (outputs,)."""
        inputs, outputs = matrix.shape
        if sum(v.channels for v in value) != inputs or any(v.dtype != FLOAT32 for v in value):
            raise Unsupported("a product of anything but a matrix and floats")
        if inputs > MOST_INPUTS:
            raise Unsupported(f"a product of {inputs} inputs")
        if any(v.channels <= FEW for v in value):
            value = [self._together(value)]
        first, *others = value
        made = self._step("matmul", outputs, [first], matrix=Matrix(matrix[: first.channels], bias))
        begin, none = first.channels, np.zeros_like(bias)
        for view in others:
            rows = Matrix(matrix[begin : begin + view.channels], none)
            made = self._step("matmul", outputs, [view], added=[made], matrix=rows)
            begin += view.channels
        return made

    def _quantise(self, names: list[str], attributes: dict[str, Any]) -> Value:
        value, scale, zero = self._values[names[0]], self._number(names[1]), int(self._number(names[2]))
        if isinstance(value, Convolved):
            if value.positive and zero:
                raise Unsupported("a ReLU whose grid has negative values")
            zeros, per_step = (value.source.zero, zero), (value.scale / scale).astype(np.float32)
            given = [value.source.view]
            return self._convolve(given, value.weights, zeros, per_step, value.bias, None, value.attributes)
        source, part = self._unweighed(self._together(self._tensor(names[0])))
        arrays = _scale(source.channels, 1 / scale)
        return [self._step("quantise", source.channels, [source], zero=zero, arrays=arrays, part=part)]

    def _dequantise(self, names: list[str], attributes: dict[str, Any]) -> Value:
        scale, zero = self._number(names[1]), self._number(names[2])
        if names[0] in self._constants:
            if np.any(zero):
                raise Unsupported("weights with a zero point")
            return Weights(self._constants[names[0]], scale)
        return Quantised(self._together(self._tensor(names[0])), np.float32(scale), int(zero))

    def _convolution(self, names: list[str], attributes: dict[str, Any]) -> Value:
        """In float32, or between QuantizeLinear and DequantizeLinear."""
        source, weights, bias = self._values[names[0]], self._values.get(names[1]), self._values.get(names[2])
        if isinstance(source, Quantised) and isinstance(weights, Weights) and isinstance(bias, Weights):
            scale = weights.scale * source.scale
            if not np.allclose(bias.scale, scale):
                raise Unsupported("biases on a grid of their own")
            return Convolved(source, weights.integers, scale, bias.integers, attributes)
        matrix, offset = self._number(names[1]), self._number(names[2])
        outputs, inputs, side, _ = matrix.shape
        if side == 1 and attributes["group"] == 1:
            return [self._mixed(self._tensor(names[0]), matrix[:, :, 0, 0].T, offset)]
        value = self._tensor(names[0])
        if (
            side != 5
            or inputs != 1
            or attributes["group"] != outputs
            or attributes.get("pads") != [REACH] * 4
        ):
            raise Unsupported(f"convolution {matrix.shape}")
        view, part = self._unweighed(self._together(value))
        arrays = packed_filter(matrix[:, 0], offset)
        return [self._step("filter", outputs, [self._surrounded(view, 0)], arrays=arrays, part=part)]

    def _unweighed(self, view: View) -> tuple[View, Part | None]:
        """What a view is without its scales, and these, if nothing else reads it: who does can take them along."""
        maker = self._maker([view], ("weigh",))
        if maker is None:
            return view, None
        self.steps.remove(maker)
        return maker.sources[0], maker.part

    def _add(self, names: list[str], attributes: dict[str, Any]) -> Value:
        a, b = (self._source(names[i]) for i in (0, 3))
        scales, zeros = ({float(self._number(names[i + k])) for i in (0, 3, 5)} for k in (1, 2))
        if len(scales) > 1 or len(zeros) > 1 or a.channels != b.channels:
            raise Unsupported("a sum of different grids")
        zero = int(zeros.pop())
        if self._scaled_together(self._values.get(names[0]), self._values.get(names[3]), zero):
            return self._tensor(names[3])
        for one, other in ((0, b), (3, a)):
            maker = self._maker(self._values.get(names[one]), ADDING)
            clips = maker is not None and maker.kind == "pointwise" and (maker.low, maker.high) != BYTES
            if maker is not None and maker.zero == zero and len(maker.added) < ADDITIONS and not clips:
                self._add_to(maker, other)
                return self._tensor(names[one])
        return [self._step("add", a.channels, [a, b], zero=zero)]

    def _scaled_together(self, a: Value | None, b: Value | None, zero: int) -> bool:
        """Two tensors that are scaled, of which nothing but their sum is read: one step makes that of both."""
        first, second = (self._maker(value, ("scale",)) for value in (a, b))
        if first is None or second is None or first is second:
            return False
        for step in (first, second):
            if step.zero != zero or step.added or step.part is not None or len(step.sources) > 1:
                return False
        self.steps.remove(first)
        self.steps.remove(second)  # it runs once both sources are there
        second.sources += first.sources
        second.arrays = {
            name: np.concatenate([second.arrays[name], first.arrays[name]]) for name in second.arrays
        }
        self.steps.append(second)
        return True

    def _multiply(self, names: list[str], attributes: dict[str, Any]) -> Value:
        a, b = (self._source(names[i]) for i in (0, 3))
        sa, za, sb, zb, sy, zy = (float(self._number(names[i])) for i in (1, 2, 4, 5, 6, 7))
        if sa != 1 or sb != sy or zb != zy or a.channels != b.channels:
            raise Unsupported("a product that is no multiple of its second factor")
        return [self._step("multiply", a.channels, [a, b], zero=int(zb), low=int(za))]

    def _fixed_convolution(self, names: list[str], attributes: dict[str, Any]) -> Value:
        weights, (sx, sy) = self._number(names[3]), (self._number(names[i]) for i in (1, 6))
        zeros = int(self._number(names[2])), int(self._number(names[7]))
        scale = (sx * self._number(names[4]) / sy).astype(np.float32)
        part = self._values.get(names[8])
        part = part if isinstance(part, Part) else None
        bias = self._number(names[8]) if part is None else np.zeros(len(weights), np.int32)
        return self._convolve(self._tensor(names[0]), weights, zeros, scale, bias, part, attributes)

    def _convolve(
        self,
        value: list[View],
        weights: NDArray[np.int8],
        zeros: tuple[int, int],
        scale: NDArray[np.float32],
        bias: NDArray[np.int32],
        part: Part | None,
        attributes: dict[str, Any],
    ) -> Value:
        """A convolution of uint8; zeros: of what it reads and of what it makes."""
        zx, zy = zeros
        outputs, inputs, side, _ = weights.shape
        _check_weights(weights)
        if self._exact and (np.frexp(scale)[0] != 0.5).any():
            raise Unsupported("scales that are no powers of two")
        pads, channels = attributes.get("pads", [0] * 4), sum(v.channels for v in value)
        # sum of w (x - zero) + bias = sum of w x + (bias - zero * sum of w)
        bias = bias - zx * weights.astype(np.int32).sum((1, 2, 3), np.int32)
        if attributes["group"] == 1 and side == 1 and inputs == channels and not any(pads):
            kind, source = "pointwise", self._readable(value)
            packed = packed_pointwise(weights[:, :, 0, 0], self._grouped)
        elif attributes["group"] == outputs == channels and side == 1 and not any(pads):
            kind, source = "scale", self._readable(value)
            packed = {"weights": ordered(weights.ravel().astype(np.int16), np.arange(LANES))}
        elif attributes["group"] == outputs == channels and side == 5 and pads == [REACH] * 4:
            if np.abs(weights.astype(int)).sum((1, 2, 3)).max() > MAX_FILTER:
                raise Unsupported(f"a filter whose weights add up to more than {MAX_FILTER}")
            kind, source = "depthwise", self._surrounded(self._together(value), zx)
            packed = {"weights": packed_depthwise(weights[:, 0])}
        else:
            raise Unsupported(f"convolution {weights.shape} of {channels} channels, pads {pads}")
        arrays = packed | {"bias": ordered(bias, UNPACKED), "scale": ordered(scale, UNPACKED)}
        limits = dict(zip(("low", "high"), BYTES, strict=True)) if kind == "pointwise" else {}
        return [self._step(kind, outputs, [source], zero=zy, arrays=arrays, part=part, **limits)]

    def _source(self, name: str) -> View:
        return self._readable(self._tensor(name))

    def _readable(self, value: list[View]) -> View:
        """A value as one view whose channels can be read four at a time, which inputs need to have so many for."""
        view = self._together(value)
        return self._copied(view) if view.buffer.name and view.channels % 4 else view

    def _surrounded(self, view: View, zero: int) -> View:
        """The view as a buffer with `zero` around it."""
        if view.buffer.name or not view.all or view.buffer.halo not in (None, zero):
            view = self._copied(view)
        view.buffer.halo = zero
        return view

    def _finished(self, value: list[View]) -> Buffer:
        """The value in a buffer that is an output."""
        whole = value[0].buffer
        tight = (
            whole.whole or whole.dtype != UINT8 or whole.channels % 4 == 0
        )  # or `_readable` would be wrong
        fit = len(value) == 1 and value[0].all and tight
        if not fit or whole.name or whole.output or whole.halo is not None:
            whole = self._moved(COPIES[whole.dtype], value, whole.dtype).buffer
        whole.output = True
        return whole


def _check_weights(weights: NDArray[np.int8]) -> None:
    if np.abs(weights.astype(int)).max(initial=0) > MAX_WEIGHT:
        raise Unsupported(f"weights of more than {MAX_WEIGHT}")


def _scale(channels: int, scale: np.float32 | float = 1.0) -> dict[str, NDArray[Any]]:
    """The same scale for every channel, filled up to whole vectors."""
    full = np.zeros(-(-channels // LANES) * LANES, np.float32)
    full[:channels] = scale
    return {"scale": full}


TRANSLATIONS: Mapping[str, Callable[[Program, list[str], dict[str, Any]], Value]] = {
    "Add": Program._sum,
    "Cast": Program._cast,
    "Clip": Program._clip,
    "Concat": Program._concat,
    "Conv": Program._convolution,
    "DequantizeLinear": Program._dequantise,
    "Identity": Program._same,
    "MatMul": Program._matmul,
    "Mul": Program._mul,
    "Pad": Program._pad,
    "QLinearAdd": Program._add,
    "QLinearConv": Program._fixed_convolution,
    "QLinearMul": Program._multiply,
    "QuantizeLinear": Program._quantise,
    "Relu": Program._relu,
    "Reshape": Program._reshape,
    "Shape": Program._shape,
    "Slice": Program._slice,
    "Transpose": Program._transpose,
}
"""What each operation of a graph becomes; every one has one output."""
