"""What strangers send is refused with a reason, and the honest notice nothing."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import grpc
import grpc.aio
import pytest

from layercast.bitstream import encode_description
from layercast.errors import ConfigError, LayercastError, RefusedError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.channel import open_channel
from layercast.transport.limits import MAX_CONTROL_BYTES, MAX_DESCRIPTION_BYTES, RelayLimits
from layercast.transport.link import EOF, open_call
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender
from layercast.transport.status import from_status
from layercast.transport.wire import HELLO_KEY, PUBLISH, SUBSCRIBE

from .harness import DESCRIPTION, eventually, live, take, unit, within


def publish_hello(**changes: Any) -> pb.PublishHello:
    description = encode_description(DESCRIPTION)
    fields = {"protocol": 1, "stream": "evil", "session": b"8 bytes.", "description": description}
    return pb.PublishHello(**{**fields, **changes})


async def outcome(call: Any) -> LayercastError:
    """The error that a call ends with; gRPC tells it after everything sent before has been read."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await within(call.read()) is not EOF:
            pass
    return from_status(await within(call.code()), await call.details(), "relay")


@live
async def test_units_that_are_no_units_end_the_call_that_sent_them():
    rng = random.Random(11)
    good = unit(1)
    hostile = [b"", b"\0", good[:3], good[:-1], good + b"x", rng.randbytes(100), b"LU" + rng.randbytes(5000)]
    async with (
        Relay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as receiver,
    ):
        await sender.ready(5)
        for number, data in enumerate(hostile):
            async with open_call(relay.address, PUBLISH, publish_hello(), 1 << 16) as (call, _):
                await call.write(data)
                assert isinstance(await outcome(call), ConfigError)
            await sender.send_unit(unit(number))
            await take(receiver, 1)
        assert sum(relay.statistics().refused.values()) == len(hostile)
        assert list(relay.statistics().streams) == ["cam"], "nothing is left of the refused"


@pytest.mark.parametrize("method", [PUBLISH, SUBSCRIBE])
@pytest.mark.parametrize("hello", [None, b"", b"\xff" * 20, b"\x08\x01\x12\x03a/b", b"\x08\x63\x12\x01a"])
def test_hellos_that_are_no_hellos_are_refused(method: str, hello: bytes | None):
    @live
    async def attempt() -> None:
        async with Relay() as relay:
            channel = open_channel(relay.address, 1 << 16)
            call = channel.stream_stream(method)(metadata=[(HELLO_KEY, hello)] if hello is not None else [])
            assert isinstance(await outcome(call), ConfigError | RefusedError)
            await channel.close()
            assert sum(relay.statistics().refused.values()) == 1
            assert relay.statistics().streams == {}

    attempt()


@pytest.mark.parametrize(
    "changes",
    [
        {"session": b""},
        {"session": b"x" * 9},
        {"description": b""},
        {"description": b"x" * (MAX_DESCRIPTION_BYTES + 1)},
        {"protocol": 2},
    ],
    ids=str,
)
def test_publish_hellos_out_of_bounds_are_refused(changes: dict[str, Any]):
    @live
    async def attempt() -> None:
        async with Relay() as relay:
            with pytest.raises(RefusedError):
                async with open_call(relay.address, PUBLISH, publish_hello(**changes), 1 << 16):
                    pass

    attempt()


@live
async def test_a_message_above_the_limit_is_refused_unread():
    async with (
        Relay(limits=RelayLimits(max_unit_bytes=10_000)) as relay,
        open_call(relay.address, PUBLISH, publish_hello(), 1 << 16) as (call, _),
    ):
        await call.write(unit(0, [20_000]))
        assert isinstance(await outcome(call), RefusedError)


@live
async def test_control_messages_are_bounded_and_checked():
    async with Relay() as relay, Sender(relay.address, "cam", description=DESCRIPTION):
        for data in (b"\xff\xff\xff", bytes(MAX_CONTROL_BYTES + 1)):
            await eventually(lambda: "cam" in relay.statistics().streams)
            hello = pb.SubscribeHello(protocol=1, stream="cam")
            async with open_call(relay.address, SUBSCRIBE, hello, 1 << 16) as (call, _):
                await call.write(data)
                assert isinstance(await outcome(call), ConfigError | RefusedError)


@live
async def test_there_are_only_so_many_subscribers():
    async with (
        Relay(limits=RelayLimits(max_subscribers=2)) as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as one,
        Receiver(relay.address, "cam", decode=False) as two,
    ):
        await eventually(lambda: relay.statistics().subscribers == 2)
        async with Receiver(relay.address, "cam", decode=False) as three:
            with pytest.raises(RefusedError, match="at most 2 subscribers"):
                await take(three, 1)
        await sender.ready(5)
        await sender.send_unit(unit(0))
        assert len(await take(one, 1) + await take(two, 1)) == 2


@live
async def test_there_are_only_so_many_streams():
    async with (
        Relay(limits=RelayLimits(max_streams=1)) as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
    ):
        await eventually(lambda: sender.statistics().link.connected)
        async with Sender(relay.address, "cam2", description=DESCRIPTION) as second:
            with pytest.raises(RefusedError, match="at most 1 streams"):
                await second.ready(5)
        async with Receiver(relay.address, "cam3", decode=False) as receiver:
            with pytest.raises(RefusedError, match="at most 1 streams"):
                await take(receiver, 1)


@live
async def test_a_relay_that_sends_garbage_breaks_no_receiver():
    """A server that accepts, then sends bytes that are no unit: the receiver reports it and keeps trying."""
    from layercast.transport.channel import bind, make_server, method_handlers
    from layercast.transport.wire import DISTRIBUTION, STREAM_KEY, to_metadata

    calls = []

    async def subscribe(_requests: object, context: grpc.aio.ServicerContext) -> None:
        calls.append(1)
        info = pb.StreamInfo(relay="x", session=b"8 bytes.", description=encode_description(DESCRIPTION))
        await context.send_initial_metadata(to_metadata(STREAM_KEY, info))
        await context.write(unit(7) if len(calls) == 2 else b"garbage")
        await context.read()

    server = make_server(1 << 20)
    server.add_generic_rpc_handlers((method_handlers(DISTRIBUTION, [("Subscribe", subscribe)]),))
    address = f"127.0.0.1:{bind(server, '127.0.0.1:0')}"
    await server.start()
    async with Receiver(address, "cam", decode=False) as receiver:
        assert (await take(receiver, 1))[0].header.frame_id == 7
        assert "not an access unit" in receiver.statistics().link.last_error
    await server.stop(None)


@live
async def test_a_server_that_is_no_relay_is_named():
    from layercast.transport.channel import bind, make_server

    server = make_server(1 << 20)
    address = f"127.0.0.1:{bind(server, '127.0.0.1:0')}"
    await server.start()
    async with Receiver(address, "cam", decode=False) as receiver:
        with pytest.raises(ConfigError, match="not a layercast relay"):
            await take(receiver, 1)
    await server.stop(None)
