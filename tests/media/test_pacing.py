"""Looping and pacing, on a clock that only moves when somebody sleeps."""

import numpy as np
import pytest

from layercast.errors import ConfigError
from layercast.media import ArraySource, Looped, Paced, open_source
from layercast.media.pacing import pace

IMAGES = np.zeros((3, 2, 2, 3), np.uint8)


class FakeClock:
    def __init__(self):
        self.now_s = 100.0
        self.slept = []

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.slept.append(round(seconds, 6))
        self.now_s += seconds


def paced(source, clock, frame_rate=0.0):
    return pace(source, frame_rate, clock=clock, sleep=clock.sleep, wall=clock)


def test_looping_repeats_and_time_goes_on():
    looped = Looped(ArraySource(IMAGES, frame_rate=10), times=2)
    assert looped.length == 6
    assert [timestamp_us for _, timestamp_us in looped] == [index * 100_000 for index in range(6)]


def test_an_endless_loop_has_no_length():
    source = open_source("pattern:8x8", loop=True)
    assert source.length is None
    assert source.frame_rate == 25


def test_a_paced_source_comes_at_its_own_rate_with_wall_clock_stamps():
    clock = FakeClock()
    stamps = [timestamp_us for _, timestamp_us in paced(ArraySource(IMAGES, frame_rate=10), clock)]
    assert clock.slept == [0.1, 0.1]
    assert stamps == [100_000_000, 100_100_000, 100_200_000]


def test_a_rate_of_ones_own_overrides_the_source():
    clock = FakeClock()
    list(paced(ArraySource(IMAGES, frame_rate=10), clock, frame_rate=50))
    assert clock.slept == [0.02, 0.02]


def test_a_slow_consumer_slows_the_source_and_gets_no_burst():
    clock = FakeClock()
    times = []
    for index, _ in enumerate(paced(ArraySource(np.zeros((5, 1, 1, 3), np.uint8), frame_rate=10), clock)):
        times.append(round(clock.now_s - 100, 6))
        clock.now_s += 1.0 if index == 0 else 0.0
    # Frame 1 is 0.9 s late and comes at once, frame 2 uses up one frame of slack, then 0.1 s each.
    assert times == [0.0, 1.0, 1.0, 1.1, 1.2]


@pytest.mark.parametrize("rate", [0, -1, 1e6])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ConfigError, match="impossible frame rate"):
        Paced(ArraySource(IMAGES), rate)


def test_open_source_paces_with_the_wall_clock():
    source = open_source("pattern:8x8", paced=True, frame_rate=1000)
    stamps = [timestamp_us for (_, timestamp_us), _ in zip(source, range(3), strict=False)]
    assert stamps[0] > 1_600_000_000_000_000
    assert stamps == sorted(stamps)
    assert source.frame_rate == 1000
