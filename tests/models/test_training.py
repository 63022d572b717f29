"""The torch side: fixed-point layers are what is exported, runs resume, the prototype's weights load."""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models.export.reference import evaluate
from models.hierarchical import config
from models.hierarchical.config import Config
from PIL import Image

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
from models.hierarchical.codec import Codec, Cut, places, taken
from models.hierarchical.fixed import (
    HIDDEN,
    STREAM,
    FixedBlock,
    FixedConv,
    Grid,
    integers,
    set_exact,
)
from models.hierarchical.int8 import set_int8
from models.hierarchical.prior import SCALE, Head, Known, Level, PlanePrior, Trits, surprise
from models.hierarchical.transforms import Analysis, Synthesis
from models.training.data import Latents, Photographs
from models.training.grow import take_in
from models.training.muon import orthogonalise, split_parameters
from models.training.train import TRAINED, Run, random_cut

torch.set_num_threads(1)  # the tensors are tiny
SMALL = Config(widths=(16, 16, 16), width4=8, depths=(1, 1, 1), prior=(16, 16, 20))


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


@pytest.mark.parametrize(
    ("grid", "x", "wanted", "passed"),
    [
        (HIDDEN, -1.0, 1.0, 0.0),  # off: a ReLU hears nothing, also when the loss would have it on
        (HIDDEN, -1.0, -1.0, 0.0),
        (HIDDEN, 1.0, 1.0, 1.0),
        (HIDDEN, 9.0, -1.0, -1.0),  # beyond the top: only back
        (HIDDEN, 9.0, 1.0, 0.0),
        (STREAM, -10.0, 1.0, 1.0),
        (STREAM, -10.0, -1.0, 0.0),
    ],
)
def test_clipped_values_hear_what_brings_them_back_and_units_that_are_off_nothing(
    grid: Grid, x: float, wanted: float, passed: float
) -> None:
    value = torch.tensor(x, requires_grad=True)
    (-wanted * grid.snap(value, exact=False)).backward()
    assert value.grad is not None
    assert -value.grad.item() == passed


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
    keys = base_keys(scales.ravel(), exported["offset8"].ravel(), scales.shape[3], OFFSETS).reshape(
        scales.shape
    )
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


def test_more_latents_go_on_from_what_fewer_have_learned() -> None:
    """A codec with more latents at stride 8 and fewer signed ones: everything else it computes as before."""
    torch.manual_seed(3)
    few = replace(SMALL, latents=(24, 32, 72), groups=(12, 60), signed=72)
    old, new = Codec(few), Codec(replace(SMALL, signed=72))
    take_in(new, old.state_dict(), few)
    q = torch.tensor([0.3, 0.9])
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        y, grown = ([t * torch.exp(m.log_gain(q)) for t in m.analysis(x)] for m in (old, new))
        torch.testing.assert_close(grown[2][:, :72], y[2])
        everything = torch.ones(2, SMALL.parts)
        grown[2][:, 72:] = 0
        (levels, planes), (levels_new, planes_new) = (
            m.planes(latents, q, everything, 2) for m, latents in ((old, y), (new, grown))
        )
        torch.testing.assert_close(levels_new[2].index[:, :72], levels[2].index)
        for a, b in zip(planes, planes_new, strict=True):
            torch.testing.assert_close(b.start[:, :, :72], a.start, atol=1e-4, rtol=1e-4)
    take_in(Codec(SMALL), old.state_dict(), few)  # signs that are heard no more are left out
    with pytest.raises(ValueError, match="no such weights"):
        take_in(new, {"analysis.nothing": torch.zeros(3)}, few)


def test_magnitudes_and_surprises_that_are_left_out_leave_the_others_as_they_were() -> None:
    torch.manual_seed(4)
    every = replace(SMALL, sized=(108, 108), surprising=108)
    old, new = Codec(every), Codec(SMALL)
    with torch.no_grad():
        for plane, sized in zip((old.plane1, old.plane2), SMALL.sized, strict=True):
            plane.mix[2].conv.weight[:, SMALL.signed + sized : SMALL.signed + 108] = 0
            for follow in plane.follow:
                follow.hidden.conv.weight[:, -(108 - SMALL.surprising) :] = 0
    take_in(new, old.state_dict(), every)
    q, x, everything = torch.tensor([0.3, 0.9]), torch.rand(2, 3, 64, 64), torch.ones(2, SMALL.parts)
    with torch.no_grad():
        scaled = [y * torch.exp(old.log_gain(q)) for y in old.analysis(x)]
        (_, before), (_, after) = (m.planes(scaled, q, everything, 2) for m in (old, new))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(b.start, a.start)
        for one, other in zip(a.coded, b.coded, strict=True):
            torch.testing.assert_close(other, one)


def test_corrections_that_are_left_out_leave_the_others_as_they_were() -> None:
    many = replace(SMALL, follow=((1,), (1, 2, 3)))
    old, new = Codec(many), Codec(SMALL)
    assert SMALL.follow == ((), (3,))
    take_in(new, old.state_dict(), many)
    for ours, theirs in zip(new.plane2.follow, list(old.plane2.follow)[2:], strict=True):
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    first = old.plane2.follow[0].centre.conv.weight.clone()
    take_in(old, Codec(SMALL).state_dict(), SMALL)  # what there was none of stays
    torch.testing.assert_close(old.plane2.follow[0].centre.conv.weight, first)


def test_a_description_from_before_says_that_every_class_is_corrected() -> None:
    described = SMALL.to_json()
    assert Config.from_json(json.loads(json.dumps(described))) == SMALL
    for name in ("follow", "sized", "surprising"):
        del described[name]
    before = Config.from_json(json.loads(json.dumps(described)))
    assert before.follow == ((1,), (1, 2, 3))
    assert before.sized == (SMALL.latents[2],) * 2
    assert before.surprising == SMALL.latents[2]
    with pytest.raises(ValueError, match="stride 8 has 108 channels"):
        replace(SMALL, sized=(36, 109))
    with pytest.raises(ValueError, match="known classes"):
        replace(SMALL, follow=((), (3, 4)))


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


def parts_moved(run: Run, tmp_path: Path) -> set[str]:
    """Parts of the model that two steps change."""
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    data = Photographs(tmp_path / "photos", 64, seed=0)
    for progress in (0.0, 0.2):
        assert np.isfinite(run.one_step(data, progress)["loss"])
    return {k.split(".")[0] for k, v in run.model.state_dict().items() if not torch.equal(v, before[k])}


def test_a_finishing_run_moves_synthesis_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    random.seed(0)
    run = Run(options(tmp_path, finish=True), SMALL)
    assert parts_moved(run, tmp_path) == set(TRAINED["finish"]) == {"synthesis"}


def test_a_run_of_the_transforms_alone_needs_no_planes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    run = Run(options(tmp_path, transforms=True), SMALL)
    monkeypatch.setattr(Codec, "planes", None)
    assert parts_moved(run, tmp_path) == set(TRAINED["transforms"])


def test_a_run_of_analysis_alone_moves_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = Run(options(tmp_path, analysis=True), SMALL)
    assert parts_moved(run, tmp_path) == set(TRAINED["analysis"]) == {"analysis"}


def test_a_run_of_the_prior_alone_moves_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = Run(options(tmp_path, prior=True), SMALL)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    latents = Latents(Photographs(tmp_path / "photos", 64, seed=0), run.latents, 16)
    oldest = latents.levels[2][0].clone()
    losses = [run.one_step(latents, progress)["loss"] for progress in (0.0, 0.2, 0.4, 0.6, 0.6, 0.6)]
    assert np.isfinite(losses).all()
    moved = {k for k, v in run.model.state_dict().items() if not torch.equal(v, before[k])}
    assert {k.split(".")[0] for k in moved} == set(TRAINED["prior"])
    assert {f"plane2.follow.{i}.centre.conv.weight" for i in range(len(SMALL.follow[1]))} <= moved
    latents.refresh()
    assert len(latents.levels[2]) == 16
    assert not torch.equal(latents.levels[2][0], oldest)


def test_a_flat_value() -> None:
    assert Value("x", STREAM).zero == 128
    assert Value("x", HIDDEN).zero == 0


def test_untrained_transforms_are_a_linear_codec() -> None:
    """Full-rank latents give the picture back: what is lost is only the high frequencies left out."""
    analysis, synthesis = Analysis(SMALL), Synthesis(SMALL)
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 6), scale_factor=16, mode="bicubic")
    with torch.no_grad():
        back = synthesis(analysis(x), torch.ones(1, 3))
    assert (back - x).pow(2).mean() < 1e-3


def test_muon_steps_are_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(40, 24)))
    assert values.min() > 0.7
    assert values.max() < 1.3


def test_every_parameter_is_trained_by_exactly_one_optimiser() -> None:
    model = Codec(SMALL)
    groups = split_parameters(model)
    assert sum(len(g) for g in groups.values()) == len(list(model.parameters()))
    assert all(groups.values())


def test_cuts_take_the_worthiest_symbols_first() -> None:
    log_p = torch.log_softmax(torch.randn(3, 1, 3, 4, 4), 0)
    place = places(log_p)
    p = log_p.exp()
    worth = (p[0] + p[2] - (p[2] - p[0]) ** 2) / -(p * log_p).sum(0)
    cut = Cut(torch.tensor([4]), torch.tensor([1]), torch.tensor([0.5]))
    inside = taken(place, cut, 1)
    assert worth[inside > 0].min() > worth[inside == 0].max()
    assert 0 < inside.sum() < inside.numel()
    assert taken(place, cut, 2).sum() == 0
    coarse = torch.zeros_like(place)
    assert taken(coarse, cut, 1).min() == 1
    assert taken(coarse, cut, 2).max() == 0


def test_random_cuts_keep_whole_samples_whole() -> None:
    cut = random_cut(8, 3, SMALL.parts, "cpu")
    assert (cut.share[:5] == 1).all()
    assert (cut.plane[:5] == 2).all()
    assert (cut.levels >= 1).all()


def options(tmp_path: Path, **changes: object) -> argparse.Namespace:
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir(exist_ok=True)
    for i in range(2):
        Image.fromarray(rng.integers(0, 256, (96, 128, 3)).astype(np.uint8)).save(photos / f"{i}.png")
    values = {
        "data": photos,
        "out": tmp_path / "run.pt",
        "sketch": None,
        "start": None,
        "fresh": [],
        "units": [],
        "mixed": False,
        "finish": False,
        "analysis": False,
        "prior": False,
        "transforms": False,
    }
    values |= {
        "batch": 2,
        "cuts": 1,
        "crop": 64,
        "rate": 1.0,
        "exact_from": 0.5,
        "refined": None,
        "device": "cpu",
    }
    return argparse.Namespace(**(values | changes))


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run = Run(options(tmp_path), SMALL)
    data = Photographs(tmp_path / "photos", 64, seed=0)
    losses = [run.one_step(data, progress)["loss"] for progress in (0.0, 0.1, 0.6)]
    assert np.isfinite(losses).all()
    run.save()
    again = Run(options(tmp_path), SMALL)
    assert again.step == 3
    assert again.pixels == run.pixels
    for a, b in zip(again.average.state_dict().values(), run.average.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(
        again.muon.state_dict()["state"].values(), run.muon.state_dict()["state"].values(), strict=True
    ):
        assert torch.equal(a["momentum"], b["momentum"])
    assert np.isfinite(again.one_step(data, 0.7)["loss"])


def test_a_run_from_other_weights_remembers_where_they_came_from(tmp_path: Path) -> None:
    first = Run(options(tmp_path), SMALL)
    first.ledger.append({"run": "first", "gigapixels": 1.0})
    first.save()
    second = Run(options(tmp_path, start=tmp_path / "run.pt", out=tmp_path / "second.pt"), SMALL)
    assert second.ledger == first.ledger
    assert second.step == 0
    for a, b in zip(second.model.state_dict().values(), first.average.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_run_goes_on_with_as_many_hidden_units_or_with_more(tmp_path: Path) -> None:
    first = Run(options(tmp_path, finish=True), replace(SMALL, hidden={"synthesis.d4": 10, "base.b8": 9}))
    with torch.no_grad():
        first.model.synthesis.out.weight.normal_(0, 0.1)
    first.average.load_state_dict(first.model.state_dict())
    first.save()
    start = {"start": tmp_path / "run.pt", "finish": True}
    same = Run(options(tmp_path, out=tmp_path / "same.pt", **start), SMALL)
    assert same.config.hidden == {"synthesis.d4": 10, "base.b8": 9}
    grown = Run(options(tmp_path, out=tmp_path / "grown.pt", units=["synthesis.d4=13"], **start), SMALL)
    assert grown.model.synthesis.d4.a.out_channels == 13
    assert grown.model.base.b8.a.conv.out_channels == 9
    x, q = torch.rand(1, 3, 64, 64), torch.tensor([0.8])
    with (
        torch.no_grad()
    ):  # in floats: ranges are read from what a training network sees, in each run by itself
        for each in (first, same, grown):
            set_int8(each.model, False)
            torch.testing.assert_close(each.model.whole(x, q, True)[0], first.model.whole(x, q, True)[0])
    set_int8(grown.model.synthesis, True)
    data = Photographs(tmp_path / "photos", 64, seed=0)
    new = grown.model.synthesis.d4.b.weight[:, 10:]
    assert not new.any()
    assert np.isfinite(grown.one_step(data, 0.2)["loss"])
    assert new.abs().max() > 0
    grown.save()
    again = Run(options(tmp_path, out=tmp_path / "grown.pt", **start), SMALL)
    assert again.config == grown.config


def test_training_and_runtime_fill_in_what_has_not_come_alike() -> None:
    assert config.COARSE_MEANS == COARSE_MEANS
