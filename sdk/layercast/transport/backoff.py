"""How long to wait before trying again: exponential with full jitter, reset only by success."""

from __future__ import annotations

import random

FIRST_S = 0.1
"""First wait in seconds: a restarted relay is back on its port in about as long."""

LAST_S = 1.5
"""Longest wait in seconds: how much later than necessary a healed peer may be noticed. A killed process takes up to a
second to start; with 3 s, one of 200 faults took more than 3 s until everybody had frames again."""

FACTOR = 1.8


class Backoff:
    """Waits that grow from FIRST_S to LAST_S, each drawn from its upper half so that crowds spread out.

    "Success" is for the caller to define; here it is that frames flow, not that a port answers.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._failures = 0

    @property
    def failures(self) -> int:
        """Waits since the last success."""
        return self._failures

    def succeeded(self) -> None:
        """Frames flow: start over from FIRST_S."""
        self._failures = 0

    def soon_s(self) -> float:
        """A wait of no consequence: the peer is well and asks for another connection."""
        return FIRST_S * self._rng.uniform(0.1, 0.4)

    def next_s(self) -> float:
        """The next wait in seconds."""
        ceiling = min(LAST_S, FIRST_S * FACTOR ** min(self._failures, 32))
        self._failures += 1
        return ceiling * self._rng.uniform(0.5, 1.0)
