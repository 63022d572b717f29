"""The sender never makes a camera wait, sends the newest picture there is, and nothing that nobody wants."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from layercast.errors import BitstreamError, CodecError, ConfigError, ConnectError, PictureError
from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender

from .harness import DESCRIPTION, PlainRelay, eventually, live, take, unit, within
from .planes import PlaneCodec, picture


@live
async def test_pictures_arrive_as_they_were_sent():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=PlaneCodec()) as sender,
        Receiver(relay.address, "cam", codec=PlaneCodec()) as receiver,
    ):
        await sender.ready(5)
        for value in (10, 20, 30):
            assert await sender.send(picture(value), timestamp_us=value)
            (frame,) = await take(receiver, 1)
            assert np.array_equal(frame.image, picture(value))
            assert frame.header.timestamp_us == value
            assert frame.layers == 4


@live
async def test_nothing_is_encoded_while_nobody_listens():
    codec = PlaneCodec()
    async with PlainRelay() as relay, Sender(relay.address, "cam", codec=codec) as sender:
        assert not await sender.send(picture(1)), "not even connected yet"
        await eventually(lambda: sender.statistics().link.connected)
        assert not await sender.send(picture(2))
        async with Receiver(relay.address, "cam", codec=PlaneCodec()) as receiver:
            await sender.ready(5)
            assert await sender.send(picture(3))
            await take(receiver, 1)
        await eventually(lambda: not sender.wanted)
        assert not await sender.send(picture(4))
        assert codec.encoded == [3]
        assert sender.statistics().unwanted == 3


@live
async def test_pictures_that_come_while_one_is_encoded_replace_each_other():
    gate = threading.Event()
    codec = PlaneCodec(gate=gate)
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=codec) as sender,
        Receiver(relay.address, "cam", codec=PlaneCodec()) as receiver,
    ):
        await sender.ready(5)
        await sender.send(picture(1))
        await eventually(lambda: sender._encoding)
        for value in range(2, 30):
            assert await within(sender.send(picture(value))), "it returns at once"
        gate.set()
        frames = await take(receiver, 2)
        assert codec.encoded == [1, 29]
        assert [frame.header.frame_id for frame in frames] == [0, 28], "every captured picture has its number"
        assert sender.statistics().replaced == 27


@live
async def test_the_caller_may_reuse_its_buffer():
    gate = threading.Event()
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=PlaneCodec(gate=gate)) as sender,
        Receiver(relay.address, "cam", codec=PlaneCodec()) as receiver,
    ):
        await sender.ready(5)
        buffer = picture(7)
        await sender.send(buffer)
        buffer[:] = 99
        gate.set()
        assert (await take(receiver, 1))[0].image[0, 0, 0] == 7


@live
async def test_files_can_wait_for_room_so_that_every_picture_goes_out():
    codec = PlaneCodec()
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=codec) as sender,
        Receiver(relay.address, "cam", decode=False) as receiver,
    ):
        for value in range(40):
            await within(sender.send(picture(value), wait=True))
        await within(sender.drain())
        assert codec.encoded == list(range(40))
        await eventually(lambda: receiver.statistics().frames == 40)


@live
async def test_closing_sends_what_waits():
    async with (
        PlainRelay() as relay,
        Receiver(relay.address, "cam", codec=PlaneCodec()) as receiver,
    ):
        async with Sender(relay.address, "cam", codec=PlaneCodec()) as sender:
            await sender.ready(5)
            await sender.send(picture(5))
        assert (await take(receiver, 1))[0].image[0, 0, 0] == 5


@live
async def test_a_picture_that_the_codec_does_not_take_is_the_callers_error():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=PlaneCodec()) as sender,
        Receiver(relay.address, "cam", decode=False) as _listener,
    ):
        await sender.ready(5)
        await sender.send(np.zeros((8, 8), np.float32))  # type: ignore[arg-type]
        with pytest.raises(PictureError, match="float32"):
            await within(sender.drain())
        with pytest.raises(PictureError, match="float32"):
            await sender.send(picture(1))


@live
async def test_units_must_be_units_and_grow():
    async with PlainRelay() as relay, Sender(relay.address, "cam", description=DESCRIPTION) as sender:
        with pytest.raises(BitstreamError):
            await sender.send_unit(b"no unit")
        await sender.send_unit(unit(5))
        with pytest.raises(ConfigError, match="frame id 5 after 5"):
            await sender.send_unit(unit(5))
        with pytest.raises(ConfigError, match="no codec"):
            await sender.send(picture(1))


@live
async def test_waiting_for_listeners_ends_with_the_reason():
    async with PlainRelay() as relay, Sender(relay.address, "cam", description=DESCRIPTION) as sender:
        with pytest.raises(ConnectError, match="nobody listens to cam"):
            await sender.ready(0.2)


@live
async def test_quality_may_change_from_picture_to_picture():
    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=PlaneCodec(), quality=1.0) as sender,
        Receiver(relay.address, "cam", decode=False) as receiver,
    ):
        await sender.ready(5)
        for quality in (1.0, 0.2):
            sender.quality = quality
            await sender.send(picture(1))
            (frame,) = await take(receiver, 1)
            assert frame.header.picture.quality_index == round(quality * 255)


def test_a_sender_is_used_in_a_with_block():
    @live
    async def attempt() -> None:
        sender = Sender("127.0.0.1:1", "cam", codec=PlaneCodec())
        with pytest.raises(ConfigError, match="not open"):
            await sender.send(picture(1))
        await sender.aclose()
        with pytest.raises(ConfigError, match="closed"):
            await sender.send(picture(1))

    attempt()


@pytest.mark.parametrize(("target", "stream"), [("nowhere", "cam"), ("host:1", "a b")])
def test_mistakes_are_told_before_anything_is_opened(target: str, stream: str):
    with pytest.raises(ConfigError):
        Sender(target, stream, codec=PlaneCodec())
    with pytest.raises(ConfigError):
        Receiver(target, stream)


@live
async def test_a_codec_that_breaks_is_told_to_the_camera():
    class Broken(PlaneCodec):
        def encode(self, image, quality=0.7):
            raise ValueError("no such plane")

    async with (
        PlainRelay() as relay,
        Sender(relay.address, "cam", codec=Broken()) as sender,
        Receiver(relay.address, "cam", codec=PlaneCodec()),
    ):
        await sender.ready(5)
        await sender.send(picture(1))
        with pytest.raises(CodecError, match="no such plane"):
            await sender.drain(5)
