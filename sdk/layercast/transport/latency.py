"""A histogram of forwarding latencies, cheap enough to add to for every delivered frame."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper ends of the buckets, seconds: around the millisecond that a relay takes, up to its staleness bound."""


@dataclass(frozen=True, slots=True)
class LatencyStatistics:
    """How long frames spent in the relay, from the last byte in until gRPC took them for one subscriber.

    Attributes:
        counts: per bucket of BOUNDS_S, and one more for all above.
        total_s: sum of all latencies.
    """

    counts: tuple[int, ...]
    total_s: float


class Latency:
    """Counts latencies by bucket."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._total_s = 0.0

    def add(self, latency_s: float) -> None:
        """Count one."""
        self._counts[bisect_left(BOUNDS_S, latency_s)] += 1
        self._total_s += latency_s

    def statistics(self) -> LatencyStatistics:
        """Counts so far."""
        return LatencyStatistics(tuple(self._counts), self._total_s)
