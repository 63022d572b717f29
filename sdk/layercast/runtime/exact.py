"""The exact prior's networks, compiled: the same integers as ONNX Runtime's in about 0.7 of its time on AVX2.

`ExactNetwork` turns an ONNX graph of fixed-point layers (QLinearConv with power-of-two scales, sums, a few moves) into
a program for `_exact`. What ONNX Runtime does operation by operation over whole tensors, the program does row by row:
all operations up to the next 5x5 filter, which has to see its neighbours, form a stage; what lies between them never
leaves the cache, and threads share the stage's rows.

`exact_network` gives such a network where the processor has the instructions for it, else ONNX Runtime's.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from layercast.errors import ModelError
from layercast.runtime.onnx_file import array, read_graph
from layercast.runtime.session import Session, SessionOptions

_compiled: Any = None
if not os.environ.get("LAYERCAST_PURE"):
    with contextlib.suppress(ImportError):  # where there was no compiler when layercast was installed
        _compiled = importlib.import_module("layercast.runtime._exact")

INSTRUCTIONS: Mapping[str, int] = _compiled.SETS if _compiled else {}
"""Sets of instructions that this processor has, the quickest first."""

DOT_PRODUCTS = ("avx512vnni",)
"""Sets that sum products in int32 at once; the others are quicker when some are summed in int16 first."""

KINDS = ("pointwise", "depthwise", "scale", "add", "multiply", "clip", "copy", "shuffle")
"""Operations, in the order of `native/operation.h`."""

ARRAYS = ("weights", "bias", "scale", "steps", "groups")

LANES = 16
REACH = 2
"""Of a 5x5 filter, on each side."""

SLACK = 64
"""Bytes behind a tensor that may be read, though nothing depends on them."""

UNPACKED = np.r_[0:4, 8:12, 4:8, 12:16]
"""Order of 16 channels in which `depthwise_tile` computes."""

MAX_WEIGHT = 64

Grid = tuple[int, int]


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


def packed_pointwise(weights: NDArray[np.int8], grouped: bool) -> dict[str, NDArray[Any]]:
    """(outputs, inputs) weights as `native/pointwise.h` reads them, with its steps and groups."""
    full = np.pad(weights, ((0, -len(weights) % LANES), (0, -weights.shape[1] % 4)))
    blocks = full.reshape(len(full) // LANES, LANES, -1, 4).transpose(0, 2, 1, 3)
    none = np.zeros_like(blocks[0, :1])
    packed, steps, counts = [], [], []
    for block in blocks:
        groups = grouped_steps(block) if grouped else [[step] for step in range(len(block))]
        counts.append([sum(len(g) == size for g in groups) for size in (4, 2, 1)])
        order = [step for group in groups for step in group]
        packed.append(np.concatenate([block, none])[order])
        steps.append([max(4 * step, 0) for step in order])
    return {
        "weights": np.concatenate(packed),
        "steps": np.concatenate(steps).astype(np.int32),
        "groups": np.array(counts, np.int32),
    }


def grouped_steps(block: NDArray[np.int8]) -> list[list[int]]:
    """Groups of 4, 2 and 1 steps whose products two by two sum to less than 2**15; -1 is a step of zeros.

    Args:
        block: (steps, LANES, 4) weights; inputs are 0..255.
    """
    pairs = block.astype(np.int64).reshape(len(block), -1, 2)
    reach = 255 * np.concatenate([np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2)], 1)
    open_groups: list[tuple[list[int], NDArray[np.int64]]] = []
    for step in np.argsort(-reach.max(1), kind="stable").tolist():
        for members, total in open_groups:
            if len(members) < 4 and (total + reach[step]).max() < 2**15:
                members.append(step)
                total += reach[step]
                break
        else:
            open_groups.append(([step], reach[step].copy()))
    groups = [members + [-1] * (len(members) == 3) for members, _ in open_groups]
    return sorted(groups, key=len, reverse=True)


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


class Plan:
    """A program for inputs of certain sizes, with the memory that it needs; serves one call at a time.

    Raises:
        ModelError: the sizes do not fit each other.
    """

    def __init__(self, program: Program, name: str, grids: Mapping[str, Grid]) -> None:
        self.program = program
        self._kept: list[NDArray[Any]] = []
        self._grid: dict[Buffer, Grid] = {b: grids[n] for n, b in program.inputs.items()}
        made: dict[Buffer, int] = {}
        read: dict[Buffer, set[int]] = {}
        stages: list[list[int]] = []
        current: Grid | None = None
        for number, step in enumerate(program.steps):
            given = {self._grid[v.buffer] for v in step.sources}
            if len(given) > 1:
                raise ModelError(
                    f"network {name!r}: inputs of sizes {sorted(given)} meet", hint="a layercast bug"
                )
            (grid,) = given
            if step.kind == "shuffle":
                grid = 2 * grid[0], 2 * grid[1]
            beyond = (
                step.kind in ("depthwise", "shuffle") and made.get(step.sources[0].buffer) == len(stages) - 1
            )
            if grid != current or beyond:
                stages.append([number, number, grid[0]])
                current = grid
            stages[-1][1] = number + 1
            self._grid[step.to.buffer] = grid
            made[step.to.buffer] = len(stages) - 1
            for view in step.sources:
                read.setdefault(view.buffer, set()).add(len(stages) - 1)
        self.stages = np.array(stages, np.int64)
        if len(stages) > _compiled.MAX_STAGES:
            raise Unsupported(f"{len(stages)} stages")
        self._addresses: dict[Buffer, tuple[int, int, int]] = {}
        self.scratch = 0
        used = [0] * len(stages)
        for buffer, stage in made.items():
            h, w = self._grid[buffer]
            if buffer.output:
                self._addresses[buffer] = 0, 0, w * buffer.pixel
            elif buffer.halo is None and read.get(buffer, set()) <= {stage}:
                self._addresses[buffer] = used[stage], 1, 0
                used[stage] += -(-(w * buffer.pixel + SLACK) // SLACK) * SLACK
            else:
                edge = 0 if buffer.halo is None else REACH
                row = (w + 2 * edge) * buffer.pixel
                memory = np.full((h + 2 * edge) * row + SLACK, buffer.halo or 0, np.uint8)
                self._kept.append(memory)
                self._addresses[buffer] = memory.ctypes.data + edge * (row + buffer.pixel), 0, row
        for buffer in program.inputs.values():
            self._addresses[buffer] = 0, 0, self._grid[buffer][1] * buffer.pixel
        self.scratch = max(used)
        self._moving: list[tuple[int, int, Buffer, int]] = []
        """Where in the table what is known at a call only goes: row, column, buffer, bytes from its start."""
        self._biases: list[tuple[Bias, NDArray[np.int32], NDArray[np.int32]]] = []
        self.table = np.zeros((len(program.steps), _compiled.OPERATION), np.int64)
        for number, step in enumerate(program.steps):
            self._describe(number, step)
        self._results = [self._result(*output) for output in program.outputs.items()]

    def _result(
        self, name: str, parts: list[Buffer]
    ) -> tuple[str, list[tuple[Buffer, int]], int, tuple[int, ...]]:
        """An output's name, its parts with their bytes, its size, its shape."""
        lengths = [math.prod(self._grid[b]) * b.channels for b in parts]
        shape = (
            (sum(lengths),) if name in self.program.flat else (1, *self._grid[parts[0]], parts[0].channels)
        )
        return name, list(zip(parts, lengths, strict=True)), sum(lengths), shape

    def _describe(self, number: int, step: Step) -> None:
        row = self.table[number]
        arrays = dict(step.arrays)
        if step.bias is not None:
            arrays["bias"] = arrays["bias"].copy()
            self._biases.append((step.bias, step.arrays["bias"], arrays["bias"]))
        self._kept += arrays.values()
        addresses = [arrays[n].ctypes.data if n in arrays else 0 for n in ARRAYS]
        columns = self._grid[(step.sources[0] if step.kind == "shuffle" else step.to).buffer][1]
        head = (
            KINDS.index(step.kind),
            columns,
            len(step.sources),
            *addresses,
            step.zero,
            step.low,
            step.high,
        )
        row[: len(head)] = head
        for i, view in enumerate((step.to, *step.sources)):
            base, scratch, stride = self._addresses[view.buffer]
            at = len(head) + 5 * i
            row[at : at + 5] = base + view.begin, scratch, stride, view.buffer.pixel, view.channels
            if view.buffer.name or view.buffer.output:
                self._moving.append((number, at, view.buffer, view.begin))

    def run(
        self, feeds: Mapping[str, NDArray[Any]], threads: int, instructions: int
    ) -> dict[str, NDArray[Any]]:
        """Outputs by name; feeds: contiguous, of the plan's sizes."""
        starts = {b: feeds[n].ctypes.data for n, b in self.program.inputs.items()}
        results = {}
        for name, parts, size, shape in self._results:
            memory = np.empty(size + SLACK, np.uint8)
            at = memory.ctypes.data
            for buffer, length in parts:
                starts[buffer] = at
                at += length
            results[name] = memory[:size].reshape(shape)
        for row, column, buffer, begin in self._moving:
            self.table[row, column] = starts[buffer] + begin
        for part, fixed, target in self._biases:
            target[:] = fixed
            target[: part.end - part.begin] += feeds["bias"][part.begin : part.end]
        _compiled.run(self.stages, self.table, self.scratch, threads, instructions)
        return results


class ExactNetwork:
    """A network of the exact prior as a program; stands in for a `Session`.

    Args:
        model: the ONNX file's bytes.
        name: for messages.
        threads: at most so many.
        instructions: one of INSTRUCTIONS.

    Raises:
        Unsupported: the graph has something that a program cannot do.
    """

    def __init__(self, model: bytes, name: str, threads: int, instructions: str) -> None:
        self.name, self._threads, self._instructions = name, threads, INSTRUCTIONS[instructions]
        self._program = Program(model, instructions not in DOT_PRODUCTS)
        self._lock = threading.Lock()
        self._size: tuple[Grid, ...] = ()
        self._free: list[Plan] = []

    @property
    def inputs(self) -> list[str]:
        return [*self._program.inputs, *(["bias"] if self._program.takes_bias else [])]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; outputs by name, uint8, channels last.

        Raises:
            ModelError: the network refused its inputs or ran out of memory.
        """
        given: dict[str, NDArray[Any]] = {}
        if set(feeds) != set(self.inputs):
            raise ModelError(f"network {self.name!r} takes {self.inputs}", hint="a layercast bug")
        for name, buffer in self._program.inputs.items():
            array = np.ascontiguousarray(feeds[name])
            if (
                array.dtype != np.uint8
                or array.ndim != 4
                or array.shape[0] != 1
                or array.shape[3] != buffer.channels
            ):
                raise ModelError(
                    f"network {self.name!r}: input {name} is {array.dtype} {array.shape}, "
                    f"not uint8 (1, H, W, {buffer.channels})",
                    hint="a layercast bug",
                )
            given[name] = array
        if self._program.takes_bias:
            given["bias"] = feeds["bias"]
        size = tuple((a.shape[1], a.shape[2]) for n, a in given.items() if n != "bias")
        try:
            plan = self._take(size, given)
            results = plan.run(given, self._threads, self._instructions)
        except MemoryError as error:
            raise ModelError(f"network {self.name!r}: no memory", hint="a smaller picture") from error
        with self._lock:
            if size == self._size:
                self._free.append(plan)
        return results

    def _take(self, size: tuple[Grid, ...], given: Mapping[str, NDArray[Any]]) -> Plan:
        """A plan that nobody else uses; those of the last size are kept."""
        with self._lock:
            if size != self._size:
                self._size, self._free = size, []
            elif self._free:
                return self._free.pop()
        return Plan(
            self._program, self.name, {n: (a.shape[1], a.shape[2]) for n, a in given.items() if n != "bias"}
        )


def exact_network(model: bytes, name: str, options: SessionOptions) -> Session | ExactNetwork:
    """A network of the exact prior: compiled where that is possible and `options.optimise` is on, else a `Session`.

    Raises:
        ModelError: neither can load it.
    """
    if INSTRUCTIONS and options.optimise:
        with contextlib.suppress(Unsupported):
            return ExactNetwork(model, name, options.thread_count, next(iter(INSTRUCTIONS)))
    return Session(model, name, options)
