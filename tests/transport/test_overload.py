"""The promise: a crowd that is more than a relay can serve gets as many frames as it can, in time and evenly spread,
and all of them again as soon as that goes; nothing else makes a relay leave frames out."""

from __future__ import annotations

import itertools
import logging

import pytest

from layercast.control.budget import FixedBudgetAllocator
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.limits import RelayLimits
from layercast.transport.overload import OF, WINDOW_S, Overload, goes_out
from layercast.transport.relay import Relay
from layercast.transport.stream import RelayStream, Subscriber

from .harness import ENDLESS, FakeClock, eventually, live, unit

STEP_S = 0.1


class Load:
    """A relay's load, sampled ten times a second."""

    def __init__(self) -> None:
        self.overload = Overload()
        self.now_s, self.cpu_s = 500.0, 3.0

    def run(
        self, seconds: float, *, cores: float = 0.98, lag_s: float = 0.015, crowded: bool = True
    ) -> list[int]:
        """How many of OF frames went out, at the end of each sample."""
        found = []
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.cpu_s += STEP_S * cores
            self.overload.sample(self.now_s, lag_s, self.cpu_s, crowded)
            found.append(self.overload.serving)
        return found


@pytest.mark.parametrize(
    "load", [{"cores": 0.85}, {"lag_s": 0.002}, {"crowded": False}], ids=["cpu", "lag", "few"]
)
def test_a_processor_that_others_take_and_one_that_is_merely_busy_are_no_reason(load):
    assert set(Load().run(60, **load)) == {OF}


def test_a_moment_is_no_reason():
    load = Load()
    for _ in range(10):
        assert set(load.run(0.5 * WINDOW_S) + load.run(1.5 * WINDOW_S, cores=0.5)) == {OF}


def test_a_crowd_gets_half_of_the_frames_and_then_more_and_more():
    load = Load()
    assert load.run(WINDOW_S + STEP_S)[-1] == OF // 2
    back = load.run(5 * (WINDOW_S + STEP_S), cores=0.6)
    assert sorted(back) == back
    assert set(back) == set(range(OF // 2, OF + 1))


def test_what_is_too_much_even_so_gets_fewer_and_never_none():
    load = Load()
    served = load.run(12 * (WINDOW_S + STEP_S))
    assert sorted(served, reverse=True) == served
    assert served[-1] == 1


def test_where_the_last_step_is_too_much_most_go_out():
    load, served = Load(), []
    for _ in range(600):
        served += load.run(STEP_S, cores=0.98 if load.overload.serving == OF else 0.8)
    assert min(served[100:]) >= OF * 3 // 4
    assert sum(served[100:]) / len(served[100:]) >= 0.8 * OF


@pytest.mark.parametrize("serving", range(1, OF + 1))
def test_they_are_spread_evenly(serving):
    gone = [number for number in range(10 * OF) if goes_out(number, serving)]
    assert len(gone) == 10 * serving
    assert {b - a for a, b in itertools.pairwise(gone)} <= {OF // serving, -(-OF // serving)}


def stream_with_subscriber(clock: FakeClock) -> tuple[RelayStream, Subscriber]:
    stream = RelayStream("cam", RelayLimits(window=ENDLESS), lambda _: None, clock)
    stream.begin(b"session.", b"any")
    subscriber = Subscriber(pb.Limits(), pb.Hops(), FixedBudgetAllocator(None, None), ENDLESS, clock)
    stream.attach(subscriber)
    stream.serve(subscriber)
    return stream, subscriber


@live
async def test_the_stream_leaves_frames_out_evenly_and_counts_them():
    stream, subscriber = stream_with_subscriber(FakeClock())
    for number in range(10):
        stream.publish(unit(number))
    stream.serving = OF // 2
    for number in range(10, 30):
        stream.publish(unit(number))
    statistics = stream.statistics()
    assert (statistics.frames, statistics.left_out) == (30, 10)
    assert subscriber.outbox.statistics().offered == 20


@live
async def test_where_frames_refer_to_others_none_is_left_out():
    stream, subscriber = stream_with_subscriber(FakeClock())
    stream.publish(unit(0))
    stream.publish(unit(1, reference=0))
    stream.serving = 2
    for number in range(2, 20):
        stream.publish(unit(number, reference=number - 1))
    assert stream.statistics().left_out == 0
    assert subscriber.outbox.statistics().offered == 20


@live
async def test_a_relay_watches_its_load_and_tells(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "layercast.relay")
    load = iter([2, 2, OF])

    def sample(self: Overload, *_: object) -> bool:
        before, self.serving = self.serving, next(load, OF)
        return self.serving != before

    monkeypatch.setattr(Overload, "sample", sample)
    async with Relay() as relay:
        stream = relay._streams.get("cam")
        await eventually(lambda: stream.serving == 2)
        assert relay.statistics().frames_served == 2 / OF
        await eventually(lambda: stream.serving == OF)
    told = [
        (record.levelname, record.fields["frames_served"])
        for record in caplog.records
        if record.msg == "overload"
    ]
    assert told == [("WARNING", 2 / OF), ("INFO", 1.0)]
