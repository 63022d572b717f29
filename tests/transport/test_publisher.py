"""What a relay tells a sender: one acknowledgement for several units, at once when many wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from layercast.transport import publisher as module
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.limits import RelayLimits, Window
from layercast.transport.link import EOF
from layercast.transport.publisher import ACK_BYTES, ACK_DELAY_S, ACK_FRAMES, Publisher
from layercast.transport.stream import RelayStream
from layercast.transport.tasks import cancel_and_wait
from layercast.transport.wire import parse

from .harness import FakeClock, eventually, live, unit


class Call:
    """A sender's call: what it sends is put in, what it is told collected."""

    def __init__(self) -> None:
        self.units: asyncio.Queue[object] = asyncio.Queue()
        self.told: list[pb.IngestFeedback] = []

    async def read(self) -> object:
        return await self.units.get()

    async def write(self, data: bytes) -> None:
        self.told.append(parse(data, pb.IngestFeedback))

    def acknowledged(self) -> list[int]:
        return [ack.frame_id for feedback in self.told for ack in feedback.acks]


@contextlib.asynccontextmanager
async def publishing() -> AsyncIterator[Call]:
    clock, limits, call = FakeClock(), RelayLimits(), Call()
    stream = RelayStream("main", limits, lambda _: None, clock)
    publisher = Publisher(b"session", limits, clock)
    feedback = asyncio.create_task(publisher.send_feedback(call, stream))
    taking = asyncio.create_task(publisher.take_units(call, stream))
    await eventually(lambda: call.told, "the demand")
    yield call
    call.units.put_nowait(EOF)
    await taking
    await cancel_and_wait(feedback)


@live
async def test_the_newest_acknowledgement_speaks_for_all() -> None:
    async with publishing() as call:
        for frame_id in range(5):
            call.units.put_nowait(unit(frame_id))
        await eventually(call.acknowledged, "an acknowledgement")
        assert call.acknowledged() == [4]
        call.units.put_nowait(unit(5))
        await eventually(lambda: len(call.acknowledged()) == 2, "another one")
        assert call.acknowledged() == [4, 5]


@live
@pytest.mark.parametrize(
    ("count", "size"), [(ACK_FRAMES, 10), (2, ACK_BYTES // 2)], ids=["many units", "many bytes"]
)
async def test_many_are_acknowledged_at_once(count: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACK_DELAY_S", 3600.0)
    async with publishing() as call:
        for frame_id in range(count - 1):
            call.units.put_nowait(unit(frame_id, [size]))
        await eventually(call.units.empty)
        await asyncio.sleep(0.02)
        assert not call.acknowledged()
        call.units.put_nowait(unit(count, [size]))
        await eventually(call.acknowledged, "an acknowledgement")
        assert call.acknowledged() == [count]


def test_what_waits_for_an_acknowledgement_closes_no_window() -> None:
    assert Window().max_frames >= 2 * ACK_FRAMES
    assert Window().max_bytes >= 2 * ACK_BYTES
    assert Window().max_age_s > ACK_DELAY_S + 0.3  # a round trip is below 0.3 s
