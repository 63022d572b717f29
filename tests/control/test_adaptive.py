"""The adaptive allocator: fast down, careful up, never stale, never without bound, on any link."""

from __future__ import annotations

from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layercast.bitstream.types import FrameKind
from layercast.control.adaptive import AdaptiveAllocator, Peer
from layercast.control.budget import MAX_DEBT_S
from layercast.control.estimator import MAX_HISTORY, MAX_IN_FLIGHT
from layercast.errors import ConfigError

from .simulation import Link, Source, Trace, simulate

KEY = FrameKind.KEY
ENDS = (24, 700, 1500, 2500, 4000, 6000)


def link(bps=1e6, **changes):
    return Link(Trace([(0, bps)]), **changes)


# --- robust over links, clocks and streams ------------------------------------------------------------------


@pytest.mark.parametrize("ack_delay_s", [0.005, 0.05, 0.1])
@pytest.mark.parametrize("ack_jitter_s", [0.0, 0.1])
def test_slow_and_jittery_acknowledgements_do_not_matter_much(ack_delay_s, ack_jitter_s):
    changes = {"ack_delay_s": ack_delay_s, "ack_jitter_s": ack_jitter_s}
    run = simulate(AdaptiveAllocator(), link(**changes), Source(), 30)
    assert run.used(5, 28) >= 0.92
    assert run.p95() <= 0.15


@pytest.mark.parametrize("report_every_s", [0.05, 0.1])
@pytest.mark.parametrize("bps", [300_000, 3_000_000])
def test_acknowledgements_that_come_in_batches_are_as_good(report_every_s, bps):
    run = simulate(AdaptiveAllocator(), link(bps, report_every_s=report_every_s), Source(), 30)
    assert run.used(5, 28) >= 0.92
    assert run.p95() <= 0.15


def test_arrivals_that_jitter_are_no_congestion():
    run = simulate(AdaptiveAllocator(), link(jitter_s=0.03), Source(), 30)
    assert run.used(5, 28) >= 0.9
    assert run.p95() <= 0.15


@pytest.mark.parametrize("ack_loss", [0.1, 0.5])
def test_lost_acknowledgements_are_made_up_for_by_later_ones(ack_loss):
    run = simulate(AdaptiveAllocator(), link(ack_loss=ack_loss), Source(), 30)
    assert run.used(5, 28) >= 0.85
    assert run.p95() <= 0.15


@pytest.mark.parametrize("fps", [5, 10, 15, 30, 60])
@pytest.mark.parametrize("bps", [300_000, 3_000_000])
def test_any_frame_rate_uses_the_link_and_waits_two_frames_more_at_most(fps, bps):
    run = simulate(AdaptiveAllocator(), link(bps), Source(fps=fps), 40)
    assert run.used(8, 38) >= 0.92
    assert run.p95(8) <= 0.15 + 2 / fps


@pytest.mark.parametrize("layers", [1, 2, 4, 8, 16])
def test_any_layer_count_uses_most_of_the_link(layers):
    run = simulate(AdaptiveAllocator(), link(), Source(layers=layers), 40)
    assert run.used(5, 38) >= 0.88
    assert run.p95(5) <= 0.35


@pytest.mark.parametrize("skew_ppm", [-100, 100])
def test_clocks_that_drift_apart_do_not_matter(skew_ppm):
    run = simulate(AdaptiveAllocator(), link(skew_ppm=skew_ppm, offset_s=-5000), Source(), 180)
    assert run.used(120, 178) >= 0.92
    assert run.p95(120) <= 0.15


@pytest.mark.parametrize("buffer_bytes", [16 << 10, 4 << 20])
def test_the_connection_s_buffers_do_not_fill_whatever_their_size(buffer_bytes):
    run = simulate(AdaptiveAllocator(), link(buffer_bytes=buffer_bytes), Source(), 30)
    assert run.used(5, 28) >= 0.92
    assert run.p95() <= 0.15


def test_a_long_way_costs_nothing_but_the_way():
    run = simulate(AdaptiveAllocator(), link(delay_s=0.15, ack_delay_s=0.15), Source(), 30)
    assert run.used(5, 28) >= 0.92
    assert run.p95(1) <= 0.15


def test_a_route_that_gets_longer_is_told_from_a_queue_within_seconds():
    allocator = AdaptiveAllocator()
    longer = iter([0.0] * 900 + [0.08] * 10_000)  # 80 ms more from second 30 on
    on_ack = allocator.on_ack
    allocator.on_ack = lambda now, n, size, at, lag: on_ack(now, n, size, at + next(longer), lag)
    run = simulate(allocator, link(), Source(), 60)
    assert run.used(36, 58) >= 0.9


# --- down and up --------------------------------------------------------------------------------------------


def test_the_first_frames_are_small_until_something_is_acknowledged():
    allocator = AdaptiveAllocator()
    assert [allocator.decide(n / 30, ENDS, KEY, ()) for n in range(3)] == [1, 1, 1]


def test_the_rate_does_not_grow_while_everything_fits():
    allocator = AdaptiveAllocator()
    run = simulate(allocator, link(50e6), Source(bps=1e6), 60)
    assert mean(f.keep for f in run.between(5, 60)) > 11.9
    assert allocator.peer.rate_bps < 5e6


def test_a_cap_and_a_layer_limit_hold_below_the_link():
    run = simulate(AdaptiveAllocator(500_000, 3), link(3e6), Source(), 30)
    assert max(f.keep for f in run.frames) == 3
    assert run.sent_bps(5, 25) <= 500_000


def test_an_overdue_acknowledgement_brakes_before_anything_is_measured():
    allocator = AdaptiveAllocator()
    for n in range(30):
        keep = allocator.decide(n / 30, ENDS, KEY, ())
        allocator.on_sent(n / 30, n, ENDS[keep])
        allocator.on_ack(n / 30 + 0.03, n, ENDS[keep], n / 30 + 7.01)
    kept = []
    for n in range(30, 46):
        kept.append(allocator.decide(n / 30, ENDS, KEY, ()))
        if kept[-1]:
            allocator.on_sent(n / 30, n, ENDS[kept[-1]])
    assert kept[0] > 1
    assert kept[5] <= 1  # 160 ms without a word: first layers at most
    assert kept[-1] == 0  # 500 ms: whatever goes now would be stale
    assert allocator.decision.why == "stale"


def test_after_a_pause_of_everything_the_old_rate_is_back_within_a_second():
    run = simulate(AdaptiveAllocator(), link(pauses=((20, 30),)), Source(), 40)
    assert run.sent_bps(31, 33) >= 0.85e6
    assert run.p95(31) <= 0.15


def test_after_an_outage_of_the_link_the_old_rate_is_back_within_a_second():
    run = simulate(AdaptiveAllocator(), Link(Trace([(0, 1e6), (20, 0), (22, 1e6)])), Source(), 40)
    assert run.sent_bps(23, 25) >= 0.85e6
    assert run.p95(23) <= 0.15


@pytest.mark.parametrize("bps", [50_000, 100_000])
def test_a_link_below_the_first_layer_gets_frames_evenly_and_no_flapping(bps):
    run = simulate(AdaptiveAllocator(), link(bps), Source(), 60)
    sent = [f.offered_s for f in run.between(5, 60) if f.size]
    gaps = [b - a for a, b in pairwise(sent)]
    assert run.used(5, 58) >= 0.92
    assert run.p95(5) <= 0.3  # one first layer alone takes a tenth of a second
    assert max(gaps) <= 4 * mean(gaps)
    assert run.direction_changes(5, 59) == 0


def test_a_receiver_that_decodes_too_slowly_gets_no_upgrades():
    def rate_after(lag_s):
        allocator = AdaptiveAllocator()
        on_ack = allocator.on_ack
        allocator.on_ack = lambda now, n, size, at, lag: on_ack(now, n, size, at, lag_s)
        simulate(allocator, link(3e6), Source(), 5)
        return allocator.peer.rate_bps

    assert rate_after(1.0) < 0.5e6 < 2e6 < rate_after(0.0)


# --- bounds -------------------------------------------------------------------------------------------------


def test_a_frame_that_waited_past_the_bound_is_not_sent():
    allocator = AdaptiveAllocator(staleness_s=0.25)
    assert allocator.decide(1.0, ENDS, KEY, (), age_s=0.26) == 0
    assert allocator.decision.why == "stale"
    assert allocator.decide(1.1, ENDS, KEY, (), age_s=0.01) == 1


def test_state_is_bounded_when_acknowledgements_vanish():
    allocator = AdaptiveAllocator()
    for n in range(5000):
        allocator.decide(n / 30, ENDS, KEY, ())
        allocator.on_sent(n / 30, n, 700)
        if n % 1000 == 0:
            allocator.on_ack(n / 30, n, 700, n / 30)
    estimator = allocator.peer.link
    assert estimator.in_flight <= MAX_IN_FLIGHT
    assert len(estimator._history) <= MAX_HISTORY


def test_made_up_and_repeated_acknowledgements_change_nothing():
    allocator = AdaptiveAllocator()
    allocator.on_ack(1.0, 77, 10**9, 5.0)
    allocator.on_sent(1.0, 1, 700)
    allocator.on_ack(1.1, 1, 700, 5.0)
    rate = allocator.peer.rate_bps
    for _ in range(100):
        allocator.on_ack(1.2, 1, 700, 5.0)
    assert allocator.peer.rate_bps == rate


@pytest.mark.parametrize("bad", [{"max_bitrate_bps": 0}, {"max_layers": 0}, {"staleness_s": 0}])
def test_impossible_limits_are_refused(bad):
    with pytest.raises(ConfigError):
        AdaptiveAllocator(**bad)


sizes = st.lists(st.integers(0, 20_000), min_size=0, max_size=32).map(
    lambda steps: [24 + sum(steps[:k]) for k in range(len(steps) + 1)]
)
event = st.one_of(
    st.tuples(st.just("frame"), st.floats(0, 0.5), sizes),
    st.tuples(st.just("ack"), st.floats(0, 0.5), st.integers(0, 60), st.floats(-1e4, 1e4)),
)


@settings(max_examples=200)
@given(st.lists(event, max_size=80), st.none() | st.integers(1, 32), st.none() | st.floats(1e3, 1e8))
def test_whatever_comes_decisions_are_valid_and_budgets_hold(events, max_layers, cap):
    allocator = AdaptiveAllocator(cap, max_layers)
    now, number, total, largest_first = 0.0, 0, 0, 0
    for kind, gap, *rest in events:
        now += gap
        if kind == "frame":
            (ends,) = rest
            keep = allocator.decide(now, ends, KEY, ())
            assert 0 <= keep <= min(len(ends) - 1, max_layers or 32)
            if keep:
                total += ends[keep]
                largest_first = max(largest_first, ends[1])
                allocator.on_sent(now, number, ends[keep])
                number += 1
        else:
            allocator.on_ack(now, rest[0], 0, rest[1])
        assert 0 < allocator.peer.rate_bps < float("inf")
    if cap is not None:
        assert total <= cap / 8 * (now + 4.0 + 0.3) + largest_first
    assert allocator._spender.bucket.available >= -allocator._spender.bucket.bytes_of(MAX_DEBT_S) - 1


@given(sizes.filter(lambda ends: len(ends) > 1), st.floats(1e4, 1e7), st.floats(1.0, 4.0))
def test_more_budget_never_means_fewer_layers(ends, rate, factor):
    def keep_at(bps):
        allocator = AdaptiveAllocator(bps)
        allocator.peer.rate.rate_bps = 1e9
        for n in range(4):
            allocator.decide(n / 30, (24, 24), KEY, ())
            allocator.on_sent(n / 30, n, 24)
            allocator.on_ack(n / 30 + 0.01, n, 24, n / 30)
        return allocator.decide(4 / 30, ends, KEY, ())

    assert keep_at(rate) <= keep_at(rate * factor)


# --- several streams ----------------------------------------------------------------------------------------


def test_streams_of_one_receiver_share_its_rate_by_gain_per_bit():
    peer = Peer(800_000)
    rich, poor = AdaptiveAllocator(peer=peer), AdaptiveAllocator(peer=peer)
    peer.rate.rate_bps = 1e9
    ends = (24, 800, 1600, 2400, 3200)
    sent = {rich: 0, poor: 0}
    for n in range(300):
        now = n / 30
        for number, (stream, gains) in enumerate(((rich, (12, 6, 6, 6)), (poor, (12, 1, 1, 1)))):
            keep = stream.decide(now, ends, KEY, gains)
            size = ends[keep] if keep else 0
            if keep:
                stream.on_sent(now, 2 * n + number, size)
                stream.on_ack(now + 0.02, 2 * n + number, size, now + 3.0)
            sent[stream] += size * (n >= 30)
    assert sent[rich] > 2.2 * sent[poor]
    assert sent[poor] >= 270 * 800 * 0.9  # its first layer buys as much as anybody's
    total_bps = sum(sent.values()) * 8 / 9
    assert 0.9 * 800_000 <= total_bps <= 800_000


def test_a_stream_that_closes_leaves_its_share_to_the_others():
    peer = Peer(800_000)
    stays, goes = AdaptiveAllocator(peer=peer), AdaptiveAllocator(peer=peer)
    for n in range(10):
        for stream in (stays, goes):
            stream.decide(n / 30, ENDS, KEY, ())
    assert peer.rate_of(stays, 1.0) < peer.rate_bps
    goes.close()
    assert peer.rate_of(stays, 1.0) == peer.rate_bps
