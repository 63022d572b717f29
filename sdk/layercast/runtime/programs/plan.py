"""A program laid out in memory, for inputs of certain sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.errors import ModelError
from layercast.runtime.programs.compiled import ARRAYS, KINDS, LANES, REACH, SLACK, SOURCES, compiled
from layercast.runtime.programs.graph import Program
from layercast.runtime.programs.packing import UNPACKED, aligned, ordered
from layercast.runtime.programs.parts import Buffer, Part, Step, View

Grid = tuple[int, int]
"""(height, width)."""


class Plan:
    """A program for inputs of certain sizes, with the memory that it needs; serves one call at a time.

    Raises:
        ModelError: the sizes do not fit each other.
    """

    def __init__(self, program: Program, name: str, grids: Mapping[str, Grid]) -> None:
        self.program = program
        self._kept: list[NDArray[Any]] = []
        """Memory that the table points to."""
        self._grid: dict[Buffer, Grid] = {b: grids[n] for n, b in program.inputs.items()}
        self._tiled: set[Buffer] = set()
        """Of which a row of a step is not a row."""
        self.stages, self.needs, used_in = self._staged(name)
        self._addresses: dict[Buffer, tuple[int, int, int]] = {
            b: (0, 0, grid[1] * b.pixel) for b, grid in self._grid.items() if b.name
        }
        """Of row 0 (or its place in scratch memory), whether it is in scratch memory, bytes between rows."""
        self.scratch = self._place(used_in)
        self._results = [self._result(*output) for output in program.outputs.items()]
        self._brought = self._of_a_call()
        """Which of a call's arrays a buffer lies in, inputs before outputs, and bytes from that one's start."""
        moving: list[tuple[int, int, int]] = []
        """Where in the table an address goes that only a call knows, counted from its start; which array; bytes from
        that one's start."""
        self._parts: list[tuple[Part, NDArray[np.int64], NDArray[Any], NDArray[Any]]] = []
        """Parts of a call's vectors, their order, what they add to or multiply, and where the results go."""
        self._given: dict[str, bytes] = {}
        """The last call's vectors."""
        self.table = np.zeros((len(program.steps), compiled.OPERATION), np.int64)
        for number, step in enumerate(program.steps):
            moving += self._describe(number, step)
        self.moving = np.array(moving, np.int64)

    def _grid_of(self, view: View) -> Grid:
        h, w = self._grid[view.buffer]
        if h % view.side or w % view.side:
            raise ModelError(f"{h}x{w} is no multiple of {view.side}", hint="a layercast bug")
        return h // view.side, w // view.side

    def _staged(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[Buffer, set[int]]]:
        """(first step, end, rows, first need, end) of each stage, the needs (see `native/operation.h`), and the stages
        that write or read each buffer that is computed.

        A stage ends where the grid changes, and before what reads other rows than its own of what the stage computes.
        """
        stages: list[list[int]] = []
        used_in: dict[Buffer, set[int]] = {}
        made_in: dict[Buffer, set[int]] = {}
        needs: list[dict[int, int]] = []  # of each stage: how far it reaches into which earlier ones
        made: set[Buffer] = set()  # in the present stage
        current: Grid | None = None
        for number, step in enumerate(self.program.steps):
            given = {self._grid_of(v) for v in step.reads}
            if len(given) > 1:
                raise ModelError(
                    f"network {name!r}: inputs of sizes {sorted(given)} meet", hint="a layercast bug"
                )
            (grid,) = given
            if step.kind == "shuffle":
                grid = 2 * grid[0], 2 * grid[1]
            filters = step.kind in ("depthwise", "filter")
            if grid != current or (filters and step.sources[0].buffer in made):
                stages.append([number, number, grid[0]])
                needs.append({})
                current, made = grid, set()
            stages[-1][1] = number + 1
            for view in step.reads:
                for stage in made_in.get(view.buffer, set()) - {len(stages) - 1}:
                    needs[-1][stage] = max(needs[-1].get(stage, 0), REACH if filters else 0)
            self._grid[step.to.buffer] = step.to.side * grid[0], step.to.side * grid[1]
            made.add(step.to.buffer)
            made_in.setdefault(step.to.buffer, set()).add(len(stages) - 1)
            for view in (step.to, *step.reads):
                if view.side > 1:
                    self._tiled.add(view.buffer)
                if not view.buffer.name:
                    used_in.setdefault(view.buffer, set()).add(len(stages) - 1)
        arrays = len(self.program.inputs) + len(self.program.outputs)
        if len(stages) > compiled.MAX_STAGES or arrays > compiled.MAX_ARRAYS:
            size = f"{len(stages)} stages, {arrays} inputs and outputs"
            raise ModelError(f"network {name!r} has {size}", hint="a layercast bug")
        ends = np.cumsum([0, *(len(n) for n in needs)])
        rows = [[*stage, ends[i], ends[i + 1]] for i, stage in enumerate(stages)]
        flat = [pair for of_stage in needs for pair in of_stage.items()]
        return np.array(rows, np.int64), np.array(flat, np.int64).reshape(-1, 2), used_in

    def _place(self, used_in: Mapping[Buffer, set[int]]) -> int:
        """Give every buffer that is computed its memory; returns the bytes of scratch memory that a thread needs."""
        scratch = [0] * len(self.stages)
        for buffer, used in used_in.items():
            h, w = self._grid[buffer]
            if buffer.output:  # a call brings its memory
                self._addresses[buffer] = 0, 0, w * buffer.pixel
            elif buffer.halo is None and len(used) == 1 and buffer not in self._tiled:
                (stage,) = used
                self._addresses[buffer] = scratch[stage], 1, 0
                scratch[stage] += -(-(w * buffer.pixel + SLACK) // SLACK) * SLACK
            else:
                edge = 0 if buffer.halo is None else REACH
                row = (w + 2 * edge) * buffer.pixel
                memory = np.full((h + 2 * edge) * row + SLACK, buffer.halo or 0, np.uint8)
                self._kept.append(memory)
                self._addresses[buffer] = memory.ctypes.data + edge * (row + buffer.pixel), 0, row
        return max(scratch)

    def _result(self, name: str, parts: list[Buffer]) -> tuple[str, int, np.dtype[Any], tuple[int, ...]]:
        """An output's name, its bytes, its type, its shape."""
        counts = [math.prod(self._grid[b]) * b.channels for b in parts]
        dtype = parts[0].dtype
        shape = (sum(counts),) if name in self.program.flat else (1, *self._grid[parts[0]], parts[0].channels)
        return name, sum(counts) * dtype.itemsize, dtype, shape

    def _of_a_call(self) -> dict[Buffer, tuple[int, int]]:
        found = {buffer: (number, 0) for number, buffer in enumerate(self.program.inputs.values())}
        for number, parts in enumerate(self.program.outputs.values(), len(found)):
            begin = 0
            for buffer in parts:
                found[buffer] = number, begin
                begin += math.prod(self._grid[buffer]) * buffer.channels * buffer.dtype.itemsize
        return found

    def _describe(self, number: int, step: Step) -> list[tuple[int, int, int]]:
        """Write a step into the table; returns what a call brings of it."""
        row, moving = self.table[number], []
        arrays = dict(step.arrays)
        if step.part is not None:
            changing, lanes = self._changing(step, arrays)
            fixed = arrays[changing]
            arrays[changing] = aligned(fixed)
            order = np.where(lanes > step.part.end - step.part.begin, 0, lanes)  # 0: nothing is given there
            self._parts.append((step.part, order, fixed, arrays[changing]))
        self._kept += arrays.values()
        addresses = [arrays[n].ctypes.data if n in arrays else 0 for n in ARRAYS]
        columns = self._grid_of(step.sources[0])[1]
        head = (
            KINDS.index(step.kind),
            columns,
            *addresses,
            step.zero,
            step.low,
            step.high,
            len(step.added),
        )
        row[: len(head)] = head
        places = [0, *range(1, 1 + len(step.sources)), *range(1 + SOURCES, 1 + SOURCES + len(step.added))]
        for i, view in zip(places, (step.to, *step.reads), strict=True):
            base, scratch, stride = self._addresses[view.buffer]
            pixel = view.buffer.pixel
            begin = view.row * stride + view.column * pixel + view.begin * view.dtype.itemsize
            at = len(head) + 5 * i
            row[at : at + 5] = base + begin, scratch, view.side * stride, view.side * pixel, view.channels
            if view.buffer in self._brought:
                array, offset = self._brought[view.buffer]
                moving.append((number * compiled.OPERATION + at, array, offset + begin))
        return moving

    def _changing(self, step: Step, arrays: Mapping[str, NDArray[Any]]) -> tuple[str, NDArray[np.int64]]:
        """Which array a part of a call's vector changes, and the channel of each of its numbers, from 1 on."""
        if step.kind == "filter":
            weights = arrays["weights"]
            channels = np.arange(1, len(weights) * weights.shape[3] + 1).reshape(len(weights), 1, 1, -1)
            return "weights", np.broadcast_to(channels, weights.shape)
        name = "bias" if step.part is not None and step.part.name == "bias" else "scale"
        order = UNPACKED if name == "bias" else np.arange(LANES)
        return name, ordered(np.arange(1, len(arrays[name]) + 1), order)

    def run(
        self, feeds: Mapping[str, NDArray[Any]], threads: int, instructions: int
    ) -> dict[str, NDArray[Any]]:
        """Outputs by name; feeds: contiguous, of the plan's sizes."""
        arrays = [feeds[name] for name in self.program.inputs]
        results = {}
        for name, size, dtype, shape in self._results:
            arrays.append(np.empty(size + SLACK, np.uint8))
            results[name] = np.ndarray(shape, dtype, arrays[-1])
        # NumPy takes several times as long to compare two short arrays.
        now = {n: feeds[n].tobytes() for n in self.program.vectors}
        changed = {n for n, given in now.items() if given != self._given.get(n)}
        for part, order, fixed, target in self._parts:
            if part.name in changed:
                given = np.concatenate([[0], feeds[part.name][part.begin : part.end]], dtype=fixed.dtype)
                combine = np.add if part.name == "bias" else np.multiply
                combine(fixed, given[order], out=target)
        self._given = now
        brought = (self.moving, arrays)
        compiled.run(self.stages, self.needs, self.table, *brought, self.scratch, threads, instructions)
        return results
