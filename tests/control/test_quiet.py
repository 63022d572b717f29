"""The promise: on a link that takes everything reports become seldom, nothing suffers by it, and when the link changes
what was asked of it with dense reports still holds."""

from __future__ import annotations

import pytest

from layercast.control.adaptive import NEAR_CAP, STALENESS_S, AdaptiveAllocator
from layercast.transport.pace import NEAR_BUDGET

from .simulation import Link, Source, Trace, simulate

WHOLE = 12
EMPTY_S = 0.06


class OneLarge(Source):
    """A stream in which the frame at 12 s is eight times as large."""

    def frames(self, seconds):
        for time_s, ends, gains in super().frames(seconds):
            large = abs(time_s - 12) < 0.5 / self.fps
            yield time_s, tuple(8 * end if large else end for end in ends), gains


def run_paced(steps, source, seconds, **link):
    return simulate(AdaptiveAllocator(), Link(Trace(steps), paced=True, **link), source, seconds)


@pytest.mark.parametrize(("fps", "most"), [(10, 1.7), (30, 1.7), (60, 2.6)])
def test_a_calm_receiver_reports_about_twice_a_second_and_gets_everything(fps, most):
    run = run_paced([(0, 20e6)], Source(fps=fps, bps=1e6, spread=0.05), 30)
    assert sum(at > 10 for at in run.reports) / 20 <= most
    assert all(frame.keep == WHOLE for frame in run.between(5, 29))
    assert run.worst(5, 29) < 0.05


@pytest.mark.parametrize("delay_s", [0.005, 0.05, 0.15])
def test_no_window_shuts_and_nothing_counts_as_overdue_however_long_the_way(delay_s):
    run = run_paced([(0, 20e6)], Source(bps=2e6), 40, delay_s=delay_s, ack_delay_s=delay_s)
    assert all(frame.size for frame in run.between(6, 39))
    assert all(frame.keep == WHOLE for frame in run.between(10, 39)), (
        "until then it has grown, slowly where it is long"
    )
    assert run.worst(6, 39) < 0.05


@pytest.mark.parametrize("asked_s", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("bps", [300_000, 1_000_000, 3_000_000])
def test_who_is_asked_to_report_seldom_still_fills_its_link(asked_s, bps):
    """A busy relay asks for it: docs/transport.md."""
    run = run_paced([(0, bps)], Source(), 40, asked_s=asked_s)
    assert len(run.reports) <= 41 / asked_s
    assert run.used(5, 39) >= 0.92
    assert run.p95(5, 39) <= 0.15


@pytest.mark.parametrize("asked_s", [0.1, 0.2, 0.3])
def test_who_is_asked_to_report_seldom_follows_its_link_a_little_later(asked_s):
    run = run_paced([(0, 3e6), (20, 0.6e6), (40, 3e6)], Source(), 60, asked_s=asked_s)
    assert run.worst(24, 40) <= STALENESS_S + 0.2, "late at first, by up to 2 s, but not for long"
    assert run.sent_bps(25, 40) >= 0.85 * 0.6e6
    assert run.sent_bps(55, 60) >= 0.9 * 3e6


@pytest.mark.parametrize(("stream_bps", "low_bps"), [(1e6, 0.3e6), (2e6, 0.6e6), (2e6, 1e6)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_step_down_of_a_calm_link_is_followed_at_once(stream_bps, low_bps, seed):
    steps = [(0, 6e6), (20, low_bps), (40, 6e6)]
    run = run_paced(steps, Source(seed=seed, bps=stream_bps, spread=0.05), 50)
    assert sum(15 < at < 20 for at in run.reports) <= 9
    assert run.sent_bps(20.3, 20.7) < low_bps
    arrivals = sorted((f.offered_s + f.delay_s, f.delay_s) for f in run.between(20, 23) if f.size)
    assert next(at for at, delay in arrivals if at > 20.3 and delay < EMPTY_S) <= 21.5
    assert run.worst(20, 40) < STALENESS_S + 0.2
    assert run.sent_bps(45, 50) >= 0.9 * stream_bps


def test_a_link_that_stops_while_calm_is_used_again_when_it_comes_back():
    run = run_paced([(0, 6e6), (20, 1.0), (22, 6e6)], Source(bps=2e6, spread=0.05), 40)
    assert all(frame.keep == 0 for frame in run.between(21.2, 22)), "noticed"
    assert all(f.size and f.delay_s < 0.15 for f in run.between(23.5, 40))
    assert all(frame.keep == WHOLE for frame in run.between(30, 39))


def test_one_large_frame_of_a_calm_stream_costs_the_next_ones_nothing():
    run = run_paced([(0, 3e6)], OneLarge(bps=1e6, spread=0.02), 20)
    (large,) = [frame for frame in run.between(5, 19) if frame.keep < WHOLE]
    assert large.offered_s == pytest.approx(12)


def run_capped(steps, source, seconds, cap_bps, **link):
    link = Link(Trace(steps), paced=True, budget_bps=cap_bps, **link)
    return simulate(AdaptiveAllocator(max_bitrate_bps=cap_bps), link, source, seconds)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("spread", [0.05, 0.2])
def test_who_gets_the_bitrate_that_it_asked_for_reports_as_seldom_and_gets_all_of_it(share, spread):
    run = run_capped([(0, 20e6)], Source(bps=2e6, spread=spread), 60, share * 2e6)
    assert sum(at > 20 for at in run.reports) / 40 <= 4, "of 30 frames a second"
    assert run.sent_bps(20, 60) >= (0.97 if spread < 0.1 else 0.935) * share * 2e6
    assert run.worst(20, 59) < 0.05


@pytest.mark.parametrize(("cap_bps", "low_bps"), [(1e6, 0.6e6), (2e6, 0.6e6), (2e6, 1e6)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_step_down_below_what_was_asked_for_is_followed_at_once(cap_bps, low_bps, seed):
    steps = [(0, 6e6), (20, low_bps), (40, 6e6)]
    run = run_capped(steps, Source(seed=seed, bps=3e6, spread=0.05), 50, cap_bps)
    assert run.sent_bps(20.3, 20.7) < low_bps
    arrivals = sorted((f.offered_s + f.delay_s, f.delay_s) for f in run.between(20, 23) if f.size)
    assert next(at for at, delay in arrivals if at > 20.3 and delay < EMPTY_S) <= 21.5
    assert run.worst(20, 40) < STALENESS_S + 0.2
    assert run.sent_bps(45, 50) >= 0.9 * cap_bps


@pytest.mark.parametrize("share", [0.7, 0.76, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05])
def test_a_link_that_carries_about_what_was_asked_for_is_used(share):
    """Near the cap it is not sure which of the two cuts, and so how often reports come."""
    run = run_capped([(0, share * 1e6)], Source(bps=2e6, spread=0.05), 60, 1e6)
    assert run.sent_bps(10, 60) >= 0.92 * min(1.0, share) * 1e6
    assert run.p95(10, 59) < 0.15
    assert run.worst(10, 59) < STALENESS_S


def test_the_relay_expects_seldom_reports_before_a_receiver_makes_them():
    assert NEAR_CAP < NEAR_BUDGET
