"""Which frames came too late to be of use, seen from the receiving end.

A relay does not send what it knows would be late, but it cannot recall what it sent before a link broke down: that is
left to the receiver. Pure: capture and arrival times go in, "late" or not comes out. The clocks of both ends need not
agree: what counts is how much longer a frame took than the quickest of late.
"""

from __future__ import annotations

from math import inf

DRIFT = 2e-4
"""The quickest delay gives way to longer ones so fast, seconds per second: twice what two poor clocks drift apart."""

SLACK_S = 0.01
"""By so much the measure may be wrong after a minute without an empty link, seconds; the bound is kept this much
earlier."""

DOUBT_S = 2.0
"""If for so long every frame was late, seconds, it is the measure that is wrong: a camera's clock was set, or the route
changed. Then the newest frame is the quickest. A relay skips frames long before a queue lasts for so long."""


class Lateness:
    """One stream's frames against a bound.

    Args:
        bound_s: a frame that took longer than the quickest by more than this is late, seconds.
    """

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self._quickest_s = inf
        self._seen_s = self._in_time_s = -inf

    def is_late(self, captured_s: float, arrival_s: float) -> bool:
        """Whether the frame is of no use any more.

        Args:
            captured_s: the sender's clock.
            arrival_s: this end's clock, any origin; neither runs backwards by much.
        """
        delay_s = arrival_s - captured_s
        if delay_s <= self._quickest_s or arrival_s - self._in_time_s > DOUBT_S:
            self._quickest_s = delay_s
        else:
            self._quickest_s = min(delay_s, self._quickest_s + DRIFT * max(0.0, arrival_s - self._seen_s))
        self._seen_s = arrival_s
        if delay_s - self._quickest_s > max(self.bound_s - SLACK_S, self.bound_s / 2):
            return True
        self._in_time_s = arrival_s
        return False
