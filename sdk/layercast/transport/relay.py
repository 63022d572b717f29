"""The relay: takes streams from senders, gives each subscriber the layers it has room for, decodes
nothing."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from layercast.errors import ConfigError, LayercastError, RefusedError, StreamNotFoundError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.admission import Bucket
from layercast.transport.allocators import Allocators
from layercast.transport.channel import bind, check_address, make_server, method_handlers
from layercast.transport.credentials import Credentials, ServerTls
from layercast.transport.forward import HubCopies, HubCopy
from layercast.transport.gate import Gate
from layercast.transport.health import add_health, add_reflection
from layercast.transport.latency import Latency, LatencyStatistics
from layercast.transport.limits import (
    CLOSE_TIMEOUT_S,
    GIANT_FACTOR,
    MAX_CONTROL_BYTES,
    MAX_DESCRIPTION_BYTES,
    MAX_RELAY_ID,
    MAX_REPORTS_PER_S,
    RelayLimits,
)
from layercast.transport.link import EOF
from layercast.transport.logs import event
from layercast.transport.overload import OF, Overload
from layercast.transport.publisher import Publisher
from layercast.transport.pump import Pump
from layercast.transport.report_budget import ReportBudget
from layercast.transport.shares import Share
from layercast.transport.status import LEAVING, DroppedError, LeavingError, OverLimitError
from layercast.transport.stream import Clock, RelayStream, StreamStatistics, Subscriber
from layercast.transport.streams import Streams
from layercast.transport.tasks import cancel_and_wait, first_of, limited, raise_when, result_of
from layercast.transport.wire import (
    DISTRIBUTION,
    HELLO_KEY,
    INGEST,
    SESSION_BYTES,
    STREAM_KEY,
    check_hello,
    check_hops,
    from_metadata,
    parse,
    to_metadata,
)

if TYPE_CHECKING:
    from layercast.transport.metrics import MetricsServer
    from layercast.transport.tokens import Grant, TokenKeys

DRAIN_S = 10.0
"""Default time for everybody to move away, in seconds; service managers kill after 30 (Kubernetes) or 90 (systemd)."""

SAMPLE_S = 0.1
"""How often the relay looks at its own load, in seconds."""

SWEEP_S = 1.0
"""How often subscribers are checked for silence and tokens for expiry, in seconds; a fraction of the shortest
useful ack_timeout_s."""

_log = logging.getLogger("layercast.relay")

Context = Any
"""A `grpc.aio.ServicerContext` of bytes both ways."""


@dataclass(frozen=True, slots=True)
class RelayStatistics:
    """What the relay does now, and how often it refused.

    Attributes:
        streams: by name.
        subscribers: over all streams.
        refused: calls refused or ended by the relay, by reason.
        hung_up: calls that ended from outside, by right, "publish" or "subscribe": their peer left in the middle or
            vanished, or sent a message so large that gRPC ended the call unread.
        forwarding: how long frames stayed here.
        frames_served: share of the frames that go out, 1.0 unless the relay has more to do than its processor can.
        report_interval_s: subscribers were asked to report no more often than this, seconds; 0.0: as often as it helps.
        handshakes: TLS handshakes begun.
        leaving: it drains.
    """

    streams: dict[str, StreamStatistics]
    subscribers: int
    refused: dict[str, int]
    hung_up: dict[str, int]
    forwarding: LatencyStatistics
    frames_served: float
    report_interval_s: float
    handshakes: int
    leaving: bool


class Relay:
    """Serves streams on one port. Use as `async with Relay("0.0.0.0:7400") as relay:`.

    Args:
        listen: "host:port"; port 0 takes any free one, see `address`.
        upstream: "host:port" of another relay to subscribe to for streams that no sender publishes here.
        limits: what this process takes on.
        adaptive: follow each subscriber's link; False: only hold the budgets that subscribers ask for.
        trace: file that tells why each layer of each frame was kept or dropped, see `Allocators`.
        tls: certificate to serve with; None: in the clear.
        token_keys: keys of the tokens that every call must bring; None: anybody may do anything.
        upstream_credentials: what to show to `upstream`.
        metrics: "host:port" to serve Prometheus metrics on; None: nowhere.
        metrics_per_receiver: a series per receiver, or only sums.
        reflection: let tools list the gRPC services.
        hub: relay of this machine through which several like this one exchange their streams, see cli/workers.py: it
            gets a copy of what senders send here, and is the upstream. This one then shares its port with the others.
        share: how many subscribers this one has, beside the others of its hub; None: it takes all that come.
        relay_id: names this relay in loop detection, at most MAX_RELAY_ID characters; random when not given.
        clock: monotonic seconds; budgets and staleness follow it.
    """

    def __init__(
        self,
        listen: str = "127.0.0.1:0",
        upstream: str | None = None,
        *,
        limits: RelayLimits | None = None,
        adaptive: bool = True,
        trace: str | PathLike[str] | None = None,
        tls: ServerTls | None = None,
        token_keys: TokenKeys | None = None,
        upstream_credentials: Credentials | None = None,
        metrics: str | None = None,
        metrics_per_receiver: bool = True,
        reflection: bool = False,
        hub: str | None = None,
        share: Share | None = None,
        relay_id: str | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        check_address(listen)
        if upstream is not None:
            check_address(upstream)
        self._listen = listen
        self._hub = hub
        self._limits = limits or RelayLimits()
        self._allocators = Allocators(adaptive, trace)
        self._clock = clock
        self._tls = tls
        self._metrics_listen = metrics
        self._metrics_per_receiver = metrics_per_receiver
        self._reflection = reflection
        self._metrics: MetricsServer | None = None
        self._gate = Gate(self._limits, token_keys, clock)
        self._forwarding = Latency()
        self._reports = ReportBudget(self._limits.max_reports_per_s)
        self._overload = Overload()
        self._handshakes = 0
        self.id = relay_id or secrets.token_hex(8)
        if len(self.id) > MAX_RELAY_ID:
            raise ConfigError(f"relay id of {len(self.id)} characters", hint=f"use at most {MAX_RELAY_ID}")
        self._streams = Streams(self.id, self._limits, hub or upstream, upstream_credentials, clock)
        self._copies = None if hub is None else HubCopies(hub, self._limits.window, clock)
        self._share = share
        self._subscribers = 0
        self._server: grpc.aio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def metrics_port(self) -> int:
        """Port on which metrics are served, 0 if they are not."""
        return 0 if self._metrics is None else self._metrics.port

    @property
    def address(self) -> str:
        """ "host:port" as bound."""
        if self._listen.startswith("unix:"):
            return self._listen
        return f"{self._listen.rpartition(':')[0]}:{self.port}"

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: a port cannot be had, or a certificate is of no use.
            MissingDependencyError: metrics or reflection are asked for, and their packages are not installed.
        """
        server = make_server(
            GIANT_FACTOR * self._limits.max_unit_bytes,
            self._limits.max_connections,
            share_port=self._hub is not None,
        )
        guarded = self._gate.guarded
        server.add_generic_rpc_handlers(
            (
                method_handlers(INGEST, [("Publish", guarded(self._publish))]),
                method_handlers(DISTRIBUTION, [("Subscribe", guarded(self._subscribe))]),
            )
        )
        add_health(server, self._gate)
        if self._reflection:
            add_reflection(server)
        secret = None if self._tls is None else self._tls.server_credentials(self._on_handshake)
        self.port = bind(server, self._listen, secret)
        if self._metrics_listen is not None:
            from layercast.transport.metrics import MetricsServer

            try:
                port = 0 if self._listen.startswith("unix:") else self.port
                self._metrics = MetricsServer(
                    self._metrics_listen, self.statistics, self._metrics_per_receiver, port
                )
            except LayercastError:
                await server.stop(None)
                raise
        await server.start()
        self._server = server
        self._count(0)
        self._sweeper = asyncio.create_task(self._sweep(), name="layercast relay sweep")
        self._watcher = asyncio.create_task(self._watch(), name="layercast relay load")

    def reload(self) -> None:
        """Read the token keys again if they have changed; this also happens by itself, every second."""
        self._gate.sweep()

    async def drain(self, duration_s: float = DRAIN_S, hint: str = "connect again, or elsewhere") -> None:
        """Take no new calls, and give running ones `duration_s` seconds to move away; then `aclose`.

        Health turns NOT_SERVING at once; who calls now is told `hint`. See Gate.drain.
        """
        await self._gate.drain(duration_s, hint)

    async def aclose(self) -> None:
        """Tell everybody goodbye and free the port."""
        server, self._server = self._server, None
        if server is None:
            return
        self._gate.leaving.set()
        self._streams.close()
        for stream in self._streams.by_name.values():
            if isinstance(stream.source, Publisher):
                stream.source.end(LeavingError(LEAVING))
            stream.fail(LeavingError(LEAVING))
        await server.stop(CLOSE_TIMEOUT_S)
        await cancel_and_wait(self._sweeper, self._watcher)
        if self._metrics is not None:
            metrics, self._metrics = self._metrics, None
            await metrics.aclose()
        if self._copies is not None:
            await self._copies.aclose()
        await self._streams.aclose()

    async def __aenter__(self) -> Relay:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def statistics(self) -> RelayStatistics:
        """What the relay does now; to be asked on the relay's event loop."""
        return RelayStatistics(
            streams={name: stream.statistics() for name, stream in self._streams.by_name.items()},
            subscribers=self._subscribers,
            refused=dict(self._gate.refused),
            hung_up=dict(self._gate.hung_up),
            forwarding=self._forwarding.statistics(),
            frames_served=self._overload.serving / OF,
            report_interval_s=self._reports.interval_s,
            handshakes=self._handshakes,
            leaving=self._gate.leaving.is_set(),
        )

    def _on_handshake(self) -> None:
        self._handshakes += 1

    # --- ingest ---------------------------------------------------------------------------------------------

    async def _publish(self, context: Context) -> None:
        hello = from_metadata(context.invocation_metadata(), HELLO_KEY, pb.PublishHello)
        check_hello(hello.protocol, hello.stream)
        if len(hello.session) != SESSION_BYTES or not 0 < len(hello.description) <= MAX_DESCRIPTION_BYTES:
            raise RefusedError("session or description of impossible size", hint="update the sender")
        grant = self._gate.authorise(context, hello.stream, "publish")
        if self._copies is None:
            await self._take_stream(context, hello, grant)
        else:
            async with self._copies.open(context) as copy:
                await self._take_stream(context, hello, grant, copy)

    async def _take_stream(
        self, context: Context, hello: pb.PublishHello, grant: Grant | None, copy: HubCopy | None = None
    ) -> None:
        stream = self._streams.get(hello.stream)
        publisher = Publisher(hello.session, self._limits, self._clock)
        self._streams.claim(stream, publisher)
        try:
            with self._gate.running(context, stream.name, "publish", grant, publisher.end):
                stream.begin(hello.session, hello.description)
                info = pb.StreamInfo(relay=self.id, session=hello.session, description=hello.description)
                await context.send_initial_metadata(to_metadata(STREAM_KEY, info))
                await first_of(
                    publisher.take_units(context, stream),
                    publisher.send_feedback(context, stream),
                    raise_when(publisher.ended),
                    *([] if copy is None else [copy.run(stream)]),
                )
        finally:
            if copy is not None:
                copy.leave()
            if stream.source is publisher:
                stream.lost()
            self._streams.on_demand(stream)

    # --- distribution ---------------------------------------------------------------------------------------

    async def _subscribe(self, context: Context) -> None:
        hello = from_metadata(context.invocation_metadata(), HELLO_KEY, pb.SubscribeHello)
        check_hello(hello.protocol, hello.stream)
        check_hops(hello.hops, self.id)
        grant = self._gate.authorise(context, hello.stream, "subscribe")
        self._streams.check_room(hello.stream, self._subscribers)
        if self._share is not None:
            self._share.check()
        stream = self._streams.get(hello.stream)
        peer = context.peer()
        subject = "" if grant is None else grant.subject
        allocator = self._allocators.open(hello.limits, stream.name, peer, hello.link, subject)
        window, clock, latency = self._limits.window, self._clock, self._forwarding
        subscriber = Subscriber(
            hello.limits,
            hello.hops,
            allocator,
            window,
            clock,
            peer,
            latency=latency,
            takes_notes=hello.takes_notes,
        )
        self._count(1)
        try:
            with self._gate.running(context, stream.name, "subscribe", grant, subscriber.end):
                stream.attach(subscriber)
                await first_of(
                    self._serve(context, stream, subscriber, hello),
                    raise_when(subscriber.ended),
                )
        finally:
            self._count(-1)
            stream.detach(subscriber)

    def _count(self, more: int) -> None:
        self._subscribers += more
        if self._share is not None:
            self._share.tell(self._subscribers)

    async def _serve(
        self, context: Context, stream: RelayStream, subscriber: Subscriber, hello: pb.SubscribeHello
    ) -> None:
        wait_s = hello.wait_ms / 1000 if hello.HasField("wait_ms") else None
        try:
            await limited(stream.described.wait(), wait_s)
        except asyncio.TimeoutError:
            raise StreamNotFoundError(f"no stream named {stream.name}") from None
        info = stream.serve(subscriber)
        info.relay = self.id
        await context.send_initial_metadata(to_metadata(STREAM_KEY, info))
        pump = Pump(subscriber.next, context.write, subscriber.written)
        subscriber.on_ready = pump.kick
        self._pace_reports()
        if self._reports.interval_s:
            subscriber.ask_for_reports(self._reports.interval_s)
        pump.kick()
        try:
            await first_of(result_of(pump.failed), self._take_reports(context, stream, subscriber))
        finally:
            pump.close()

    async def _take_reports(self, context: Context, stream: RelayStream, subscriber: Subscriber) -> None:
        rate = Bucket(MAX_REPORTS_PER_S, 2 * MAX_REPORTS_PER_S, self._clock())
        while (data := await context.read()) is not EOF:
            if len(data) > MAX_CONTROL_BYTES:
                raise OverLimitError("report-size", f"control message of {len(data)} bytes")
            if not rate.take(1, self._clock()):
                raise OverLimitError(
                    "report-rate", f"more than {MAX_REPORTS_PER_S:g} control messages per second"
                )
            message = parse(data, pb.ReceiverMessage)
            if message.HasField("limits"):
                stream.set_limits(subscriber, message.limits)
            if message.HasField("hops"):
                check_hops(message.hops, self.id)
                stream.set_hops(subscriber, message.hops)
            stream.acknowledge(subscriber, message.acks)
            self._reports.heard()
            self._pace_reports()

    def _pace_reports(self) -> None:
        """Have everybody report less often if reports are too many, or more often if they need not be so few."""
        if self._reports.update(self._clock(), lambda: sum(each.is_restless for each in self._everybody())):
            for subscriber in self._everybody():
                subscriber.ask_for_reports(self._reports.interval_s)

    async def _watch(self) -> None:
        """Leave frames out while there is more to do than the processor can."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + SAMPLE_S
            await asyncio.sleep(SAMPLE_S)
            now_s = loop.time()
            lag_s, cpu_s = now_s - due_s, time.process_time()
            if self._overload.sample(now_s, lag_s, cpu_s, self._reports.is_crowded):
                served = self._overload.serving / OF
                level = logging.WARNING if served < 1 else logging.INFO
                event(_log, level, "overload", frames_served=served, subscribers=self._subscribers)
            for stream in self._streams.by_name.values():
                stream.serving = self._overload.serving

    def _everybody(self) -> Iterator[Subscriber]:
        return chain.from_iterable(stream.subscribers for stream in self._streams.by_name.values())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._gate.sweep()
            self._pace_reports()
            now_s = self._clock()
            for subscriber in self._everybody():
                if subscriber.outbox.silent_s(now_s) > self._limits.ack_timeout_s:
                    subscriber.end(DroppedError("silent", "no acknowledgement for too long"))
