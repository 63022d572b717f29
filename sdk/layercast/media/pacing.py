"""Repeat a source, or play it at the speed of life."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from layercast.errors import ConfigError
from layercast.media.base import Frame, Source

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


class Paced(Source):
    """A source in real time: each frame comes when it is due, stamped with the time at which it came.

    A consumer that falls behind by more than one frame slows the source down; no burst follows.

    Args:
        frame_rate: frames per second; None keeps the source's own timing.
        clock, sleep, wall: seconds, seconds to wait, seconds since the Unix epoch; a test passes its own.
    """

    def __init__(
        self,
        source: Source,
        frame_rate: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if frame_rate is not None and not 0 < frame_rate <= 1000:
            raise ConfigError(
                f"impossible frame rate {frame_rate:g}", hint="use more than 0 and at most 1000"
            )
        self._source = source
        self._fixed = frame_rate is not None or not source.frame_rate
        self._clock, self._sleep, self._wall = clock, sleep, wall
        self.frame_rate = frame_rate or source.frame_rate or DEFAULT_RATE
        self.length = source.length

    def __iter__(self) -> Iterator[Frame]:
        due_s: float | None = None
        before_us = 0
        for image, timestamp_us in self._source:
            gap_s = 1 / self.frame_rate if self._fixed else max(0, timestamp_us - before_us) / 1e6
            before_us = timestamp_us
            now_s = self._clock()
            due_s = now_s if due_s is None else max(due_s + gap_s, now_s - gap_s)
            if due_s > now_s:
                self._sleep(due_s - now_s)
            yield image, round(self._wall() * 1e6)

    def close(self) -> None:
        self._source.close()
