"""Sender, relay and receiver in one program: the whole of layercast in twenty lines. Needs no arguments."""

import asyncio

from layercast import Receiver, Relay, Sender
from layercast.media import PatternSource


async def main():
    async with (
        Relay("127.0.0.1:0") as relay,
        Sender(relay.address, "cam1", quality=0.6) as sender,
        Receiver(relay.address, "cam1", max_layers=4) as receiver,
    ):
        await sender.ready()
        for image, _ in PatternSource(320, 240, frames=10):
            await sender.send(image)
            frame = await anext(receiver)
            kept = f"{frame.layers} of {frame.header.total_layers} layers"
            print(f"frame {frame.header.frame_id}: {frame.image.shape}, {kept}, {len(frame.unit)} bytes")


asyncio.run(main())
