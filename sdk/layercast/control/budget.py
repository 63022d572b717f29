"""A bitrate as a token bucket, and the allocator that holds a peer to one.

A frame of layercast has many thin layers, so the longest prefix that fits the bucket leaves less than one
layer unspent, and that is carried to the next frame: the sent rate sits at the cap, not somewhere below it.

>>> allocator = FixedBudgetAllocator(max_bitrate_bps=80_000, max_layers=None)
>>> ends = (20, 200, 400, 600, 800)       # bytes of the unit with 0, 1, 2, 3, 4 layers
>>> [allocator.decide(n / 20, ends, FrameKind.KEY, ()) for n in range(1, 9)]
[4, 3, 2, 3, 2, 3, 2, 3]
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from statistics import median_low

from layercast.bitstream.types import FrameKind
from layercast.errors import ConfigError

BURST_S = 0.1
"""Default depth of a bucket, in seconds of its rate: three frames at 30 frames/s. What a pause saves up goes
out as one burst, and waits that long at a link of this rate."""

OVERDRAFT_S = 0.2
"""A first layer is still sent while the debt is smaller than this, in seconds of the rate: the large first
layer of a key frame is then paid off by the upper layers of the next frames, not by skipping them."""

MAX_DEBT_S = 60.0
"""Most debt, in seconds of the rate: one giant frame silences a peer for a minute at most."""

CAP_MARGIN = 0.015
"""Share of a cap left unspent, so that a burst does not lift the mean of ten seconds above it."""

MAX_INTERVAL_S = 2.0
"""Longest time between frames for which tokens are saved, in seconds; slower streams stay below their cap."""

_GAPS = 9
"""Gaps between frames whose median is the frame interval; odd, and four outliers do not move it."""


class TokenBucket:
    """Bytes that may be sent, growing with time.

    Args:
        rate_bps: bits per second, > 0.
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

    def refill(self, now_s: float) -> None:
        """Add what the time since the last call is worth; time that runs backwards adds nothing."""
        if self._last_s is not None:
            # A bucket made shallower keeps what it holds, and only gains nothing.
            top = max(self._level, self.bytes_of(self.burst_s))
            self._level = min(top, self._level + self.bytes_of(max(0.0, now_s - self._last_s)))
        self._last_s = now_s if self._last_s is None else max(self._last_s, now_s)

    @property
    def available(self) -> int:
        """Bytes that may be sent now; negative while in debt."""
        return int(self._level // 1)

    def take(self, size: int) -> None:
        """Spend `size` bytes, into debt if need be, down to MAX_DEBT_S."""
        self._level = max(self._level - size, min(self._level, -self.bytes_of(MAX_DEBT_S)))


def longest_prefix(ends: Sequence[int], budget_bytes: int, max_layers: int | None) -> int:
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


class FixedBudgetAllocator:
    """Keeps a peer below a stated bitrate and layer count, and as close to it as layers allow.

    Each frame gets the longest prefix that the bucket can pay. A first layer may overdraw it, so that frames
    are not skipped because one was large; a cap below the rate of the first layers alone skips frames evenly.

    Args:
        max_bitrate_bps: bits per second, None for no limit. The mean of any ten seconds stays below it, give
            or take two frames.
        max_layers: layers per frame, None for no limit.

    Raises:
        ConfigError: a limit that is not positive.
    """

    def __init__(self, max_bitrate_bps: float | None, max_layers: int | None) -> None:
        if max_layers is not None and max_layers < 1:
            raise ConfigError(f"at most {max_layers} layers", hint="give 1 or more; None is no limit")
        self._max_layers = max_layers
        self._bucket = (
            None if max_bitrate_bps is None else TokenBucket(max_bitrate_bps * (1 - CAP_MARGIN), BURST_S)
        )
        self._last_s: float | None = None
        self._gaps: deque[float] = deque(maxlen=_GAPS)

    def decide(self, now_s: float, ends: Sequence[int], kind: FrameKind, gains_db: Sequence[float]) -> int:
        """Layers of this frame to send now, already paid for; 0: skip the frame.

        Args:
            now_s: time of any origin, seconds.
            ends: bytes of the unit trimmed to k layers, k = 0..number of layers.
            kind: key or delta frame; unused here.
            gains_db: what each layer adds, dB; unused here.
        """
        if self._bucket is None:
            return longest_prefix(ends, ends[-1], self._max_layers)
        bucket = self._bucket
        bucket.burst_s = self._depth_s(now_s)
        bucket.refill(now_s)
        keep = longest_prefix(ends, bucket.available, self._max_layers)
        if keep == 0 and len(ends) > 1 and bucket.available > -bucket.bytes_of(OVERDRAFT_S):
            keep = 1
        if keep:
            bucket.take(ends[keep])
        return keep

    def _depth_s(self, now_s: float) -> float:
        """Deep enough for two frames of this stream: one interval's income, and what the last frame left."""
        if self._last_s is not None:
            self._gaps.append(min(MAX_INTERVAL_S, max(0.0, now_s - self._last_s)))
        self._last_s = now_s
        return max(BURST_S, 2 * median_low(self._gaps)) if self._gaps else BURST_S
