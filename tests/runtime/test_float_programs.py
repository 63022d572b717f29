"""Programs of float32 and of int8 between floats: what ONNX Runtime computes, for any sizes and channels."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.runtime.graphs import ALL, GraphBuilder, filters

from layercast.errors import ModelError
from layercast.runtime import SessionOptions
from layercast.runtime.programs import INSTRUCTIONS, ProgramNetwork, Unsupported, load_network
from layercast.runtime.session import Session

pytestmark = pytest.mark.skipif(not INSTRUCTIONS, reason="no compiled kernel for this processor")


class Builder(GraphBuilder):
    """A graph of float32 operations, channels last."""

    def __init__(self, seed: int = 5) -> None:
        super().__init__(seed)

    def input(self, name: str, channels: int, kind: int = TensorProto.FLOAT) -> str:
        self.declare_input(name, channels, kind)
        return name

    def vector(self, name: str, size: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]))
        return name

    def output(self, value: str, name: str, kind: int = TensorProto.FLOAT) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.declare_output(name, kind)

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.normal(0, 0.3, shape).astype(np.float32)

    def matmul(self, x: str, inputs: int, outputs: int, bias: bool = True) -> str:
        y = self.op("MatMul", x, self.constant(self.weights(inputs, outputs)))
        return self.op("Add", y, self.constant(self.weights(outputs))) if bias else y

    def part(self, x: str, begin: int, end: int, axis: int = 3) -> str:
        ends = [self.constant(np.array([v], np.int64)) for v in (begin, end, axis)]
        return self.op("Slice", x, *ends)

    def size(self, x: str, axis: int, times: int = 1, over: int = 1) -> str:
        shape = self.op("Shape", x)
        n = self.op("Gather", shape, self.constant(np.array(axis, np.int64)))
        n = self.op("Div", self.op("Mul", n, self.number(times)), self.number(over))
        return self.op("Unsqueeze", n, self.constant(np.array([0], np.int64)))

    def number(self, value: int) -> str:
        return self.constant(np.array(value, np.int64))

    def shaped(self, x: str, *sizes: str | int) -> str:
        names = [s if isinstance(s, str) else self.constant(np.array([s], np.int64)) for s in sizes]
        return self.op("Reshape", x, self.op("Concat", *names, axis=0))

    def spread(self, x: str, side: int, channels: int, at: str) -> str:
        h, w = self.size(at, 1), self.size(at, 2)
        moved = self.op("Transpose", self.shaped(x, h, w, side, side * channels), perm=[0, 2, 1, 3])
        return self.shaped(moved, 1, self.size(at, 1, side), self.size(at, 2, side), channels)

    def gather(self, x: str, side: int, channels: int) -> str:
        h, w = self.size(x, 1, 1, side), self.size(x, 2, 1, side)
        moved = self.op("Transpose", self.shaped(x, h, side, w, side * channels), perm=[0, 2, 1, 3])
        return self.shaped(moved, 1, h, w, side * side * channels)

    def convolution(self, x: str, weights: np.ndarray, groups: int = 1) -> str:
        """Of a value (1, C, H, W)."""
        side = weights.shape[-1]
        names = self.constant(weights), self.constant(self.weights(len(weights)))
        return self.op("Conv", x, *names, kernel_shape=[side] * 2, pads=[side // 2] * 4, group=groups)

    def quantised(self, x: str, scale: float, zero: int) -> str:
        grid = self.constant(np.array(scale, np.float32)), self.constant(np.array(zero, np.uint8))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *grid), *grid)

    def int8_convolution(self, x: str, scale: float, weights: np.ndarray, groups: int = 1) -> str:
        n, side = len(weights), weights.shape[-1]
        scales = (np.abs(self.rng.normal(1, 0.1, n)) / 200).astype(np.float32)
        zeros = self.constant(np.zeros(n, np.int8))
        w = self.op(
            "DequantizeLinear",
            self.constant(weights.astype(np.int8)),
            self.constant(scales),
            zeros,
            axis=0,
        )
        bias = self.rng.integers(-3000, 3000, n).astype(np.int32)
        grid = (
            self.constant((scales * np.float32(scale)).astype(np.float32)),
            self.constant(np.zeros(n, np.int32)),
        )
        b = self.op("DequantizeLinear", self.constant(bias), *grid, axis=0)
        return self.op("Conv", x, w, b, kernel_shape=[side] * 2, pads=[side // 2] * 4, group=groups)

    def int8_matmul(self, x: str, scale: float, inputs: int, outputs: int) -> str:
        """Of a value on a grid of this scale."""
        weights = self.rng.integers(-63, 64, (inputs, outputs)).astype(np.int8)
        scales = (np.abs(self.rng.normal(1, 0.1, outputs)) / 200).astype(np.float32)
        grid = self.constant(scales), self.constant(np.zeros(outputs, np.int8))
        w = self.op("DequantizeLinear", self.constant(weights), *grid, axis=1)
        return self.op("Add", self.op("MatMul", x, w), self.constant(self.weights(outputs)))

    def model(self) -> bytes:
        data: bytes = self.made().SerializeToString()
        return data


def floats(h: int, w: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, h, w, channels)).astype(np.float32)


def compare(
    model: bytes, feeds: dict[str, np.ndarray], instructions: str, atol: float | None = None, threads: int = 2
) -> None:
    """A program with ONNX Runtime; atol: 0.0005 of the largest value where it is not given."""
    network = ProgramNetwork(model, "g", threads, instructions, exact=False)
    expected = Session(model, "g", SessionOptions("CPU", optimise=False)).run(feeds)
    for _ in range(2):  # a plan that is kept has to be as good
        found = network.run(feeds)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].dtype == value.dtype
            close = 5e-4 * np.abs(value).max() if atol is None else atol
            np.testing.assert_allclose(
                found[name].astype(float), value.astype(float), rtol=1e-4, atol=close, err_msg=name
            )


@ALL
@pytest.mark.parametrize("channels", [1, 3, 8, 13, 16, 31, 48])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 12)])
def test_products_sums_and_filters(channels: int, size: tuple[int, int], instructions: str) -> None:
    b = Builder()
    x = b.input("x", channels)
    y = b.matmul(x, channels, channels)
    first = b.op("Transpose", y, perm=[0, 3, 1, 2])
    z = b.convolution(first, b.weights(channels, 1, 5, 5), channels)
    z = b.op("Relu", b.convolution(z, b.weights(2 * channels, channels, 1, 1)))
    z = b.convolution(z, b.weights(channels, 2 * channels, 1, 1))
    b.output(b.op("Add", y, b.op("Transpose", z, perm=[0, 2, 3, 1])), "out")
    b.output(b.matmul(y, channels, 5, bias=False), "five")
    for threads in (1, 3):
        compare(b.model(), {"x": floats(*size, channels)}, instructions, threads=threads)


@ALL
@pytest.mark.parametrize(("side", "channels"), [(2, 3), (2, 8), (4, 3), (4, 5)])
def test_tiles_become_positions_and_back(side: int, channels: int, instructions: str) -> None:
    b = Builder()
    x = b.input("x", 7)
    wide = b.spread(b.matmul(x, 7, side * side * channels), side, channels, "x")
    b.output(b.op("Add", b.matmul(wide, channels, channels, bias=False), wide), "wide")
    back = b.gather(wide, side, channels)
    b.output(b.matmul(back, side * side * channels, 6), "back")
    scaled = b.op("Mul", b.op("Identity", wide), b.vector("scales", channels))
    b.output(scaled, "scaled")
    feeds = {"x": floats(3, 5, 7), "scales": np.linspace(-1, 2, channels).astype(np.float32)}
    compare(b.model(), feeds, instructions)


@ALL
@pytest.mark.parametrize("inputs", [1, 2, 15, 40, 111, 288, 1000, 4096])
def test_products_in_int16_lose_next_to_nothing(inputs: int, instructions: str) -> None:
    """What rounding adds is far below what there is: 10 dB less far for ten times as many inputs."""
    b = Builder()
    weights = b.rng.normal(size=(inputs, 29)).astype(np.float32)
    b.output(b.op("MatMul", b.input("x", inputs), b.constant(weights)), "y")
    x = floats(2, 17, inputs) * np.linspace(0.2, 1, inputs, dtype=np.float32)
    for size in (1, 1e-6, 1e9):
        given = (x * size).astype(np.float32)
        found = ProgramNetwork(b.model(), "g", 1, instructions, exact=False).run({"x": given})["y"]
        expected = given.astype(np.float64) @ weights
        error = np.square(found - expected).mean() / np.square(expected).mean()
        assert 10 * np.log10(error) < -93 + 10 * np.log10(inputs)


@ALL
@pytest.mark.parametrize("channels", [3, 16, 40, 111])
@pytest.mark.parametrize("zeros", [0.5, 0.95, 1.0])
def test_inputs_that_are_zero_are_left_out(channels: int, zeros: float, instructions: str) -> None:
    """As they come, scaled, and beside others; the same numbers as if nobody had looked."""
    b = Builder()
    x, more = b.input("x", channels), b.op("Relu", b.matmul(b.input("more", 2), 2, 5))
    wide = b.matmul(b.op("Mul", x, b.vector("scales", channels)), channels, 48)
    b.output(b.op("Add", wide, b.matmul(x, channels, 48)), "wide")
    b.output(b.matmul(b.op("Concat", x, more, axis=3), channels + 5, 40), "beside")
    given = floats(3, 29, channels)
    given[b.rng.random(given.shape) < zeros] = 0
    feeds = {"x": given, "more": floats(3, 29, 2), "scales": np.linspace(1, 2, channels).astype(np.float32)}
    compare(b.model(), feeds, instructions)
    network = ProgramNetwork(b.model(), "g", 1, instructions, exact=False)
    found = network.run(feeds)
    listed = [step for step in network._program.steps if step.kind == "matmul" and step.zero]
    assert {step.sources[0].channels for step in listed} == {2, channels, channels + 5}
    for step in listed:
        step.zero = 0
    network._free.clear()
    for name, value in network.run(feeds).items():
        np.testing.assert_array_equal(value, found[name])


@ALL
@pytest.mark.parametrize("inputs", [2, 40, 4096])
def test_sums_of_products_in_int16_never_overflow(inputs: int, instructions: str) -> None:
    """Where all inputs are as large as can be, all weights too, and none takes away from another."""
    b = Builder()
    signs = np.where(b.rng.random((inputs, 16)) < 0.5, -1, 1).astype(np.float32)
    signs[:, :8] = 1
    b.output(b.op("MatMul", b.input("x", inputs), b.constant(signs * np.float32(3e20))), "y")
    network = ProgramNetwork(b.model(), "g", 1, instructions, exact=False)
    x = np.concatenate([np.ones((1, inputs)), -np.ones((1, inputs)), signs[:, 8:].T]) * 5e10
    found = network.run({"x": x.astype(np.float32).reshape(1, 1, -1, inputs)})["y"][0, 0]
    expected = x @ signs.astype(np.float64) * 3e20
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@ALL
def test_a_product_of_zeros_is_the_bias(instructions: str) -> None:
    b = Builder()
    weights, bias = b.weights(20, 9), b.weights(9)
    weights[:, 4] = 0
    product = b.op("MatMul", b.input("x", 20), b.constant(weights))
    b.output(b.op("Add", product, b.constant(bias)), "y")
    network = ProgramNetwork(b.model(), "g", 1, instructions, exact=False)
    found = network.run({"x": np.zeros((1, 2, 3, 20), np.float32)})["y"]
    np.testing.assert_array_equal(found, np.broadcast_to(bias, found.shape))
    np.testing.assert_array_equal(network.run({"x": floats(2, 3, 20)})["y"][..., 4], bias[4])


def test_products_of_more_inputs_than_there_is_room_for() -> None:
    b = Builder()
    b.output(b.op("MatMul", b.input("x", 4097), b.constant(b.weights(4097, 2))), "y")
    with pytest.raises(Unsupported, match="4097"):
        ProgramNetwork(b.model(), "g", 1, next(iter(INSTRUCTIONS)), exact=False)


@ALL
def test_what_is_spread_need_not_be_a_product(instructions: str) -> None:
    b = Builder()
    scaled = b.op("Mul", b.input("x", 12), b.vector("scales", 12))
    b.output(b.matmul(b.spread(scaled, 2, 3, "x"), 3, 3), "y")
    compare(b.model(), {"x": floats(3, 4, 12), "scales": np.ones(12, np.float32)}, instructions)


@ALL
def test_a_picture_in_and_a_picture_out(instructions: str) -> None:
    b = Builder()
    image = b.input("image", 3, TensorProto.UINT8)
    x = b.op("Cast", b.gather(image, 4, 3), to=TensorProto.FLOAT)
    y = b.op("Clip", b.matmul(x, 48, 48), b.constant(np.float32(0)), b.constant(np.float32(255)))
    tiles = b.op("Cast", y, to=TensorProto.UINT8)
    h, w = b.size(image, 1, 1, 4), b.size(image, 2, 1, 4)
    moved = b.op("Transpose", b.shaped(tiles, h, w, 4, 12), perm=[0, 2, 1, 3])
    b.output(b.shaped(moved, 1, b.size(image, 1), b.size(image, 2), 3), "painted", TensorProto.UINT8)
    feeds = {"image": np.random.default_rng(2).integers(0, 256, (1, 8, 20, 3)).astype(np.uint8)}
    compare(b.model(), feeds, instructions, atol=1)  # a sum just above a level, or just below
    found = ProgramNetwork(b.model(), "g", 1, instructions, exact=False).run(feeds)["painted"]
    assert found.min() == 0  # the products are far outside a byte's range
    assert found.max() == 255


@ALL
@pytest.mark.parametrize("channels", [4, 12, 20, 48])
@pytest.mark.parametrize("scaled", [True, False])
def test_int8_between_floats(channels: int, scaled: bool, instructions: str) -> None:
    b = Builder()
    x = b.input("x", channels)
    y = b.op("Mul", x, b.vector("scales", channels)) if scaled else x
    y = b.quantised(b.op("Transpose", y, perm=[0, 3, 1, 2]), 0.05, 130)
    y = b.int8_convolution(y, 0.05, filters(b.rng, channels), channels)
    y = b.quantised(y, 0.04, 120)
    y = b.int8_convolution(y, 0.04, b.rng.integers(-63, 64, (2 * channels, channels, 1, 1)))
    y = b.quantised(b.op("Relu", y), 0.03, 0)
    y = b.int8_convolution(y, 0.03, b.rng.integers(-63, 64, (channels, 2 * channels, 1, 1)))
    y = b.op("Transpose", y, perm=[0, 2, 3, 1])
    b.output(b.op("Add", x, y), "y")
    feeds = {"x": floats(4, 9, channels)}
    if scaled:
        feeds["scales"] = np.linspace(0.5, 2, channels).astype(np.float32)
    compare(b.model(), feeds, instructions, atol=0.1001)  # one level, where a rounding differs
    network = ProgramNetwork(b.model(), "g", 1, instructions, exact=False)
    expected = Session(b.model(), "g", SessionOptions("CPU")).run(feeds)["y"]
    assert np.mean(np.abs(network.run(feeds)["y"] - expected) > 1e-4) < 0.02


@ALL
@pytest.mark.parametrize("channels", [1, 5, 8, 13, 16, 40])
def test_int8_products_make_floats(channels: int, instructions: str) -> None:
    """Alone, with a ReLU, and spread over tiles that are added to others."""
    b = Builder()
    x, more = b.input("x", channels), b.input("more", channels)
    scales = b.vector("scales", channels)
    y = b.quantised(x, 0.05, 130)
    b.output(b.int8_matmul(y, 0.05, channels, 7), "alone")
    b.output(b.op("Relu", b.int8_matmul(y, 0.05, channels, 2 * channels)), "positive")
    spread = b.spread(b.int8_matmul(y, 0.05, channels, 4 * channels), 2, channels, x)
    b.output(b.op("Add", b.matmul(b.op("Mul", more, scales), channels, channels), spread), "spread")
    feeds = {"x": floats(3, 7, channels), "more": floats(6, 14, channels, 1)}
    feeds["scales"] = np.linspace(0.5, 2, channels).astype(np.float32)
    compare(b.model(), feeds, instructions)


@ALL
def test_values_outside_every_range(instructions: str) -> None:
    b = Builder()
    x = b.input("x", 8)
    y = b.quantised(b.op("Transpose", x, perm=[0, 3, 1, 2]), 0.05, 128)
    y = b.int8_convolution(y, 0.05, b.rng.integers(-63, 64, (8, 8, 1, 1)))
    b.output(b.op("Add", x, b.op("Transpose", y, perm=[0, 2, 3, 1])), "y")
    feeds = {"x": np.array([-1e30, 1e30, -1e9, 1e9, 1e5, -1e5, 0, 7], np.float32).reshape(1, 1, 1, 8)}
    found = ProgramNetwork(b.model(), "g", 1, instructions, exact=False).run(feeds)["y"]
    expected = Session(b.model(), "g", SessionOptions("CPU")).run(feeds)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0.0501)


def test_inputs_of_another_type_are_refused() -> None:
    b = Builder()
    b.output(b.matmul(b.op("Mul", b.input("x", 8), b.vector("scales", 8)), 8, 8), "y")
    network = ProgramNetwork(b.model(), "net", 1, next(iter(INSTRUCTIONS)), exact=False)
    good = {"x": floats(2, 2, 8), "scales": np.ones(8, np.float32)}
    assert network.run(good)["y"].shape == (1, 2, 2, 8)
    for wrong in (
        {"x": good["x"].astype(np.float64)},
        {"x": good["x"].astype(np.uint8)},
        {"scales": np.ones(8)},
        {"scales": np.ones(7, np.float32)},
    ):
        with pytest.raises(ModelError, match="net"):
            network.run(good | wrong)


def test_what_no_program_can_do_runs_in_onnx_runtime() -> None:
    def pooled(b: Builder, x: str) -> str:
        return b.op("Sigmoid", x)

    def summed(b: Builder, x: str) -> str:
        return b.op("Add", x, x)

    def sliced(b: Builder, x: str) -> str:
        return b.part(x, 0, 1, axis=1)

    def clipped(b: Builder, x: str) -> str:
        return b.op("Clip", x, b.constant(np.float32(0)), b.constant(np.float32(6)))

    for make in (pooled, summed, sliced, clipped):
        b = Builder()
        b.output(make(b, b.input("x", 8)), "y")
        with pytest.raises(Unsupported):
            ProgramNetwork(b.model(), "g", 1, next(iter(INSTRUCTIONS)), exact=False)
        made = load_network(b.model(), "g", SessionOptions("CPU"), exact=False)
        assert isinstance(made, Session)
        assert made.run({"x": floats(2, 2, 8)})["y"].size


def test_floats_are_not_exact() -> None:
    b = Builder()
    y = b.quantised(b.op("Transpose", b.input("x", 8), perm=[0, 3, 1, 2]), 0.05, 128)
    y = b.quantised(b.int8_convolution(y, 0.05, b.rng.integers(-63, 64, (8, 8, 1, 1))), 0.05, 128)
    b.output(b.op("Transpose", y, perm=[0, 2, 3, 1]), "y")
    with pytest.raises(Unsupported, match="powers of two"):
        ProgramNetwork(b.model(), "g", 1, next(iter(INSTRUCTIONS)))
