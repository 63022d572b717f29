"""A reader that stops reading costs a bounded amount of memory and nobody else's time."""

from __future__ import annotations

from layercast.transport.limits import LOOKAHEAD_BYTES, RelayLimits, Window
from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender

from .harness import DESCRIPTION, LAYERS, PlainRelay, eventually, live, subscribed, take, unit

UNIT_BYTES = 100_000


@live
async def test_others_get_every_frame_and_the_relay_holds_little_for_the_one_that_stopped():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as honest,
    ):
        await sender.ready(5)
        async with subscribed(relay):
            await eventually(lambda: relay.statistics().subscribers == 2)
            for number in range(300):
                await sender.send_unit(unit(number, [UNIT_BYTES // LAYERS] * LAYERS))
                (frame,) = await take(honest, 1)
                assert (frame.header.frame_id, frame.layers) == (number, LAYERS)
            _, stopped = relay.statistics().streams["cam"].subscribers
            assert stopped.acknowledged == 0
            assert stopped.bytes_sent <= LOOKAHEAD_BYTES + 2 * UNIT_BYTES, "what gRPC took, of 30 MB offered"
            assert stopped.waiting <= Window().max_waiting


@live
async def test_one_that_reads_but_never_acknowledges_gets_a_window_and_no_more():
    window = Window(max_frames=5, max_age_s=60.0)
    async with (
        PlainRelay(limits=RelayLimits(window=window)) as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as honest,
        subscribed(relay) as call,
    ):
        await sender.ready(5)
        await eventually(lambda: relay.statistics().subscribers == 2)
        for number in range(20):
            await sender.send_unit(unit(number))
            await take(honest, 1)
        for _ in range(5):
            await call.read()
        boxes = relay.statistics().streams["cam"].subscribers
        assert sorted(box.sent for box in boxes) == [5, 20]


@live
async def test_a_subscriber_that_stays_silent_is_dropped_and_counted():
    async with (
        PlainRelay(limits=RelayLimits(ack_timeout_s=0.5)) as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as honest,
        subscribed(relay),
    ):
        await eventually(lambda: relay.statistics().subscribers == 2)
        await sender.ready(5)
        number = 0
        while relay.statistics().subscribers == 2:
            await sender.send_unit(unit(number, [UNIT_BYTES // LAYERS] * LAYERS))
            await take(honest, 1)
            number += 1
        assert relay.statistics().refused == {"silent": 1}


@live
async def test_a_consumer_that_is_slow_sees_the_newest_frames_and_never_an_old_one():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as slow,
    ):
        await sender.ready(5)
        for number in range(50):
            await sender.send_unit(unit(number))
            await eventually(lambda number=number: slow.statistics().frames == number + 1)
        assert [frame.header.frame_id for frame in await take(slow, 2)] == [48, 49]
        assert slow.statistics().overtaken == 48
