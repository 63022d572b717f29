"""Relays in a row: demand travels up, frames travel down, and a ring is refused."""

from __future__ import annotations

import contextlib

import pytest

from layercast.errors import RefusedError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.limits import MAX_HOPS
from layercast.transport.link import open_call
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender
from layercast.transport.wire import SUBSCRIBE

from .harness import DESCRIPTION, LAYERS, eventually, live, take, unit


@live
async def test_frames_pass_three_relays_byte_for_byte():
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(Relay())
        second = await stack.enter_async_context(Relay(upstream=first.address))
        third = await stack.enter_async_context(Relay(upstream=second.address))
        receiver = await stack.enter_async_context(Receiver(third.address, "cam", decode=False))
        sender = await stack.enter_async_context(Sender(first.address, "cam", description=DESCRIPTION))
        await sender.ready(5)
        for number in range(5):
            whole = unit(number)
            await sender.send_unit(whole)
            assert (await take(receiver, 1))[0].unit == whole


@live
async def test_nothing_is_asked_for_upstream_while_nobody_listens():
    async with (
        Relay() as first,
        Relay(upstream=first.address) as second,
        Sender(first.address, "cam", description=DESCRIPTION) as sender,
    ):
        await eventually(lambda: sender.statistics().link.connected)
        assert not await sender.send_unit(unit(0))
        assert first.statistics().streams["cam"].frames == 0
        async with Receiver(second.address, "cam", decode=False) as receiver:
            await sender.ready(5)
            await sender.send_unit(unit(1))
            assert (await take(receiver, 1))[0].header.frame_id == 1
        await eventually(lambda: not sender.wanted, "the end of demand, a linger after the last receiver")
        assert first.statistics().subscribers == 0
        assert second.statistics().streams == {}


@live
async def test_only_the_layers_that_somebody_can_use_are_asked_for_upstream():
    async with (
        Relay() as first,
        Relay(upstream=first.address) as second,
        Sender(first.address, "cam", description=DESCRIPTION) as sender,
        Receiver(second.address, "cam", decode=False, max_layers=2) as two,
    ):
        await sender.ready(5)
        await sender.send_unit(unit(0))
        await take(two, 1)
        assert sender.statistics().outbox.layers_sent == 2
        async with Receiver(second.address, "cam", decode=False, max_layers=5) as five:
            for number in range(1, 500):  # the wish is on its way beside the frames
                await sender.send_unit(unit(number))
                frames = await take(five, 1), await take(two, 1)
                if frames[0][0].layers == 5:
                    break
            assert [frame.layers for (frame,) in frames] == [5, 2]
            at_first = first.statistics().streams["cam"].subscribers[0]
            assert at_first.layers_offered < LAYERS * at_first.offered


@live
async def test_two_receivers_downstream_cost_one_subscription_upstream():
    async with (
        Relay() as first,
        Relay(upstream=first.address) as second,
        Sender(first.address, "cam", description=DESCRIPTION) as sender,
        Receiver(second.address, "cam", decode=False) as one,
        Receiver(second.address, "cam", decode=False) as two,
    ):
        await eventually(lambda: second.statistics().subscribers == 2)
        await sender.ready(5)
        await sender.send_unit(unit(0))
        await take(one, 1)
        await take(two, 1)
        assert first.statistics().subscribers == 1


@live
async def test_a_ring_of_relays_is_refused():
    first = Relay(relay_id="first")
    await first.start()
    async with Relay(upstream=first.address, relay_id="second") as second:
        await first.aclose()
        async with Relay(first.address, upstream=second.address, relay_id="first"):
            async with Receiver(second.address, "cam", decode=False) as receiver:
                with pytest.raises(RefusedError, match="loop of relays"):
                    await take(receiver, 1)
            async with (
                Sender(second.address, "cam", description=DESCRIPTION) as sender,
                Receiver(first.address, "cam", decode=False) as receiver,
            ):
                await sender.ready(5)
                await sender.send_unit(unit(0))
                assert (await take(receiver, 1))[0].layers == LAYERS, "a ring with a sender is none"


@live
async def test_a_relay_that_points_at_itself_is_refused():
    relay = Relay()
    await relay.start()
    await relay.aclose()
    async with (
        Relay(relay.address, upstream=relay.address) as relay,
        Receiver(relay.address, "cam", decode=False) as receiver,
    ):
        with pytest.raises(RefusedError, match="loop of relays"):
            await take(receiver, 1)


@live
async def test_a_chain_of_too_many_relays_is_refused():
    async with Relay() as relay:
        hello = pb.SubscribeHello(protocol=1, stream="cam", hops=[f"relay{n}" for n in range(MAX_HOPS)])
        with pytest.raises(RefusedError, match="in a row"):
            async with open_call(relay.address, SUBSCRIBE, hello, 1 << 16):
                pass


@live
async def test_a_sender_that_comes_to_a_chained_relay_takes_over_from_upstream():
    async with (
        Relay() as first,
        Relay(upstream=first.address) as second,
        Receiver(second.address, "cam", decode=False) as receiver,
    ):
        await eventually(lambda: first.statistics().subscribers == 1)
        async with Sender(second.address, "cam", description=DESCRIPTION) as sender:
            await sender.ready(5)
            await sender.send_unit(unit(0))
            assert (await take(receiver, 1))[0].header.frame_id == 0
            await eventually(lambda: first.statistics().subscribers == 0)
