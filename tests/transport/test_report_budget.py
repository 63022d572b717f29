"""The promise: however many are restless, their reports together stay within a budget, and when they are calm again
nobody is held back; no relay tells anybody who did not say that it listens."""

from __future__ import annotations

import asyncio

import pytest

from layercast.bitstream import read_index
from layercast.bitstream.unit import MAGIC
from layercast.errors import CorruptError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import Arrival
from layercast.transport.limits import RelayLimits
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.report_budget import DENSE_S, MOST_S, ReportBudget
from layercast.transport.reports import Reports
from layercast.transport.sender import Sender
from layercast.transport.subscription import Subscription

from .harness import DESCRIPTION, eventually, live, subscribed, unit, within

STEP_S = 0.01
FRAME_S = 1 / 30


class Crowd:
    """So many receivers of 30 frames/s that report each frame, or as often as they are asked to."""

    def __init__(self, per_s: float = 1000) -> None:
        self.budget = ReportBudget(per_s)
        self.now_s = 50.0
        self.changes = 0

    def run(self, seconds: float, dense: int, calm: int = 0, *, foreseen: bool = False) -> float:
        """Reports per second during the last half of it.

        Args:
            dense: receivers that report each frame; calm: that report every 0.6 s.
            foreseen: whether the relay knows of the former beforehand.
        """
        counted = owed = 0.0
        for step in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            asked_s = self.budget.interval_s
            owed += STEP_S * (dense / max(FRAME_S, asked_s) + calm / max(0.6, asked_s))
            for _ in range(int(owed)):
                self.budget.heard()
            counted += int(owed) * (step * STEP_S >= seconds / 2)
            owed -= int(owed)
            self.changes += self.budget.update(self.now_s, lambda: dense if foreseen else 0)
        return counted / (seconds / 2)


def test_few_that_report_densely_are_left_alone():
    crowd = Crowd()
    crowd.run(10, dense=20, calm=200)
    assert crowd.budget.interval_s == 0
    assert crowd.changes == 0


@pytest.mark.parametrize("dense", [50, 120, 250])
@pytest.mark.parametrize("foreseen", [False, True])
def test_many_keep_to_the_budget_together(dense, foreseen):
    crowd = Crowd()
    assert crowd.run(4, dense, foreseen=foreseen) <= 1010
    assert DENSE_S < crowd.budget.interval_s <= MOST_S
    assert crowd.changes <= 3


def test_those_to_come_are_asked_before_they_have_reported_anything():
    budget = ReportBudget(1000)
    assert budget.update(7.0, lambda: 200)
    assert budget.interval_s == 0.2


def test_nobody_is_asked_to_wait_for_longer_than_a_relay_can():
    crowd = Crowd()
    crowd.run(5, dense=2000, foreseen=True)
    assert crowd.budget.interval_s == MOST_S


def test_when_they_are_calm_again_they_may_report_as_often_as_it_helps():
    crowd = Crowd()
    crowd.run(3, dense=200)
    crowd.run(10, dense=0, calm=200)
    assert crowd.budget.interval_s == 0


def test_what_stays_busy_does_not_swing():
    crowd = Crowd()
    crowd.run(5, dense=200)
    before = crowd.changes
    crowd.run(60, dense=200)
    assert crowd.changes == before


async def feed(sender: Sender) -> None:
    for number in range(1000):
        await sender.send_unit(unit(number))
        await asyncio.sleep(0.01)


@live
async def test_a_relay_tells_who_listens_and_sends_others_frames_alone():
    async with (
        Relay(limits=RelayLimits(max_reports_per_s=4)) as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False) as receiver,
        subscribed(relay, takes_notes=True) as told,
        subscribed(relay) as untold,
    ):
        await sender.ready(5)
        await eventually(lambda: relay.statistics().subscribers == 3)
        feeding = asyncio.create_task(feed(sender))
        heard = [await within(told.read()) for _ in range(3)]
        notes = [pb.RelayNote.FromString(message) for message in heard if not message.startswith(MAGIC)]
        assert notes, "three know nothing of their links yet"
        assert notes[0].report_interval_ms >= 250, "as many as had come when it began"
        await eventually(lambda: relay.statistics().report_interval_s == MOST_S)
        assert all([(await within(untold.read())).startswith(MAGIC) for _ in range(3)])
        await eventually(lambda: receiver.statistics().frames > 10)
        assert receiver.statistics().link.failures == 0, "a note is no broken frame"
        feeding.cancel()


@live
async def test_receivers_keep_to_it(monkeypatch):
    taken, heard = [0], ReportBudget.heard

    def count(budget: ReportBudget) -> None:
        taken[0] += 1
        heard(budget)

    monkeypatch.setattr(ReportBudget, "heard", count)

    async def reports_in(seconds: float, per_s: float) -> int:
        """Of a receiver of a stream that is too large for its budget, which reports each frame."""
        limits = RelayLimits(max_reports_per_s=per_s)
        async with (
            Relay(limits=limits) as relay,
            Sender(relay.address, "cam", description=DESCRIPTION) as sender,
            Receiver(relay.address, "cam", decode=False) as receiver,
        ):
            await sender.ready(5)
            feeding = asyncio.create_task(feed(sender))
            await eventually(lambda: receiver.statistics().frames > 5)
            before = taken[0]
            await asyncio.sleep(seconds)
            feeding.cancel()
            return taken[0] - before

    assert await reports_in(1.0, per_s=1000) > 2 * await reports_in(1.0, per_s=1)


@live
async def test_bytes_that_are_neither_a_frame_nor_a_note_end_the_call_with_a_reason():
    class Reader:
        def __init__(self, *messages: bytes) -> None:
            self.messages = list(messages)

        async def read(self) -> bytes:
            return self.messages.pop(0)

    intervals: list[int] = []

    class Asked(Reports):
        def heed(self, note: pb.RelayNote) -> None:
            intervals.append(note.report_interval_ms)

        def arrived(self, _: Arrival) -> None:
            raise AssertionError("no unit came")

    async def write(_: bytes) -> None: ...

    def on_unit(unit: bytes) -> Arrival:
        header = read_index(unit).header
        return Arrival(header.frame_id, len(unit), 0.0, 0.0, 1, 1)

    async def on_session(_: pb.StreamInfo) -> None: ...

    subscription = Subscription("127.0.0.1:1", "cam", pb.Limits(), on_session, on_unit)
    asked = Asked(write, pb.Limits(), pb.Hops(), seldom=True)
    notes = [pb.RelayNote(report_interval_ms=ms).SerializeToString() for ms in (150, 0)]
    with pytest.raises(CorruptError, match="not an access unit"):
        await subscription._read(Reader(*notes, b"\xff\xff"), asked)
    assert intervals == [150, 0]
    asked.close()
