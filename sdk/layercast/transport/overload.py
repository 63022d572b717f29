"""When a relay has more to do than its processor can: half of the frames in time, rather than all of them late.

A crowd that joins at once costs most: until each link is known every frame is decided on by itself, and reports come on
top. If that is more than a processor can do, frames come late, which looks like a link that carries less; so nobody's
link is ever known, and the relay stays busy for good. With half of the frames there is time to find out, and then all
of them cost less than those did; so they come back one eighth at a time. Pure: times go in, how many frames go out
comes out.
"""

from __future__ import annotations

WINDOW_S = 1.0
"""Over so long load is judged, seconds: what passes by itself sooner is not worth a frame."""

BUSY = 0.93
"""Share of a core from which the relay itself is what keeps it from being in time..."""

LAG_S = 0.005
"""... if its event loop also runs things later than they are due by this in the mean, seconds. With a core to itself
and more receivers than it can serve it was 0.98 of it and 8 to 25 ms, with as many as it just could 0.85 and 10."""

OF = 8
"""Frames go out in so many steps: none of eight would be too few, eight of eight are all."""

RELAPSE_S = 20.0
"""If it is too much again within this time, seconds, a quarter of the frames is left out more, not half: what is too
much is nearer then."""


class Overload:
    """One relay's.

    Attributes:
        serving: of every OF frames, so many go out.
    """

    def __init__(self) -> None:
        self.serving = OF
        self._since_s: float | None = None
        self._cpu_s = 0.0
        self._lag_s = 0.0
        self._samples = 0
        self._cut_s = float("-inf")

    def sample(self, now_s: float, lag_s: float, cpu_s: float, crowded: bool) -> bool:
        """A sample of the load, several times per window.

        Args:
            lag_s: how much later than due the event loop ran this, seconds.
            cpu_s: processor time that the relay has taken so far, seconds.
            crowded: whether many receivers are still finding out what their links carry: only then fewer frames lead
                anywhere.

        Returns:
            Whether `serving` has changed.
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
        before = self.serving
        if not busy:
            # One step at a time: each is a little more than the links are known to carry.
            self.serving = min(OF, before + 1)
        elif crowded:
            self.serving = max(1, before * 3 // 4 if now_s - self._cut_s < RELAPSE_S else before // 2)
            self._cut_s = now_s
        return self.serving != before


def goes_out(number: int, serving: int) -> bool:
    """Whether frame `number` does, evenly spread, where `serving` of OF do."""
    return number * serving % OF < serving
