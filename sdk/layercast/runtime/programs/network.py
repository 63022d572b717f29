"""Networks as programs, or as sessions of ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.errors import ModelError
from layercast.runtime.programs.compiled import DOT_PRODUCTS, INSTRUCTIONS
from layercast.runtime.programs.graph import Program, Unsupported
from layercast.runtime.programs.plan import Grid, Plan
from layercast.runtime.session import Session, SessionOptions, choose_provider


class ProgramNetwork:
    """A network as a program; stands in for a `Session`.

    Args:
        model: the ONNX file's bytes.
        name: for messages.
        threads: at most so many.
        instructions: one of INSTRUCTIONS.
        exact: whether it has to compute the same on every machine (see `Program`).

    Raises:
        Unsupported: the graph has something that a program cannot do.
    """

    def __init__(self, model: bytes, name: str, threads: int, instructions: str, exact: bool = True) -> None:
        self.name, self._threads, self._instructions = name, threads, INSTRUCTIONS[instructions]
        self.provider, self.reason = "compiled program", f"this processor has {instructions}"
        self._program = Program(model, instructions not in DOT_PRODUCTS, exact)
        self._names = set(self.inputs)
        self._lock = threading.Lock()
        self._grids: dict[str, Grid] = {}
        self._free: list[Plan] = []

    @property
    def inputs(self) -> list[str]:
        return [*self._program.inputs, *self._program.vectors]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; outputs by name, channels last.

        Raises:
            ModelError: the network refused its inputs or ran out of memory.
        """
        given: dict[str, NDArray[Any]] = {}
        if feeds.keys() != self._names:
            raise ModelError(f"network {self.name!r} takes {self.inputs}", hint="a layercast bug")
        for name, buffer in self._program.inputs.items():
            array = feeds[name]
            if not array.flags.c_contiguous:
                array = np.ascontiguousarray(array)
            shape = array.shape
            if array.dtype != buffer.dtype or len(shape) != 4 or shape[::3] != (1, buffer.channels):
                raise ModelError(
                    f"network {self.name!r}: input {name} is {array.dtype} {array.shape}, "
                    f"not {buffer.dtype} (1, H, W, {buffer.channels})",
                    hint="a layercast bug",
                )
            given[name] = array
        grids: dict[str, Grid] = {name: array.shape[1:3] for name, array in given.items()}
        for name, (dtype, size) in self._program.vectors.items():
            if feeds[name].dtype != dtype or feeds[name].shape != (size,):
                raise ModelError(
                    f"network {self.name!r}: input {name} is not {dtype} ({size},)", hint="a layercast bug"
                )
            given[name] = feeds[name]
        try:
            plan = self._take(grids)
            results = plan.run(given, self._threads, self._instructions)
        except MemoryError as error:
            raise ModelError(f"network {self.name!r}: no memory", hint="a smaller picture") from error
        with self._lock:
            if grids == self._grids:
                self._free.append(plan)
        return results

    def _take(self, grids: dict[str, Grid]) -> Plan:
        """A plan that nobody else uses; those of the last sizes are kept."""
        with self._lock:
            if grids != self._grids:
                self._grids, self._free = grids, []
            elif self._free:
                return self._free.pop()
        return Plan(self._program, self.name, grids)


def load_network(
    model: bytes, name: str, options: SessionOptions, exact: bool = True
) -> Session | ProgramNetwork:
    """A network: compiled where that is possible, `options.optimise` is on and the CPU is to run it, else a `Session`.

    Args:
        exact: whether it has to compute the same on every machine.

    Raises:
        ConfigError: no such execution provider.
        ModelError: neither can load it.
    """
    reason = "nothing is compiled for this processor" if options.optimise else "optimisations are off"
    provider, _ = choose_provider(options.provider)
    if INSTRUCTIONS and options.optimise and provider.startswith("CPU"):
        try:
            return ProgramNetwork(model, name, options.thread_count, next(iter(INSTRUCTIONS)), exact)
        except Unsupported as error:
            reason = str(error)
    session = Session(model, name, options)
    if provider.startswith("CPU"):
        session.reason = reason
    return session
