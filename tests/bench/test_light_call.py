"""The load test's own client, against a server of grpcio."""

import asyncio

import pytest
from tests.transport.harness import live

from layercast.bench.light_call import DATA, LightCall, frame, headers, message_frame
from layercast.transport.channel import bind, make_server, method_handlers
from layercast.transport.link import EOF

SIZES = [0, 1, 16490, 300_000, 5, 131_072]


async def serve(talk):
    server = make_server(1 << 20)
    server.add_generic_rpc_handlers((method_handlers("test.Service", [("Talk", talk)]),))
    port = bind(server, "127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


@live
async def test_everything_that_a_server_sends_comes_and_what_is_written_arrives():
    heard, seen = [], {}

    async def talk(_requests, context):
        seen.update(context.invocation_metadata())
        for size in SIZES * 4:  # several times what a window holds
            await context.write(bytes([size % 251]) * size)
        while (message := await context.read()) is not EOF:
            heard.append(message)
            if len(heard) == 2:
                break

    server, target = await serve(talk)
    got = []
    call = await LightCall.open(
        target, "/test.Service/Talk", [("who", "me"), ("it-bin", b"\0\xff")], got.append
    )
    for message in (b"one", b""):
        await call.write(message)
    await asyncio.wait_for(call.ended, 10)
    await server.stop(None)
    assert got == [bytes([size % 251]) * size for size in SIZES * 4]
    assert heard == [b"one", b""]
    assert seen["who"] == "me"
    assert seen["it-bin"] == b"\0\xff"


@live
async def test_messages_may_come_in_any_pieces():
    stream = b"".join(message_frame(bytes([n]) * n) for n in (3, 0, 200))
    both = b"\0" + (7).to_bytes(4, "big") + b"message"
    stream += frame(DATA, 0, 1, both[:2]) + frame(DATA, 0, 1, both[2:] + both)
    for size in (1, 7, 1000):
        got = []
        call = LightCall(b"", got.append)
        for at in range(0, len(stream), size):
            call.data_received(stream[at : at + size])
        assert got == [b"\3" * 3, b"", b"\xc8" * 200, b"message", b"message"]


@live
async def test_a_call_that_is_refused_ends():
    async def talk(_requests, _context):
        pass

    server, target = await serve(talk)
    call = await LightCall.open(target, "/test.Service/Unknown", [], lambda _: None)
    await asyncio.wait_for(call.ended, 10)
    await server.stop(None)
    with pytest.raises(OSError, match="onnect"):
        await LightCall.open(target, "/test.Service/Talk", [], lambda _: None)


def test_metadata_that_needs_more_than_a_byte_of_length_is_refused():
    with pytest.raises(ValueError, match="too long"):
        headers("h:1", "/p", [("name", "x" * 127)])
