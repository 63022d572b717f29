"""When a receiver reports what arrived: often while its link is being explored, seldom while all is well.

Pure: arrivals in, "now" or "later" out. While something changes, every arrival is reported, soon and with its own
time. While frames come whole and none has waited, the newest of some frames speaks for all of them; the first late
one has all of those reported at once, and a second one after it that has not clearly waited less makes reports dense: a
single one, or several that came at once, is jitter, and on a busy machine those that all receivers then send make the
next frames late. A report costs a relay about a third of what
a frame does (docs/transport.md).

Who was calm for long reports more and more seldom. Nothing is lost by it while frames come in time: the first late one
is reported at once, whole and with all before it, and so is it when frames stay away. The other end sees from each
report for how long it may have to wait for the next one (control.estimator, Outbox.acknowledge).
"""

from __future__ import annotations

from math import exp, inf

REPORT_INTERVAL_S = 0.02
"""Least time between two reports while restless, in seconds; after a pause one goes out at once. Less than a frame at
30 frames/s: with one per 0.05 s a step of the link from 3 to 0.6 Mbit/s made frames up to 0.8 s late, now 0.65 s
(docs/control.md)."""

WEARY_S = 0.07
"""Usually later than the quickest of late by this, in seconds, more than an allocator lets wait on a link that it has
found, a restless receiver's frames wait for a processor, and dense reports are what keeps it busy: 90 receivers beside
their relay and senders on two slow cores got 86 % of the frames, a fifth of each and 0.1 s late, for as long as it went
on, and all of them whole with reports every 0.1 s."""

WEARY_AFTER_S = 2.0
"""For so long on one side of it, seconds, before reports become less dense or dense again: longer than an allocator
takes to find what a link carries after a change."""

WEARY_INTERVAL_S = 0.1
"""Time between two reports then, in seconds."""

USUAL_DELAY = 1 / 8
"""By this share of the difference, per frame, the usual delay follows the present one."""

ASKED_MOST_S = 1.0
"""No relay has a receiver wait longer than this with its reports, seconds."""

CALM_INTERVAL_S = 0.18
"""Time between reports while calm, in seconds: every sixth frame at 30 frames/s. Well below Window.max_age_s, so that a
missing report closes no window."""

CALM_SLACK_S = 0.06
"""A calm report waits so long for the next frame, in seconds: reports that follow frames come to a relay together,
which costs it less than one by one."""

WAITING_S = 0.02
"""A frame that came later than the quickest of late by more than this, in seconds, has waited somewhere. What the
allocator takes for a clear link (control.rate.CLEAR_S)."""

SOONER_S = 0.01
"""... and when the next one, late as well, has waited less by this, in seconds, whatever held both up is over: a link
whose queue grows makes frames later and later, and a processor that was away lets what it held go all at once."""

RESTLESS_S = 1.0
"""For how long after two late frames in a row, or one that lacks layers, reports stay dense, seconds."""

REPORTING_S = 0.05
"""For how long after a single one, seconds: until its report is written."""

FORGET = 1 / 256
"""By this share of the difference, per frame, the quickest delay gives way to longer ones: clocks drift, routes
change."""

QUIET_AFTER_S = 2.5
"""Calm for so long, without a single late frame, and each report may follow its predecessor later than that one did,
seconds: longer than an allocator takes to grow beyond what a link carries."""

QUIET_GROWTH = 1.5
"""... by this factor; the other end allows for it."""

QUIET_INTERVAL_S = 0.6
"""Up to this, seconds: every 18th frame at 30 frames/s. What a dead link swallows before it is noticed grows by it, and
beyond it little is won: at twice this a relay would save another fiftieth of its time."""

QUIET_FRAMES = 24
"""Arrivals that are reported at the latest, well below Window.max_frames..."""

QUIET_BYTES = 1 << 20
"""... and so many bytes, well below Window.max_bytes."""

ABSENT = 3.0
"""Frames that stay away for so many of their usual intervals are news: the link may have stopped..."""

ABSENT_S = 0.1
"""... but not before this, seconds."""

NEAR_BUDGET = 0.85
"""Who gets this share of the bitrate that it asked for lacks nothing, whatever layers there would be more: its relay's
token bucket cuts them, and there is no link to follow. A little less, and the link may be what cuts."""

RATE_S = 3.0
"""Over so long the rate is taken, seconds: sizes wander within one."""

USUAL = 1 / 8
"""By this share of the difference, per frame, the usual interval follows the present one."""


class ReportPace:
    """One subscription's pace; made anew for each connection.

    Args:
        seldom: report seldom while all is well. Not where several subscriptions share a link: what one of them does not
            tell of it, the others suffer.
    """

    def __init__(self, *, seldom: bool = True) -> None:
        self._seldom = seldom
        self._reported_s = self._restless_until_s = -inf
        self._delay_s: float | None = None
        self._turning_s = inf
        self._weary = False
        self._asked_s = 0.0
        self._least_s = inf
        self._late_s = -inf
        self._quiet_from_s = inf
        self._quiet_interval_s = CALM_INTERVAL_S
        self._arrived_s = self._usual_s = 0.0
        self._frames = self._bytes = 0
        self._rate_bps = 0.0

    def arrived(
        self, now_s: float, delay_s: float, whole: bool, size: int = 0, budget_bps: float | None = None
    ) -> bool:
        """A frame came.

        Args:
            now_s: monotonic seconds.
            delay_s: capture to arrival; only differences count, so the clocks need not agree.
            whole: it has all layers that it could have. The allocator at the other end knows when it sent less, and
                waits longer for a report when it did not (control.adaptive.SELDOM_S).
            size: bytes.
            budget_bps: the most that was asked for, bits per second; None: no limit.

        Returns:
            Whether a report is due now.
        """
        self._least_s = min(delay_s, self._least_s + (delay_s - self._least_s) * FORGET)
        before_s, self._late_s = self._late_s, delay_s - self._least_s
        self._learn(now_s, delay_s)
        late = self._late_s > WAITING_S
        lacks = not whole and (budget_bps is None or self._rate_bps < NEAR_BUDGET * budget_bps)
        if lacks or not self._seldom or (late and WAITING_S < before_s < self._late_s + SOONER_S):
            self._restless_until_s = now_s + RESTLESS_S
        elif late:
            self._restless_until_s = max(self._restless_until_s, now_s + REPORTING_S)
        if self._arrived_s:
            passed_s = now_s - self._arrived_s
            self._usual_s += (passed_s - self._usual_s) * USUAL
            # The mean of an exponential window: what came in between has faded, this frame counts whole.
            self._rate_bps = self._rate_bps * exp(-passed_s / RATE_S) + size * 8 / RATE_S
        self._arrived_s = now_s
        self._frames += 1
        self._bytes += size
        passed_s = now_s - self._reported_s
        return passed_s >= self._interval_s(now_s) or (
            passed_s >= CALM_INTERVAL_S and (self._frames >= QUIET_FRAMES or self._bytes >= QUIET_BYTES)
        )

    def ask(self, interval_s: float) -> None:
        """The relay wants no more reports than one in so many seconds; those that it gets are to speak for all."""
        self._asked_s = min(interval_s, ASKED_MOST_S)

    def brief(self, now_s: float) -> bool:
        """Whether the newest arrival tells all there is to tell."""
        return self._asked_s > 0 or self.calm(now_s)

    def calm(self, now_s: float) -> bool:
        """Whether frames come whole and in time."""
        return now_s >= self._restless_until_s

    def due_s(self, now_s: float) -> float:
        """When to report if no other frame comes, monotonic seconds."""
        interval_s = self._interval_s(now_s)
        due_s = self._reported_s + interval_s + (CALM_SLACK_S if self.calm(now_s) else 0.0)
        return min(due_s, now_s + self._absent_s) if interval_s > CALM_INTERVAL_S else due_s

    def reported(self, now_s: float) -> None:
        """A report goes out."""
        if not self.calm(now_s) or self._quiet_from_s == inf or now_s - self._arrived_s >= self._absent_s:
            self._quiet_from_s = max(now_s, self._restless_until_s) + QUIET_AFTER_S
            self._quiet_interval_s = CALM_INTERVAL_S
        elif now_s >= self._quiet_from_s:
            self._quiet_interval_s = min(QUIET_INTERVAL_S, QUIET_GROWTH * self._quiet_interval_s)
        self._reported_s = now_s
        self._frames = self._bytes = 0

    def _learn(self, now_s: float, delay_s: float) -> None:
        """What delay is usual, and whether it has been too long for long."""
        if self._delay_s is None:
            self._delay_s = delay_s
        self._delay_s += (delay_s - self._delay_s) * USUAL_DELAY
        if (self._delay_s - self._least_s > WEARY_S) == self._weary:
            self._turning_s = now_s
        elif now_s - self._turning_s >= WEARY_AFTER_S:
            self._weary, self._turning_s = not self._weary, now_s

    @property
    def _absent_s(self) -> float:
        return max(ABSENT_S, ABSENT * self._usual_s)

    def _interval_s(self, now_s: float) -> float:
        if self.calm(now_s):
            return max(self._asked_s, self._quiet_interval_s)
        return max(self._asked_s, WEARY_INTERVAL_S if self._weary else REPORT_INTERVAL_S)
