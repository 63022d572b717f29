"""The promise: one write at a time, each begun by what makes it possible, and its failure told."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from layercast.transport.pump import Pump

from .harness import live


class Peer:
    """Takes messages when told to."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.taken: list[bytes] = []
        self.room: asyncio.Future[None] | None = None
        self.written = 0
        self.pump = Pump(self.take, self.write, self.count)

    def take(self) -> bytes | None:
        return self.waiting.popleft() if self.waiting else None

    def count(self) -> None:
        self.written += 1

    async def write(self, message: bytes) -> None:
        if self.room is not None:
            await self.room
        self.taken.append(message)

    def offer(self, number: int) -> None:
        self.waiting.append(b"%d" % number)
        self.pump.kick()

    def shut(self) -> asyncio.Future[None]:
        self.room = asyncio.get_running_loop().create_future()
        return self.room


async def turn() -> None:
    """Let what is ready run."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@live
async def test_a_message_is_written_by_its_arrival():
    peer = Peer()
    peer.offer(0)
    assert (peer.taken, peer.written) == ([b"0"], 1)
    peer.pump.close()


@live
async def test_messages_wait_while_a_write_does_and_follow_in_order():
    peer = Peer()
    room = peer.shut()
    for number in range(3):
        peer.offer(number)
    await turn()
    assert (len(peer.taken), len(peer.waiting), peer.written) == (0, 2, 0)
    room.set_result(None)
    await turn()
    assert (peer.taken, peer.written) == ([b"0", b"1", b"2"], 3)
    assert not peer.waiting
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
