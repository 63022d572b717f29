"""The two ends of a shaped link, each a process of its own in its namespace.

    python ends.py near HOST:PORT SECONDS SIZES TRACE          a relay there, and synthetic senders (`sources_of`)
    python ends.py far HOST:PORT DELAY_MS OUT SIZES [LINK]     their receivers behind a delay; a row per frame into OUT

The near end prints "up", then "flowing" when the first frame is sent, at last the bytes that the senders sent. The far
end runs until it is terminated.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

from layercast.bitstream import FrameHeader, PictureInfo, StreamDescription, pack
from layercast.control.adaptive import STALENESS_S
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender

from ..control.simulation import Source, sources_of
from .proxy import DelayProxy


async def near(address: str, seconds: str, sizes: str, trace: str) -> None:
    sources = sources_of(sizes)
    async with Relay(address, trace=trace or None) as relay, contextlib.AsyncExitStack() as stack:
        print("up", flush=True)
        senders = []
        for number, source in enumerate(sources):
            names = tuple(f"l{k}" for k in range(source.layers))
            description = StreamDescription("none", b"fingerprint-0000", names)
            sender = Sender(relay.address, f"cam{number}", description=description)
            senders.append(await stack.enter_async_context(sender))
        for sender in senders:
            await sender.ready(20)
        print("flowing", flush=True)
        start_s = time.monotonic()
        parts = enumerate(zip(senders, sources, strict=True))
        await asyncio.gather(
            *(
                send(sender, source, float(seconds), start_s + number / len(sources) / source.fps)
                for number, (sender, source) in parts
            )
        )
        print(sum(sender.statistics().outbox.bytes_sent for sender in senders), flush=True)


async def send(sender: Sender, source: Source, seconds: float, start_s: float) -> None:
    """All frames of a source, each at its time."""
    for number, (time_s, ends, gains) in enumerate(source.frames(seconds)):
        await asyncio.sleep(max(0.0, start_s + time_s - time.monotonic()))
        header = FrameHeader(
            number, time.time_ns() // 1000, PictureInfo(64, 48, 3, 200), total_layers=source.layers
        )
        layers = [bytes(after - before) for before, after in pairwise(ends)]
        await sender.send_unit(pack(header, layers, gains))


async def far(address: str, delay_ms: str, out: str, sizes: str, link: str = "") -> None:
    late, rows = await watch(address, float(delay_ms) / 1e3, len(sources_of(sizes)), link or None)
    await asyncio.to_thread(Path(out).write_text, "".join(json.dumps(row) + "\n" for row in (late, *rows)))


Row = tuple[int, int, int, float, int, int]
"""Stream, frame id, capture time in us, delay in s, layers, bytes."""


async def watch(address: str, delay_s: float, streams: int, link: str | None) -> tuple[int, list[Row]]:
    """Frames that were dropped because they came too late, and the others, until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    rows: list[Row] = []

    async def note(receiver: Receiver, stream: int) -> None:
        async for frame in receiver:
            header = frame.header
            told = header.timestamp_us, frame.latency_s, frame.layers, len(frame.unit)
            rows.append((stream, header.frame_id, *told))

    async with contextlib.AsyncExitStack() as stack:
        receivers = []
        proxy = await stack.enter_async_context(DelayProxy(address, delay_s))
        for number in range(streams):
            name, bound_s = f"cam{number}", STALENESS_S
            receiver = Receiver(proxy.address, name, decode=False, max_staleness_s=bound_s, link=link)
            receivers.append(await stack.enter_async_context(receiver))
        noting = [asyncio.create_task(note(each, number)) for number, each in enumerate(receivers)]
        await stopped.wait()
        late = sum(each.statistics().late for each in receivers)
    await asyncio.gather(*noting)
    return late, rows


if __name__ == "__main__":
    asyncio.run({"near": near, "far": far}[sys.argv[1]](*sys.argv[2:]))
