"""A copy of a sender's stream for the hub of this machine, from where its other workers get it (see cli/workers.py).

The worker that a sender reached serves its own receivers at once, as a relay without a hub does. To the hub it is the
sender: the hub lends the stream's name to one sender at a time, tells what it needs, and gets a copy of that while
other workers' receivers listen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from layercast.control.budget import FixedBudgetAllocator
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.channel import open_channel
from layercast.transport.limits import CLOSE_TIMEOUT_S, MAX_CONTROL_BYTES, Window
from layercast.transport.link import EOF, Call
from layercast.transport.pump import Pump
from layercast.transport.stream import Clock, RelayStream, Subscriber
from layercast.transport.tasks import cancel_and_wait, first_of, limited, raise_when, result_of
from layercast.transport.wire import PUBLISH, STREAM_KEY, parse

Context = Any
"""A `grpc.aio.ServicerContext` of bytes both ways."""


class _HubEndedError(Exception):
    """The hub has ended the call; its status says why."""


class HubCopies:
    """The copies that one worker sends to its hub.

    Args:
        target: address of the hub.
        window: bounds of what waits for it.
        clock: monotonic seconds.
    """

    def __init__(self, target: str, window: Window, clock: Clock) -> None:
        self._target = target
        self._window = window
        self._clock = clock
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[HubCopy]:
        """While a sender's call lasts: the hub has lent it the name. If it does not, or ends the call, the sender's
        call ends with what the hub says of it."""
        hello = [(key, value) for key, value in context.invocation_metadata() if key.startswith("layercast-")]
        channel: Any = open_channel(self._target, MAX_CONTROL_BYTES)
        call = channel.stream_stream(PUBLISH)(metadata=tuple(hello))
        copy: HubCopy | None = None
        try:
            metadata = await call.initial_metadata()
            if not any(name == STREAM_KEY for name, _ in metadata or ()):
                raise _HubEndedError
            copy = HubCopy(call, self._target, self._window, self._clock)
            yield copy
        except (grpc.aio.AioRpcError, _HubEndedError):
            await context.abort(await call.code(), await call.details())
        finally:
            task = asyncio.create_task(_close(copy, call, channel))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Wait until the last ones are closed."""
        await asyncio.gather(*self._closing)


class HubCopy:
    """One sender's copy.

    Args:
        call: to the hub, which has accepted it.
        target: the hub's address, for statistics.
        window: bounds of what waits for it.
        clock: monotonic seconds.
    """

    def __init__(self, call: Call, target: str, window: Window, clock: Clock) -> None:
        self._call = call
        self._subscriber = Subscriber(
            pb.Limits(), pb.Hops(), FixedBudgetAllocator(None, None), window, clock, target, is_copy=True
        )
        self._pump = Pump(self._subscriber.next, call.write, self._subscriber.written)
        self._subscriber.on_ready = self._pump.kick
        self._stream: RelayStream | None = None
        self._reading: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()

    async def run(self, stream: RelayStream) -> None:
        """Pass on what the hub asks for; ends when the hub ends the call."""
        self._stream = stream
        self._reading = asyncio.create_task(self._read(), name=f"layercast copy {stream.name}")
        try:
            await first_of(
                result_of(self._reading), result_of(self._pump.failed), raise_when(self._subscriber.ended)
            )
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, ConnectionError):
            raise _HubEndedError from None

    def leave(self) -> None:
        """The sender is gone: nothing is added any more."""
        stream, self._stream = self._stream, None
        if stream is not None and self._subscriber in stream.subscribers:
            stream.detach(self._subscriber)

    async def aclose(self) -> None:
        """Send what waits, if the hub takes it within CLOSE_TIMEOUT_S: what the sender was told has arrived here is to
        arrive there."""
        self.leave()
        if self._reading is not None:
            with contextlib.suppress(Exception):
                await limited(first_of(result_of(self._reading), self._all_arrived()), CLOSE_TIMEOUT_S)
        await cancel_and_wait(self._reading)
        self._pump.close()

    async def _read(self) -> None:
        while (data := await self._call.read()) is not EOF:
            feedback = parse(data, pb.IngestFeedback)
            if feedback.HasField("demand") and self._stream is not None:
                self._meet(self._stream, feedback.demand)
            self._subscriber.acknowledge(feedback.acks)
            self._arrived.set()

    def _meet(self, stream: RelayStream, demand: pb.Demand) -> None:
        """Join the stream's subscribers, with what the hub asks for, or leave them."""
        serves = self._subscriber in stream.subscribers
        if not demand.active:
            if serves:
                stream.detach(self._subscriber)
        elif serves:
            stream.set_limits(self._subscriber, demand.limits)
        else:
            self._subscriber.outbox.clear()
            self._subscriber.set_limits(demand.limits)
            stream.attach(self._subscriber)
            stream.serve(self._subscriber)

    async def _all_arrived(self) -> None:
        while not self._subscriber.outbox.idle:
            self._arrived.clear()
            await self._arrived.wait()


async def _close(copy: HubCopy | None, call: Call, channel: Any) -> None:
    if copy is not None:
        await copy.aclose()
    call.cancel()
    await channel.close()
