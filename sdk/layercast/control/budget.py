"""A bitrate as a token bucket, the rule that spends it on frames, and the allocator of a fixed bitrate.

A frame of layercast has many thin layers, so the longest prefix that a frame's share of the rate can pay
leaves less than one layer unspent, and that is carried to the next frame: the sent rate sits at the cap, not
somewhere below it. Large frames (busy pictures, key frames) get a larger share and small ones a smaller, so
that the layer count, and with it the quality, stays even.

>>> allocator = FixedBudgetAllocator(max_bitrate_bps=80_000, max_layers=None)
>>> ends = (20, 200, 400, 600, 800)       # bytes of the unit with 0, 1, 2, 3, 4 layers
>>> [allocator.decide(n / 20, ends, FrameKind.KEY, ()) for n in range(1, 9)]
[4, 2, 3, 2, 3, 2, 3, 2]
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from math import inf

from layercast.bitstream.types import MAX_LAYERS, FrameKind
from layercast.errors import ConfigError

BURST_S = 0.1
"""Least depth of a bucket, in seconds of its rate: three frames at 30 frames/s. What a pause saves up goes
out as one burst, and waits that long at a link of this rate."""

DEBT_S = 0.08
"""How far a large frame may overdraw the bucket, in seconds of the rate: it waits that much longer on the
link, and the frames after it pay it off."""

PAY_OFF_S = 0.5
"""Time over which a debt, or what was saved up, is spread over the frames, in seconds: short enough that a
queue does not last, long enough that no single frame loses its layers."""

OVERDRAFT_S = 0.2
"""A first layer is still sent while the debt is smaller than this, in seconds of the rate: the large first
layer of a key frame is then paid off by the upper layers of the next frames, not by skipping them."""

MAX_DEBT_S = 60.0
"""Most debt, in seconds of the rate: one giant frame silences a peer for a minute at most."""

CAP_MARGIN = 0.015
"""Share of a cap left unspent, so that a burst does not lift the mean of ten seconds above it."""

MAX_INTERVAL_S = 2.0
"""Longest time between frames for which tokens are saved, in seconds; slower streams stay below their cap."""

MEAN_FRAMES = 30
"""Frames over which the usual size of a frame is averaged: about one second of video."""

LONG_FRAMES = 300
"""The same where the layer count is held: ten seconds. Over one second it followed the pictures, and turned twice as
often."""

MAX_RATIO = 4.0
"""Largest share of a frame against the usual one; a key frame is seldom more than a few delta frames."""

EVEN = 0.06
"""Frames whose sizes differ from the usual one by less than this share, on average, are even: then exact spending keeps
their layer count within one layer as well, and leaves nothing over."""

SPARE = 0.3
"""Share of that difference left unspent where frames are not even: room for the larger ones without fewer layers."""

HELD_S = 0.2
"""How far ahead of the rate the lower of the two layer counts may be spent, in seconds of the rate."""

HOLD = 0.25
"""The two layer counts move when the rate fits so much of a layer beyond them."""

STEADY = 0.15
"""They follow the link's capacity, not the rate that probes around it, while the two differ by less than this share."""

BAR = 0.25
"""What is withheld from the link is taken from the next frames, this share of each: seldom more than a layer."""

_GAPS = 9
"""Gaps between frames whose median is the frame interval; odd, and four outliers do not move it."""


class TokenBucket:
    """Bytes that may be sent, growing with time.

    Args:
        rate_bps: bits per second, > 0; may be set at any time.
        burst_s: depth in seconds of the rate; the bucket starts full.

    Raises:
        ConfigError: a rate or depth that is not positive.
    """

    __slots__ = ("_last_s", "_level", "burst_s", "rate_bps")

    def __init__(self, rate_bps: float, burst_s: float = BURST_S) -> None:
        if not (rate_bps > 0 and burst_s > 0):
            raise ConfigError(
                f"a budget of {rate_bps} bit/s and {burst_s} s", hint="both must be above 0; None is no limit"
            )
        self.rate_bps = rate_bps
        self.burst_s = burst_s
        self._level = self.bytes_of(burst_s)
        self._last_s: float | None = None

    def bytes_of(self, seconds: float) -> float:
        """What the rate is worth in `seconds`, bytes."""
        return self.rate_bps * seconds / 8

    def set_rate(self, rate_bps: float) -> None:
        """Another rate from now on; a debt stays as long as it was, in seconds."""
        if self._level < 0 and rate_bps < self.rate_bps:
            self._level *= rate_bps / self.rate_bps
        self.rate_bps = rate_bps

    def refill(self, now_s: float) -> None:
        """Add what the time since the last call is worth; time that runs backwards adds nothing."""
        if self._last_s is None:
            self._last_s = now_s
        elif now_s > self._last_s:
            level = self._level + self.rate_bps * (now_s - self._last_s) / 8
            top = self.rate_bps * self.burst_s / 8
            # A bucket made shallower keeps what it holds, and only gains nothing.
            self._level = level if level <= top else max(top, self._level)
            self._last_s = now_s

    @property
    def available(self) -> int:
        """Bytes that may be sent now; negative while in debt."""
        return int(self._level // 1)

    def forfeit(self, most: float) -> None:
        """Keep no more than `most` bytes."""
        self._level = min(self._level, most)

    def take(self, size: int) -> None:
        """Spend `size` bytes, into debt if need be, down to MAX_DEBT_S."""
        self._level = max(self._level - size, min(self._level, -self.bytes_of(MAX_DEBT_S)))


def longest_prefix(ends: Sequence[int], budget_bytes: float, max_layers: int | None) -> int:
    """The most layers that fit.

    Args:
        ends: bytes of the unit trimmed to k layers, k = 0, 1, ...; not falling.
        budget_bytes: bytes to spend; may be negative.
        max_layers: upper limit, None for none.

    Returns:
        Layers to keep, 0 if not even one fits.
    """
    fitting = max(0, bisect_right(ends, budget_bytes) - 1)
    return fitting if max_layers is None else min(fitting, max_layers)


class Spender:
    """Spends a bucket on one stream's frames so that the layer count stays even.

    A frame's share is what the rate earns in one frame interval, times its size against the usual one, plus a
    part of what the bucket has too much or too little (over PAY_OFF_S). What a share leaves unspent because
    the next layer did not fit is carried whole.

    Args:
        rate_bps: bits per second, > 0; `bucket.rate_bps` may be changed at any time.

    Attributes:
        bucket: what is spent.
        interval_s: the usual time between two frames, seconds; 0.0 before the second frame.
        level_bps: for `spend_steadily`, the rate that says which layer counts go, bits per second; the bucket's own if
            that is much less.
    """

    __slots__ = (
        "_barred",
        "_carry",
        "_ends",
        "_gaps",
        "_last_s",
        "_long",
        "_long_ratio",
        "_low",
        "_mean",
        "_seen",
        "_spread",
        "bucket",
        "interval_s",
        "level_bps",
    )

    def __init__(self, rate_bps: float) -> None:
        self.bucket = TokenBucket(rate_bps, BURST_S)
        self._carry = 0.0
        self._last_s: float | None = None
        self._gaps: deque[float] = deque(maxlen=_GAPS)
        self.interval_s = 0.0
        self._ends: Sequence[int] = ()
        self._mean = [0.0] * (MAX_LAYERS + 1)
        self._long = [0.0] * (MAX_LAYERS + 1)
        self._long_ratio = 1.0
        self._spread = 0.0
        self._low = 0
        self._barred = 0.0
        self.level_bps = inf
        self._seen = [0] * (MAX_LAYERS + 1)

    def usual_ends(self, layers: int) -> tuple[float, ...]:
        """The usual size of a unit with 0, 1, ... `layers` layers, bytes: the last frame's, scaled."""
        top = len(self._ends) - 1
        scale = self._mean[top] / self._ends[top] if top >= 0 and self._ends[top] else 1.0
        return tuple(end * scale for end in self._ends[: layers + 1])

    def begin(self, now_s: float) -> None:
        """A frame is about to be decided: the bucket earns what the time was worth."""
        bucket, gaps = self.bucket, self._gaps
        if self._last_s is not None:
            gaps.append(min(MAX_INTERVAL_S, max(0.0, now_s - self._last_s)))
            self.interval_s = interval_s = sorted(gaps)[(len(gaps) - 1) // 2]
            # Two intervals: one interval's income on top of what the last frame left.
            bucket.burst_s = max(BURST_S, 2 * interval_s)
        self._last_s = now_s
        bucket.refill(now_s)

    def pass_by(self, now_s: float) -> None:
        """A frame goes without being decided on: it counts only as the one before the next."""
        self._last_s = now_s

    def spend(self, ends: Sequence[int], max_layers: int | None, most_bytes: float | None = None) -> int:
        """Layers of this frame, 0 to skip it; paid at once.

        Args:
            ends: bytes of the unit trimmed to k layers, k = 0..number of layers (at most MAX_LAYERS).
            max_layers: upper limit, None for none.
            most_bytes: upper limit for all layers but the first, None for none.
        """
        bucket = self.bucket
        if len(ends) < 2:
            return 0
        interval_s, available = self.interval_s or BURST_S, bucket.available
        income = bucket.bytes_of(interval_s)
        share = income * self._ratio(ends)
        saved = available - self._carry - income
        share += saved * min(1.0, interval_s / PAY_OFF_S)
        budget = min(self._carry + share, available + bucket.bytes_of(DEBT_S))
        if most_bytes is not None and most_bytes < budget:
            budget = most_bytes
            self.forfeit()
        keep = longest_prefix(ends, budget, max_layers)
        if keep == 0 and bucket.available > -bucket.bytes_of(OVERDRAFT_S):
            keep = 1
        spent = ends[keep] if keep else 0
        bucket.take(spent)
        finer = ends[keep + 1] - spent if keep + 1 < len(ends) else 0
        self._carry = min(max(0.0, self._carry + share - spent), float(finer))
        return keep

    def spend_steadily(
        self, ends: Sequence[int], max_layers: int | None, room: float = inf, held_room: float = inf
    ) -> int:
        """As `spend`, but the layer count keeps to two neighbours while the rate and the usual size stay.

        Which two follows `level_bps` and the mean size of the last LONG_FRAMES. The higher one goes when it is
        paid for, the lower one on credit (HELD_S), so a frame larger than usual is not cut. For even frames it
        is `spend`.

        Args:
            ends, max_layers: see `spend`.
            room: most bytes for the higher one, for other reasons than the rate.
            held_room: most bytes for all layers but the first.
        """
        bucket = self.bucket
        top = len(ends) - 1
        if top < 1:
            return 0
        if self._spread < EVEN and not self._barred:
            self._low = self.spend(ends, max_layers, room)
            return self._low
        income = bucket.bytes_of(self.interval_s or BURST_S)
        self._ratio(ends)
        usual = min(self.level_bps, bucket.rate_bps * (1 + STEADY)) * (self.interval_s or BURST_S) / 8
        low = self._hold(ends, usual * (1 - SPARE * self._spread) * self._long_ratio)
        available = bucket.available
        fine, held = float(available), available + bucket.bytes_of(HELD_S)
        if self._barred > 0:
            fine = held = min(held, income - min(self._barred, BAR * income))
        if min(fine, ends[min(top, low + 1)]) > room or min(held, ends[low]) > held_room:
            self.forfeit()
            fine, held = min(fine, room), min(held, held_room)
        high = min(top, low + 1)
        keep = high if ends[high] <= fine else min(low, longest_prefix(ends, held, None))
        if max_layers is not None:
            keep = min(keep, max_layers)
        if keep == 0 and available > -bucket.bytes_of(OVERDRAFT_S):
            keep = 1
        spent = ends[keep] if keep else 0
        bucket.take(spent)
        self._barred = max(0.0, self._barred - max(0.0, income - spent))
        return keep

    def withhold(self, size: float) -> None:
        """Send `size` bytes less than the rate allows, once, at the expense of the next frames."""
        self.bucket.take(int(size))
        if self._spread >= EVEN:
            self._barred += size

    def _hold(self, ends: Sequence[int], want: float) -> int:
        """The lower of the two layer counts that go now, for frames that may have `want` bytes."""
        floor = longest_prefix(ends, want, None)
        level = float(floor)
        if floor + 1 < len(ends):
            level += max(0.0, want - ends[floor]) / max(1, ends[floor + 1] - ends[floor])
        if not self._low - HOLD <= level <= self._low + 1 + HOLD:
            self._low = floor
        self._low = max(0, min(self._low, len(ends) - 1))
        return self._low

    def forfeit(self) -> None:
        """What could not be sent for other reasons than the rate is not saved up: the link was not idle."""
        self._carry = 0.0
        self.bucket.forfeit(self.bucket.bytes_of(self.interval_s))

    def _ratio(self, ends: Sequence[int]) -> float:
        """Size of this frame against the usual one with as many layers."""
        self._ends = ends
        top = len(ends) - 1
        self._seen[top] = seen = self._seen[top] + 1
        self._mean[top] = mean = self._mean[top] + (ends[top] - self._mean[top]) / min(MEAN_FRAMES, seen)
        self._long[top] = usual = self._long[top] + (ends[top] - self._long[top]) / min(LONG_FRAMES, seen)
        if usual > 0:
            self._long_ratio = min(MAX_RATIO, ends[top] / usual)
            self._spread += (abs(self._long_ratio - 1) - self._spread) / LONG_FRAMES
        return min(MAX_RATIO, ends[top] / mean) if mean > 0 else 1.0


class FixedBudgetAllocator:
    """Keeps a peer below a stated bitrate and layer count, and as close to it as layers allow.

    A first layer may overdraw the bucket, so that frames are not skipped because one was large; a cap below
    the rate of the first layers alone skips frames evenly.

    Args:
        max_bitrate_bps: bits per second, None for no limit. The mean of any ten seconds stays below it, give
            or take two frames.
        max_layers: layers per frame, None for no limit.

    Raises:
        ConfigError: a limit that is not positive.
    """

    def __init__(self, max_bitrate_bps: float | None, max_layers: int | None) -> None:
        self._spender: Spender | None = None
        self.set_limits(max_bitrate_bps, max_layers)

    def set_limits(self, max_bitrate_bps: float | None, max_layers: int | None) -> None:
        """New limits from the next frame on; what was saved up or is owed stays.

        Raises:
            ConfigError: a limit that is not positive.
        """
        self._max_layers, rate_bps = check_layers(max_layers), capped_bps(max_bitrate_bps)
        if rate_bps == inf:
            self._spender = None
        elif self._spender is None:
            self._spender = Spender(rate_bps)
        else:
            self._spender.bucket.rate_bps = rate_bps

    def decide(
        self,
        now_s: float,
        ends: Sequence[int],
        kind: FrameKind,
        gains_db: Sequence[float],
        age_s: float = 0.0,
    ) -> int:
        """Layers of this frame to send now, already paid for; 0: skip the frame.

        Args:
            now_s: time of any origin, seconds.
            ends: bytes of the unit trimmed to k layers, k = 0..number of layers.
            kind: key or delta frame; unused here.
            gains_db: what each layer adds, dB; unused here.
            age_s: how long the frame has waited at this end already, seconds; unused here.
        """
        if self._spender is None:
            return longest_prefix(ends, ends[-1], self._max_layers)
        self._spender.begin(now_s)
        return self._spender.spend(ends, self._max_layers)

    def on_sent(self, now_s: float, frame_id: int, size: int) -> None:
        """Nothing to learn: the budget is what was asked for, whatever the link does."""

    def on_ack(
        self, now_s: float, frame_id: int, size: int, arrival_s: float, decode_lag_s: float = 0.0
    ) -> None:
        """Nothing to learn; see on_sent."""

    def expect_reports(self, interval_s: float) -> None:
        """Nothing is learned from them; see on_sent."""

    @property
    def useful_bps(self) -> float:
        """What the link carries: no limit is known of it."""
        return inf

    @property
    def is_restless(self) -> bool:
        """It may be calm whatever it gets: reports say nothing that matters here."""
        return False

    def close(self) -> None:
        """Nothing is held."""


def capped_bps(max_bitrate_bps: float | None) -> float:
    """What may be spent under a cap, bits per second.

    Raises:
        ConfigError: it is not positive.
    """
    if max_bitrate_bps is None:
        return inf
    if not max_bitrate_bps > 0:
        raise ConfigError(f"a cap of {max_bitrate_bps} bit/s", hint="must be above 0; None is no limit")
    return max_bitrate_bps * (1 - CAP_MARGIN)


def check_layers(max_layers: int | None) -> int | None:
    """Raises ConfigError for a limit below 1."""
    if max_layers is not None and max_layers < 1:
        raise ConfigError(f"at most {max_layers} layers", hint="give 1 or more; None is no limit")
    return max_layers
