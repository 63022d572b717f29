"""A relay, a sender or a receiver as a process of its own, to be stopped and killed by a test.

python actors.py relay HOST:PORT | sender HOST:PORT | receiver HOST:PORT

Each prints lines: a receiver its count of frames, the others one when they are up.
"""

from __future__ import annotations

import asyncio
import sys
import time

from layercast.bitstream import FrameHeader, PictureInfo, StreamDescription, pack
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender

FRAME_RATE = 30
LAYER_BYTES = 4000
LAYERS = 8


async def relay(address: str) -> None:
    async with Relay(address):
        print("up", flush=True)
        await asyncio.Event().wait()


async def sender(address: str) -> None:
    description = StreamDescription("none", b"fingerprint-0000", tuple(f"l{k}" for k in range(LAYERS)))
    async with Sender(address, "cam", description=description) as sending:
        print("up", flush=True)
        number = 0
        while True:
            header = FrameHeader(number, time.time_ns() // 1000, PictureInfo(64, 48, 3, 200))
            await sending.send_unit(pack(header, [bytes(LAYER_BYTES)] * LAYERS))
            number += 1
            await asyncio.sleep(1 / FRAME_RATE)


async def receiver(address: str) -> None:
    count = 0
    async with Receiver(address, "cam", decode=False) as receiving:
        async for _ in receiving:
            count += 1
            print(count, flush=True)


if __name__ == "__main__":
    asyncio.run({"relay": relay, "sender": sender, "receiver": receiver}[sys.argv[1]](sys.argv[2]))
