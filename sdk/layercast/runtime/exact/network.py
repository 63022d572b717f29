"""Networks of the exact prior, as programs or as sessions of ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.errors import ModelError
from layercast.runtime.exact.compiled import DOT_PRODUCTS, INSTRUCTIONS
from layercast.runtime.exact.plan import Grid, Plan
from layercast.runtime.exact.program import Program, Unsupported
from layercast.runtime.session import Session, SessionOptions


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
        self.provider, self.reason = "compiled program", f"this processor has {instructions}"
        self._program = Program(model, instructions not in DOT_PRODUCTS)
        self._lock = threading.Lock()
        self._grids: dict[str, Grid] = {}
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
        grids: dict[str, Grid] = {name: array.shape[1:3] for name, array in given.items()}
        if self._program.takes_bias:
            given["bias"] = feeds["bias"]
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


def exact_network(model: bytes, name: str, options: SessionOptions) -> Session | ExactNetwork:
    """A network of the exact prior: compiled where that is possible and `options.optimise` is on, else a `Session`.

    Raises:
        ModelError: neither can load it.
    """
    reason = "nothing is compiled for this processor" if options.optimise else "optimisations are off"
    if INSTRUCTIONS and options.optimise:
        try:
            return ExactNetwork(model, name, options.thread_count, next(iter(INSTRUCTIONS)))
        except Unsupported as error:
            reason = str(error)
    session = Session(model, name, options)
    session.reason = reason
    return session
