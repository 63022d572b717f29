"""The allocator that finds out what a receiver's link carries: estimator, rate, budget, staleness.

Behind the same seam as the fixed budget, plus what it learns from: `on_sent` and `on_ack`. Several streams to
one receiver share one `Peer`, which divides the link among them by gain per bit; one stream has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from layercast.bitstream.types import FrameKind
from layercast.control.budget import Spender, capped_bps, check_layers
from layercast.control.estimator import QUIET_S, LinkEstimator
from layercast.control.rate import CLEAR_S, CONGESTED_S, MIN_BPS, RateController
from layercast.control.share import Demand, share
from layercast.errors import ConfigError

STALENESS_S = 0.4
"""Default staleness bound, seconds: a frame that would spend more between the relay and the far end of the
link, travelling time not counted, is not sent."""

BRAKE_S = 0.1
"""Predicted delay that no upper layer may exceed, seconds; or BRAKE_FRAMES frame intervals if that is more."""

HELD_BRAKE_S = 0.12
"""... and that no layer but the first may exceed, where frames wander and their layer count is held, seconds."""

FILLED = 0.9
"""A link is filled by the first layers alone when they take this share of what it was measured to carry..."""

FIRST_BRAKE_S = 0.07
"""... and then no first layer may wait longer than this, seconds: nothing else is left to drop."""

BRAKE_FRAMES = 2.0
"""A frame that fills the link takes one interval to be sent; the other is for those larger than usual."""

LIMITED_S = 0.5
"""The budget counts as what limits the stream for so long after it cut a frame, seconds."""

CAPPED_ROOM = 2.0
"""A link that takes all that its receiver asked for, and has shown no limit, is taken to carry so many times as much:
taken to carry just that, each frame larger than usual would seem to queue, and would lose layers for it."""

LATE_S = 0.03
"""An acknowledgement overdue by more than this holds upgrades, seconds: the early warning of a queue."""

OVERDUE_S = 0.01
"""An acknowledgement overdue by more than this says how slow the link may have become, seconds."""

SELDOM_S = 0.24
"""A receiver that got what it asked for may report this seldom after SELDOM_AFTER_S (transport.pace), seconds; until
then and a way back its acknowledgements are not overdue..."""

PATIENCE_S = 0.3
"""... and not before this, seconds."""

SELDOM_AFTER_S = 1.0

NEAR_CAP = 0.8
"""With this share of the bitrate that it asked for it may find that it has got it (transport.pace.NEAR_BUDGET, which is
a little more, so that nobody waits for reports that are not made)."""

QUIET_GROWTH = 1.5
"""It may wait longer for each report than for the one before, by this factor (transport.pace.QUIET_GROWTH)..."""

QUIET_SLACK_S = 0.07
"""... and this, seconds: until the next frame, or until it is clear that none comes..."""

QUIET_MOST_S = 0.7
"""... but no longer than this, seconds (transport.pace.QUIET_INTERVAL_S, and the slack)."""

DECODE_LAG_S = 0.3
"""A receiver whose oldest frame waits longer than this for its consumer gets no upgrades, seconds."""

CALM_S = 0.2
"""While the link is clear and takes everything, a decision is good for the frames of so long, seconds: following a link
that needs no following was half of what a relay adds to a plain fan-out."""

CALM_LONG_S = 0.5
"""... of so long while its receiver reports as seldom: between two reports there is little to decide on, seconds."""

CALM_GROWTH = 1.25
"""... but not for a frame that is larger than the one decided on by more than this."""

SHARE_EVERY_S = 0.1
"""How often the rate is divided anew among several streams, seconds: three frames at 30 frames/s."""


class Decision(NamedTuple):
    """Why a frame got the layers it got. (A tuple: one is made for every frame that is decided on.)

    Attributes:
        keep: layers sent.
        why: what dropped the others: "" (none were), "layers" (the receiver's max_layers), "budget" (the rate),
            "brake" (a queue stands on the link), "stale" (the frame would come too late).
        rate_bps: bits per second that this stream had.
        link_bps: what the link was taken to carry, bits per second.
        wait_s: predicted wait in the link's queue, seconds.
        state: of the rate: "start", "grow", "enough", "hold" or "cut".
    """

    keep: int
    why: str
    rate_bps: float
    link_bps: float
    wait_s: float
    state: str


class Peer:
    """One receiver: its link, its rate, and the streams that share them.

    Args:
        max_bitrate_bps: most bits per second for all its streams together, None for no limit.
        seldom: its reports may be as seldom as transport.pace has them. Where several streams share it they must not:
            a stream that lacks nothing would say nothing while another waits to hear of the link.

    Raises:
        ConfigError: a limit that is not positive.
    """

    def __init__(self, max_bitrate_bps: float | None = None, *, seldom: bool = True) -> None:
        self.link = LinkEstimator()
        self.rate = RateController()
        self._seldom = seldom
        self._asked_s = 0.0
        self._cap_bps = float("inf")
        self.set_cap(max_bitrate_bps)
        self._streams: dict[AdaptiveAllocator, float] = {}
        self._shared_s: float | None = None
        self._limited_s = self._lacking_s = float("-inf")

    def set_cap(self, max_bitrate_bps: float | None) -> None:
        """From now on, no more than this.

        Raises:
            ConfigError: a limit that is not positive.
        """
        self._cap_bps = capped_bps(max_bitrate_bps)

    @property
    def rate_bps(self) -> float:
        """Bits per second for all streams together."""
        return min(self.rate.rate_bps, self._cap_bps)

    def link_bps(self, now_s: float) -> float:
        """What the link is taken to carry now, bits per second: a single frame that was sent slowly, or that
        should have been acknowledged by now, counts at once."""
        known_bps = self.rate.link_bps
        if known_bps >= self._cap_bps and not self.rate.measured:
            known_bps *= CAPPED_ROOM
        if self.link.late_s(now_s, known_bps) > OVERDUE_S:
            known_bps = min(known_bps, self.link.slowed_bps(now_s))
        # Streams have connections of their own, and a small frame of one that is sent after a large one of another says
        # nothing of the link's rate.
        if len(self._streams) == 1 and self.link.wait_s >= CONGESTED_S:
            known_bps = min(known_bps, self.link.serving_bps)
        return max(MIN_BPS, known_bps)

    @property
    def idle(self) -> bool:
        """Whether no stream is left."""
        return not self._streams

    def attach(self, stream: AdaptiveAllocator) -> None:
        """`stream` shares this link."""
        self._streams[stream] = MIN_BPS
        self._shared_s = None

    def detach(self, stream: AdaptiveAllocator) -> None:
        """`stream` is gone."""
        self._streams.pop(stream, None)
        self.link.forget(stream)
        self._shared_s = None

    def rate_of(self, stream: AdaptiveAllocator, now_s: float) -> float:
        """Bits per second for `stream`."""
        if len(self._streams) == 1:
            return self.rate_bps
        if self._shared_s is None or now_s - self._shared_s >= SHARE_EVERY_S:
            self._shared_s = now_s
            parts = share(self.rate_bps, [each.demand() for each in self._streams])
            self._streams = dict(zip(self._streams, parts, strict=True))
        return max(MIN_BPS, self._streams[stream])

    def limited(self, now_s: float, why: str) -> None:
        """The rate cut a frame, which is `why` it lost layers; it may grow."""
        self._limited_s = now_s
        if why == "brake" or self.rate.rate_bps < NEAR_CAP * self._cap_bps:
            self._lacking_s = now_s

    def expect_reports(self, interval_s: float) -> None:
        """The receiver was asked to report no more often than this, seconds."""
        self._asked_s = interval_s

    def wait_for_reports(self, now_s: float) -> None:
        """Expect acknowledgements as seldom as the receiver may send them now."""
        link = self.link
        asked_s = self._asked_s + QUIET_SLACK_S + link.round_s if self._asked_s else 0.0
        if not self._seldom or now_s - self._lacking_s <= SELDOM_AFTER_S:
            if link.patience_s > max(PATIENCE_S, asked_s):
                link.impatient_since_s = now_s
            link.patience_s = asked_s
        else:
            quiet_s = SELDOM_S
            if link.quiet_s >= QUIET_S:
                quiet_s = max(SELDOM_S, min(QUIET_MOST_S, QUIET_GROWTH * link.quiet_s + QUIET_SLACK_S))
            link.patience_s = max(PATIENCE_S, quiet_s + link.round_s, asked_s)

    def is_calm(self, wait_s: float, frame_bits: float, interval_s: float) -> bool:
        """Whether the link takes all of its streams, frames of up to `frame_bits` of one of them, far below its cap.

        On a link that has shown a limit such frames must fit its rate: a stream that upstream has already cut to
        this rate would else never be found too large for it, and neither would ever grow again.
        """
        return (
            self.rate.state == "enough"
            and (
                not self.rate.measured
                or (
                    wait_s < CLEAR_S
                    and len(self._streams) == 1
                    and frame_bits <= self.rate.rate_bps * interval_s
                )
            )
            and self._cap_bps * interval_s > 2 * frame_bits
        )

    def learn(self, now_s: float, decode_lag_s: float) -> None:
        """An acknowledgement changed what is known of the link."""
        self.wait_for_reports(now_s)
        limited = now_s - self._limited_s < LIMITED_S and self.rate.rate_bps <= self._cap_bps
        late = self.link.late_s(now_s, self.rate.link_bps) > LATE_S
        held = late or decode_lag_s > DECODE_LAG_S
        withheld = self.rate.update(now_s, self.link, limited, held)
        if withheld:
            for stream in self._streams:
                stream.withhold(withheld / len(self._streams))


class AdaptiveAllocator:
    """Follows one receiver's link with one stream.

    Args:
        max_bitrate_bps: bits per second, None for no limit; with `peer` of this stream, beside the peer's own cap.
        max_layers: layers per frame, None for no limit.
        staleness_s: see STALENESS_S.
        peer: the receiver, if several streams go to it over the same link.

    Raises:
        ConfigError: a limit that is not positive.
    """

    def __init__(
        self,
        max_bitrate_bps: float | None = None,
        max_layers: int | None = None,
        *,
        staleness_s: float = STALENESS_S,
        peer: Peer | None = None,
    ) -> None:
        if not staleness_s > 0:
            raise ConfigError(f"a staleness bound of {staleness_s} s", hint="give some hundred milliseconds")
        self.peer = Peer() if peer is None else peer
        self._alone = peer is None
        self._staleness_s = staleness_s
        self._max_bitrate_bps: float | None = None
        self._cap_bps = float("inf")
        self.set_limits(max_bitrate_bps, max_layers)
        self._spender = Spender(self.peer.rate_bps)
        self._gains_db: Sequence[float] = ()
        self._layers = 0
        self._calm_until_s = float("-inf")
        self._calm_bytes = 0.0
        self._withheld = 0.0  # where whole frames must be, for a queue to drain
        self._passed_s: float | None = None
        self.decision = Decision(0, "", self.peer.rate_bps, self.peer.rate_bps, 0.0, "start")
        self.peer.attach(self)

    def set_limits(self, max_bitrate_bps: float | None, max_layers: int | None) -> None:
        """New limits of the receiver; what was learned of its link stays.

        Raises:
            ConfigError: a limit that is not positive.
        """
        self._max_layers = check_layers(max_layers)
        if self._alone:
            self.peer.set_cap(max_bitrate_bps)
        else:
            self._cap_bps = capped_bps(max_bitrate_bps)
        self._max_bitrate_bps = max_bitrate_bps
        self._calm_until_s = float("-inf")

    def expect_reports(self, interval_s: float) -> None:
        """The receiver was asked to report no more often than this, seconds; 0.0: as often as it helps."""
        self.peer.expect_reports(interval_s)

    @property
    def limits(self) -> dict[str, float | None]:
        """What the receiver asked for, for a trace's head."""
        return {
            "max_bitrate_bps": self._max_bitrate_bps,
            "max_layers": self._max_layers,
            "staleness_s": self._staleness_s,
        }

    @property
    def useful_bps(self) -> float:
        """What the link takes now, bits per second, of all its streams; infinite as long as it has shown no limit."""
        return self.peer.rate.rate_bps if self.peer.rate.measured else float("inf")

    @property
    def is_restless(self) -> bool:
        """The receiver reports each frame, as far as is known here: it cannot have got what it asked for."""
        return self.peer.rate.state != "enough"

    def close(self) -> None:
        """The stream is gone; its share goes to the peer's others."""
        self.peer.detach(self)

    def decide(
        self,
        now_s: float,
        ends: Sequence[int],
        kind: FrameKind,
        gains_db: Sequence[float],
        age_s: float = 0.0,
    ) -> int:
        """Layers of this frame to send now, already paid for; 0: skip the frame. `decision` says why.

        Args:
            now_s: this end's monotonic clock, seconds.
            ends: bytes of the unit trimmed to k layers, k = 0..number of layers.
            kind: key or delta frame; unused here.
            gains_db: what each layer adds, dB; empty if unknown.
            age_s: how long the frame has waited at this end already, seconds.
        """
        layers = len(ends) - 1
        if now_s < self._calm_until_s and ends[layers] <= self._calm_bytes and age_s < CLEAR_S:
            self._passed_s = now_s
            return layers if self._max_layers is None else min(layers, self._max_layers)
        peer = self.peer
        if self._passed_s is not None:
            self._spender.pass_by(self._passed_s)
            self._passed_s = None
        peer.wait_for_reports(now_s)
        self._gains_db, self._layers = gains_db, layers
        spender, rate = self._spender, peer.rate
        share_bps = peer.rate_of(self, now_s)
        rate_bps = min(share_bps, self._cap_bps)
        spender.bucket.set_rate(rate_bps)
        spender.level_bps = rate.steady_bps * rate_bps / max(MIN_BPS, peer.rate_bps)
        spender.begin(now_s)
        interval_s = spender.interval_s
        if layers and interval_s > 0:
            rate.at_least(ends[1] * 8 / interval_s)
        link_bps = peer.link_bps(now_s)
        wait_s = peer.link.backlog_s(now_s, link_bps)
        keep, why = 0, ""
        if layers:
            keep, why = self._choose(ends, age_s, wait_s, link_bps)
        if why == "brake" or (why == "budget" and share_bps <= self._cap_bps):
            peer.limited(now_s, why)
        self.decision = Decision(keep, why, rate_bps, link_bps, wait_s, rate.state)
        self._calm_bytes = CALM_GROWTH * ends[layers]
        frame_bits = self._calm_bytes * 8
        fits = why in ("", "layers") and self._cap_bps * interval_s > 2 * frame_bits
        if fits and peer.is_calm(wait_s, frame_bits, interval_s):
            self._calm_until_s = now_s + max(CALM_S, min(CALM_LONG_S, peer.link.quiet_s))
        return keep

    def _choose(self, ends: Sequence[int], age_s: float, wait_s: float, link_bps: float) -> tuple[int, str]:
        staleness_s, peer = self._staleness_s, self.peer
        interval_s, first_bits = self._spender.interval_s, ends[1] * 8
        late_s = age_s + wait_s + first_bits / link_bps
        # A first layer too large for the bound still goes when the link is empty, or nothing ever would.
        if age_s > staleness_s or (peer.link.in_flight and late_s > staleness_s):
            self._spender.forfeit()
            return 0, "stale"
        # Not `link_bps`, which a single acknowledgement that is late makes small.
        if not peer.rate.measured or first_bits <= FILLED * peer.rate.link_bps * interval_s:
            self._withheld = 0.0
        elif self._withheld > 0 or age_s + wait_s > FIRST_BRAKE_S:
            self._withheld -= ends[1]
            self._spender.forfeit()
            return 0, "brake"
        # Before the first acknowledgement only small frames go: they show the delay of the empty link.
        draining = peer.rate.draining
        if not peer.link.known:
            brake_s = 0.0
        elif draining:
            brake_s = CLEAR_S + interval_s
        else:
            brake_s = max(BRAKE_S, BRAKE_FRAMES * interval_s)
        room = max(0.0, brake_s - wait_s - age_s) * link_bps / 8
        held_s = max(brake_s, HELD_BRAKE_S) if brake_s and not draining else brake_s
        held = max(0.0, held_s - wait_s - age_s) * link_bps / 8
        keep = self._spender.spend_steadily(ends, self._max_layers, room, held)
        if keep == len(ends) - 1:
            return keep, ""
        if keep == self._max_layers:
            return keep, "layers"
        return keep, "brake" if ends[keep + 1] > room else "budget"

    def on_sent(self, now_s: float, frame_id: int, size: int) -> None:
        """`size` bytes of frame `frame_id` were handed to the connection."""
        self.peer.link.on_sent(now_s, frame_id, size, self)

    def on_ack(
        self, now_s: float, frame_id: int, size: int, arrival_s: float, decode_lag_s: float = 0.0
    ) -> None:
        """The receiver has `frame_id`, and whatever was sent to it before.

        Args:
            now_s: this end's monotonic clock, seconds.
            frame_id: as in `on_sent`; an unknown one is ignored.
            size: bytes as they arrived; what was sent counts.
            arrival_s: the receiver's monotonic clock, seconds of any origin.
            decode_lag_s: how long its oldest frame has waited for its consumer, seconds.
        """
        peer = self.peer
        if peer.link.on_ack(now_s, frame_id, arrival_s, peer.rate.link_bps, self):
            peer.learn(now_s, decode_lag_s)
            # One frame that waited is no congestion, but the next one is decided on: its delay is predicted.
            if peer.rate.state != "enough" or peer.link.wait_s > CLEAR_S:
                self._calm_until_s = float("-inf")

    def demand(self) -> Demand:
        """The stream's usual frame."""
        interval_s = self._spender.interval_s
        layers = self._layers if self._max_layers is None else min(self._layers, self._max_layers)
        usual = Demand(
            self._spender.usual_ends(layers),
            self._gains_db[:layers],
            1 / interval_s if interval_s > 0 else 0.0,
        )
        return usual.within(self._cap_bps)

    def withhold(self, size: float) -> None:
        """Send `size` bytes less than the rate allows, once."""
        self._spender.withhold(size)
        self._withheld = size
