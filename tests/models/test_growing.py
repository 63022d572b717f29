"""Weights that go on in a model of another size."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest
from models.hierarchical.config import Config
from tests.models.small import SMALL

# `make test` goes without it; .ci/run has a step that installs it
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs PyTorch: pip install torch==2.13.0", allow_module_level=True)

import torch
from models.hierarchical.codec import Codec
from models.training.grow import take_in

torch.set_num_threads(1)  # the tensors are tiny


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
