"""The figures that the adaptive allocator must reach, over a simulated link (see simulation.py).

Delays are from the offer of a frame to the arrival of its last byte, less the delay of the idle link; a
frame's own sending time counts. The same figures are to be checked over shaped links.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from layercast.control.adaptive import STALENESS_S, AdaptiveAllocator
from layercast.control.budget import FixedBudgetAllocator

from .simulation import CLIPS, Link, Source, Trace, oracle, simulate, source_of

CELLULAR = Path(__file__).parent / "data" / "cellular.csv"


EMPTY_S = 0.06
"""Delay of a frame that waited for nothing: one interval (33 ms) to be sent, if it fills the link, and slack."""


def fixed(bps, **link):
    return Link(Trace([(0, bps)]), **link)


@pytest.mark.parametrize("bps", [200_000, 270_000, 280_000])
def test_a_link_that_first_layers_alone_fill_gets_fewer_frames_in_time(bps):
    """Only whole frames are left to drop; a queue that no frame left out would drain passes for the link's delay."""
    run = simulate(AdaptiveAllocator(), fixed(bps, paced=True), source_of("dashcam"), 60)
    assert run.used(5, 59) >= 0.92
    assert run.p95() <= 0.150


@pytest.mark.parametrize("bps", [300_000, 1_000_000, 3_000_000])
def test_a_fixed_link_is_used_and_its_queue_stays_short(bps):
    run = simulate(AdaptiveAllocator(), fixed(bps), Source(), 40)
    assert run.used(5, 39) >= 0.92
    assert run.p95() <= 0.150
    assert run.worst() <= STALENESS_S


@pytest.mark.parametrize("report_every_s", [0.0, 0.02])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_step_down_is_followed_at_once_and_a_step_up_within_seconds(seed, report_every_s):
    trace = Trace([(0, 3e6), (20, 0.6e6), (40, 3e6)])
    run = simulate(AdaptiveAllocator(), Link(trace, report_every_s=report_every_s), Source(seed=seed), 50)
    assert run.sent_bps(20.3, 20.7) < 0.6e6
    arrivals = sorted((f.offered_s + f.delay_s, f.delay_s) for f in run.between(20, 23) if f.size)
    drained_s = next(at for at, delay in arrivals if at > 20.3 and delay < EMPTY_S)
    assert drained_s <= 21.5
    assert max(run.sent_bps(40 + n / 10, 40.5 + n / 10) for n in range(45)) >= 0.9 * 3e6
    assert run.sent_bps(45, 50) >= 0.9 * 3e6


@pytest.mark.parametrize("bps", [600_000, 1_000_000, 3_000_000])
def test_at_a_constant_link_the_layer_count_hardly_ever_turns_round(bps):
    run = simulate(AdaptiveAllocator(), fixed(bps), Source(spread=0.05), 66)
    assert run.direction_changes(5, 65) <= 2


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("bps", [300_000, 1_000_000, 3_000_000])
def test_frames_of_real_clips_fill_a_constant_link_and_hardly_turn_its_layer_count(clip, bps):
    run = simulate(AdaptiveAllocator(), fixed(bps), source_of(clip), 66)
    assert run.used(5, 65) >= 0.97
    assert run.p95(5, 65) <= 0.15
    # The cups' frames grow and shrink by a fifth in seconds, and at 3 Mbit/s that is more than a layer.
    assert run.direction_changes(5, 65) <= (4 if (clip, bps) == ("cups", 3_000_000) else 2)


@pytest.mark.parametrize("bps", [1_000_000, 3_000_000])
def test_with_frames_that_grow_and_shrink_it_turns_far_less_than_a_fixed_budget(bps):
    adaptive = simulate(AdaptiveAllocator(), fixed(bps), Source(), 66)
    capped = simulate(FixedBudgetAllocator(0.96 * bps, None), fixed(bps), Source(), 66)
    assert adaptive.direction_changes(5, 65) < capped.direction_changes(5, 65)
    assert adaptive.frame_turns(5, 65) < 0.7 * capped.frame_turns(5, 65)


def test_ten_minutes_of_a_cellular_link_give_nine_tenths_of_what_an_oracle_gets():
    with CELLULAR.open(newline="") as file:
        trace = Trace(
            [(float(row["seconds"]), float(row["bits_per_second"])) for row in csv.DictReader(file)]
        )
    run = simulate(AdaptiveAllocator(), Link(trace), Source(), 600)
    best = max(oracle(Link(trace), Source(), 600, wait_s).quality() for wait_s in (0.1, 0.3))
    assert run.quality() >= 0.9 * best
    assert run.p95() <= 0.300
