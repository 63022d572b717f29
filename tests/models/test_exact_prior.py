"""The prior's integers are the same on every machine: ONNX Runtime and programs against int64, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from models.export.reference import evaluate

from layercast.codecs.hierarchical.model import DEFAULT_ENTRY, prior_networks
from layercast.runtime.programs import INSTRUCTIONS, ProgramNetwork

ZOO = resources.files("layercast.zoo") / DEFAULT_ENTRY
CONFIG = json.loads((ZOO / "manifest.json").read_bytes())["config"]
PRIOR_NETWORKS = prior_networks(len(CONFIG["groups"]), CONFIG["follow"])
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
SIZES = ((1, 1), (3, 2), (2, 5))
KINDS = ("random", "all zero", "all max")

Arrays = dict[str, np.ndarray]


def stride(name: str) -> int:
    """How often a tensor of this name is sampled per sample of stride 32."""
    return 1 if "32" in name else 2 if "16" in name else 4


def feeds(model: onnx.ModelProto, size: tuple[int, int], kind: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    out: dict[str, np.ndarray] = {}
    biases = np.load(str(ZOO / "tables.npz"), allow_pickle=False)
    for value in model.graph.input:
        if value.name == "bias":
            out["bias"] = biases[f"bias_{model.graph.name}"][200]
            continue
        channels = value.type.tensor_type.shape.dim[3].dim_value
        shape = (1, size[0] * stride(value.name), size[1] * stride(value.name), channels)
        limit = 3 if value.name[0] in "ug" else 256  # u and g hold 0, 1, 2
        if kind == "random":
            out[value.name] = rng.integers(0, limit, shape).astype(np.uint8)
        elif kind == "all zero":
            out[value.name] = np.zeros(shape, np.uint8)
        else:
            out[value.name] = np.full(shape, limit - 1, np.uint8)
    return out


def cases(data: bytes, kind: str) -> Iterator[tuple[tuple[int, int], Arrays, Arrays]]:
    """Sizes, inputs of a kind, and the outputs that int64 arithmetic gives for them."""
    model = onnx.load_from_string(data)
    for size in SIZES if kind == "random" else SIZES[1:2]:
        inputs = feeds(model, size, kind)
        expected = evaluate(model, inputs)
        assert expected.pop("largest") < 2**24
        yield size, inputs, expected


@pytest.mark.parametrize("name", PRIOR_NETWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runtime_gives_the_integers_of_int64(name: str, kind: str) -> None:
    data = (ZOO / f"{name}.onnx").read_bytes()
    for size, inputs, expected in cases(data, kind):
        for level in LEVELS:
            for threads in (1, 2):
                options = ort.SessionOptions()
                options.intra_op_num_threads = threads
                options.log_severity_level = 3
                options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
                session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
                names = [o.name for o in session.get_outputs()]
                for output, value in zip(names, session.run(names, inputs), strict=True):
                    np.testing.assert_array_equal(
                        value, expected[output], f"{output} {level} {threads} {size}"
                    )


@pytest.mark.skipif(not INSTRUCTIONS, reason="no compiled kernel for this processor")
@pytest.mark.parametrize("name", PRIOR_NETWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_programs_give_the_integers_of_int64(name: str, kind: str) -> None:
    data = (ZOO / f"{name}.onnx").read_bytes()
    for size, inputs, expected in cases(data, kind):
        for instructions in INSTRUCTIONS:
            for threads in (1, 2, 3):
                network = ProgramNetwork(data, name, threads, instructions)
                for _ in range(2):  # in new memory, and in what the first run left
                    found = network.run(inputs)
                    assert found.keys() == expected.keys()
                    for output, value in found.items():
                        np.testing.assert_array_equal(
                            value, expected[output], f"{output} {instructions} {threads} {size}"
                        )


@pytest.mark.parametrize("name", PRIOR_NETWORKS)
def test_no_pair_of_products_can_saturate_sixteen_bits(name: str) -> None:
    model = onnx.load_from_string((ZOO / f"{name}.onnx").read_bytes())
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QLinearConv":
            assert np.abs(arrays[node.input[3]].astype(int)).max() * 255 * 2 < 2**15


def test_a_changed_weight_is_seen() -> None:
    """The comparison can fail: one weight off by one changes the reference's integers."""
    model = onnx.load_from_string((ZOO / "base16.onnx").read_bytes())
    inputs = feeds(model, (3, 2), "random")
    before = evaluate(model, inputs)
    weights = next(n.input[3] for n in model.graph.node if n.op_type == "QLinearConv")
    tensor = next(t for t in model.graph.initializer if t.name == weights)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[:, 0] += 8
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, weights))
    after = evaluate(model, inputs)
    assert any((before[name] != after[name]).any() for name in before if name != "largest")
