"""The promise: no frame is handed out that came later than the bound, and no clock silences a receiver for long."""

from __future__ import annotations

import pytest

from layercast.control.adaptive import AdaptiveAllocator
from layercast.errors import ConfigError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.allocators import Allocators
from layercast.transport.lateness import DOUBT_S, Lateness
from layercast.transport.receiver import Receiver

FRAME_S = 1 / 30


def late(lateness: Lateness, delays_s: list[float], offset_s: float = 1e6) -> list[bool]:
    """What becomes of frames at 30 a second that travel for so long; the sender's clock is `offset_s` behind."""
    return [lateness.is_late(n * FRAME_S - offset_s, n * FRAME_S + delay) for n, delay in enumerate(delays_s)]


@pytest.mark.parametrize("offset_s", [-1e6, 0.0, 1e6])
def test_what_took_longer_than_the_quickest_by_more_than_the_bound_is_late_whatever_the_clocks(offset_s):
    delays_s = [0.05, 0.03, 0.2, 0.41, 0.44, 0.5, 0.41, 0.03]
    assert late(Lateness(0.4), delays_s, offset_s) == [False, False, False, False, True, True, False, False]


def test_a_clock_that_is_set_silences_a_receiver_for_two_seconds_at_most():
    frames = late(Lateness(0.4), [0.03] * 60 + [3600.0] * 120)
    assert sum(frames) <= DOUBT_S / FRAME_S + 1
    assert not any(frames[-30:])


def test_clocks_that_drift_apart_make_nobody_late():
    assert not any(late(Lateness(0.1), [0.03 + 1e-4 * n * FRAME_S for n in range(100_000)]))


def test_a_relay_holds_the_bound_that_was_asked_for():
    allocators = Allocators()
    asked = allocators.open(pb.Limits(max_staleness_ms=250), "cam", "somebody")
    default = allocators.open(pb.Limits(), "cam", "somebody")
    assert isinstance(asked, AdaptiveAllocator)
    assert isinstance(default, AdaptiveAllocator)
    assert (asked.limits["staleness_s"], default.limits["staleness_s"]) == (0.25, 0.4)


@pytest.mark.parametrize("bound_s", [0.0, -1.0, float("nan"), 1e9])
def test_impossible_bounds_are_refused(bound_s):
    with pytest.raises(ConfigError):
        Receiver("127.0.0.1:7400", max_staleness_s=bound_s)
