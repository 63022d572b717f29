"""What is worth asking upstream for, given what the links of all subscribers carry.

Pure: rates and times in, a rate out. Asked for more at once, for less only when much less is enough for a while: each
change is a message up the whole chain, and a link that recovers must find layers to grow into.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

HEADROOM = 1.6
"""What is asked for, against what the best link takes now. An allocator grows only while its budget cuts frames: there
must be layers beyond what fits, and a second's growth of them."""

RAISE_BELOW = 1.25
"""Less headroom than this, and more is asked for at once."""

LOWER_ABOVE = 2.2
"""More headroom than this for LOWER_AFTER_S, and less is asked for."""

LOWER_AFTER_S = 3.0
"""Longer than a link takes to come back from a short break, seconds."""

UPDATE_EVERY_S = 0.1
"""How often the rates are looked at, seconds: three frames at 30 frames/s; the fastest growth makes 25 % in it."""


class LinkDemand:
    """The bitrate worth asking for; `bps` is infinite while some link is not known to have a limit."""

    def __init__(self) -> None:
        self.bps = inf
        self._next_s = -inf
        self._low_since_s: float | None = None

    def update(self, now_s: float, useful_bps: Iterable[float]) -> bool:
        """Look at what each subscriber can use now, bits per second.

        Returns:
            Whether `bps` changed. Between updates nothing is looked at.
        """
        if now_s < self._next_s:
            return False
        self._next_s = now_s + UPDATE_EVERY_S
        useful = max(useful_bps, default=inf)
        if useful * RAISE_BELOW > self.bps:
            return self._ask(useful * HEADROOM)
        if useful * LOWER_ABOVE >= self.bps:
            self._low_since_s = None
        elif self._low_since_s is None:
            self._low_since_s = now_s
        elif now_s - self._low_since_s >= LOWER_AFTER_S:
            return self._ask(useful * HEADROOM)
        return False

    def _ask(self, bps: float) -> bool:
        self._low_since_s = None
        changed = bps != self.bps
        self.bps = bps
        return changed
