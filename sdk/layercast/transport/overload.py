"""When a relay has more to do than its processor can: every second frame in time, rather than all of them late.

A crowd that joins at once costs most: until each link is known every frame is decided on by itself, and reports come on
top. If that is more than a processor can do, frames come late, which looks like a link that carries less; so nobody's
link is ever known, and the relay stays busy for good. With half of the frames there is time to find out, and then all
of them cost less than those did. Pure: times go in, "serve every n-th frame" comes out.
"""

from __future__ import annotations

WINDOW_S = 1.0
"""Over so long load is judged, seconds: what passes by itself sooner is not worth a frame."""

BUSY = 0.93
"""Share of a core from which the relay itself is what keeps it from being in time..."""

LAG_S = 0.005
"""... if its event loop also runs things later than they are due by this in the mean, seconds. With a core to itself
and more receivers than it can serve it was 0.98 of it and 8 to 25 ms, with as many as it just could 0.85 and 10."""

HOLD_S = 4.0
"""Frames are left out until the crowd knows its links, or for so long, seconds."""

RELAPSE_S = 20.0
"""If it is too much again within this time, seconds, they are left out for twice as long as the last time, whoever
knows what..."""

HOLD_MOST_S = 120.0
"""... up to this, seconds."""

LEAST_OFTEN = 8
"""At least every so-many-th frame goes out."""


class Overload:
    """One relay's.

    Attributes:
        every: serve every so-many-th frame; 1: all of them.
    """

    def __init__(self) -> None:
        self.every = 1
        self._since_s: float | None = None
        self._cpu_s = 0.0
        self._lag_s = 0.0
        self._samples = 0
        self._hold_s = HOLD_S
        self._until_s = self._ended_s = float("-inf")
        self._relapsed = False

    def sample(self, now_s: float, lag_s: float, cpu_s: float, crowded: bool) -> bool:
        """A sample of the load, several times per window.

        Args:
            lag_s: how much later than due the event loop ran this, seconds.
            cpu_s: processor time that the relay has taken so far, seconds.
            crowded: whether many receivers are still finding out what their links carry: only then half of the frames
                lead anywhere.

        Returns:
            Whether `every` has changed.
        """
        if self._since_s is None:
            self._since_s, self._cpu_s = now_s, cpu_s
        self._lag_s += lag_s
        self._samples += 1
        passed_s = now_s - self._since_s
        if passed_s < WINDOW_S:
            return False
        busy = (cpu_s - self._cpu_s) / passed_s >= BUSY and self._lag_s / self._samples >= LAG_S
        self._since_s, self._cpu_s, self._lag_s, self._samples = now_s, cpu_s, 0.0, 0
        before = self.every
        if before > 1 and (now_s >= self._until_s or not (crowded or self._relapsed)):
            self.every, self._ended_s = 1, now_s
        elif busy and crowded and before < LEAST_OFTEN:
            if before == 1:
                self._relapsed = now_s - self._ended_s < RELAPSE_S
                self._hold_s = min(HOLD_MOST_S, 2 * self._hold_s) if self._relapsed else HOLD_S
                self._until_s = now_s + self._hold_s
            self.every = 2 * before
        return self.every != before
