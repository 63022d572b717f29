"""Dividing a rate among streams: the sum of gains is what counts."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.control.share import Demand, hull, share

layer = st.tuples(st.integers(1, 1000), st.floats(0, 10))
stream = st.lists(layer, min_size=1, max_size=4)


def demand(layers, frame_rate=1.0):
    ends = [0]
    for size, _ in layers:
        ends.append(ends[-1] + size)
    return Demand(ends, [gain for _, gain in layers], frame_rate)


def test_layers_that_only_pay_together_are_bought_together():
    segments = hull((0, 100, 200, 300), (1.0, 0.0, 8.0))
    assert [(s.size, s.gain) for s in segments] == [(300, 9.0)]


def test_a_first_layer_costs_its_units_header_too():
    first, second = Demand((50, 150), (10.0,), 10), Demand((50, 1050), (10.0,), 10)
    assert hull((50, 150, 250), (10.0, 1.0))[0].size == 150
    assert share(40_000, [first, second]) == [12_000, 28_000]


def test_streams_alike_get_alike_to_a_layer_and_unstated_gains_are_guessed():
    alike = Demand(tuple(range(0, 1201, 100)), (), 10)
    for rate in range(16_000, 160_000, 8_000):
        first, second = share(rate, [alike, alike])
        assert abs(first - second) <= 8_000


def test_what_nobody_needs_is_room_to_grow_for_all():
    assert share(100_000, [demand([(100, 1.0)]), demand([(300, 1.0)])]) == pytest.approx([49_200, 50_800])


def test_a_stream_with_no_frames_yet_takes_nothing_from_the_others():
    assert share(8000, [Demand((), (), 0.0), demand([(1000, 1.0)])]) == [0, 8000]


@given(stream, st.floats(0, 40_000))
def test_a_cap_cuts_a_demand_in_the_middle_of_a_layer(layers, cap_bps):
    whole, capped = demand(layers, 10.0), demand(layers, 10.0).within(cap_bps)
    needs = whole.ends[-1] * 80
    assert capped.ends[-1] * 80 == pytest.approx(min(needs, cap_bps))
    assert len(capped.gains_db) == len(capped.ends) - 1
    assert sum(capped.gains_db) <= sum(whole.gains_db) + 1e-9
    assert share(1e6, [capped, whole])[0] == pytest.approx(
        min(needs, cap_bps) + (1e6 - needs - min(needs, cap_bps)) / 2
    )


def test_a_stream_without_frames_has_no_cap_to_cut_it():
    none_yet = Demand((), (), 0.0)
    assert none_yet.within(1000.0) == none_yet


@given(st.lists(stream, min_size=1, max_size=4), st.floats(0, 1e5))
def test_exactly_the_rate_is_given_out(streams, rate):
    parts = share(rate, [demand(layers) for layers in streams])
    assert sum(parts) == pytest.approx(rate)
    assert min(parts) >= 0


@given(st.lists(stream, min_size=2, max_size=3), st.integers(0, 8000))
def test_no_choice_of_prefixes_beats_the_hulls_at_the_given_shares(streams, budget):
    demands = [demand(layers) for layers in streams]
    parts = share(budget * 8, demands)

    def worth(which, size):
        total = 0.0
        for segment in hull(demands[which].ends, demands[which].gains_db):
            total += segment.gain * min(1.0, size / segment.size)
            size = max(0.0, size - segment.size)
        return total

    greedy = sum(worth(which, part / 8) for which, part in enumerate(parts))
    for keeps in product(*(range(len(each.ends)) for each in demands)):
        if sum(each.ends[keep] for each, keep in zip(demands, keeps, strict=True)) <= budget:
            value = sum(sum(each.gains_db[:keep]) for each, keep in zip(demands, keeps, strict=True))
            assert value <= greedy + 1e-6


@given(stream)
def test_slopes_of_a_hull_fall_and_its_sums_are_kept(layers):
    segments = hull(demand(layers).ends, demand(layers).gains_db)
    assert all(a.slope >= b.slope for a, b in pairwise(segments))
    assert sum(s.size for s in segments) == sum(size for size, _ in layers)
    assert sum(s.gain for s in segments) == pytest.approx(sum(gain for _, gain in layers))
