"""A fixed budget: a capped receiver sits just below its cap, and hardly misses a frame."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.bitstream.types import FrameKind
from layercast.control.budget import MAX_DEBT_S, FixedBudgetAllocator, Spender, TokenBucket, longest_prefix
from layercast.errors import ConfigError

from .simulation import Source, turns


def stream(seconds, fps, mean_frame, layers, seed, key_every=1, key_weight=1.0):
    """(time, ends, kind) of frames whose sizes vary by frame and by layer."""
    rng = random.Random(seed)
    for n in range(int(seconds * fps)):
        kind = FrameKind.KEY if n % key_every == 0 else FrameKind.DELTA
        size = mean_frame * rng.uniform(0.7, 1.3) * (key_weight if kind is FrameKind.KEY else 1)
        shares = [rng.uniform(0.5, 1.5) for _ in range(layers)]
        ends = [24]
        for share in shares:
            ends.append(ends[-1] + round(size * share / sum(shares)))
        yield n / fps + rng.uniform(0, 0.3 / fps), ends, kind


def run(frames, cap):
    allocator = FixedBudgetAllocator(cap, None)
    sent = []
    for now, ends, kind in frames:
        keep = allocator.decide(now, ends, kind, ())
        sent.append((now, ends[keep] if keep else 0))
    return sent


def worst_window_bps(sent, window_s):
    worst, first, total = 0, 0, 0
    for now, size in sent:
        total += size
        while sent[first][0] <= now - window_s:
            total -= sent[first][1]
            first += 1
        worst = max(worst, total * 8 / window_s)
    return worst


@pytest.mark.parametrize("fps", [5, 15, 30, 60])
@pytest.mark.parametrize("layers", [4, 8, 12, 16])
@pytest.mark.parametrize(("key_every", "key_weight"), [(1, 1.0), (30, 4.0)])
def test_a_cap_at_a_quarter_keeps_95_percent_of_the_frames_within_3_percent_below(
    fps, layers, key_every, key_weight
):
    frames = list(stream(40, fps, 4e6 / 8 / fps, layers, 7, key_every, key_weight))
    cap = sum(ends[-1] for _, ends, _ in frames) * 8 / 40 / 4
    sent = run(frames, cap)
    mean = sum(size for _, size in sent) * 8 / 40
    assert sum(size > 0 for _, size in sent) >= 0.95 * len(sent)
    assert 0.97 * cap <= mean <= cap
    one_frame = max(size for _, size in sent)
    assert worst_window_bps(sent, 10.0) <= cap + 2 * one_frame * 8 / 10


def test_below_the_smallest_prefix_frames_are_skipped_evenly():
    frames = [(n / 30, (24, 1000, 2000), FrameKind.KEY) for n in range(900)]
    sent = run(frames, cap=1000 * 8 * 10)  # pays for 10 of 30 frames
    times = [now for now, size in sent if size]
    gaps = [b - a for a, b in pairwise(times[20:])]
    assert max(gaps) <= 5 / 30
    assert min(gaps) >= 2 / 30
    assert len(times) / 30 == pytest.approx(9.9, rel=0.05)


def test_a_pause_saves_up_no_more_than_the_burst():
    bucket = TokenBucket(80_000, burst_s=0.5)
    bucket.refill(0.0)
    bucket.refill(1000.0)
    assert bucket.available == 5_000


def test_one_giant_frame_silences_a_peer_for_a_minute_at_most():
    bucket = TokenBucket(8_000, burst_s=0.1)
    bucket.refill(0.0)
    bucket.take(10**9)
    bucket.refill(MAX_DEBT_S)
    assert bucket.available >= 0


def test_time_that_runs_backwards_pays_nothing():
    bucket = TokenBucket(8_000, burst_s=1.0)
    bucket.refill(10.0)
    bucket.take(1000)
    bucket.refill(5.0)
    bucket.refill(10.0)
    assert bucket.available == 0


def test_a_debt_lasts_as_long_as_before_when_the_rate_falls():
    bucket = TokenBucket(80_000, burst_s=1.0)
    bucket.refill(0.0)
    bucket.take(12_000)  # 10,000 were saved up: 0.2 s of debt
    bucket.set_rate(8_000)
    bucket.refill(0.2)
    assert bucket.available == 0


def test_held_layers_stay_between_two_neighbours_while_frames_wander():
    frames = [(at, ends) for at, ends, _ in Source(spread=0.2).frames(60)]

    def counts(spend):
        spender = Spender(1e6)
        kept = []
        for at, ends in frames:
            spender.begin(at)
            spender.level_bps = 1e6
            kept.append(spend(spender, ends))
        return kept[150:]

    exact = turns(counts(lambda spender, ends: spender.spend(ends, None)), 2.0)
    held = turns(counts(lambda spender, ends: spender.spend_steadily(ends, None)), 2.0)
    assert held < exact / 4


def test_what_is_withheld_costs_the_next_frames_a_layer_or_two_not_all_of_them():
    spender = Spender(1e6)
    kept = []
    for number, (at, ends, _) in enumerate(Source(spread=0.2).frames(20)):
        spender.begin(at)
        if number == 450:
            spender.withhold(4_000)  # of 4,167 a frame
        kept.append(spender.spend_steadily(ends, None))
    assert min(kept[450:480]) >= min(kept[420:450]) - 2 >= 1


def test_without_limits_everything_is_kept():
    assert FixedBudgetAllocator(None, None).decide(0.0, (20, 10**9), FrameKind.KEY, ()) == 1


def test_max_layers_holds_with_and_without_a_bitrate():
    ends = (20, 30, 40, 50)
    assert FixedBudgetAllocator(None, 2).decide(0.0, ends, FrameKind.KEY, ()) == 2
    assert FixedBudgetAllocator(1e9, 2).decide(0.0, ends, FrameKind.KEY, ()) == 2


@pytest.mark.parametrize("limits", [(0, None), (-1.0, None), (float("nan"), None), (None, 0)])
def test_impossible_budgets_are_refused(limits):
    with pytest.raises(ConfigError):
        FixedBudgetAllocator(*limits)


sizes = st.lists(st.integers(0, 10_000), min_size=1, max_size=17).map(
    lambda steps: [sum(steps[: k + 1]) for k in range(len(steps))]
)


@given(sizes, st.integers(-100, 200_000), st.integers(0, 50_000), st.none() | st.integers(1, 40))
def test_the_longest_prefix_fits_and_grows_with_the_budget(ends, budget, more, max_layers):
    keep = longest_prefix(ends, budget, max_layers)
    assert keep == 0 or ends[keep] <= budget
    assert keep <= min(len(ends) - 1, max_layers or len(ends))
    assert keep <= longest_prefix(ends, budget + more, max_layers)
    if keep + 1 < len(ends) and (max_layers is None or keep < max_layers):
        assert ends[keep + 1] > budget or ends[0] > budget


@given(
    st.lists(st.tuples(st.floats(0, 3), sizes), max_size=60),
    st.floats(1_000, 1e8),
    st.none() | st.integers(1, 20),
)
def test_no_stretch_of_time_gets_more_than_rate_times_time_plus_a_stated_burst(frames, cap, max_layers):
    allocator = FixedBudgetAllocator(cap, max_layers)
    now, total, largest_first = 0.0, 0, 0
    for gap, ends in frames:
        now += gap
        keep = allocator.decide(now, ends, FrameKind.KEY, ())
        assert 0 <= keep <= min(len(ends) - 1, max_layers or 99)
        if keep:
            total += ends[keep]
            largest_first = max(largest_first, ends[1])
    burst = cap / 8 * (4.0 + 0.2) + largest_first
    assert total <= cap / 8 * now + burst
