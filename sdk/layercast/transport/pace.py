"""When a receiver reports what arrived: often while its link is being explored, seldom while all is well.

Pure: arrivals in, "now" or "later" out. While something changes, every arrival is reported, soon and with its own
time. While frames come whole and none has waited, the newest of some frames speaks for all of them; the first late
one has all of those reported at once, and a second one after it makes reports dense: a single one is jitter, and on a
busy machine those that all receivers then send make the next frames late. A report costs a relay about a third of what
a frame does (docs/transport.md).
"""

from __future__ import annotations

from math import inf

REPORT_INTERVAL_S = 0.02
"""Least time between two reports while restless, in seconds; after a pause one goes out at once. Less than a frame at
30 frames/s: with one per 0.05 s a step of the link from 3 to 0.6 Mbit/s made frames up to 0.8 s late, now 0.65 s
(docs/control.md)."""

CALM_INTERVAL_S = 0.18
"""Time between reports while calm, in seconds: every sixth frame at 30 frames/s. Well below Window.max_age_s, so that a
missing report closes no window."""

CALM_SLACK_S = 0.06
"""A calm report waits so long for the next frame, in seconds: reports that follow frames come to a relay together,
which costs it less than one by one."""

WAITING_S = 0.02
"""A frame that came later than the quickest of late by more than this, in seconds, has waited somewhere. What the
allocator takes for a clear link (control.rate.CLEAR_S)."""

RESTLESS_S = 1.0
"""For how long after two such frames in a row, or one that lacks layers, reports stay dense, seconds."""

REPORTING_S = 0.05
"""For how long after a single one, seconds: until its report is written."""

FORGET = 1 / 256
"""By this share of the difference, per frame, the quickest delay gives way to longer ones: clocks drift, routes
change."""


class ReportPace:
    """One subscription's pace; made anew for each connection."""

    def __init__(self) -> None:
        self._reported_s = self._restless_until_s = -inf
        self._least_s = inf
        self._late = False

    def arrived(self, now_s: float, delay_s: float, whole: bool) -> bool:
        """A frame came.

        Args:
            now_s: monotonic seconds.
            delay_s: capture to arrival; only differences count, so the clocks need not agree.
            whole: it has all layers that it could have. The allocator at the other end knows when it sent less, and
                waits longer for a report when it did not (control.adaptive.SELDOM_S).

        Returns:
            Whether a report is due now.
        """
        self._least_s = min(delay_s, self._least_s + (delay_s - self._least_s) * FORGET)
        before, self._late = self._late, delay_s > self._least_s + WAITING_S
        if not whole or (before and self._late):
            self._restless_until_s = now_s + RESTLESS_S
        elif self._late:
            self._restless_until_s = max(self._restless_until_s, now_s + REPORTING_S)
        return now_s - self._reported_s >= self._interval_s(now_s)

    def calm(self, now_s: float) -> bool:
        """Whether the newest arrival tells all there is to tell."""
        return now_s >= self._restless_until_s

    def due_s(self, now_s: float) -> float:
        """When to report if no other frame comes, monotonic seconds."""
        return self._reported_s + self._interval_s(now_s) + (CALM_SLACK_S if self.calm(now_s) else 0.0)

    def reported(self, now_s: float) -> None:
        """A report goes out."""
        self._reported_s = now_s

    def _interval_s(self, now_s: float) -> float:
        return CALM_INTERVAL_S if self.calm(now_s) else REPORT_INTERVAL_S
