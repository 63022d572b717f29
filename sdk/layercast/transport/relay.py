"""The relay: takes streams from senders, gives each subscriber the layers it has room for, decodes
nothing."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from os import PathLike
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from layercast.errors import ConfigError, ConnectError, LayercastError, RefusedError, StreamNotFoundError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import make_ack
from layercast.transport.allocators import Allocators
from layercast.transport.channel import bind, check_address, make_server, method_handlers
from layercast.transport.limits import (
    CLOSE_TIMEOUT_S,
    MAX_CONTROL_BYTES,
    MAX_DESCRIPTION_BYTES,
    MAX_HOPS,
    MAX_RELAY_ID,
    MAX_RELAYS_BELOW,
    PROTOCOL,
    UPSTREAM_LINGER_S,
    RelayLimits,
)
from layercast.transport.link import EOF
from layercast.transport.status import TakenError, to_status
from layercast.transport.stream import Clock, RelayStream, StreamStatistics, Subscriber
from layercast.transport.tasks import cancel_and_wait, first_of, limited
from layercast.transport.upstream import Upstream
from layercast.transport.wire import (
    DISTRIBUTION,
    HELLO_KEY,
    INGEST,
    SESSION_BYTES,
    STREAM_KEY,
    check_stream_name,
    from_metadata,
    parse,
    to_metadata,
)

SWEEP_S = 1.0
"""How often subscribers are checked for silence, in seconds; a fraction of the shortest useful
ack_timeout_s."""

Context = Any
"""A `grpc.aio.ServicerContext` of bytes both ways."""


@dataclass(frozen=True, slots=True)
class RelayStatistics:
    """What the relay does now, and how often it refused.

    Attributes:
        streams: by name.
        subscribers: over all streams.
        refused: calls ended by an error, by error code.
    """

    streams: dict[str, StreamStatistics]
    subscribers: int
    refused: dict[str, int]


class Publisher:
    """One Publish call: what still has to be told to the sender."""

    def __init__(self, session: bytes) -> None:
        self.session = session
        self.acks: list[pb.Ack] = []
        self.wake = asyncio.Event()
        self.wake.set()
        self.ended: asyncio.Future[LayercastError] = asyncio.get_running_loop().create_future()

    def end(self, error: LayercastError) -> None:
        """Have the handler end the call with `error`."""
        if not self.ended.done():
            self.ended.set_result(error)


class Relay:
    """Serves streams on one port. Use as `async with Relay("0.0.0.0:7400") as relay:`.

    Args:
        listen: "host:port"; port 0 takes any free one, see `address`.
        upstream: "host:port" of another relay to subscribe to for streams that no sender publishes here.
        limits: what this process takes on.
        adaptive: follow each subscriber's link; False: only hold the budgets that subscribers ask for.
        trace: file that tells why each layer of each frame was kept or dropped, see `Allocators`.
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
        relay_id: str | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        check_address(listen)
        if upstream is not None:
            check_address(upstream)
        self._listen = listen
        self._upstream_target = upstream
        self._limits = limits or RelayLimits()
        self._allocators = Allocators(adaptive, trace)
        self._clock = clock
        self.id = relay_id or secrets.token_hex(8)
        if len(self.id) > MAX_RELAY_ID:
            raise ConfigError(f"relay id of {len(self.id)} characters", hint=f"use at most {MAX_RELAY_ID}")
        self._streams: dict[str, RelayStream] = {}
        self._upstreams: dict[str, Upstream] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._subscribers = 0
        self._refused: Counter[str] = Counter()
        self._server: grpc.aio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """ "host:port" as bound."""
        return f"{self._listen.rpartition(':')[0]}:{self.port}"

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: the port cannot be had.
        """
        server = make_server(self._limits.max_unit_bytes)
        server.add_generic_rpc_handlers(
            (
                method_handlers(INGEST, [("Publish", self._guarded(self._publish))]),
                method_handlers(DISTRIBUTION, [("Subscribe", self._guarded(self._subscribe))]),
            )
        )
        self.port = bind(server, self._listen)
        await server.start()
        self._server = server
        self._sweeper = asyncio.create_task(self._sweep(), name="layercast relay sweep")

    async def aclose(self) -> None:
        """Tell everybody goodbye and free the port."""
        server, self._server = self._server, None
        if server is None:
            return
        for stream in self._streams.values():
            if isinstance(stream.source, Publisher):
                stream.source.end(ConnectError("the relay is shutting down"))
            stream.fail(ConnectError("the relay is shutting down"))
        await server.stop(CLOSE_TIMEOUT_S)
        await cancel_and_wait(self._sweeper)
        for name in list(self._upstreams):
            self._close_upstream(name)
        await asyncio.gather(*self._closing)

    async def __aenter__(self) -> Relay:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def statistics(self) -> RelayStatistics:
        """What the relay does now."""
        return RelayStatistics(
            streams={name: stream.statistics() for name, stream in self._streams.items()},
            subscribers=self._subscribers,
            refused=dict(self._refused),
        )

    def _guarded(
        self, handler: Callable[[Context], Awaitable[None]]
    ) -> Callable[[Any, Context], Awaitable[None]]:
        async def guarded(_requests: Any, context: Context) -> None:
            try:
                await handler(context)
            except LayercastError as error:
                self._refused[error.code] += 1
                code, details = to_status(error)
                # A reader that stopped does not take the status either: then the call is dropped without it.
                with contextlib.suppress(asyncio.TimeoutError):
                    await limited(context.abort(code, details), CLOSE_TIMEOUT_S)

        return guarded

    # --- ingest ---------------------------------------------------------------------------------------------

    async def _publish(self, context: Context) -> None:
        hello = from_metadata(context.invocation_metadata(), HELLO_KEY, pb.PublishHello)
        self._check_hello(hello.protocol, hello.stream)
        if len(hello.session) != SESSION_BYTES or not 0 < len(hello.description) <= MAX_DESCRIPTION_BYTES:
            raise RefusedError("session or description of impossible size", hint="update the sender")
        stream = self._stream(hello.stream)
        publisher = Publisher(hello.session)
        self._claim(stream, publisher)
        try:
            stream.begin(hello.session, hello.description)
            info = pb.StreamInfo(relay=self.id, session=hello.session, description=hello.description)
            await context.send_initial_metadata(to_metadata(STREAM_KEY, info))
            await first_of(
                self._take_units(context, stream, publisher),
                self._send_feedback(context, stream, publisher),
                _raise_when(publisher.ended),
            )
        finally:
            if stream.source is publisher:
                stream.lost()
            self._on_demand(stream)

    def _claim(self, stream: RelayStream, publisher: Publisher) -> None:
        present = stream.source
        if isinstance(present, Publisher):
            if present.session != publisher.session:
                raise TakenError(
                    f"stream {stream.name} already has a sender",
                    hint="choose another name, or stop the other sender",
                )
            present.end(ConnectError("the sender connected again"))
        stream.source = publisher
        self._close_upstream(stream.name)

    async def _take_units(self, context: Context, stream: RelayStream, publisher: Publisher) -> None:
        while (unit := await context.read()) is not EOF:
            frame = stream.publish(unit)
            publisher.acks.append(make_ack(frame.header.frame_id, len(unit), self._clock()))
            publisher.wake.set()

    async def _send_feedback(self, context: Context, stream: RelayStream, publisher: Publisher) -> None:
        told: pb.Demand | None = None
        while True:
            await publisher.wake.wait()
            publisher.wake.clear()
            feedback = pb.IngestFeedback(acks=publisher.acks)
            publisher.acks.clear()
            demand = stream.demand()
            if demand != told:
                feedback.demand.CopyFrom(demand)
                told = demand
            if feedback.acks or feedback.HasField("demand"):
                await context.write(feedback.SerializeToString())

    # --- distribution ---------------------------------------------------------------------------------------

    async def _subscribe(self, context: Context) -> None:
        hello = from_metadata(context.invocation_metadata(), HELLO_KEY, pb.SubscribeHello)
        self._check_hello(hello.protocol, hello.stream)
        self._check_hops(hello.hops)
        if self._subscribers >= self._limits.max_subscribers:
            raise RefusedError(f"this relay serves at most {self._limits.max_subscribers} subscribers")
        stream = self._stream(hello.stream)
        allocator = self._allocators.open(hello.limits, stream.name, context.peer())
        subscriber = Subscriber(hello.limits, hello.hops, allocator, self._limits.window, self._clock)
        self._subscribers += 1
        try:
            stream.attach(subscriber)
            await first_of(
                self._serve(context, stream, subscriber, hello),
                _raise_when(subscriber.ended),
            )
        finally:
            self._subscribers -= 1
            stream.detach(subscriber)

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
        await first_of(
            self._send_units(context, subscriber),
            self._take_reports(context, stream, subscriber),
        )

    async def _send_units(self, context: Context, subscriber: Subscriber) -> None:
        while True:
            await subscriber.wake.wait()
            subscriber.wake.clear()
            while (chosen := subscriber.next()) is not None:
                frame, keep = chosen
                await context.write(frame.prefix(keep))

    async def _take_reports(self, context: Context, stream: RelayStream, subscriber: Subscriber) -> None:
        while (data := await context.read()) is not EOF:
            if len(data) > MAX_CONTROL_BYTES:
                raise RefusedError(f"control message of {len(data)} bytes")
            message = parse(data, pb.ReceiverMessage)
            if message.HasField("limits"):
                stream.set_limits(subscriber, message.limits)
            if message.HasField("hops"):
                self._check_hops(message.hops)
                stream.set_hops(subscriber, message.hops)
            stream.acknowledge(subscriber, message.acks)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = self._clock()
            for stream in self._streams.values():
                for subscriber in stream.subscribers:
                    if subscriber.outbox.silent_s(now_s) > self._limits.ack_timeout_s:
                        subscriber.end(ConnectError("no acknowledgement for too long"))

    # --- streams --------------------------------------------------------------------------------------------

    def _check_hello(self, protocol: int, name: str) -> None:
        check_stream_name(name)
        if protocol != PROTOCOL:
            raise RefusedError(
                f"protocol {protocol}, this relay speaks {PROTOCOL}", hint="update the older end"
            )

    def _check_hops(self, hops: pb.Hops) -> None:
        if self.id in hops.relays:
            raise RefusedError(
                f"loop of relays: {self.id} is downstream of itself", hint="check the --upstream options"
            )
        if hops.depth >= MAX_HOPS:
            raise RefusedError(f"more than {MAX_HOPS} relays in a row")
        if len(hops.relays) > MAX_RELAYS_BELOW or max(map(len, hops.relays), default=0) > MAX_RELAY_ID:
            raise RefusedError(
                f"more than {MAX_RELAYS_BELOW} relays below this one, or ids above {MAX_RELAY_ID}"
            )

    def _stream(self, name: str) -> RelayStream:
        stream = self._streams.get(name)
        if stream is None:
            if len(self._streams) >= self._limits.max_streams:
                raise RefusedError(f"this relay serves at most {self._limits.max_streams} streams")
            stream = self._streams[name] = RelayStream(name, self._limits, self._on_demand, self._clock)
        return stream

    def _on_demand(self, stream: RelayStream) -> None:
        name = stream.name
        if isinstance(stream.source, Publisher):
            stream.source.wake.set()
        elif stream.subscribers:
            self._open_upstream(stream)
        elif name in self._upstreams and self._server is not None:
            asyncio.get_running_loop().call_later(UPSTREAM_LINGER_S, self._close_if_idle, stream)
        else:
            self._close_if_idle(stream)

    def _open_upstream(self, stream: RelayStream) -> None:
        present = self._upstreams.get(stream.name)
        if present is not None and not present.failed:
            present.update()
        elif self._upstream_target is not None and self._server is not None:
            upstream = Upstream(self._upstream_target, stream, self.id, self._clock)
            stream.source = self._upstreams[stream.name] = upstream

    def _close_if_idle(self, stream: RelayStream) -> None:
        if not stream.subscribers and not isinstance(stream.source, Publisher):
            self._close_upstream(stream.name)
            if self._streams.get(stream.name) is stream:
                del self._streams[stream.name]

    def _close_upstream(self, name: str) -> None:
        upstream = self._upstreams.pop(name, None)
        if upstream is not None:
            task = asyncio.create_task(upstream.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _raise_when(ended: asyncio.Future[LayercastError]) -> None:
    raise await asyncio.shield(ended)
