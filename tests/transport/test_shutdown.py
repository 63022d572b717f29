"""Closing works in every order and at every moment, and leaves neither tasks nor threads (`live` checks)."""

from __future__ import annotations

import itertools
import threading

import pytest

from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender

from .harness import eventually, live, take
from .planes import PlaneCodec, picture

PARTS = ("sender", "first", "second", "receiver")


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)), ids="-".join)
def test_in_every_order(order: tuple[str, ...]):
    @live
    async def close_in_order() -> None:
        first = Relay()
        await first.start()
        second = Relay(upstream=first.address)
        await second.start()
        sender = Sender(first.address, "cam", codec=PlaneCodec())
        receiver = Receiver(second.address, "cam", codec=PlaneCodec())
        parts = {"sender": sender, "first": first, "second": second, "receiver": receiver}
        await sender.__aenter__()
        await receiver.__aenter__()
        await sender.ready(5)
        await sender.send(picture(1))
        await take(receiver, 1)
        await sender.send(picture(2))
        for name in order:
            await parts[name].aclose()

    close_in_order()


@live
async def test_before_anything_is_connected():
    async with Sender("127.0.0.1:1", "cam", codec=PlaneCodec()), Receiver("127.0.0.1:1", "cam"):
        pass


@live
async def test_twice():
    async with Relay() as relay, Sender(relay.address, "cam", codec=PlaneCodec()) as sender:
        async with Receiver(relay.address, "cam") as receiver:
            pass
        await receiver.aclose()
        await sender.aclose()
        await sender.aclose()
        await relay.aclose()


@live
async def test_while_a_picture_is_being_encoded():
    gate = threading.Event()
    async with (
        Relay() as relay,
        Receiver(relay.address, "cam", decode=False) as _listener,
        Sender(relay.address, "cam", codec=PlaneCodec(gate=gate)) as sender,
    ):
        await sender.ready(5)
        await sender.send(picture(1))
        await eventually(lambda: sender._encoding)
        await sender.send(picture(2))
        gate.set()
