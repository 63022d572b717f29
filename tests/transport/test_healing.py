"""Whoever is killed and comes back, in any order, the others go on without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from layercast.errors import ConnectError, RefusedError
from layercast.transport.limits import PEER_LOSS_S
from layercast.transport.link import Link
from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender

from .harness import DESCRIPTION, LAYERS, PlainRelay, eventually, live, take, unit
from .wire import Wire

BUSY_MACHINE_S = 2.0


@contextlib.asynccontextmanager
async def stream_of_units(sender: Sender) -> AsyncIterator[None]:
    """Sends small units for as long as the block lasts."""

    async def pump() -> None:
        number = 0
        while True:
            await sender.send_unit(unit(number, [50] * LAYERS))
            number += 1
            await asyncio.sleep(0.005)

    task = asyncio.create_task(pump())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@live
async def test_a_relay_that_restarts_is_found_again_by_sender_and_receiver():
    relay = PlainRelay()
    await relay.start()
    async with (
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as receiver,
        stream_of_units(sender),
    ):
        await take(receiver, 3)
        for _ in range(3):
            await relay.aclose()
            relay = PlainRelay(relay.address)
            await relay.start()
            before = receiver.statistics().frames
            while receiver.statistics().frames < before + 3:
                await take(receiver, 1)
        assert receiver.statistics().sessions == 1, "the sender lived on, so its session did"
        assert receiver.statistics().link.attempts >= 4
        assert receiver.statistics().link.failures == 0, "frames flow, so the next wait is short again"
    await relay.aclose()


@live
async def test_a_sender_that_restarts_is_a_new_session_for_the_same_receiver():
    async with PlainRelay() as relay, Receiver(relay.address, "cam", decode=False) as receiver:
        for session in (1, 2, 3):
            async with (
                Sender(relay.address, "cam", description=DESCRIPTION) as sender,
                stream_of_units(sender),
            ):
                while receiver.statistics().sessions < session:
                    await take(receiver, 1)
                (frame,) = await take(receiver, 1)
                assert frame.layers == LAYERS, "frame ids start over, and are not taken for old ones"


@live
async def test_a_receiver_that_restarts_disturbs_nobody():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as steady,
        stream_of_units(sender),
    ):
        for _ in range(3):
            async with Receiver(relay.address, "cam", decode=False) as comes_and_goes:
                await take(comes_and_goes, 3)
            await take(steady, 3)
        assert steady.statistics().link.attempts == 1
        assert sender.statistics().link.attempts == 1


@live
async def test_everything_may_start_in_any_order():
    relay = PlainRelay()
    await relay.start()
    await relay.aclose()
    async with (
        Receiver(relay.address, "cam", decode=False) as receiver,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
    ):
        await eventually(
            lambda: receiver.statistics().link.last_error and sender.statistics().link.last_error
        )
        async with PlainRelay(relay.address), stream_of_units(sender):
            await take(receiver, 3)


@live
async def test_the_middle_of_a_chain_may_restart():
    async with PlainRelay() as first:
        second = PlainRelay(upstream=first.address)
        await second.start()
        async with (
            Sender(first.address, "cam", description=DESCRIPTION) as sender,
            Receiver(second.address, "cam", decode=False) as receiver,
            stream_of_units(sender),
        ):
            await take(receiver, 3)
            await second.aclose()
            second = PlainRelay(second.address, upstream=first.address)
            await second.start()
            await take(receiver, 3)
        await second.aclose()


@live
async def test_the_top_of_a_chain_may_restart():
    first = PlainRelay()
    await first.start()
    async with (
        PlainRelay(upstream=first.address) as second,
        Sender(first.address, "cam", description=DESCRIPTION) as sender,
        Receiver(second.address, "cam", decode=False) as receiver,
        stream_of_units(sender),
    ):
        await take(receiver, 3)
        await first.aclose()
        first = PlainRelay(first.address)
        await first.start()
        before = receiver.statistics().frames
        while receiver.statistics().frames < before + 3:
            await take(receiver, 1)
        assert receiver.statistics().link.attempts == 1, "the receiver's own relay was there all the time"
    await first.aclose()


@live
async def test_a_peer_that_vanishes_without_a_word_is_noticed_in_the_stated_time():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Wire(relay.address) as wire,
        Receiver(wire.address, "cam", decode=False) as receiver,
        stream_of_units(sender),
    ):
        await take(receiver, 3)
        wire.cut()
        cut_s = time.monotonic()
        await eventually(lambda: relay.statistics().subscribers == 0)
        await eventually(lambda: not receiver.statistics().link.connected)
        assert time.monotonic() - cut_s <= PEER_LOSS_S + BUSY_MACHINE_S
        wire.mend()
        while not receiver.statistics().link.connected:
            await take(receiver, 1)


def test_a_second_sender_of_the_same_name_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("layercast.transport.link.TAKEN_PATIENCE_S", 0.5)

    @live
    async def attempt() -> None:
        async with PlainRelay() as relay, Sender(relay.address, "cam", description=DESCRIPTION) as first:
            await eventually(lambda: first.statistics().link.connected)
            async with Sender(relay.address, "cam", description=DESCRIPTION) as second:
                with pytest.raises(RefusedError, match="already has a sender"):
                    await second.ready(5)

    attempt()


@live
async def test_a_second_sender_that_is_patient_gets_the_name_when_the_first_is_gone():
    """As when a camera restarts before the relay has noticed that it was gone."""
    async with PlainRelay() as relay, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(Sender(relay.address, "cam", description=DESCRIPTION))
        await eventually(lambda: first.statistics().link.connected)
        async with Sender(relay.address, "cam", description=DESCRIPTION) as second:
            await eventually(lambda: "already has a sender" in second.statistics().link.last_error)
            await first.aclose()
            await eventually(lambda: second.statistics().link.connected)


@live
async def test_an_unreachable_relay_is_named_when_it_is_time_to_give_up():
    relay = PlainRelay()
    await relay.start()
    await relay.aclose()
    async with Receiver(relay.address, "cam", decode=False, give_up_after_s=0.3) as receiver:
        with pytest.raises(ConnectError, match=relay.address):
            await take(receiver, 1)
    async with Sender(relay.address, "cam", description=DESCRIPTION, give_up_after_s=0.3) as sender:
        with pytest.raises(ConnectError, match=relay.address):
            await sender.ready(5)
    async with Receiver(relay.address, "cam", decode=False) as receiver:
        with pytest.raises(ConnectError, match=relay.address):
            await receiver.ready(0.3)


@live
async def test_an_attempt_that_connects_but_brings_no_frame_does_not_reset_the_backoff():
    attempts = []

    async def connects_and_fails() -> None:
        link.accepted()
        attempts.append(link.statistics().failures)
        if len(attempts) == 4:
            link.flowing()
        raise ConnectError("gone")

    link = Link("host:1", connects_and_fails)
    running = asyncio.create_task(link.run())
    await eventually(lambda: len(attempts) == 5)
    running.cancel()
    assert attempts == [0, 1, 2, 3, 1]


@live
async def test_a_port_that_is_taken_is_an_error_and_not_a_second_relay():
    from layercast.errors import ConfigError

    async with PlainRelay() as relay:
        with pytest.raises(ConfigError, match="cannot listen"):
            await PlainRelay(relay.address).start()
