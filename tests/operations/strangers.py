"""Callers that do what no Sender or Receiver does, and a stream between honest ones beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.transport.harness import DESCRIPTION, take, unit, within

from layercast.bitstream import encode_description
from layercast.errors import LayercastError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.credentials import Credentials
from layercast.transport.link import EOF, open_call
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender
from layercast.transport.status import from_status
from layercast.transport.wire import PUBLISH, SUBSCRIBE


def publish_hello(stream: str = "evil") -> pb.PublishHello:
    return pb.PublishHello(
        protocol=1, stream=stream, session=b"8 bytes.", description=encode_description(DESCRIPTION)
    )


def publishing(relay: Relay, stream: str = "evil", credentials: Credentials | None = None) -> Any:
    return open_call(relay.address, PUBLISH, publish_hello(stream), 1 << 20, credentials)


def subscribing(relay: Relay, stream: str = "cam", credentials: Credentials | None = None) -> Any:
    hello = pb.SubscribeHello(protocol=1, stream=stream)
    return open_call(relay.address, SUBSCRIBE, hello, 1 << 20, credentials)


async def ended_with(call: Any) -> LayercastError:
    """The error that the relay ends a call with."""
    with contextlib.suppress(Exception):
        while await within(call.read()) is not EOF:
            pass
    return from_status(await within(call.code()), await call.details(), "relay")


class Honest:
    """A stream whose every frame is expected at the other end."""

    def __init__(self, sender: Sender, receiver: Receiver) -> None:
        self.sender = sender
        self._receiver = receiver
        self._number = 0

    async def frame(self) -> None:
        """The next frame arrives, and none is missing before it."""
        await self.sender.send_unit(unit(self._number))
        (frame,) = await take(self._receiver, 1)
        assert frame.header.frame_id == self._number
        self._number += 1


@contextlib.asynccontextmanager
async def honest(
    relay: Relay, publish: Credentials | None = None, subscribe: Credentials | None = None
) -> AsyncIterator[Honest]:
    """A stream "cam" through `relay`."""
    async with (
        Sender(relay.address, "cam", description=DESCRIPTION, credentials=publish) as sender,
        Receiver(relay.address, "cam", decode=False, credentials=subscribe) as receiver,
    ):
        await sender.ready(5)
        stream = Honest(sender, receiver)
        await stream.frame()
        yield stream
        await stream.frame()


@contextlib.asynccontextmanager
async def from_elsewhere(relay: Relay, host: str) -> AsyncIterator[str]:
    """An address whose connections reach the relay from `host`, one of 127.0.0.0/8."""
    pumps: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", relay.port, local_addr=(host, 0)
            )
        except ConnectionError:
            writer.close()
            return
        writers.add(far_writer)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(pump(source, sink))
            pumps.add(task)
            task.add_done_callback(pumps.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
