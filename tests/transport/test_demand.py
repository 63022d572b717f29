"""What a relay asks upstream for follows the links below it: up at once, down after a while."""

from __future__ import annotations

from math import inf

import pytest

from layercast.transport.demand import HEADROOM, LOWER_AFTER_S, UPDATE_EVERY_S, LinkDemand


def after(steps: list[tuple[float, list[float]]]) -> list[float]:
    """What is asked for after each (seconds, what each subscriber can use)."""
    demand = LinkDemand()
    asked = []
    for now_s, useful in steps:
        demand.update(now_s, useful)
        asked.append(demand.bps)
    return asked


def test_as_long_as_one_link_has_shown_no_limit_everything_is_asked_for():
    assert after([(0.0, []), (1.0, [inf]), (9.0, [1e6, inf]), (19.0, [1e6, inf])]) == [inf] * 4


def test_the_best_link_counts_and_less_is_asked_for_only_after_a_while():
    early = [(0.0, [1e6, 2e6]), (LOWER_AFTER_S - 0.1, [1e6, 2e6])]
    assert after([*early, (LOWER_AFTER_S, [1e6, 2e6])]) == [inf, inf, 2e6 * HEADROOM]


def test_a_short_break_lowers_nothing():
    calm, broken = [2e6], [0.1e6]
    start = [(0.0, calm), (LOWER_AFTER_S, calm)]
    steps = [*start, (4.0, broken), (6.0, broken), (6.5, calm), (8.0, broken), (10.0, broken)]
    assert after(steps)[1:] == [2e6 * HEADROOM] * 6


def test_a_link_that_grows_finds_more_at_once():
    steps = [(0.0, [1e6]), (LOWER_AFTER_S, [1e6]), (5.0, [1.2e6]), (5.2, [1.4e6])]
    assert after(steps)[1:] == [1.6e6, 1.6e6, pytest.approx(1.4e6 * HEADROOM)]


def test_a_rate_that_wanders_changes_nothing():
    rates = [1e6, 0.8e6, 1.2e6, 0.75e6, 1.25e6] * 20
    steps = [(0.0, [1e6]), (LOWER_AFTER_S, [1e6])] + [(4 + n / 2, [rate]) for n, rate in enumerate(rates)]
    assert set(after(steps)[1:]) == {1.6e6}


def test_it_is_looked_at_only_now_and_then():
    demand = LinkDemand()
    assert not demand.update(0.0, [1e6])
    assert demand.update(LOWER_AFTER_S, [1e6])
    assert not demand.update(LOWER_AFTER_S + UPDATE_EVERY_S / 2, [9e6])
    assert demand.update(LOWER_AFTER_S + UPDATE_EVERY_S, [9e6])
