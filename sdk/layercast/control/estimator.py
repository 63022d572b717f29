"""What the acknowledgements say about a link: its queue, its trend, its capacity.

The link is seen as a queue: a frame waits for the ones before it, is sent at the link's rate, then travels.
The clocks of both ends are not synchronised, so only differences count: the one-way delay `arrival - sent`
(offset unknown) less the smallest one seen lately, when the queue was empty. From that, Lindley's recursion
gives the moment at which the link was done with each frame, on the sending end's clock, and so how long the
next frame waited. The trend is the slope of the delay (trendline filter of Carlucci et al. 2016, "Analysis
and design of the Google congestion control for WebRTC"); the capacity is what was delivered while the queue
was not empty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

MAX_IN_FLIGHT = 256
"""Frames sent and not acknowledged whose times are kept; four seconds at 60 frames/s. Older ones are
forgotten: their acknowledgements have vanished."""

MAX_HISTORY = 128
"""Acknowledged frames kept, two seconds at 60 frames/s: longer than any window below."""

BASE_WINDOW_S = 30.0
"""The smallest delay of so many seconds is the delay of the empty link. At 100 ppm of clock skew it is wrong
by 3 ms at most; a route that got longer is noticed sooner, by draining (see control.rate)."""

BASE_TOLERANCE_S = 0.005
"""A delay this near to the smallest one confirms it, seconds: timer and scheduling noise."""

STANDING_S = 0.1
"""The standing queue is the least wait in this time, and in at least STANDING_FRAMES: one large frame, or one
late by jitter, is no congestion."""

STANDING_FRAMES = 3

TREND_S = 0.3
"""Window of the delay's slope, seconds: about ten frames, as the trendline filter of GCC takes 20 packets."""

STALL_S = 1.0
"""A longer gap between two arrivals is an outage or a stopped receiver, and no measure of capacity, seconds."""

MIN_SPAN_S = 0.04
"""Shortest busy stretch that gives a capacity, in seconds of arrivals; shorter ones measure buffers."""

QUIET_S = 0.15
"""An acknowledgement that speaks for several frames and comes so long after the one before, seconds, was not slow: the
receiver reports seldom because all is well (transport.pace)."""

FORWARD_JITTER_S = 2.0
"""Time over which the slowest acknowledgement path is remembered, seconds."""


_Flight = tuple[object, int, float, int]
"""Stream, frame id, when it was sent, bytes. One is made for every frame sent to anybody: a class would cost a relay
three times as much."""


@dataclass(slots=True)
class _Arrival:
    arrival_s: float
    delay_s: float
    wait_s: float
    delivered: int
    busy: bool


class _Least:
    """Smallest value of a moving window, kept as one minimum per tenth of it."""

    __slots__ = ("_buckets", "_step_s", "_window_s", "value")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._step_s = window_s / 10
        self._buckets: deque[list[float]] = deque(maxlen=12)  # [start, minimum]
        self.value = 0.0

    def add(self, now_s: float, value: float) -> None:
        if self._buckets and now_s - self._buckets[-1][0] < self._step_s:
            if value < self._buckets[-1][1]:
                self._buckets[-1][1] = value
                if value < self.value:
                    self.value = value
            return
        self._buckets.append([now_s, value])
        while self._buckets[0][0] < now_s - self._window_s:
            self._buckets.popleft()
        self.value = min(least for _, least in self._buckets)

    def reset(self, now_s: float, value: float) -> None:
        self._buckets.clear()
        self.add(now_s, value)


class LinkEstimator:
    """One receiver's link. All arrivals must come from one clock.

    Several streams may share it: `stream` tells their frames apart, each object compared by identity.

    Attributes:
        patience_s: no acknowledgement is overdue before so long, seconds: receivers may report seldom.
        impatient_since_s: ... and none was expected sooner before this moment, this end's clock.
        quiet_s: how long the receiver had said nothing when it last spoke for several frames at once, seconds; 0.0
            if it has spoken for a single one since.
        serving_bps: the rate at which the link sent the newest frame: one noisy sample, but the first to tell
            of a sudden drop.
    """

    def __init__(self) -> None:
        self._flights: deque[_Flight] = deque(maxlen=MAX_IN_FLIGHT)
        self._history: deque[_Arrival] = deque(maxlen=MAX_HISTORY)
        self._base = _Least(BASE_WINDOW_S)
        self._ack_path = _Least(FORWARD_JITTER_S)  # of the negated delay: its least is the slowest path
        self._base_seen_s = 0.0
        self._fresh_base: float | None = None
        self._done_s = float("-inf")
        self.serving_bps = float("inf")
        self.patience_s = 0.0
        self.impatient_since_s = float("-inf")
        self.quiet_s = 0.0
        self._heard_s = float("inf")
        self._delivered = 0

    def on_sent(self, now_s: float, frame_id: int, size: int, stream: object = None) -> None:
        """`size` bytes went out as frame `frame_id`; ids of a stream grow."""
        self._flights.append((stream, frame_id, now_s, size))

    def on_ack(
        self, now_s: float, frame_id: int, arrival_s: float, rate_bps: float, stream: object = None
    ) -> bool:
        """A frame arrived, and whatever was sent of its stream before.

        Args:
            now_s: when the acknowledgement came, this end's clock.
            frame_id, stream: as in `on_sent`.
            arrival_s: arrival of its last byte, the receiver's clock, seconds of any origin.
            rate_bps: what the link is taken to carry, bits per second.

        Returns:
            False if the frame is unknown, repeated or older than what arrived before: it says nothing new.
        """
        arrived = self._land(stream, frame_id)
        if not arrived:
            return False
        for _, _, _, size in arrived:
            self._delivered += size
        (_, _, first_sent_s, first_size), (_, _, sent_s, size) = arrived[0], arrived[-1]
        last = self._history[-1] if self._history else None
        if last is not None and arrival_s < last.arrival_s:
            return False
        delay_s = arrival_s - sent_s
        base_s = self._rebase(now_s, delay_s, size * 8 / rate_bps)
        begun_s = max(first_sent_s, self._done_s)
        self.serving_bps = (
            (self._delivered - (last.delivered if last else 0)) * 8 / max(1e-6, arrival_s - base_s - begun_s)
        )
        silent_s, self._heard_s = max(0.0, now_s - self._heard_s), now_s
        self.quiet_s = silent_s if len(arrived) > 1 else 0.0
        busy = last is not None and first_sent_s < self._done_s and arrival_s < last.arrival_s + STALL_S
        if len(arrived) > 1 and silent_s < QUIET_S:
            # Its own acknowledgement never came: this is how long one may take.
            self._ack_path.add(now_s, min(begun_s + first_size * 8 / rate_bps + base_s, arrival_s) - now_s)
        self._done_s = arrival_s - base_s
        self._ack_path.add(now_s, arrival_s - now_s)
        wait_s = max(0.0, self._done_s - self._flights[0][2]) if self._flights else 0.0
        self._history.append(_Arrival(arrival_s, delay_s, wait_s, self._delivered, busy))
        return True

    def forget(self, stream: object) -> None:
        """No more acknowledgements of `stream` will come."""
        self._flights = deque((each for each in self._flights if each[0] is not stream), MAX_IN_FLIGHT)

    def _land(self, stream: object, frame_id: int) -> list[_Flight]:
        """The stream's frames up to `frame_id`, from now on no longer in flight; none if that is not in flight."""
        flights = self._flights
        landed: list[_Flight] = []
        others: list[_Flight] = []
        for flight in flights:
            (landed if flight[0] is stream else others).append(flight)
            if flight[1] == frame_id and flight[0] is stream:
                break
        else:
            return []
        for _ in range(len(landed) + len(others)):
            flights.popleft()
        flights.extendleft(reversed(others))
        return landed

    # --- the queue ------------------------------------------------------------------------------------------

    @property
    def wait_s(self) -> float:
        """How long the frame after the last acknowledged one waited in the queue, seconds."""
        return self._history[-1].wait_s if self._history else 0.0

    @property
    def standing_s(self) -> float:
        """The queue that did not empty lately, seconds."""
        if len(self._history) < STANDING_FRAMES:
            return 0.0
        least, since_s = float("inf"), self._history[-1].arrival_s - STANDING_S
        for count, entry in enumerate(reversed(self._history)):
            if count >= STANDING_FRAMES and entry.arrival_s < since_s:
                break
            if entry.wait_s < least:
                least = entry.wait_s
                if not least:
                    break
        return least

    @property
    def slope(self) -> float:
        """Seconds by which the delay grows per second (least squares); 0.0 while there is too little to say."""
        entries = list(self._recent(TREND_S))
        count = len(entries)
        if count < 3:
            return 0.0
        origin = entries[0]
        sum_x = sum_y = sum_xx = sum_xy = 0.0
        for entry in entries:
            x, y = entry.arrival_s - origin.arrival_s, entry.delay_s - origin.delay_s
            sum_x += x
            sum_y += y
            sum_xx += x * x
            sum_xy += x * y
        spread = sum_xx - sum_x * sum_x / count
        return (sum_xy - sum_x * sum_y / count) / spread if spread > 1e-9 else 0.0

    def capacity_bps(self, window_s: float) -> float | None:
        """What the link delivered during the last busy stretch, bits per second; None if it was not busy.

        Args:
            window_s: take no more than this much of the stretch, seconds.
        """
        newest = first = None
        for entry in reversed(self._history):
            if newest is None:
                newest = entry
            else:
                first = entry
                if newest.arrival_s - first.arrival_s >= window_s:
                    break
            if not entry.busy:
                break
        if newest is None or first is None:
            return None
        span_s = newest.arrival_s - first.arrival_s
        return (newest.delivered - first.delivered) * 8 / span_s if span_s >= MIN_SPAN_S else None

    def delivered_bps(self, window_s: float) -> float | None:
        """What arrived over the last `window_s` of arrivals, bits per second; None before two frames did."""
        entries = list(self._recent(window_s))
        if len(entries) < 2:
            return None
        span_s = entries[0].arrival_s - entries[-1].arrival_s
        return (entries[0].delivered - entries[-1].delivered) * 8 / span_s if span_s > 0 else None

    def late_s(self, now_s: float, rate_bps: float) -> float:
        """How overdue the next acknowledgement is if the link runs at `rate_bps`, seconds; 0.0 if it is not.

        The slowest acknowledgement of the last seconds is what is waited for, so jitter does not count.
        """
        if not (self._flights and self._history):
            return 0.0
        # Asked twice for every frame that is decided on: without `max`, which took half of the time.
        _, _, begun_s, size = self._flights[0]
        if self._done_s > begun_s:
            begun_s = self._done_s
        round_s = self._base.value - self._ack_path.value
        due_s = begun_s + size * 8 / rate_bps + (round_s if round_s > self.patience_s else self.patience_s)
        return 0.0 if now_s <= due_s else max(0.0, now_s - max(due_s, self._expected_s))

    def slowed_bps(self, now_s: float) -> float:
        """What the link carries at most, if the next acknowledgement is missing because it is slow, bits per second.

        Its frame began to be sent when the one before was done, and was not done a `round_s` ago.
        """
        if not (self._flights and self._history):
            return float("inf")
        _, _, sent_s, size = self._flights[0]
        if now_s < self._expected_s:
            return float("inf")
        sending_s = now_s - max(self.round_s, self.patience_s) - max(self._done_s, sent_s)
        return size * 8 / sending_s if sending_s > 1e-3 else float("inf")

    @property
    def _expected_s(self) -> float:
        """When a receiver that was quiet must have answered what made this end impatient, this end's clock."""
        return self.impatient_since_s + self.round_s

    @property
    def round_s(self) -> float:
        """From the far end of the queue to the acknowledgement, the slowest of late, seconds."""
        return self._base.value - self._ack_path.value

    @property
    def feedback_s(self) -> float:
        """How long it takes until what is sent shows in `standing_s`, seconds."""
        return self.round_s + self._span_s(STANDING_FRAMES)

    @property
    def notice_s(self) -> float:
        """How long it takes until what is sent shows in `wait_s`, seconds."""
        return self.round_s + self._span_s(1)

    def _span_s(self, frames: int) -> float:
        """From the arrival of the newest frame but so many to that of the newest, of those acknowledged."""
        if not self._history:
            return 0.0
        return self._history[-1].arrival_s - self._history[-min(frames + 1, len(self._history))].arrival_s

    def backlog_s(self, now_s: float, rate_bps: float) -> float:
        """How long a frame sent now would wait if the link runs at `rate_bps`, seconds."""
        done_s = self._done_s
        for _, _, sent_s, size in self._flights:  # without `max`, which took a tenth of a decision's time
            done_s = (sent_s if sent_s > done_s else done_s) + size * 8 / rate_bps
        return max(0.0, done_s - now_s) + self.late_s(now_s, rate_bps)

    @property
    def known(self) -> bool:
        """Whether anything has been acknowledged yet."""
        return bool(self._history)

    @property
    def in_flight(self) -> int:
        """Frames sent and not acknowledged."""
        return len(self._flights)

    # --- the empty link -------------------------------------------------------------------------------------

    @property
    def base_seen_s(self) -> float:
        """When the last frame that met an empty link was acknowledged, this end's clock."""
        return self._base_seen_s

    def begin_rebase(self) -> None:
        """The queue is being drained: the smallest delay from here on is the empty link's."""
        self._fresh_base = float("inf")

    def end_rebase(self, now_s: float) -> None:
        """Believe what was seen since `begin_rebase`, if anything was."""
        if self._fresh_base is not None and self._fresh_base < float("inf"):
            self._done_s += self._base.value - self._fresh_base
            self._base.reset(now_s, self._fresh_base)
            self._base_seen_s = now_s
        self._fresh_base = None

    def _rebase(self, now_s: float, delay_s: float, serving_s: float) -> float:
        """Note a delay, of which the frame's own sending took about `serving_s`; return the empty link's."""
        if not self._history:
            self._base_seen_s = now_s
        elif delay_s - serving_s <= self._base.value + BASE_TOLERANCE_S:
            # Nothing was in this frame's way, so the old value is confirmed, or found a little too low.
            self._base_seen_s = now_s
            self._base.add(now_s, min(delay_s, max(self._base.value, delay_s - serving_s)))
        self._base.add(now_s, delay_s)
        if self._fresh_base is not None:
            self._fresh_base = min(self._fresh_base, delay_s - serving_s)
        return self._base.value

    def _recent(self, window_s: float) -> Iterator[_Arrival]:
        for entry in reversed(self._history):
            if entry.arrival_s < self._history[-1].arrival_s - window_s:
                return
            yield entry
