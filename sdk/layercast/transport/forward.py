"""Passing a sender's call on, untouched, to the relay of this machine that holds the streams (see cli/workers.py)."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from layercast.transport.channel import open_channel
from layercast.transport.limits import MAX_CONTROL_BYTES
from layercast.transport.link import EOF
from layercast.transport.tasks import first_of
from layercast.transport.wire import PUBLISH, STREAM_KEY

Context = Any
"""A `grpc.aio.ServicerContext` of bytes both ways."""


async def forward_publish(context: Context, target: str) -> None:
    """Until either end ends the call; what `target` says of it goes to the sender as it is."""
    hello = [(key, value) for key, value in context.invocation_metadata() if key.startswith("layercast-")]
    channel: Any = open_channel(target, MAX_CONTROL_BYTES)
    async with channel:
        call = channel.stream_stream(PUBLISH)(metadata=tuple(hello))
        try:
            metadata = tuple(item for item in await call.initial_metadata() if item[0] == STREAM_KEY)
            if metadata:
                await context.send_initial_metadata(metadata)
            await first_of(_carry(context.read, call.write), _carry(call.read, context.write))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await context.abort(await call.code(), await call.details())
        finally:
            call.cancel()


async def _carry(read: Any, write: Any) -> None:
    while (message := await read()) is not EOF:
        await write(message)
