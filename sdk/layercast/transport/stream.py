"""One named stream inside a relay: where its frames come from, who gets them, and what is asked for upstream.

Knows nothing of gRPC: the relay's handlers and its upstream subscription call in, and wait on the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from layercast.errors import LayercastError, TransportError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.demand import HEADROOM, LinkDemand
from layercast.transport.first_frame import FirstFrameCache
from layercast.transport.latency import Latency
from layercast.transport.limits import UPSTREAM_HEADROOM, RelayLimits, Window
from layercast.transport.outbox import Allocator, Outbox, OutboxStatistics
from layercast.transport.overload import OF, goes_out
from layercast.transport.shared import SharedFrame

Clock = Callable[[], float]


class SessionEndedError(TransportError):
    """The stream's sender restarted: the subscriber has to ask again to learn what comes now."""

    code = "session-ended"


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """Counts of one stream since it appeared.

    Attributes:
        published: a sender (or the relay upstream) is connected.
        frames, bytes: accepted from there.
        left_out: frames that went to nobody because the relay was overloaded.
        repeated: frames dropped because their id did not grow.
        cached_bytes: held for late joiners.
        subscribers: one entry per subscriber, in the order they came.
        peers: their addresses, in the same order.
        queue_age_s: for how long the oldest frame waits for each of them, seconds.
    """

    published: bool
    frames: int
    bytes: int
    repeated: int
    left_out: int
    cached_bytes: int
    subscribers: tuple[OutboxStatistics, ...]
    peers: tuple[str, ...]
    queue_age_s: tuple[float, ...]


class Subscriber:
    """One subscriber of one stream: its outbox, and the events its gRPC handler waits on.

    Args:
        limits: what it asked for.
        hops: the relays below it.
        allocator: decides its layers; made for `limits`, closed when the subscriber is detached.
        window: its staleness bounds.
        clock: monotonic seconds.
        peer: its address.
        latency: counts how long each frame stayed here.
        takes_notes: it understands pb.RelayNote.
        is_copy: it is not a subscriber from outside, but the hub's copy (see forward.py).

    Attributes:
        on_ready: called when there may be a message for `next`.
        ended: set to why its call has to end.
    """

    def __init__(
        self,
        limits: pb.Limits,
        hops: pb.Hops,
        allocator: Allocator,
        window: Window,
        clock: Clock,
        peer: str = "",
        *,
        latency: Latency | None = None,
        takes_notes: bool = False,
        is_copy: bool = False,
    ) -> None:
        self._clock = clock
        self._latency = latency or Latency()
        self._accepted_s: float | None = None
        self._takes_notes = takes_notes
        self._note: bytes | None = None
        self.peer = peer
        self.is_copy = is_copy
        self.limits = limits
        self.hops = hops
        self.on_ready: Callable[[], None] = _nothing
        self.ended: asyncio.Future[LayercastError] = asyncio.get_running_loop().create_future()
        self._allocator = allocator
        self.outbox = Outbox(allocator, window)

    def set_limits(self, limits: pb.Limits) -> None:
        """From now on, no more than this; what was learned of the link stays."""
        self.limits = limits
        self._allocator.set_limits(limits.max_bitrate_bps or None, limits.max_layers or None)
        self.on_ready()

    def offer(self, frame: SharedFrame, now_s: float) -> None:
        """Queue a frame."""
        self.outbox.push(frame, now_s)
        self.on_ready()

    def ask_for_reports(self, interval_s: float) -> None:
        """Have it report no more often than this, if it understands that; 0.0: as often as it helps."""
        if self._takes_notes:
            self._note = pb.RelayNote(report_interval_ms=round(interval_s * 1e3)).SerializeToString()
            self._allocator.expect_reports(interval_s)
            self.on_ready()

    def next(self) -> bytes | None:
        """The next message for it, None if there is none now."""
        if self._note is not None:
            note, self._note, self._accepted_s = self._note, None, None
            return note
        outbox = self.outbox
        chosen = outbox.next(self._clock()) if outbox.waiting else None
        if chosen is None:
            return None
        frame, keep = chosen
        self._accepted_s = frame.accepted_s
        return frame.prefix(keep)

    def written(self) -> None:
        """That message is on its way."""
        if self._accepted_s is not None:
            self._latency.add(self._clock() - self._accepted_s)

    def acknowledge(self, acks: Sequence[pb.Ack]) -> None:
        """The peer confirms arrivals, oldest first."""
        now_s = self._clock()
        for ack in acks:
            self._allocator.on_ack(
                now_s, ack.frame_id, ack.bytes, ack.arrival_us / 1e6, ack.decode_lag_us / 1e6
            )
        # They are cumulative: the newest one that is known speaks for the others.
        alone = len(acks) == 1
        any(self.outbox.acknowledge(ack.frame_id, now_s, alone=alone) is not None for ack in reversed(acks))
        if self.outbox.waiting:
            self.on_ready()

    @property
    def useful_bps(self) -> float:
        """What it can use now, bits per second, by its budget and by its link; the headroom is not in it."""
        cap_bps = self.limits.max_bitrate_bps * UPSTREAM_HEADROOM / HEADROOM or inf
        return min(cap_bps, self._allocator.useful_bps)

    @property
    def is_restless(self) -> bool:
        """See `Allocator.is_restless`."""
        return self._allocator.is_restless

    def close(self) -> None:
        """It is gone."""
        self._allocator.close()

    def end(self, error: LayercastError) -> None:
        """Have the handler end the call with `error`; only the first reason counts."""
        if not self.ended.done():
            self.ended.set_result(error)


def _nothing() -> None:
    """Nobody writes yet."""


class RelayStream:
    """Fans the frames of one stream out to its subscribers.

    Args:
        name: of the stream.
        limits: of the relay.
        on_demand: called when what the subscribers ask for may have changed.
        clock: monotonic seconds.

    Attributes:
        serving: so many of OF frames go to subscribers, where frames refer to no others (see overload.py).
    """

    def __init__(
        self, name: str, limits: RelayLimits, on_demand: Callable[[RelayStream], None], clock: Clock
    ) -> None:
        self.name = name
        self.session = b""
        self.description = b""
        self.described = asyncio.Event()
        self.source: object | None = None
        self.subscribers: dict[Subscriber, None] = {}
        self._limits = limits
        self._tell_demand = on_demand
        self._clock = clock
        self._cache = FirstFrameCache(limits.first_frame_bytes, limits.first_frame_max_age_s)
        self._serving: set[Subscriber] = set()
        self._link_demand = LinkDemand()
        self._demand: pb.Demand | None = None
        self._last_id = -1
        self.serving = OF
        self._refers = False
        self._frames = self._bytes = self._repeated = self._left_out = 0

    def begin(self, session: bytes, description: bytes) -> None:
        """A sender, or the relay upstream, is there. Another session than before ends the subscribers'
        calls."""
        if (session, description) != (self.session, self.description):
            for subscriber in self._serving:
                subscriber.end(SessionEndedError(f"stream {self.name} begins anew"))
            self._serving.clear()
            self._cache.clear()
            self._last_id, self._refers = -1, False
            self.session, self.description = session, description
        self.described.set()

    def lost(self) -> None:
        """The source is gone: who serves on keeps waiting for it, new subscribers wait to be told what
        comes."""
        self.source = None
        self.described.clear()

    def publish(self, unit: bytes) -> SharedFrame:
        """Check a unit and hand it to every subscriber.

        Raises:
            BitstreamError: the bytes are not a valid access unit.
        """
        frame = SharedFrame(unit)
        if frame.header.frame_id <= self._last_id:
            self._repeated += 1
            return frame
        self._last_id = frame.header.frame_id
        self._frames += 1
        self._bytes += len(unit)
        if frame.kept == 0:  # captured and not sent: nothing in it for anybody
            return frame
        now_s = frame.accepted_s = self._clock()
        self._cache.add(frame, now_s)
        self._refers = self._refers or frame.reference_id is not None
        if self.serving < OF and not self._refers and not goes_out(self._frames, self.serving):
            self._left_out += 1
            return frame
        for subscriber in self._serving:
            subscriber.offer(frame, now_s)
        return frame

    def attach(self, subscriber: Subscriber) -> None:
        """Count a subscriber's demand; it gets nothing before `serve`."""
        self.subscribers[subscriber] = None
        self._demand_changed()

    def serve(self, subscriber: Subscriber) -> pb.StreamInfo:
        """Begin with the cached frames, under the present description."""
        now_s = self._clock()
        self._serving.add(subscriber)
        for frame in self._cache.frames(now_s):
            subscriber.offer(frame, now_s)
        return pb.StreamInfo(session=self.session, description=self.description)

    def detach(self, subscriber: Subscriber) -> None:
        """The subscriber is gone."""
        self._serving.discard(subscriber)
        self.subscribers.pop(subscriber, None)
        subscriber.close()
        self._demand_changed()

    def acknowledge(self, subscriber: Subscriber, acks: Sequence[pb.Ack]) -> None:
        """A subscriber confirms arrivals: more is known of its link."""
        subscriber.acknowledge(acks)
        if self._link_demand.update(self._clock(), (each.useful_bps for each in self.subscribers)):
            self._demand_changed()

    def set_limits(self, subscriber: Subscriber, limits: pb.Limits) -> None:
        """A subscriber's budget changed."""
        subscriber.set_limits(limits)
        self._demand_changed()

    def set_hops(self, subscriber: Subscriber, hops: pb.Hops) -> None:
        """Other relays than before follow after a subscriber."""
        subscriber.hops = hops
        self._demand_changed()

    def fail(self, error: LayercastError) -> None:
        """End every subscriber's call: the stream cannot be had."""
        for subscriber in self.subscribers:
            subscriber.end(error)

    def demand(self) -> pb.Demand:
        """The most that any subscriber can use: by what they ask for, and by what their links carry."""
        if self._demand is None:
            self._demand = self._sum_of_demand()
        return self._demand

    def _demand_changed(self) -> None:
        self._demand = None
        self._tell_demand(self)

    def _sum_of_demand(self) -> pb.Demand:
        if not self.subscribers:
            return pb.Demand(active=False)
        layers = [subscriber.limits.max_layers for subscriber in self.subscribers]
        rates = [subscriber.limits.max_bitrate_bps for subscriber in self.subscribers]
        most_bps = min(max(rates) * UPSTREAM_HEADROOM if all(rates) else inf, self._link_demand.bps)
        return pb.Demand(
            active=True,
            limits=pb.Limits(
                max_layers=max(layers) if all(layers) else 0,
                max_bitrate_bps=0 if most_bps == inf else int(most_bps),
            ),
        )

    def hops(self, relay_id: str) -> pb.Hops:
        """The relays that the frames pass from the relay `relay_id`, which holds this stream, downwards."""
        below = [subscriber.hops for subscriber in self.subscribers]
        return pb.Hops(
            relays=sorted({relay_id}.union(*(hops.relays for hops in below))),
            depth=1 + max((hops.depth for hops in below), default=0),
        )

    def statistics(self) -> StreamStatistics:
        """Counts since the stream appeared."""
        now_s = self._clock()
        return StreamStatistics(
            published=self.source is not None,
            frames=self._frames,
            bytes=self._bytes,
            repeated=self._repeated,
            left_out=self._left_out,
            cached_bytes=self._cache.size_bytes,
            subscribers=tuple(subscriber.outbox.statistics() for subscriber in self.subscribers),
            peers=tuple(subscriber.peer for subscriber in self.subscribers),
            queue_age_s=tuple(subscriber.outbox.queue_age_s(now_s) for subscriber in self.subscribers),
        )
