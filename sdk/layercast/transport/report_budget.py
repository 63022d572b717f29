"""How often a relay lets its subscribers report, so that listening to them does not cost more than serving them.

Dense reports help to follow a link; those of two hundred restless receivers are more than a relay's core can hear, the
frames come late for it, and late frames are what makes receivers report densely: without a bound, a busy relay stays
busy. So all reports together have a budget, and when they exceed it everybody is told to report less often, as RTCP's
participants do when they are many (RFC 3550, section 6.2). Pure: times go in, intervals come out.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_S = 0.3
"""Longest interval that is asked for, seconds: a relay counts on an acknowledgement within half a second (Window)."""

LEAST_S = 0.04
"""Below this nobody need be told anything, seconds."""

DENSE_S = 1 / 30
"""What an interval grows from, seconds: a report for each frame of a usual stream."""

WINDOW_S = 0.25
"""How often the reports of late are counted, seconds."""

AIM = 0.9
"""Who is asked for fewer reports is asked for this share of the budget, so that they do not exceed it by chance."""

ROOM = 2.5
"""With fewer reports than the budget by this factor the interval is halved, which at most doubles them..."""

ROOM_S = 2.0
"""... once it was so for as long as this, seconds."""


class ReportBudget:
    """One relay's.

    Args:
        per_s: reports of all subscribers per second.

    Attributes:
        interval_s: what subscribers are asked for now, seconds between two reports; 0.0: as often as it helps.
        is_crowded: so many are restless that their reports alone would exceed the budget.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self.interval_s = 0.0
        self._count = 0
        self._since_s: float | None = None
        self._room_since_s: float | None = None
        self.is_crowded = False

    def heard(self) -> None:
        """A report has come."""
        self._count += 1

    def update(self, now_s: float, restless: Callable[[], int]) -> bool:
        """Look at the reports of late, and at those to come.

        Args:
            restless: tells from how many subscribers dense reports are to be expected.

        Returns:
            Whether `interval_s` has changed. Between updates nothing is looked at.
        """
        passed_s = WINDOW_S if self._since_s is None else now_s - self._since_s
        if passed_s < WINDOW_S:
            return False
        excess = self._count / passed_s / self._per_s
        self._count, self._since_s = 0, now_s
        before_s = self.interval_s
        needed_s = restless() / self._per_s
        self.is_crowded = needed_s > DENSE_S
        if excess > 1:
            needed_s = max(needed_s, excess / AIM * max(before_s, DENSE_S))
        if excess * ROOM >= 1:
            self._room_since_s = None
        elif self._room_since_s is None:
            self._room_since_s = now_s
        if needed_s > max(before_s, DENSE_S):
            self.interval_s = min(MOST_S, needed_s)
        elif self._room_since_s is not None and now_s - self._room_since_s >= ROOM_S:
            self.interval_s = before_s / 2 if before_s / 2 >= LEAST_S else 0.0
            self._room_since_s = now_s
        return self.interval_s != before_s
