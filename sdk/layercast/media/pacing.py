"""Repeat a source, or play it at the speed of life."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from layercast.errors import ConfigError
from layercast.media.base import Frame, Source

T = TypeVar("T")

DEFAULT_RATE = 25.0
"""Frames per second for sources that have no rate of their own, such as a folder of pictures."""


class Looped(Source):
    """A source over and over; timestamps go on growing.

    Args:
        times: how often to play it, None for ever.
    """

    def __init__(self, source: Source, times: int | None = None) -> None:
        if times is not None and times < 1:
            raise ConfigError(f"cannot play a source {times} times", hint="use 1 or more")
        self._source, self._times = source, times
        self.frame_rate = source.frame_rate
        self.length = None if times is None or source.length is None else source.length * times

    def __iter__(self) -> Iterator[Frame]:
        period_us = round(1e6 / (self.frame_rate or DEFAULT_RATE))
        offset_us, played = 0, 0
        while self._times is None or played < self._times:
            last_us = -1
            for image, timestamp_us in self._source:
                last_us = timestamp_us
                yield image, offset_us + timestamp_us
            if last_us < 0:
                return
            offset_us += last_us + period_us
            played += 1

    def close(self) -> None:
        self._source.close()


def pace(
    frames: Iterable[tuple[T, int]],
    frame_rate: float = 0.0,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    wall: Callable[[], float] = time.time,
) -> Iterator[tuple[T, int]]:
    """Frames when they are due, stamped with the time at which they came, microseconds since the Unix epoch.

    A consumer that falls behind by more than one frame slows the source down; no burst follows.

    Args:
        frames: anything with its timestamp in microseconds.
        frame_rate: frames per second; 0.0 keeps to the timestamps.
        clock, sleep, wall: seconds, seconds to wait, seconds since the Unix epoch; a test passes its own.
    """
    due_s: float | None = None
    before_us = 0
    for item, timestamp_us in frames:
        gap_s = 1 / frame_rate if frame_rate else max(0, timestamp_us - before_us) / 1e6
        before_us = timestamp_us
        now_s = clock()
        due_s = now_s if due_s is None else max(due_s + gap_s, now_s - gap_s)
        if due_s > now_s:
            sleep(due_s - now_s)
        yield item, round(wall() * 1e6)


class Paced(Source):
    """A source in real time, see `pace`.

    Args:
        frame_rate: frames per second; None keeps the source's own timing.

    Raises:
        ConfigError: a rate that is not above 0 and at most 1000.
    """

    def __init__(self, source: Source, frame_rate: float | None = None) -> None:
        if frame_rate is not None and not 0 < frame_rate <= 1000:
            raise ConfigError(
                f"impossible frame rate {frame_rate:g}", hint="use more than 0 and at most 1000"
            )
        self._source = source
        self._fixed = frame_rate or (0.0 if source.frame_rate else DEFAULT_RATE)
        self.frame_rate = frame_rate or source.frame_rate or DEFAULT_RATE
        self.length = source.length

    def __iter__(self) -> Iterator[Frame]:
        return pace(self._source, self._fixed)

    def close(self) -> None:
        self._source.close()
