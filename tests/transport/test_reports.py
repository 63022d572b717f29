"""The promise: what arrived is reported by the frame that makes it due or, when none comes, by the clock; what is asked
for follows at once; never too often, and never while the report before is being written."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import Arrival
from layercast.transport.pace import ABSENT_S, CALM_INTERVAL_S, CALM_SLACK_S, REPORT_INTERVAL_S
from layercast.transport.reports import MAX_ACKS, Reports

from .harness import eventually, live


class Relay:
    """Takes reports, when there is room."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, pb.ReceiverMessage]] = []
        self.room: asyncio.Future[None] | None = None
        self.reports = Reports(self.write, pb.Limits(), pb.Hops(), seldom=True)
        self.number = 0

    async def write(self, message: bytes) -> None:
        if self.room is not None:
            await self.room
        self.taken.append((time.monotonic(), pb.ReceiverMessage.FromString(message)))

    def frame(self, layers: int = 10, age_s: float = 0.0) -> None:
        now_s = time.monotonic()
        self.number += 1
        self.reports.arrived(Arrival(self.number, 1000, now_s, now_s - age_s, layers, 10))

    def acked(self, report: int) -> list[int]:
        return [ack.frame_id for ack in self.taken[report][1].acks]


@live
async def test_the_first_frame_is_reported_by_its_arrival():
    relay = Relay()
    relay.frame()
    assert relay.acked(0) == [1]
    relay.reports.close()


@live
async def test_calm_frames_are_reported_together_by_the_newest_of_them_when_no_other_comes():
    relay = Relay()
    for _ in range(3):
        relay.frame()
    assert len(relay.taken) == 1
    await eventually(lambda: len(relay.taken) == 2)
    assert relay.acked(1) == [3]
    waited_s = relay.taken[1][0] - relay.taken[0][0]
    assert waited_s >= CALM_INTERVAL_S + CALM_SLACK_S - 0.01
    await asyncio.sleep(2 * ABSENT_S + CALM_INTERVAL_S)
    assert len(relay.taken) == 2, "there is nothing new"
    relay.reports.close()


@live
async def test_restless_frames_are_all_reported_but_no_report_follows_another_too_soon():
    relay = Relay()
    for _ in range(20):
        relay.frame(layers=5)
        await asyncio.sleep(0.005)
    await eventually(lambda: sum(len(report.acks) for _, report in relay.taken) == 20)
    times = [at_s for at_s, _ in relay.taken]
    assert all(b - a >= REPORT_INTERVAL_S - 0.002 for a, b in itertools.pairwise(times))
    relay.reports.close()


@live
async def test_while_a_report_is_being_written_those_that_arrive_wait_for_the_next_one_and_are_no_more_than_a_few():
    relay = Relay()
    relay.room = asyncio.get_running_loop().create_future()
    relay.frame(layers=5)
    for _ in range(2 * MAX_ACKS):
        relay.frame(layers=5)
    await asyncio.sleep(2 * REPORT_INTERVAL_S)
    assert relay.taken == []
    relay.room.set_result(None)
    relay.room = None
    await eventually(lambda: len(relay.taken) == 2)
    assert relay.acked(1) == list(range(MAX_ACKS + 2, 2 * MAX_ACKS + 2))
    relay.reports.close()


@live
async def test_what_is_asked_for_is_told_at_once_when_it_changes_and_only_then():
    relay = Relay()
    relay.reports.ask(pb.Limits(), pb.Hops())
    await asyncio.sleep(0.01)
    assert relay.taken == []
    relay.reports.ask(pb.Limits(max_layers=3), pb.Hops(depth=1))
    await eventually(lambda: relay.taken)
    relay.reports.ask(pb.Limits(max_layers=4), pb.Hops(depth=1))
    await eventually(lambda: len(relay.taken) == 2)
    first, second = (report for _, report in relay.taken)
    assert (first.limits.max_layers, first.hops.depth) == (3, 1)
    assert (second.limits.max_layers, second.HasField("hops")) == (4, False)
    relay.reports.close()


@live
async def test_what_a_relay_asks_for_holds_even_for_late_frames_and_the_newest_speaks_for_all():
    relay = Relay()
    relay.frame()
    relay.reports.heed(pb.RelayNote(report_interval_ms=100))
    for number in range(12):
        relay.frame(layers=5, age_s=0.1 + number)
        await asyncio.sleep(0.02)
    assert 2 <= len(relay.taken) <= 4
    assert all(len(report.acks) == 1 for _, report in relay.taken)
    relay.reports.close()


@live
async def test_a_write_that_fails_is_told_and_nothing_is_written_after_it():
    relay = Relay()
    relay.room = asyncio.get_running_loop().create_future()
    relay.room.set_exception(OSError("gone"))
    relay.frame(layers=5)
    with pytest.raises(OSError, match="gone"):
        await relay.reports.failed
    relay.frame(layers=5)
    await asyncio.sleep(2 * REPORT_INTERVAL_S)
    assert relay.taken == []
    relay.reports.close()


@live
async def test_nothing_is_reported_once_closed():
    relay = Relay()
    relay.frame()
    relay.frame()
    relay.reports.close()
    await asyncio.sleep(CALM_INTERVAL_S + CALM_SLACK_S + 0.05)
    assert len(relay.taken) == 1
