"""The promise: one write at a time, each begun by what makes it possible, and its failure told."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from layercast.transport.latency import Latency
from layercast.transport.pump import Pump
from layercast.transport.shared import SharedFrame

from .harness import live, unit


class Peer:
    """Takes messages when told to."""

    def __init__(self) -> None:
        self.frames: deque[SharedFrame] = deque()
        self.taken: list[bytes] = []
        self.room: asyncio.Future[None] | None = None
        self.latency = Latency()
        self.pump = Pump(self.take, self.write, self.latency, lambda: 0.0)

    def take(self) -> tuple[SharedFrame, int] | None:
        return (self.frames.popleft(), 1) if self.frames else None

    async def write(self, message: bytes) -> None:
        if self.room is not None:
            await self.room
        self.taken.append(message)

    def offer(self, number: int) -> None:
        self.frames.append(SharedFrame(unit(number)))
        self.pump.kick()

    def shut(self) -> asyncio.Future[None]:
        self.room = asyncio.get_running_loop().create_future()
        return self.room


async def turn() -> None:
    """Let what is ready run."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@live
async def test_a_frame_is_written_by_its_arrival():
    peer = Peer()
    peer.offer(0)
    assert len(peer.taken) == 1
    assert sum(peer.latency.statistics().counts) == 1
    peer.pump.close()


@live
async def test_frames_wait_while_a_write_does_and_follow_in_order():
    peer = Peer()
    room = peer.shut()
    for number in range(3):
        peer.offer(number)
    await turn()
    assert (len(peer.taken), len(peer.frames)) == (0, 2)
    room.set_result(None)
    await turn()
    assert [SharedFrame(message).header.frame_id for message in peer.taken] == [0, 1, 2]
    assert not peer.frames
    peer.pump.close()


@live
@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
async def test_what_a_write_raises_is_told_and_nothing_is_written_after_it(late):
    peer = Peer()
    room = peer.shut()
    if not late:
        room.set_exception(OSError("gone"))
    peer.offer(0)
    if late:
        room.set_exception(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await peer.pump.failed
    peer.offer(1)
    assert peer.taken == []
    peer.pump.close()


@live
async def test_a_write_under_way_is_abandoned_when_closed():
    peer = Peer()
    room = peer.shut()
    peer.offer(0)
    peer.pump.close()
    room.set_result(None)
    await turn()
    peer.offer(1)
    assert peer.taken == []
