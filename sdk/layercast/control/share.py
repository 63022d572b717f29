"""Dividing one receiver's rate among its streams so that the sum of the stamped gains is greatest.

Layers are a prefix, so a stream's choice is a point on its curve of gain over bytes. On the upper concave
hull of that curve the greedy choice, always the segment that buys most per bit, is optimal up to the last
segment (Shoham and Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers").

>>> talk = Demand(ends=(0, 100, 1100), gains_db=(10.0, 1.0), frame_rate=10)
>>> view = Demand(ends=(0, 100, 600), gains_db=(10.0, 5.0), frame_rate=10)
>>> share(64_000, [talk, view])
[16000.0, 48000.0]
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2


@dataclass(frozen=True, slots=True)
class Demand:
    """One stream's usual frame.

    Attributes:
        ends: bytes with 0, 1, ... layers.
        gains_db: what each layer adds, dB; empty when the sender does not state it.
        frame_rate: frames per second.
    """

    ends: Sequence[float]
    gains_db: Sequence[float]
    frame_rate: float

    def within(self, cap_bps: float) -> Demand:
        """What of it counts under a cap, bits per second: the layer that the cap cuts counts in part."""
        most = cap_bps / 8 / self.frame_rate if self.frame_rate > 0 else float("inf")
        whole = max(0, bisect_right(self.ends, most) - 1)
        if whole + 1 >= len(self.ends):
            return self
        before, after = self.ends[whole], self.ends[whole + 1]
        gains = list(gains_or_guess(self.ends, self.gains_db)[: whole + 1])
        gains[whole] *= max(0.0, most - before) / (after - before)
        return Demand((*self.ends[: whole + 1], max(before, most)), gains, self.frame_rate)


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of layers on the concave hull: `size` bytes that buy `gain` dB."""

    size: float
    gain: float

    @property
    def slope(self) -> float:
        """Gain per byte."""
        return self.gain / self.size if self.size > 0 else float("inf")


def gains_or_guess(ends: Sequence[float], gains_db: Sequence[float]) -> Sequence[float]:
    """The stated gains, or what rate-distortion theory expects: 6 dB for each doubling of the bytes."""
    if len(gains_db) == len(ends) - 1:
        return gains_db
    return [6.0 * log2((1 + after) / (1 + before)) for before, after in pairwise(ends)]


def hull(ends: Sequence[float], gains_db: Sequence[float]) -> list[Segment]:
    """Segments of the upper concave hull of gain over bytes, their slopes falling."""
    segments: list[Segment] = []
    for number, gain in enumerate(gains_or_guess(ends, gains_db)):
        start = ends[number] if number else 0.0  # a unit's header is paid for with its first layer
        segment = Segment(max(0.0, ends[number + 1] - start), max(0.0, gain))
        while segments and segments[-1].slope <= segment.slope:
            before = segments.pop()
            segment = Segment(before.size + segment.size, before.gain + segment.gain)
        segments.append(segment)
    return segments


def share(rate_bps: float, demands: Sequence[Demand]) -> list[float]:
    """Bits per second for each stream; what nobody needs is divided evenly, as room to grow."""
    offers = sorted(
        (
            (segment.slope, stream, segment.size * demand.frame_rate * 8)
            for stream, demand in enumerate(demands)
            for segment in hull(demand.ends, demand.gains_db)
        ),
        key=lambda offer: -offer[0],
    )
    given = [0.0] * len(demands)
    left = rate_bps
    for _, stream, rate in offers:
        part = min(left, rate)
        given[stream] += part
        left -= part
    return [part + left / len(demands) for part in given]
