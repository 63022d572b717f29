"""Runs: what each moves, how it resumes, what it draws and steps by."""

from __future__ import annotations

import argparse
import importlib.util
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.models.small import SMALL

# `make test` goes without it; .ci/run has a step that installs it
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs PyTorch: pip install torch==2.13.0", allow_module_level=True)

import torch
from models.hierarchical.codec import Codec, Cut, places, taken
from models.hierarchical.fixed import HIDDEN, STREAM, Grid
from models.hierarchical.int8 import set_int8
from models.hierarchical.transforms import Analysis, Synthesis
from models.training.data import Latents, Photographs
from models.training.muon import orthogonalise, split_parameters
from models.training.train import TRAINED, Run, random_cut

torch.set_num_threads(1)  # the tensors are tiny


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
