"""Shifts of the prior's logits that a frame brings for its own picture."""

from __future__ import annotations

import numpy as np
import pytest

from layercast.codecs.hierarchical.shifts import LIMIT, TABLES, cheapest, decoded, encoded, fitted
from layercast.errors import CorruptError


@pytest.mark.parametrize("chance", [0.02, 0.2, 0.5, 1.0])
def test_any_shifts_come_back(chance: float) -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        shifts = rng.integers(-LIMIT, LIMIT + 1, 108) * (rng.random(108) < chance)
        found = decoded(encoded(shifts.astype(np.int8)), 108)
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, shifts)


def test_no_shifts_cost_nothing_and_few_cost_little() -> None:
    shifts = np.zeros(108, np.int8)
    assert encoded(shifts) == b""
    np.testing.assert_array_equal(decoded(b"", 108), shifts)
    shifts[17] = 2
    assert 0 < len(encoded(shifts)) <= 4


def test_tables_are_the_same_integers_everywhere() -> None:
    """They are made anew on every machine, and are part of the format."""
    assert TABLES.fingerprint.hex()[:16] == "0d5ccda6397e074f"


def test_bytes_that_are_no_shifts_never_crash() -> None:
    rng = np.random.default_rng(7)
    for size in (1, 2, 9, 60):
        for _ in range(50):
            try:
                found = decoded(rng.bytes(size), 108)
            except CorruptError:
                continue
            assert np.abs(found).max() <= LIMIT


@pytest.mark.parametrize("p", [0.02, 0.3, 0.6])
@pytest.mark.parametrize("moved", [-4, -2, 0, 2, 4])
def test_the_shift_that_was_is_found(p: float, moved: int) -> None:
    """Of logits that were really so many quarters higher."""
    count, channels = 40_000, 16
    expected = np.full(channels, count * p)
    odds = p / (1 - p) * np.exp(-moved / 4)
    nonzero = np.full(channels, count * odds / (1 + odds))
    found = fitted(nonzero, expected, expected * (1 - p))
    np.testing.assert_allclose(found, moved, atol=0 if abs(moved) < 3 else 1)


def test_what_may_be_chance_is_left_alone() -> None:
    rng = np.random.default_rng(5)
    p, count, channels = 0.1, 500, 108
    expected = np.full(channels, count * p)
    nonzero = rng.binomial(count, p, channels).astype(float)
    assert not fitted(nonzero, expected, expected * (1 - p)).any()
    assert not fitted(*np.zeros((3, channels))).any()  # nothing is expected, nothing came
    nonzero[3] = 3 * count * p  # one channel, far off
    found = fitted(nonzero, expected, expected * (1 - p))
    assert found[3] < 0
    assert np.count_nonzero(found) < 4  # one in a hundred others may seem to be worth it


def test_the_cheapest_shifts_are_taken_where_they_save_more_than_they_cost() -> None:
    costs = np.full((30, 9), 500.0)
    costs[:, 4] -= 1  # a little for none
    np.testing.assert_array_equal(cheapest(costs), 0)
    costs[7, 6], costs[9, 0], costs[11, 5] = (
        300,
        440,
        498.5,
    )  # two channels that are worth it, one that is not
    found = cheapest(costs)
    assert (found[7], found[9]) == (2, -4)
    assert np.count_nonzero(found) == 2
    costs[:] = 500
    costs[7, 6] = 488  # worth its own bits, but not those of all others
    assert not cheapest(costs).any()
