"""Relays in a row: demand travels up, frames travel down, and a ring is refused."""

from __future__ import annotations

import contextlib

import pytest

from layercast.errors import RefusedError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.limits import MAX_HOPS, MAX_RELAY_ID, MAX_RELAYS_BELOW
from layercast.transport.link import open_call
from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender
from layercast.transport.wire import SUBSCRIBE

from .harness import DESCRIPTION, LAYERS, PlainRelay, eventually, live, take, unit


@live
async def test_frames_pass_three_relays_byte_for_byte():
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(PlainRelay())
        second = await stack.enter_async_context(PlainRelay(upstream=first.address))
        third = await stack.enter_async_context(PlainRelay(upstream=second.address))
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
        PlainRelay() as first,
        PlainRelay(upstream=first.address) as second,
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
        PlainRelay() as first,
        PlainRelay(upstream=first.address) as second,
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
        PlainRelay() as first,
        PlainRelay(upstream=first.address) as second,
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
    first = PlainRelay(relay_id="first")
    await first.start()
    async with PlainRelay(upstream=first.address, relay_id="second") as second:
        await first.aclose()
        async with PlainRelay(first.address, upstream=second.address, relay_id="first"):
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
async def test_a_ring_that_closes_later_is_refused_too():
    """bottom -> middle -> top stand; then the top restarts with bottom as its upstream, which joins two
    subscriptions that were open before."""
    top = PlainRelay(relay_id="top")
    await top.start()
    async with (
        PlainRelay(upstream=top.address, relay_id="middle") as middle,
        PlainRelay(upstream=middle.address, relay_id="bottom") as bottom,
        Receiver(middle.address, "cam", decode=False),
        Receiver(bottom.address, "cam", decode=False) as receiver,
    ):
        await eventually(lambda: middle.statistics().subscribers == 2 and top.statistics().subscribers == 1)
        await top.aclose()
        async with PlainRelay(top.address, upstream=bottom.address, relay_id="top"):
            with pytest.raises(RefusedError, match="loop of relays"):
                await take(receiver, 1)


@live
async def test_a_relay_that_points_at_itself_is_refused():
    relay = PlainRelay()
    await relay.start()
    await relay.aclose()
    async with (
        PlainRelay(relay.address, upstream=relay.address) as relay,
        Receiver(relay.address, "cam", decode=False) as receiver,
    ):
        with pytest.raises(RefusedError, match="loop of relays"):
            await take(receiver, 1)


@pytest.mark.parametrize("relays", [MAX_HOPS, MAX_HOPS + 1])
def test_a_chain_of_too_many_relays_is_refused(relays: int):
    @live
    async def attempt() -> None:
        async with contextlib.AsyncExitStack() as stack:
            last = await stack.enter_async_context(PlainRelay())
            sender = await stack.enter_async_context(Sender(last.address, "cam", description=DESCRIPTION))
            for _ in range(relays - 1):
                last = await stack.enter_async_context(PlainRelay(upstream=last.address))
            receiver = await stack.enter_async_context(Receiver(last.address, "cam", decode=False))
            if relays > MAX_HOPS:
                with pytest.raises(RefusedError, match="in a row"):
                    await take(receiver, 1)
            else:
                await sender.ready(5)
                await sender.send_unit(unit(0))
                await take(receiver, 1)

    attempt()


@live
async def test_many_relays_may_hang_below_one():
    async with contextlib.AsyncExitStack() as stack:
        top = await stack.enter_async_context(PlainRelay())
        middle = await stack.enter_async_context(PlainRelay(upstream=top.address))
        sender = await stack.enter_async_context(Sender(top.address, "cam", description=DESCRIPTION))
        receivers = []
        for _ in range(MAX_HOPS + 2):
            leaf = await stack.enter_async_context(PlainRelay(upstream=middle.address))
            receivers.append(await stack.enter_async_context(Receiver(leaf.address, "cam", decode=False)))
        await eventually(lambda: middle.statistics().subscribers == len(receivers))
        await sender.ready(5)
        await sender.send_unit(unit(0))
        for receiver in receivers:
            await take(receiver, 1)


@live
async def test_lists_of_relays_out_of_bounds_are_refused():
    for relays in (map(str, range(MAX_RELAYS_BELOW + 1)), ["x" * (MAX_RELAY_ID + 1)]):
        async with PlainRelay() as relay:
            hello = pb.SubscribeHello(protocol=1, stream="cam", hops=pb.Hops(relays=relays))
            with pytest.raises(RefusedError, match="below"):
                async with open_call(relay.address, SUBSCRIBE, hello, 1 << 16):
                    pass


@live
async def test_a_sender_that_comes_to_a_chained_relay_takes_over_from_upstream():
    async with (
        PlainRelay() as first,
        PlainRelay(upstream=first.address) as second,
        Receiver(second.address, "cam", decode=False) as receiver,
    ):
        await eventually(lambda: first.statistics().subscribers == 1)
        async with Sender(second.address, "cam", description=DESCRIPTION) as sender:
            await sender.ready(5)
            await sender.send_unit(unit(0))
            assert (await take(receiver, 1))[0].header.frame_id == 0
            await eventually(lambda: first.statistics().subscribers == 0)
