"""The processes of the relay's load test: the relay, a plain fan-out beside it, senders and receivers.

Started by `bench.relay` as `python -m layercast.bench.relay_load ROLE JSON`. Each prints one line when it is up.
Receivers then take "start" and "stop" on stdin, and answer the latter with what came in between.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from layercast.bench.light_call import LightCall
from layercast.bitstream import FrameHeader, PictureInfo, StreamDescription, pack
from layercast.bitstream.unit import MAGIC, read_header
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import Arrival
from layercast.transport.channel import bind, make_server, method_handlers, open_channel
from layercast.transport.limits import MAX_UNIT_BYTES, PROTOCOL, RelayLimits
from layercast.transport.link import EOF
from layercast.transport.process import run_relay
from layercast.transport.relay import Relay
from layercast.transport.reports import Reports
from layercast.transport.sender import Sender
from layercast.transport.subscription import note_of
from layercast.transport.wire import HELLO_KEY, SUBSCRIBE, limits_message, to_metadata

LAYERS = 10
BUCKET_S = 1e-4
"""Resolution of the latencies, seconds."""

CONNECT_EVERY_S = 0.005
"""Receivers come one after the other, so that the ramp is not one burst of handshakes."""

PLAIN_QUEUE = 8
"""Messages that the plain fan-out holds for each receiver; the oldest goes."""

RECONNECT_S = 0.03
"""A receiver that was sent to another worker comes back after this, seconds, as a Link does."""

PLAIN = "layercast.bench.Plain"
STAMP_BYTES = 8


def stream_name(number: int) -> str:
    """Of the `number`-th sender."""
    return f"load{number}"


async def relay(receivers: int, adaptive: bool) -> None:
    """The relay under test."""
    async with Relay(limits=RelayLimits(max_subscribers=receivers + 8), adaptive=adaptive) as running:
        print(running.address, flush=True)
        await asyncio.Event().wait()


async def plain() -> None:
    """What grpc.aio can do at best: hand every message on, cut to each receiver's share, and look at nothing."""
    queues: dict[str, dict[asyncio.Queue[bytes], float]] = {}

    async def publish(_requests: Any, context: Any) -> None:
        name = dict(context.invocation_metadata())["stream"]
        while (message := await context.read()) is not EOF:
            cut: dict[float, bytes] = {}
            for queue, share in queues.get(name, {}).items():
                if queue.full():
                    queue.get_nowait()
                if share not in cut:
                    cut[share] = message[: int(share * len(message))]
                queue.put_nowait(cut[share])

    async def subscribe(_requests: Any, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        queue: asyncio.Queue[bytes] = asyncio.Queue(PLAIN_QUEUE)
        listening = queues.setdefault(metadata["stream"], {})
        listening[queue] = float(metadata["share"])
        try:
            while True:
                await context.write(await queue.get())
        finally:
            del listening[queue]

    server = make_server(MAX_UNIT_BYTES)
    server.add_generic_rpc_handlers(
        (method_handlers(PLAIN, [("Publish", publish), ("Subscribe", subscribe)]),)
    )
    port = bind(server, "127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


async def senders(kind: str, target: str, count: int, unit_bytes: int, frame_rate: float) -> None:
    """`count` streams at `frame_rate`, their frames spread over the interval."""
    print("up", flush=True)
    await asyncio.gather(
        *(
            _send(kind, target, number, number / count / frame_rate, unit_bytes, frame_rate)
            for number in range(count)
        )
    )


async def _send(
    kind: str, target: str, number: int, offset_s: float, unit_bytes: int, frame_rate: float
) -> None:
    layers = [os.urandom(unit_bytes // LAYERS)] * LAYERS
    body = os.urandom(unit_bytes - STAMP_BYTES)

    async def every_frame(put: Any) -> None:
        start_s = time.monotonic() + offset_s
        frame_id = 0
        while True:
            await asyncio.sleep(max(0.0, start_s + frame_id / frame_rate - time.monotonic()))
            await put(frame_id)
            frame_id += 1

    if kind == "plain":
        channel: Any = open_channel(target, 1 << 16)
        async with channel:
            call = channel.stream_stream(f"/{PLAIN}/Publish")(metadata=(("stream", stream_name(number)),))
            await every_frame(lambda _: call.write(time.time_ns().to_bytes(STAMP_BYTES, "big") + body))
    description = StreamDescription(
        "none", b"fingerprint-0000", tuple(f"l{k}" for k in range(LAYERS)), frame_rate
    )

    async with Sender(target, stream_name(number), description=description) as sender:

        def unit(frame_id: int) -> bytes:
            picture = PictureInfo(64, 48, 3, 200)
            return pack(FrameHeader(frame_id, time.time_ns() // 1000, picture, total_layers=LAYERS), layers)

        await every_frame(lambda frame_id: sender.send_unit(unit(frame_id)))


class Count:
    """What a process's receivers have got since `start`."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """From zero."""
        self.frames = self.bytes = 0
        self.latencies: Counter[int] = Counter()

    def add(self, size: int, latency_s: float) -> None:
        """One frame came."""
        self.frames += 1
        self.bytes += size
        self.latencies[max(0, int(latency_s / BUCKET_S))] += 1


async def receivers(kind: str, target: str, streams: list[int], shares: list[float], bps: float) -> None:
    """One receiver per entry of `streams`, with its share of a stream's `bps`; 1.0 is no limit."""
    count = Count()
    running: list[asyncio.Task[None]] = []
    for number, share in zip(streams, shares, strict=True):
        work = _receive_plain if kind == "plain" else _receive
        running.append(asyncio.create_task(work(target, stream_name(number), share, bps, count)))
        await asyncio.sleep(CONNECT_EVERY_S)
    print("up", flush=True)
    while True:
        command = (await asyncio.to_thread(sys.stdin.readline)).strip()
        if command == "start":
            count.start()
        elif command == "stop":
            told = {"frames": count.frames, "bytes": count.bytes, "latencies": dict(count.latencies)}
            print(json.dumps(told), flush=True)
        else:
            break
    for task in running:
        task.cancel()


async def _receive(target: str, stream: str, share: float, bps: float, count: Count) -> None:
    """As a Subscription does, by a call that takes less of the machine."""
    limits = limits_message(None if share >= 1 else share * bps, None)
    hello = pb.SubscribeHello(protocol=PROTOCOL, stream=stream, limits=limits, takes_notes=True)

    def on_message(message: bytes) -> None:
        if message.startswith(MAGIC):
            reports.arrived(arrival(message))
        elif (note := note_of(message)) is not None:
            reports.heed(note)

    def arrival(unit: bytes) -> Arrival:
        header, _, begin = read_header(unit)
        kept, captured_s = unit[begin - 1], header.timestamp_us / 1e6
        count.add(len(unit), time.time() - captured_s)
        return Arrival(header.frame_id, len(unit), time.monotonic(), captured_s, kept, header.total_layers)

    while True:
        call = await LightCall.open(target, SUBSCRIBE, to_metadata(HELLO_KEY, hello), on_message)
        reports = Reports(call.write, hello.limits, hello.hops, seldom=True)
        try:
            await call.ended
        finally:
            reports.close()
            call.close()
        await asyncio.sleep(RECONNECT_S)


async def _receive_plain(target: str, stream: str, share: float, _bps: float, count: Count) -> None:
    def on_message(message: bytes) -> None:
        count.add(len(message), (time.time_ns() - int.from_bytes(message[:STAMP_BYTES], "big")) / 1e9)

    metadata = [("stream", stream), ("share", str(share))]
    call = await LightCall.open(target, f"/{PLAIN}/Subscribe", metadata, on_message)
    try:
        await call.ended
    finally:
        call.close()


ROLES: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "relay": relay,
    "plain": plain,
    "tuned": plain,
    "senders": senders,
    "receivers": receivers,
}

if __name__ == "__main__":
    # "tuned" is the plain fan-out in a process set up like a relay's.
    run = run_relay if sys.argv[1] in ("relay", "tuned") else asyncio.run
    run(ROLES[sys.argv[1]](**json.loads(sys.argv[2])))
