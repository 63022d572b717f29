"""ONNX graphs made by hand, for the tests of programs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from layercast.runtime.programs import INSTRUCTIONS
from layercast.runtime.programs.compiled import MAX_FILTER

ALL = pytest.mark.parametrize("instructions", list(INSTRUCTIONS) or ["none"])
"""Every set of instructions that programs can use here."""

MICROSOFT = ("QLinearAdd", "QLinearMul")
"""Operations of ONNX Runtime's own domain."""


def filters(rng: np.random.Generator, channels: int, extreme: bool = False) -> np.ndarray:
    """Weights (channels, 1, 5, 5) of a sum of products that int16 holds; extreme: as large as there may be."""
    if extreme:  # of one sign in every second channel
        sizes = rng.multinomial(MAX_FILTER, np.full(25, 1 / 25), channels)
        signs = np.where(np.arange(channels)[:, None] % 2, rng.choice([-1, 1], (channels, 25)), 1)
        return (sizes * signs * rng.choice([-1, 1], (channels, 1))).reshape(channels, 1, 5, 5)
    weights = rng.normal(0, 1, (channels, 1, 5, 5))
    return np.rint(weights * (MAX_FILTER - 13) / np.abs(weights).sum((2, 3), keepdims=True))


class GraphBuilder:
    """Collects a graph's nodes; values are names."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def constant(self, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, f"k{len(self.constants)}"))
        return self.constants[-1].name

    def op(self, kind: str, *names: str, **attributes: object) -> str:
        out = f"n{len(self.nodes)}"
        domain = "com.microsoft" if kind in MICROSOFT else ""
        self.nodes.append(helper.make_node(kind, list(names), [out], domain=domain, **attributes))
        return out

    def declare_input(self, name: str, channels: int, kind: int) -> None:
        """(1, H, W, channels), channels last."""
        shape = [1, f"{name}_h", f"{name}_w", channels]
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))

    def declare_output(self, name: str, kind: int) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, [f"{name}{i}" for i in range(4)]))

    def made(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = 8
        return model
