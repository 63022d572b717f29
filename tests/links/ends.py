"""The two ends of a shaped link, each a process of its own in its namespace.

    python ends.py near HOST:PORT SECONDS SIZES TRACE          a relay there, and a synthetic sender
    python ends.py far HOST:PORT DELAY_MS OUT                  a receiver behind a delay; a row per frame into OUT

The near end prints "up", then "flowing" when the first frame is sent, at last the bytes that the sender sent. The far
end runs until it is terminated.
"""

from __future__ import annotations

import asyncio
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

from ..control.simulation import source_of
from .proxy import DelayProxy


async def near(address: str, seconds: str, sizes: str, trace: str) -> None:
    source = source_of(sizes)
    description = StreamDescription("none", b"fingerprint-0000", tuple(f"l{k}" for k in range(source.layers)))
    async with Relay(address, trace=trace or None) as relay:
        print("up", flush=True)
        async with Sender(relay.address, "cam", description=description) as sender:
            await sender.ready(20)
            print("flowing", flush=True)
            start_s = time.monotonic()
            for number, (time_s, ends, gains) in enumerate(source.frames(float(seconds))):
                await asyncio.sleep(max(0.0, start_s + time_s - time.monotonic()))
                header = FrameHeader(
                    number, time.time_ns() // 1000, PictureInfo(64, 48, 3, 200), total_layers=source.layers
                )
                layers = [bytes(after - before) for before, after in pairwise(ends)]
                await sender.send_unit(pack(header, layers, gains))
            print(sender.statistics().outbox.bytes_sent, flush=True)


async def far(address: str, delay_ms: str, out: str) -> None:
    late, rows = await watch(address, float(delay_ms) / 1e3)
    await asyncio.to_thread(Path(out).write_text, "".join(json.dumps(row) + "\n" for row in (late, *rows)))


async def watch(address: str, delay_s: float) -> tuple[int, list[tuple[int, int, float, int, int]]]:
    """Frames that were dropped because they came too late; id, capture time, delay, layers and bytes of the others,
    until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    rows = []
    async with (
        DelayProxy(address, delay_s) as proxy,
        Receiver(proxy.address, "cam", decode=False, max_staleness_s=STALENESS_S) as receiver,
    ):

        async def note() -> None:
            async for frame in receiver:
                header = frame.header
                rows.append(
                    (header.frame_id, header.timestamp_us, frame.latency_s, frame.layers, len(frame.unit))
                )

        noting = asyncio.create_task(note())
        await stopped.wait()
        late = receiver.statistics().late
    await noting
    return late, rows


if __name__ == "__main__":
    asyncio.run({"near": near, "far": far}[sys.argv[1]](*sys.argv[2:]))
