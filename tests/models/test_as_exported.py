"""What is exported computes what was trained, and the runtime takes it so."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from models.export.reference import evaluate
from models.hierarchical import config
from tests.models.small import SMALL

from layercast.codecs.hierarchical.kernels import ROW_MIRROR, base_keys, contexts, mirror
from layercast.codecs.hierarchical.model import surprises
from layercast.codecs.hierarchical.walk import COARSE_MEANS, OFFSETS
from layercast.entropy import CdfTables

# `make test` goes without it; .ci/run has a step that installs it
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs PyTorch: pip install torch==2.13.0", allow_module_level=True)

import torch
from models.export.export import base_rows
from models.export.graph import Graph, Value
from models.export.prior import PlaneGraphs, quality_basis
from models.export.prior import head as export_head
from models.hierarchical.fixed import (
    HIDDEN,
    STREAM,
    FixedBlock,
    FixedConv,
    integers,
    set_exact,
)
from models.hierarchical.prior import SCALE, Head, Known, Level, PlanePrior, Trits, surprise

torch.set_num_threads(1)  # the tensors are tiny


def channels_first(x: np.ndarray) -> torch.Tensor:
    """What a graph's signed input (1, H, W, C) is in training."""
    return torch.from_numpy(x.astype(np.float32) - 128).permute(0, 3, 1, 2) / 16


def test_exported_integers_are_what_training_saw() -> None:
    torch.manual_seed(1)
    basis = torch.rand(256, 6)
    first, block = FixedConv(20, 12, STREAM, STREAM, knots=6), FixedBlock(12, 24)
    last = FixedConv(12, 5, STREAM, HIDDEN)
    with torch.no_grad():
        for p in (*first.parameters(), *block.parameters(), *last.parameters()):
            p.mul_(2.0)
    set_exact(torch.nn.ModuleList([first, block, last]), True)
    g = Graph("test", basis)
    y = g.layer(last, g.block(block, g.layer(first, g.input("x", 20, STREAM))))
    g.output(y, "y")
    x = np.random.default_rng(2).integers(0, 256, (1, 7, 5, 20)).astype(np.uint8)
    exported = evaluate(g.model(), {"x": x, "bias": g.bias_table()[99]})["y"]
    with torch.no_grad():
        trained = last(block(first(channels_first(x), basis[99:100]))).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(exported, torch.round(trained * 32).numpy().astype(int))


def test_an_accumulator_that_could_leave_2_24_is_never_exported() -> None:
    conv = FixedConv(4, 2, STREAM, STREAM)
    with torch.no_grad():
        conv.conv.bias.fill_(1e9)
    with pytest.raises(ValueError, match=r"2\*\*24"):
        integers(conv, torch.zeros(256, 6))


def test_bounds_hold_for_any_weights() -> None:
    torch.manual_seed(4)
    for scale in (1e-6, 0.1, 3.0, 400.0):
        conv = FixedConv(300, 8, STREAM, STREAM)
        with torch.no_grad():
            conv.conv.weight.copy_(torch.randn_like(conv.conv.weight) * scale)
        found = integers(conv, torch.zeros(256, 6))
        assert found.bound.max() < 2**24
        assert np.abs(found.weight).max() <= 64


@pytest.mark.parametrize("grow", [0.0, 1.0, 30.0])
def test_all_products_of_a_filter_stay_in_16_bits(grow: float) -> None:
    """Of flat filters, whose largest weight says little, too, and of those that rounding makes larger."""
    torch.manual_seed(6)
    conv = FixedConv(64, 64, STREAM, STREAM, depthwise=True, size=5)
    with torch.no_grad():
        conv.conv.weight.copy_(1 + grow * torch.randn_like(conv.conv.weight))
        conv.conv.weight[:8] = 1.02 * 5.5 / 8  # 25 halves that round up
    sums = np.abs(integers(conv, torch.zeros(256, 6)).weight).sum((1, 2, 3))
    assert sums.max() <= 128
    assert sums.min() > 40, "no coarser than needed"


def test_what_follows_a_class_is_exported_as_it_is_trained() -> None:
    torch.manual_seed(5)
    plane = PlanePrior(SMALL, 2, (16, 16), SCALE)
    module = plane.follow[0]
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.2)
    set_exact(plane, True)
    rng = np.random.default_rng(6)
    c8 = SMALL.latents[2]
    shapes = {"x8": SMALL.prior[2], "r8": c8, "centre8": c8}
    feeds = {n: rng.integers(0, 256, (1, 8, 8, c)).astype(np.uint8) for n, c in shapes.items()}
    graph = PlaneGraphs(plane, 1, SMALL.latents, quality_basis(SMALL.knots)).follow(3)
    exported = evaluate(graph.model(), feeds)
    x, known, centre = (channels_first(feeds[n]) for n in shapes)
    with torch.no_grad():
        trained = module(x, known, Trits(centre, torch.zeros_like(centre), True)).centre
    integers = torch.round(trained.permute(0, 2, 3, 1) * 16 + 128).numpy().astype(int)
    np.testing.assert_array_equal(exported["centre8n"], integers)
    assert (exported["centre8n"] != feeds["centre8"]).mean() > 0.3


def test_plane_0_is_coded_with_the_distribution_that_it_was_trained_with() -> None:
    """Also to the negative side, where symbols are mirrored, and where a channel has no offset."""
    torch.manual_seed(9)
    head = Head(16, 12, 7, 4)
    with torch.no_grad():
        for p in head.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
        head.scale.conv.bias.fill_(3.0)
    set_exact(head, True)
    g = Graph("test", quality_basis(SMALL.knots))
    export_head(g, head, g.input("x8", 16, STREAM), "8")
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (1, 8, 8, 16)).astype(np.uint8)
    exported = evaluate(g.model(), {"x8": x})
    scales = exported["scale8"]
    part, shifts, placed = (0, 7, 7), np.zeros(7, np.int8), np.zeros(scales.size, np.uint8)
    flat = base_keys(scales.ravel(), exported["offset8"].ravel(), shifts, placed, part, OFFSETS)
    keys = flat.reshape(scales.shape)
    assert (keys[..., :4] >= ROW_MIRROR).any()
    assert (keys[..., 4:] % OFFSETS == 0).all()
    symbols = rng.integers(-3, 4, keys.shape).astype(np.int32)
    rows = (keys & (ROW_MIRROR - 1)).ravel()
    tables = base_rows()
    bits = tables.cost_bits(mirror(symbols.ravel(), keys.ravel()), rows)
    with torch.no_grad():
        scale, offset = head(channels_first(x))
        symbol = torch.from_numpy(symbols.astype(np.float32)).permute(0, 3, 1, 2)
        zero = torch.zeros_like(symbol)
        level = Level(zero, scale * 2.0**SCALE.fraction, offset, 9 * symbol, symbol)
        trained = level.bits(symbol, None).permute(0, 2, 3, 1).numpy().ravel()
    likely = trained < 9  # beyond, rows hold at least 2**-16, and an escape
    assert likely.mean() > 0.5
    np.testing.assert_allclose(bits[likely], trained[likely], atol=0.02)


def known_of(v: np.ndarray, e: np.ndarray) -> Known:
    """Residuals (1, H, W, C) and scale indices as training has them."""
    value, index = (torch.from_numpy(a.astype(np.float32)).permute(0, 3, 1, 2) for a in (v, e))
    return Known(value, value, index / 2**SCALE.fraction)


def test_a_plane_is_exported_as_it_is_trained() -> None:
    """Also where only some channels have signs as context and a tilt of their own."""
    torch.manual_seed(7)
    assert SMALL.signed < SMALL.latents[2]
    plane, basis = PlanePrior(SMALL, 2, (16, 16), SCALE), quality_basis(SMALL.knots)
    with torch.no_grad():
        for p in plane.parameters():
            p.copy_(torch.randn_like(p) * 0.15)
    set_exact(plane, True)
    rng = np.random.default_rng(8)
    sizes = {"32": 2, "16": 4, "8": 8}
    values = {
        level: rng.integers(-40, 41, (1, side, side, n))
        for (level, side), n in zip(sizes.items(), SMALL.latents, strict=True)
    }
    scales = rng.integers(0, 64, values["8"].shape)
    feeds = {
        "x16": rng.integers(0, 256, (1, 4, 4, 16)),
        "x8": rng.integers(0, 256, (1, 8, 8, 16)),
        "e8": scales,
    }
    for level, v in values.items():
        n = v.shape[-1]
        seen = (SMALL.signed, SMALL.sized[1]) if level == "8" else (n, n)
        made = contexts(v.astype(np.int16).ravel(), n, *seen)
        feeds |= {f"{name}{level}": x.reshape(*v.shape[:3], -1) for name, x in made.items()}
    graph = PlaneGraphs(plane, 1, SMALL.latents, basis).fine()
    wanted = {i.name for i in graph.inputs}
    exported = evaluate(
        graph.model(),
        {n: x.astype(np.uint8) for n, x in feeds.items() if n in wanted} | {"bias": graph.bias_table()[77]},
    )
    known = [known_of(values[level], np.zeros_like(values[level])) for level in ("32", "16")]
    x16, x8 = (channels_first(feeds[name]) for name in ("x16", "x8"))
    with torch.no_grad():
        trits, _ = plane.fine(known, known_of(values["8"], scales), (x16, x8), basis[77:78])
    for name, value in (("centre8", trits.centre), ("tilt8", trits.tilt)):
        integers = torch.round(value.permute(0, 2, 3, 1) * 16 + 128).numpy().astype(int)
        np.testing.assert_array_equal(exported[name], integers)
        assert integers[..., SMALL.signed :].std() > 3


def test_a_known_trit_surprises_at_run_time_as_in_training() -> None:
    p = np.array([[0.1, 0.7, 0.2], [0.02, 0.9, 0.08], [0.3, 0.35, 0.35], [0.001, 0.99, 0.009]])
    tables = CdfTables.categorical(p, -1)
    table = surprises(tables)
    for row in range(len(p)):
        f = torch.tensor(tables.row(row).astype(np.float64)) / 65536
        for key, log_p in ((row, f.log()), (row + ROW_MIRROR, f.flip(0).log())):
            for trit in (-1, 0, 1):
                for sign in (-1, 0, 1):
                    t, v = torch.full((1, 1, 1, 1), float(trit)), torch.full((1, 1, 1, 1), 7.0 * sign)
                    expected = surprise(t, log_p.view(3, 1, 1, 1, 1), v).item() * 16 + 128
                    found = table[9 * key + 3 * (trit + 1) + sign + 1]
                    assert abs(found - expected) <= 1  # a tie may fall either way


def test_a_flat_value() -> None:
    assert Value("x", STREAM).zero == 128
    assert Value("x", HIDDEN).zero == 0


def test_training_and_runtime_fill_in_what_has_not_come_alike() -> None:
    assert config.COARSE_MEANS == COARSE_MEANS
