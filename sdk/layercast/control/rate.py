"""How fast to send to one receiver: fast down, careful around the known capacity, fast up when far below it.

In the manner of Google congestion control (Carlucci et al. 2016): a queue that stands and grows cuts the rate
to a fraction of what was delivered, a queue that merely stands is drained by a few per cent, an empty one lets
the rate grow. Growth rides on real layers: it happens only while the budget is what cuts the frames. Around
the capacity last measured it is slow, beyond it (the link has more room than it had) it doubles and doubles,
and far below the last rate known to be good it is fast at once.
"""

from __future__ import annotations

from math import exp, log

from layercast.control.budget import STEADY
from layercast.control.estimator import LinkEstimator

CONGESTED_S = 0.05
"""A standing queue of more than this that grows cuts the rate, seconds."""

CLEAR_S = 0.02
"""Below this the link counts as empty, seconds; between the two, upgrades are held."""

OVERLOADED_S = 0.12
"""Above this the rate is cut whether the queue grows or not, seconds; two thirds of what a frame may wait."""

RISING = 0.03
"""Slope of the delay from which it counts as growing, seconds per second: 3 % more was sent than fits."""

BETA = 0.95
"""The rate after a cut, of what was delivered. Little less is needed: the queue is drained by holding frames
back until it is clear."""

SETTLE_S = 0.6
"""A standing queue between CLEAR_S and CONGESTED_S is drained over this time, seconds."""

CUT_WINDOW_S = 0.15
"""Stretch whose delivered rate a cut believes, seconds: after a step down the older arrivals are history."""

CAPACITY_WINDOW_S = 0.4
"""Stretch whose delivered rate a correction believes, seconds: long enough to be a few per cent exact."""

START_BPS = 300_000.0
"""Rate before the first acknowledgement, bits per second: one coarse layer of most streams at 30 frames/s."""

MIN_BPS = 20_000.0
"""Least rate, bits per second: a coarse frame every second or so still probes the link."""

MAX_BPS = 10e9
"""Largest rate, bits per second: what no stream fills; keeps the number finite."""

GROWTH_START = 2.2
"""Growth before the first congestion, per second (e-fold): 0.3 to 3 Mbit/s in a second."""

GROWTH_RECOVER = 1.5
"""Growth far below the last good rate, per second: twice as much in half a second."""

FORGET = 0.6
"""What a cut leaves of the last good rate: an outage is recovered from fast, and after three cuts at the same
rate the past is forgotten."""

GROWTH_BACK = 0.8
"""Growth up to NEAR below the measured capacity, per second."""

GROWTH_PROBE = 0.07
"""Growth within NEAR of the measured capacity, per second: its queue shows at a few per cent of excess."""

VOLATILE = 2.0
"""On a link whose measured capacities differ by x (in logarithm, from one queue to the next, averaged), growth
near the capacity is VOLATILE * x per second if that is more: what was measured is soon out of date."""

VOLATILE_MOST = 0.5
"""Most that one difference counts, so that a single step does not make a link volatile."""

NEAR = 0.06
"""How far around the measured capacity growth is careful. Beyond it with no queue, the link has more room."""

STEP_S = 2.0
"""For how long after a step down every cut holds frames back until the queue is clear, seconds. At a link that stays,
what a probe queued drains by the rate alone, and the layer count does not dip."""

GROWTH_BEYOND = 0.2
"""Growth just beyond, per second; it doubles every GROWTH_DOUBLING_S."""

GROWTH_DOUBLING_S = 0.35
"""From GROWTH_BEYOND to GROWTH_MOST in 1.3 s, seconds."""

GROWTH_MOST = 1.2
"""Largest growth, per second: with 0.1 s until its queue is seen, 12 % too much."""

FEEDBACK_S = 0.15
"""What is sent shows in the acknowledgements after so long, seconds (30 frames/s, 40 ms of round trip); where
it takes longer, all growth is slower by as much, but what sends no more than NEAR too much until then."""

FAR_BELOW = 0.7
"""Below this share of the last good rate, recovery starts fast."""

RECOVER_AFTER_S = 0.3
"""... but only when the queue has been clear for this long, seconds."""

DRAIN_EVERY_S = 10.0
"""If no frame met an empty link for so long, the queue is drained once to see its delay again, seconds."""

STUCK_S = 2.0
"""If a queue stands for so long although the rate was lowered, the empty link's delay itself has changed."""

DOUBTFUL = 0.75
"""A queue drains when less is sent than it was delivering. If what is delivered falls below this share of what
the queue delivered at first, and yet the delay stays, there is no queue: the empty link's delay has changed."""

DRAIN_EXTRA_S = 0.03
"""What a drain withholds beyond the queue it knows of, in seconds of the link's rate."""

DRAIN_WATCH_S = 0.4
"""For how long after a drain the delay is watched, seconds: a round trip and a few frames."""

MAX_STEP_S = 0.25
"""Most time that one acknowledgement grows the rate for, seconds: longer silence is no sign of room."""

FALLING = -0.3
"""Slope of the delay from which even a long queue is left to drain by itself, seconds per second."""


class RateController:
    """The rate of one receiver. Feed `update` at every acknowledgement.

    Attributes:
        rate_bps: bits per second to send now.
        state: "start", "grow", "enough" (the budget cuts nothing), "hold" or "cut".
        draining: after a cut, until the queue is clear.
    """

    def __init__(self, start_bps: float = START_BPS) -> None:
        self.rate_bps = start_bps
        self.state = "start"
        self.draining = False
        self._capacity_bps: float | None = None
        self._good_bps = 0.0
        self._volatility = 0.0
        self._stepped_s = float("-inf")
        self._beyond_since_s: float | None = None
        self._last_s: float | None = None
        self._clear_since_s: float | None = None
        self._standing_since_s: float | None = None
        self._standing_bps: float | None = None
        self._rebase_until_s: float | None = None

    @property
    def link_bps(self) -> float:
        """What the link is taken to carry, for predicting waits: measured if it was busy lately, else the rate."""
        return self.rate_bps if self._capacity_bps is None else max(self._capacity_bps, self.rate_bps)

    @property
    def steady_bps(self) -> float:
        """The measured capacity while the rate is near it, and probes around it; else the rate."""
        if (
            self._capacity_bps is not None
            and abs(self.rate_bps - self._capacity_bps) < STEADY * self._capacity_bps
        ):
            return self._capacity_bps
        return self.rate_bps

    @property
    def measured(self) -> bool:
        """Whether the link has shown a limit."""
        return self._capacity_bps is not None

    def at_least(self, rate_bps: float) -> None:
        """Until the link has shown a limit, begin no lower than this: what the first layers alone need."""
        if self._capacity_bps is None and self._good_bps < rate_bps:
            self.rate_bps = max(self.rate_bps, min(MAX_BPS, rate_bps))

    def update(self, now_s: float, link: LinkEstimator, limited: bool, held: bool) -> float:
        """One acknowledgement has come.

        Args:
            now_s: this end's clock.
            link: what the acknowledgements say.
            limited: the budget has lately cut frames.
            held: do not grow (the receiver lags behind, or an acknowledgement is overdue).

        Returns:
            Bytes to withhold from the link once, usually 0.0: a drain.
        """
        passed_s = 0.0 if self._last_s is None else min(MAX_STEP_S, max(0.0, now_s - self._last_s))
        self._last_s = now_s
        standing_s = link.standing_s
        slope = link.slope if standing_s > CLEAR_S else 0.0
        rising = slope > RISING
        if standing_s > CLEAR_S:
            self._clear_since_s = None
            if self._standing_since_s is None:
                self._standing_since_s = now_s
            if (standing_s > CONGESTED_S and rising) or (standing_s > OVERLOADED_S and slope > FALLING):
                self._cut(now_s, link)
            else:
                self._correct(link, standing_s)
        else:
            self.draining = False
            if self._clear_since_s is None:
                self._clear_since_s = now_s
            if now_s - self._clear_since_s > RECOVER_AFTER_S:
                self._standing_since_s = self._standing_bps = None
            if held:
                self.state, self._clear_since_s = "hold", None
            elif not limited:
                self.state = "enough"
            else:
                self._grow(now_s, passed_s, link)
        return self._drain(now_s, link, standing_s, rising)

    def _cut(self, now_s: float, link: LinkEstimator) -> None:
        measured = link.capacity_bps(CUT_WINDOW_S) or link.delivered_bps(2 * CUT_WINDOW_S)
        if measured is None:
            return
        if self.state != "cut":
            self._good_bps = max(measured, FORGET * self._good_bps)
        self.state = "cut"
        before = self._capacity_bps
        if before is None or measured < (1 - STEADY) * before:
            self._stepped_s = now_s
        if now_s - self._stepped_s < STEP_S:
            self.draining = True
        self._note(measured)
        self.rate_bps = max(MIN_BPS, min(self.rate_bps, BETA * measured))

    def _correct(self, link: LinkEstimator, standing_s: float) -> None:
        self.state = "hold"
        if self._rebase_until_s is not None:
            return
        measured, newest = link.capacity_bps(CAPACITY_WINDOW_S), link.capacity_bps(CUT_WINDOW_S)
        if measured is None or newest is None:
            return
        if newest < FAR_BELOW * measured:
            measured = newest
        self._note(measured)
        fitting = measured * max(BETA, 1 - (standing_s - CLEAR_S) / SETTLE_S)
        self.rate_bps = max(MIN_BPS, min(self.rate_bps, fitting))

    def _note(self, measured: float) -> None:
        measured = max(MIN_BPS, measured)
        if self._standing_bps is None:
            self._standing_bps = measured
            if self._capacity_bps is not None:
                differs = min(VOLATILE_MOST, abs(log(measured / self._capacity_bps)))
                self._volatility += (differs - self._volatility) * 0.25
        self._capacity_bps = measured

    def _grow(self, now_s: float, passed_s: float, link: LinkEstimator) -> None:
        self.state = "grow"
        clear_s = 0.0 if self._clear_since_s is None else now_s - self._clear_since_s
        growth = self._growth(now_s, clear_s)
        # A frame that did not wait tells at once that there is no queue, one that did may have been large.
        feedback_s = max(FEEDBACK_S, link.notice_s if link.wait_s <= CLEAR_S else link.feedback_s)
        growth = max(growth * FEEDBACK_S / feedback_s, min(growth, NEAR / feedback_s))
        self.rate_bps = min(MAX_BPS, self.rate_bps * exp(growth * passed_s))
        self._good_bps = max(self._good_bps, self.rate_bps)

    def _growth(self, now_s: float, clear_s: float) -> float:
        if self._capacity_bps is None:
            return GROWTH_START
        ratio = self.rate_bps / self._capacity_bps
        if ratio <= 1 + NEAR:
            self._beyond_since_s = None
        probe = max(GROWTH_PROBE, VOLATILE * self._volatility)
        if self.rate_bps < FAR_BELOW * self._good_bps:
            return GROWTH_RECOVER if clear_s > RECOVER_AFTER_S else probe
        if ratio < 1 - NEAR:
            return GROWTH_BACK
        if ratio <= 1 + NEAR:
            return probe
        if self._beyond_since_s is None:
            self._beyond_since_s = now_s
        return min(GROWTH_MOST, GROWTH_BEYOND * 2 ** ((now_s - self._beyond_since_s) / GROWTH_DOUBLING_S))

    def _drain(self, now_s: float, link: LinkEstimator, standing_s: float, rising: bool) -> float:
        if self._rebase_until_s is not None:
            if now_s >= self._rebase_until_s:
                self._rebase_until_s = self._standing_since_s = self._standing_bps = None
                link.end_rebase(now_s)
            return 0.0
        if self._doubtful() and not rising:
            self._capacity_bps = self._standing_bps
        elif (self._standing_since_s is None or now_s - self._standing_since_s < STUCK_S) and (
            now_s - link.base_seen_s < DRAIN_EVERY_S
        ):
            return 0.0
        self._rebase_until_s = now_s + link.backlog_s(now_s, self.link_bps) + DRAIN_WATCH_S
        link.begin_rebase()
        return (standing_s + DRAIN_EXTRA_S) * self.link_bps / 8

    def _doubtful(self) -> bool:
        return (
            self._standing_bps is not None
            and self._capacity_bps is not None
            and self._capacity_bps < DOUBTFUL * self._standing_bps
        )
