"""The receiver hands out the newest decodable picture, and says what is wrong with the others."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from layercast.bitstream import StreamDescription
from layercast.errors import ConfigError, ModelMismatchError, UnknownCodecError
from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender, describe

from .harness import DESCRIPTION, PlainRelay, eventually, live, take, unit, unlimited, within
from .planes import PlaneCodec, picture


@live
async def test_fewer_layers_make_a_coarser_picture():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=PlaneCodec()) as sender,
        Receiver(relay.address, "cam", codec=PlaneCodec(), max_layers=1) as receiver,
        Receiver(relay.address, "cam", codec=PlaneCodec()) as full,
    ):
        await eventually(lambda: relay.statistics().subscribers == 2)
        await unlimited(sender)
        await sender.send(picture(0b11100100))
        (frame,) = await take(receiver, 1)
        assert frame.layers == 1
        assert frame.header.total_layers == 4
        assert np.array_equal(frame.image, picture(0b11000000))
        assert np.array_equal((await take(full, 1))[0].image, picture(0b11100100))


@live
async def test_another_model_at_the_other_end_is_an_error_before_the_first_frame():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=PlaneCodec(b"planes-version-2")) as sender,
        Receiver(relay.address, "cam", codec=PlaneCodec()) as receiver,
    ):
        with pytest.raises(ModelMismatchError, match="same model on both ends"):
            await take(receiver, 1)
        assert sender.statistics().outbox.sent == 0


@live
async def test_a_codec_that_is_not_installed_here_is_named():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=PlaneCodec()),
        Receiver(relay.address, "cam") as receiver,
    ):
        with pytest.raises(UnknownCodecError, match="planes"):
            await take(receiver, 1)


@live
async def test_a_damaged_layer_ends_the_usable_prefix_and_is_reported():
    codec = PlaneCodec()
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=describe(codec)) as sender,
        Receiver(relay.address, "cam", codec=PlaneCodec()) as receiver,
    ):
        await sender.ready(5)
        samples = 64 * 48 * 3
        whole = unit(0, [samples] * 4)
        flipped = bytearray(whole)
        flipped[-1] ^= 1
        await sender.send_unit(bytes(flipped))
        (frame,) = await take(receiver, 1)
        assert frame.layers == 3
        assert frame.damage is not None
        assert frame.damage.layer == 3
        assert frame.image.shape == (48, 64, 3)
        await sender.send_unit(unit(1, [samples, samples, 5, samples]))
        (frame,) = await take(receiver, 1)
        assert frame.damage is not None, "the checksum holds, but the decoder refuses layer 2"
        assert frame.layers == frame.damage.layer == 2
        await sender.send_unit(unit(2, [samples] * 4))
        (frame,) = await take(receiver, 1)
        assert (frame.layers, frame.damage) == (4, None)
        assert receiver.statistics().damaged == 2


@live
async def test_units_need_no_codec():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=PlaneCodec()) as sender,
        Receiver(relay.address, "cam", decode=False) as receiver,
    ):
        assert await receiver.ready(5) == describe(PlaneCodec())
        await sender.ready(5)
        await sender.send(picture(1))
        (frame,) = await take(receiver, 1)
        assert len(frame.unit) > 4 * 8 * 12 * 3
        with pytest.raises(ConfigError, match="does not decode"):
            _ = frame.image


@live
async def test_a_picture_can_be_decoded_only_when_it_is_looked_at():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=PlaneCodec()) as sender,
        Receiver(relay.address, "cam", codec=PlaneCodec(), decode=False) as receiver,
    ):
        await sender.ready(5)
        await sender.send(picture(9))
        (frame,) = await take(receiver, 1)
        assert frame.image is frame.image
        assert frame.image[0, 0, 0] == 9


@live
async def test_a_sender_with_another_description_is_a_new_session():
    async with PlainRelay() as relay, Receiver(relay.address, "cam", decode=False) as receiver:
        for title in ("first", "second"):
            description = StreamDescription("planes", b"planes-version-1", ("a",), 0.0, title)
            async with Sender(relay.address, "cam", description=description) as sender:
                await eventually(lambda title=title: getattr(receiver.description, "title", "") == title)
                await sender.ready(5)
                await sender.send_unit(unit(0, [10]))
                await take(receiver, 1)
        assert receiver.statistics().sessions == 2


@live
async def test_closing_ends_the_iteration_of_whoever_waits():
    async with PlainRelay() as relay:
        receiver = Receiver(relay.address, "cam", decode=False)
        async with receiver:
            waiting = asyncio.ensure_future(receiver.__anext__())
            await eventually(lambda: relay.statistics().subscribers == 1)
        with pytest.raises(StopAsyncIteration):
            await within(waiting)
        assert [frame async for frame in receiver] == []


@live
async def test_a_receiver_is_used_in_a_with_block():
    with pytest.raises(ConfigError, match="not open"):
        await Receiver("127.0.0.1:1", "cam").__anext__()


@live
async def test_a_frame_past_the_bound_is_counted_and_never_handed_out():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False, max_staleness_s=5.0) as receiver,
    ):
        await unlimited(sender)
        now_us = time.time_ns() // 1000
        await sender.send_unit(unit(0, timestamp_us=now_us))
        assert [frame.header.frame_id for frame in await take(receiver, 1)] == [0]
        await sender.send_unit(unit(1, timestamp_us=now_us - 60_000_000))
        await eventually(lambda: receiver.statistics().late == 1)
        await sender.send_unit(unit(2, timestamp_us=time.time_ns() // 1000))
        assert [frame.header.frame_id for frame in await take(receiver, 1)] == [2]
