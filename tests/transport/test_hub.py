"""Workers of one machine: it makes no difference which of them a sender or a receiver reached, and the one that the
sender reached serves its own receivers itself."""

from __future__ import annotations

import contextlib

import pytest

from layercast.bitstream import encode_description
from layercast.errors import RefusedError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.limits import MAX_CONTROL_BYTES, RelayLimits
from layercast.transport.link import open_call
from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender
from layercast.transport.wire import PUBLISH, parse

from .harness import DESCRIPTION, PlainRelay, eventually, live, take, unit


class Machine:
    """A hub and two workers."""

    def __init__(self, limits: RelayLimits | None = None) -> None:
        self._limits = limits
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Machine:
        self.hub = await self._stack.enter_async_context(PlainRelay())
        self.one, self.two = [
            await self._stack.enter_async_context(PlainRelay(hub=self.hub.address, limits=self._limits))
            for _ in range(2)
        ]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def at_hub(self) -> int:
        """Frames of the stream that came to the hub."""
        return self.hub.statistics().streams["cam"].frames


@live
async def test_frames_for_receivers_of_the_senders_own_worker_do_not_pass_the_hub():
    async with (
        Machine() as machine,
        Sender(machine.one.address, "cam", description=DESCRIPTION) as sender,
        Receiver(machine.one.address, "cam", decode=False) as receiver,
    ):
        await sender.ready(5)
        await eventually(lambda: machine.hub.statistics().subscribers == 0)
        await eventually(lambda: len(machine.one.statistics().streams["cam"].subscribers) == 1)
        for number in range(10):
            await sender.send_unit(unit(number))
            assert (await take(receiver, 1))[0].header.frame_id == number
        # That nobody listens there may still be on its way from the hub when the first frame leaves.
        assert machine.at_hub() <= 1


@live
async def test_receivers_of_another_worker_get_every_frame_byte_for_byte_through_one_copy():
    async with contextlib.AsyncExitStack() as stack:
        machine = await stack.enter_async_context(Machine())
        sender = await stack.enter_async_context(Sender(machine.one.address, "cam", description=DESCRIPTION))
        receivers = [
            await stack.enter_async_context(Receiver(worker.address, "cam", decode=False))
            for worker in (machine.one, machine.two, machine.two)
        ]
        for receiver in receivers:
            await receiver.ready(5)
        await eventually(lambda: len(machine.one.statistics().streams["cam"].subscribers) == 2)
        for number in range(20):
            whole = unit(number)
            await sender.send_unit(whole)
            for receiver in receivers:
                assert (await take(receiver, 1))[0].unit == whole
        assert len(machine.hub.statistics().streams["cam"].subscribers) == 1


@live
async def test_the_hub_gets_what_others_can_use_and_nothing_when_they_have_left():
    async with (
        Machine() as machine,
        Sender(machine.one.address, "cam", description=DESCRIPTION) as sender,
        Receiver(machine.one.address, "cam", decode=False) as here,
    ):
        await sender.ready(5)
        async with Receiver(machine.two.address, "cam", decode=False, max_layers=3) as there:
            await there.ready(5)
            await eventually(lambda: len(machine.one.statistics().streams["cam"].subscribers) == 2)
            await sender.send_unit(unit(0))
            assert (await take(here, 1))[0].layers == 10
            assert (await take(there, 1))[0].layers == 3
            copy = machine.one.statistics().streams["cam"].subscribers[1]
            assert (copy.layers_sent, copy.layers_offered) == (3, 10)
        await eventually(lambda: len(machine.one.statistics().streams["cam"].subscribers) == 1)
        await sender.send_unit(unit(1))
        await take(here, 1)
        assert machine.at_hub() == 1


@live
async def test_who_joins_at_another_worker_gets_the_newest_picture_at_once():
    async with (
        Machine() as machine,
        Sender(machine.one.address, "cam", description=DESCRIPTION) as sender,
        Receiver(machine.one.address, "cam", decode=False) as here,
    ):
        await sender.ready(5)
        await sender.send_unit(unit(0))
        await sender.send_unit(unit(1, reference=0))
        await take(here, 2)
        for _ in range(2):  # the second time, what was sent before is sent again
            async with Receiver(machine.two.address, "cam", decode=False) as there:
                assert [frame.header.frame_id for frame in await take(there, 2)] == [0, 1]
            await eventually(lambda: len(machine.one.statistics().streams["cam"].subscribers) == 1)


@live
async def test_a_name_belongs_to_one_sender_whichever_worker_the_others_reach():
    async with (
        Machine() as machine,
        Sender(machine.one.address, "cam", description=DESCRIPTION) as sender,
        Receiver(machine.two.address, "cam", decode=False) as receiver,
    ):
        await sender.ready(5)
        for worker in (machine.one, machine.two):
            with pytest.raises(RefusedError, match="already has a sender"):
                async with Sender(
                    worker.address, "cam", description=DESCRIPTION, give_up_after_s=0.1
                ) as second:
                    await second.ready(10)
        await sender.send_unit(unit(0))
        assert (await take(receiver, 1))[0].header.frame_id == 0


@live
async def test_a_sender_that_comes_back_at_another_worker_keeps_its_receivers_everywhere():
    hello = pb.PublishHello(
        protocol=1, stream="cam", session=b"12345678", description=encode_description(DESCRIPTION)
    )
    async with contextlib.AsyncExitStack() as stack:
        machine = await stack.enter_async_context(Machine())
        receivers = [
            await stack.enter_async_context(Receiver(worker.address, "cam", decode=False))
            for worker in (machine.one, machine.two)
        ]
        number = 0
        for worker in (machine.one, machine.two, machine.one):
            call, _ = await stack.enter_async_context(
                open_call(worker.address, PUBLISH, hello, MAX_CONTROL_BYTES)
            )
            while not parse(await call.read(), pb.IngestFeedback).demand.active:
                pass
            for _ in range(3):
                await call.write(unit(number))
                for receiver in receivers:
                    while (await take(receiver, 1))[0].header.frame_id < number:
                        pass
                number += 1
        assert [receiver.statistics().sessions for receiver in receivers] == [1, 1]


@live
async def test_what_a_sender_sent_before_it_left_arrives_everywhere():
    async with (
        Machine() as machine,
        Receiver(machine.two.address, "cam", decode=False) as receiver,
    ):
        async with Sender(machine.one.address, "cam", description=DESCRIPTION) as sender:
            await sender.ready(5)
            for number in range(10):
                await sender.send_unit(unit(number))
        await eventually(lambda: receiver.statistics().frames == 10)


@live
async def test_the_copy_is_no_subscriber_that_counts():
    async with (
        Machine(RelayLimits(max_subscribers_per_stream=1)) as machine,
        Sender(machine.one.address, "cam", description=DESCRIPTION) as sender,
        Receiver(machine.two.address, "cam", decode=False) as there,
    ):
        await sender.ready(5)
        await there.ready(5)
        async with Receiver(machine.one.address, "cam", decode=False) as here:
            await here.ready(5)
            assert machine.one.statistics().subscribers == 1
