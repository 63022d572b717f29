"""Programs of fixed-point operations: any graph of that kind, any caller, and what happens where there are none."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import onnx
import pytest
from models.export.reference import evaluate
from onnx import TensorProto, helper, numpy_helper
from tests.callers import wrong_of_callers
from tests.runtime.graphs import ALL, GraphBuilder, filters

from layercast.errors import ModelError
from layercast.runtime import SessionOptions
from layercast.runtime.programs import (
    INSTRUCTIONS,
    ProgramNetwork,
    Unsupported,
    load_network,
    network,
    packing,
)
from layercast.runtime.programs.compiled import LANES
from layercast.runtime.programs.compiled import compiled as extension
from layercast.runtime.programs.graph import Program
from layercast.runtime.programs.packing import PASSES, grouped_steps
from layercast.runtime.programs.plan import Plan
from layercast.runtime.session import Session

compiled = pytest.mark.skipif(not INSTRUCTIONS, reason="no compiled kernel for this processor")


class Builder(GraphBuilder):
    """A graph of QLinearConv and the like; tensors are uint8 with zero point 128."""

    def __init__(self, seed: int = 3) -> None:
        super().__init__(seed)

    def input(self, name: str, channels: int) -> str:
        self.declare_input(name, channels, TensorProto.UINT8)
        return self.op("Transpose", name, perm=[0, 3, 1, 2])

    def output(self, value: str, name: str) -> None:
        self.nodes.append(helper.make_node("Transpose", [value], [name], perm=[0, 2, 3, 1]))
        self.declare_output(name, TensorProto.UINT8)

    def grid(self) -> tuple[str, str]:
        return self.constant(np.array(1 / 16, np.float32)), self.constant(np.array(128, np.uint8))

    def convolution(self, x: str, weights: np.ndarray, shift: int = 10, groups: int = 1) -> str:
        n, side = len(weights), weights.shape[-1]
        scale = np.full(n, 2.0**-shift, np.float32)
        bias = self.rng.integers(-4000, 4000, n).astype(np.int32)
        names = [self.constant(a) for a in (weights.astype(np.int8), scale, np.zeros(n, np.int8))]
        return self.op(
            "QLinearConv",
            x,
            *self.grid(),
            *names,
            *self.grid(),
            self.constant(bias),
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
            group=groups,
        )

    def add(self, a: str, b: str) -> str:
        return self.op("QLinearAdd", a, *self.grid(), b, *self.grid(), *self.grid())


def block(channels: int, outputs: int, extreme: bool = False) -> onnx.ModelProto:
    """A filter, a mixing of it with its input, and a sum."""
    b = Builder()

    def weights(*shape: int) -> np.ndarray:
        if extreme:  # whatever four of them are summed in int16 passes its end
            return 64 * b.rng.choice([-1, 1], shape)
        return np.rint(np.clip(b.rng.normal(0, 14, shape), -64, 64))

    x = b.input("x", channels)
    filtered = b.convolution(x, filters(b.rng, channels, extreme), 7, channels)
    mixed = b.convolution(b.op("Concat", filtered, x, axis=1), weights(outputs, 2 * channels, 1, 1))
    again = b.convolution(x, weights(outputs, channels, 1, 1))
    b.output(b.add(mixed, again), "y")
    return b.made()


def picture(channels: int, h: int, w: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).integers(0, 256, (1, h, w, channels)).astype(np.uint8)}


@compiled
@ALL
@pytest.mark.parametrize("channels", [4, 16, 44, 108])
def test_two_tensors_that_are_scaled_and_added_are_one_step(channels: int, instructions: str) -> None:
    """Both are clipped before they are added, and so is the sum, before what is added to that."""
    b = Builder()
    x, more = b.input("x", channels), b.input("more", channels)
    one, two = (
        b.convolution(v, b.rng.integers(-60, 60, (channels, 1, 1, 1)), 4, channels) for v in (x, more)
    )
    b.output(b.add(b.add(one, two), more), "y")
    model = b.made()
    network = ProgramNetwork(model.SerializeToString(), "scaled", 2, instructions)
    assert [s.kind for s in network._program.steps if s.kind != "copy"] == ["scale"]
    feeds = picture(channels, 5, 7) | {"more": picture(channels, 5, 7, 1)["x"]}
    np.testing.assert_array_equal(network.run(feeds)["y"], evaluate(model, feeds)["y"])


@compiled
@ALL
@pytest.mark.parametrize("also_read", [False, True])
def test_a_clip_is_part_of_the_convolution_before_it(also_read: bool, instructions: str) -> None:
    """Where nothing else reads what is not clipped; what is added to it afterwards is not clipped with it."""
    b = Builder()
    x = b.input("x", 20)
    mixed = b.convolution(x, b.rng.integers(-60, 61, (20, 20, 1, 1)), 7)
    ends = (b.constant(np.array(end, np.uint8)) for end in (100, 163))
    clipped = b.op("Clip", mixed, *ends)
    b.output(b.add(clipped, mixed if also_read else x), "y")
    model = b.made()
    network = ProgramNetwork(model.SerializeToString(), "clip", 2, instructions)
    assert ("clip" in [s.kind for s in network._program.steps]) == also_read
    for h, w in ((1, 1), (3, 7)):
        feeds = picture(20, h, w)
        np.testing.assert_array_equal(network.run(feeds)["y"], evaluate(model, feeds)["y"])


@compiled
@ALL
@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("channels", "outputs"), [(4, 4), (12, 36), (30, 57), (57, 30), (108, 108)])
def test_any_number_of_channels(channels: int, outputs: int, extreme: bool, instructions: str) -> None:
    model = block(channels, outputs, extreme)
    network = ProgramNetwork(model.SerializeToString(), "block", 2, instructions)
    for h, w in ((1, 1), (2, 7), (9, 4)):
        for feeds in (picture(channels, h, w), {"x": np.full((1, h, w, channels), 255, np.uint8)}):
            np.testing.assert_array_equal(network.run(feeds)["y"], evaluate(model, feeds)["y"])


@compiled
@ALL
def test_filters_after_filters_with_any_number_of_threads(instructions: str) -> None:
    """Every row needs rows of others on both sides, which may be another thread's."""
    b = Builder()
    x = first = b.input("x", 4)
    for _ in range(5):
        filtered = b.convolution(x, filters(b.rng, 4), 6, 4)
        x = b.add(x, b.convolution(filtered, b.rng.integers(-60, 61, (4, 4, 1, 1)), 7))
    b.output(b.add(x, first), "y")
    model = b.made()
    for threads in (1, 2, 3, 5, 40):
        network = ProgramNetwork(model.SerializeToString(), "chain", threads, instructions)
        for h in (1, 3, 8, 37):
            feeds = picture(4, h, 5, seed=h)
            expected = evaluate(model, feeds)["y"]
            for _ in range(3):
                np.testing.assert_array_equal(network.run(feeds)["y"], expected)


@compiled
@ALL
@pytest.mark.parametrize("channels", [4, 12, 30, 108])
def test_sums_that_a_convolution_or_a_product_takes_along(channels: int, instructions: str) -> None:
    """Each is clipped by itself, in the order of the graph."""
    b = Builder()
    x, more = b.input("x", channels), b.input("more", channels)
    mixed = [b.convolution(x, b.rng.integers(-60, 61, (channels, channels, 1, 1)), 6) for _ in range(3)]
    scaled = b.convolution(more, b.rng.integers(-60, 60, (channels, 1, 1, 1)), 5, channels)
    b.output(b.add(b.add(b.add(mixed[0], mixed[1]), b.add(scaled, more)), mixed[2]), "y")
    model = b.made()
    network = ProgramNetwork(model.SerializeToString(), "sums", 2, instructions)
    assert [s.kind for s in network._program.steps].count("add") < 2
    for h, w in ((1, 1), (3, 7)):
        feeds = picture(channels, h, w) | {"more": picture(channels, h, w, 1)["x"]}
        expected = evaluate(model, feeds)["y"]
        assert 0 in expected or expected.size < 100
        np.testing.assert_array_equal(network.run(feeds)["y"], expected)


@compiled
@ALL
@pytest.mark.parametrize("sizes", PASSES, ids=str)
def test_every_kind_of_pass(
    sizes: tuple[int, ...], instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights so small that any groups do."""
    ends = np.cumsum(sizes)
    groups = [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    monkeypatch.setattr(packing, "grouped_steps", lambda block: groups[::-1])
    b = Builder()
    channels = 4 * int(ends[-1])
    b.output(b.convolution(b.input("x", channels), b.rng.integers(-5, 6, (20, channels, 1, 1)), 6), "y")
    model = b.made()
    network = ProgramNetwork(model.SerializeToString(), "pass", 1, instructions)
    feeds = picture(channels, 2, 101)
    np.testing.assert_array_equal(network.run(feeds)["y"], evaluate(model, feeds)["y"])


def test_groups_hold_every_step_once_and_never_saturate() -> None:
    rng = np.random.default_rng(5)
    for spread in (3, 12, 60):
        weights = np.clip(np.rint(rng.normal(0, spread, (61, LANES, 4))), -64, 64).astype(np.int8)
        groups = grouped_steps(weights)
        assert sorted(s for g in groups for s in g) == list(range(61))
        assert max(map(len, groups)) <= 6
        pairs = weights.astype(int).reshape(61, -1, 2)
        for group in groups:
            for worst in (np.maximum(pairs[group], 0), np.maximum(-pairs[group], 0)):
                assert 255 * worst.sum((0, 2)).max() < 2**15
    assert [len(g) for g in grouped_steps(np.full((8, LANES, 4), 9, np.int8))] == [6, 2]


@compiled
@ALL
def test_biases_that_a_call_gives(instructions: str) -> None:
    b = Builder()
    x = b.input("x", 20)
    b.inputs.append(helper.make_tensor_value_info("bias", TensorProto.INT32, [60]))
    for name, n, begin, groups in (("y", 36, 0, 1), ("z", 20, 36, 20)):
        ends = [b.constant(np.array([at], np.int64)) for at in (begin, begin + n)]
        given = b.op("Slice", "bias", *ends)
        weights = b.rng.integers(-20, 21, (n, 20, 1, 1)) if groups == 1 else filters(b.rng, n)
        made = b.convolution(x, weights, groups=groups)
        b.nodes[-1].input[8] = given
        b.output(made, name)
    model = b.made()
    network = ProgramNetwork(model.SerializeToString(), "biases", 1, instructions)
    session = Session(model.SerializeToString(), "biases", SessionOptions("CPU", optimise=False))
    for seed in range(3):
        feeds = picture(20, 5, 4, seed)
        feeds["bias"] = np.random.default_rng(seed).integers(-60000, 60000, 60).astype(np.int32)
        for name, expected in session.run(feeds).items():
            np.testing.assert_array_equal(network.run(feeds)[name], expected)


@compiled
def test_many_callers_at_once_get_what_one_alone_gets() -> None:
    model = block(48, 40).SerializeToString()
    network = ProgramNetwork(model, "block", 2, next(iter(INSTRUCTIONS)))
    sizes = [(8, 9), (8, 9), (3, 30), (17, 2)]
    feeds = [picture(48, h, w, seed) for seed, (h, w) in enumerate(sizes)]
    expected = [network.run(f)["y"] for f in feeds]

    def right(i: int) -> bool:
        return np.array_equal(network.run(feeds[i])["y"], expected[i])

    assert wrong_of_callers(right, range(len(feeds)), 30) == []


def _child(model: bytes, connection) -> None:
    network = ProgramNetwork(model, "block", 2, next(iter(INSTRUCTIONS)))
    connection.send(network.run(picture(48, 8, 9))["y"].tobytes())


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_helpers_of_its_own() -> None:
    model = block(48, 40).SerializeToString()
    expected = (
        ProgramNetwork(model, "block", 2, next(iter(INSTRUCTIONS))).run(picture(48, 8, 9))["y"].tobytes()
    )
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(model, there))
    child.start()
    assert here.poll(30)
    assert here.recv() == expected
    child.join(30)
    assert child.exitcode == 0


@compiled
def test_inputs_that_do_not_fit_are_refused() -> None:
    network = ProgramNetwork(block(12, 8).SerializeToString(), "block", 1, next(iter(INSTRUCTIONS)))
    good = picture(12, 3, 3)["x"]
    for feeds in ({}, {"z": good}, {"x": good[..., :11]}, {"x": good[0]}, {"x": good.astype(np.int16)}):
        with pytest.raises(ModelError, match="block"):
            network.run(feeds)
    assert network.run({"x": good[:, :, ::-1]})["y"].shape == (1, 3, 3, 8)  # need not be contiguous


@compiled
def test_addresses_outside_a_calls_arrays_are_refused() -> None:
    assert extension is not None
    program = Program(block(8, 8).SerializeToString(), grouped=True, exact=True)
    plan, instructions = Plan(program, "block", {"x": (3, 4)}), next(iter(INSTRUCTIONS.values()))
    arrays = [picture(8, 3, 4)["x"], np.empty(1024, np.uint8)]
    for number, wrong in enumerate((-1, plan.table.size, -1, len(arrays), -1, 2000)):
        moving = plan.moving.copy()
        moving[0, number // 2] = wrong
        with pytest.raises(ValueError, match="outside its array"):
            extension.run(plan.stages, plan.needs, plan.table, moving, arrays, plan.scratch, 1, instructions)


@compiled
def test_inputs_of_sizes_that_do_not_meet_are_refused() -> None:
    b = Builder()
    b.output(b.add(b.input("x", 8), b.input("z", 8)), "y")
    network = ProgramNetwork(b.made().SerializeToString(), "sum", 1, next(iter(INSTRUCTIONS)))
    a, c = picture(8, 3, 3)["x"], picture(8, 3, 4)["x"]
    with pytest.raises(ModelError, match="sizes"):
        network.run({"x": a, "z": c})


@compiled
def test_a_graph_that_no_program_can_do_runs_in_onnx_runtime() -> None:
    wide = block(8, 8)
    tensor = next(t for t in wide.graph.initializer if numpy_helper.to_array(t).shape == (8, 16, 1, 1))
    tensor.CopyFrom(numpy_helper.from_array(np.full((8, 16, 1, 1), 127, np.int8), tensor.name))
    flat = block(8, 8)
    tensor = next(t for t in flat.graph.initializer if numpy_helper.to_array(t).shape == (8, 1, 5, 5))
    weights = np.full((8, 1, 5, 5), 5, np.int8)
    weights[3, 0, 0, :4] += 1  # one more than 128 in all
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    other = Builder()
    other.output(other.op("MaxPool", other.input("x", 8), kernel_shape=[1, 1]), "y")
    for model in (m.SerializeToString() for m in (wide, flat, other.made())):
        with pytest.raises(Unsupported):
            ProgramNetwork(model, "g", 1, next(iter(INSTRUCTIONS)))
        assert isinstance(load_network(model, "g", SessionOptions("CPU")), Session)
    with pytest.raises(ModelError):
        load_network(b"\xff no graph", "g", SessionOptions("CPU"))


def test_onnx_runtime_where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    model = block(8, 8)
    monkeypatch.setattr(network, "INSTRUCTIONS", {})
    made = load_network(model.SerializeToString(), "block", SessionOptions("CPU"))
    assert isinstance(made, Session)
    feeds = picture(8, 4, 5)
    np.testing.assert_array_equal(made.run(feeds)["y"], evaluate(model, feeds)["y"])


@compiled
def test_a_program_unless_optimisations_are_off() -> None:
    model = block(8, 8).SerializeToString()
    assert isinstance(load_network(model, "block", SessionOptions("CPU")), ProgramNetwork)
    assert isinstance(load_network(model, "block", SessionOptions("CPU", optimise=False)), Session)
