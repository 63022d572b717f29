"""One relay, several streams, many receivers, each with its own budget."""

from __future__ import annotations

import random

import pytest

from layercast.bitstream import read_index
from layercast.transport.limits import RelayLimits
from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender

from .harness import (
    DESCRIPTION,
    ENDLESS,
    LAYERS,
    FakeClock,
    PlainRelay,
    eventually,
    live,
    take,
    unit,
    unlimited,
)


@live
async def test_each_receiver_gets_the_layers_it_asked_for():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as full,
        Receiver(relay.address, "cam", decode=False, max_layers=3) as few,
        Receiver(relay.address, "cam", decode=False, max_layers=1) as one,
    ):
        await eventually(lambda: relay.statistics().subscribers == 3)
        await unlimited(sender)
        for number in range(5):
            whole = unit(number)
            assert await sender.send_unit(whole)
            frames = [(await take(receiver, 1))[0] for receiver in (full, few, one)]
            assert [frame.layers for frame in frames] == [LAYERS, 3, 1]
            assert [frame.header.frame_id for frame in frames] == [number] * 3
            assert frames[0].unit == whole
            assert len(frames[1].unit) == read_index(whole).ends[3]


@live
async def test_streams_do_not_mix():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "left", description=DESCRIPTION) as left,
        Sender(relay.address, "right", description=DESCRIPTION) as right,
        Receiver(relay.address, "left", decode=False) as sees_left,
        Receiver(relay.address, "right", decode=False) as sees_right,
    ):
        await left.ready(5)
        await right.ready(5)
        for number in range(3):
            await left.send_unit(unit(number, [100]))
            await right.send_unit(unit(100 + number, [200]))
            assert [frame.header.frame_id for frame in await take(sees_left, 1)] == [number]
            assert [frame.header.frame_id for frame in await take(sees_right, 1)] == [100 + number]


@live
async def test_a_quarter_of_the_bitrate_is_nearly_all_used_while_a_neighbour_gets_every_byte():
    """60 seconds of 30 frames/s on a clock of the test's own, sizes varying from frame to frame."""
    frame_rate, seconds = 30, 60
    rng = random.Random(5)
    units = [
        unit(number, [rng.randrange(200, 900) for _ in range(LAYERS)])
        for number in range(frame_rate * seconds)
    ]
    total = sum(map(len, units))
    cap_bps = 0.25 * total * 8 / seconds
    clock = FakeClock()
    async with (
        PlainRelay(clock=clock, limits=RelayLimits(window=ENDLESS)) as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False, max_bitrate=cap_bps) as capped,
        Receiver(relay.address, "cam", decode=False) as free,
    ):
        await eventually(lambda: relay.statistics().subscribers == 2)
        await unlimited(sender)

        def settled(count: int) -> bool:
            boxes = relay.statistics().streams["cam"].subscribers
            return all(box.offered == count and not box.waiting for box in boxes)

        for number, whole in enumerate(units):
            await sender.send_unit(whole)
            await eventually(lambda number=number: settled(number + 1))
            clock.advance(1 / frame_rate)
        boxes = relay.statistics().streams["cam"].subscribers
        sent = sum(box.sent for box in boxes)
        await eventually(lambda: free.statistics().frames + capped.statistics().frames == sent)
        assert free.statistics().bytes == total
        got = capped.statistics()
        assert got.frames >= 0.95 * len(units)
        assert 0.97 * cap_bps <= got.bytes * 8 / seconds <= cap_bps


@live
async def test_a_late_joiner_gets_the_newest_key_frame_at_once():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as early,
    ):
        await sender.ready(5)
        for number in range(4):
            await sender.send_unit(unit(number))
            await take(early, 1)
        async with Receiver(relay.address, "cam", decode=False, max_layers=2) as late:
            (frame,) = await take(late, 1)
            assert (frame.header.frame_id, frame.layers) == (3, 2)


@live
async def test_a_late_joiner_gets_the_deltas_since_the_key_frame_too():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as early,
    ):
        await sender.ready(5)
        await sender.send_unit(unit(0))
        await take(early, 1)
        await sender.send_unit(unit(1, reference=0))
        await take(early, 1)
        async with Receiver(relay.address, "cam", decode=False) as late:
            assert [frame.header.frame_id for frame in await take(late, 2)] == [0, 1]


@live
async def test_a_budget_can_change_while_frames_flow():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False, max_layers=2) as receiver,
        Receiver(relay.address, "cam", decode=False) as _other,
    ):
        await eventually(lambda: relay.statistics().subscribers == 2)
        await unlimited(sender)
        seen = []
        for number, layers in enumerate([2, 7, LAYERS, 1]):
            if number:
                receiver.set_budget(max_layers=None if layers == LAYERS else layers)
            for again in range(200):  # the change is on its way beside the frames
                await sender.send_unit(unit(number * 1000 + again))
                (frame,) = await take(receiver, 1)
                if frame.layers == layers:
                    seen.append(layers)
                    break
        assert seen == [2, 7, LAYERS, 1]


@live
async def test_a_delta_stream_stays_decodable_under_a_budget():
    """Every frame that arrives has at most as many layers as its reference had at this receiver."""
    clock = FakeClock()
    async with (
        PlainRelay(clock=clock, limits=RelayLimits(window=ENDLESS)) as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False, max_bitrate=30 * 8 * 4000) as receiver,
        Receiver(relay.address, "cam", decode=False) as free,
    ):
        await eventually(lambda: relay.statistics().subscribers == 2)
        await unlimited(sender)
        layers: dict[int, int] = {}
        for number in range(90):
            await sender.send_unit(unit(number, reference=None if number % 15 == 0 else number - 1))
            await take(free, 1)
            await eventually(
                lambda: not any(box.waiting for box in relay.statistics().streams["cam"].subscribers)
            )
            clock.advance(1 / 30)
            sent = sum(box.sent for box in relay.statistics().streams["cam"].subscribers)
            while free.statistics().frames + receiver.statistics().delivered < sent:
                (frame,) = await take(receiver, 1)
                reference = frame.header.reference_id
                assert reference is None or frame.layers <= layers[reference]
                layers[frame.header.frame_id] = frame.layers
        assert len(layers) >= 6, "at least the key frames come through"
        assert receiver.statistics().unreferenced == 0, "the relay sent nothing that is of no use"


@live
async def test_a_frame_that_comes_twice_goes_out_once():
    from layercast.transport._pb import transport_pb2 as pb
    from layercast.transport.link import open_call
    from layercast.transport.wire import PUBLISH

    hello = pb.PublishHello(protocol=1, stream="cam", session=b"8 bytes.", description=b"any")
    async with PlainRelay() as relay:
        from layercast.bitstream import encode_description

        hello.description = encode_description(DESCRIPTION)
        async with (
            Receiver(relay.address, "cam", decode=False) as receiver,
            open_call(relay.address, PUBLISH, hello, 1 << 16) as (call, _),
        ):
            await eventually(lambda: relay.statistics().subscribers == 1)
            for number in (5, 5, 4, 6):
                await call.write(unit(number))
            assert [frame.header.frame_id for frame in await take(receiver, 2)] == [5, 6]
            assert relay.statistics().streams["cam"].repeated == 2


@live
async def test_a_stream_without_a_sender_is_waited_for_or_not_found():
    from layercast.errors import StreamNotFoundError

    async with PlainRelay() as relay:
        async with Receiver(relay.address, "nobody", decode=False, wait_s=0.0) as receiver:
            with pytest.raises(StreamNotFoundError, match="nobody"):
                await take(receiver, 1)
        async with Receiver(relay.address, "cam", decode=False) as early:
            await eventually(lambda: relay.statistics().subscribers == 1)
            async with Sender(relay.address, "cam", description=DESCRIPTION) as sender:
                await sender.ready(5)
                await sender.send_unit(unit(0))
                assert (await take(early, 1))[0].layers == LAYERS
