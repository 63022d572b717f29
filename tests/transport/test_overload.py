"""The promise: a crowd that is more than a relay can serve gets every second frame in time, until it knows its links or
for longer each time that this was not enough; nothing else makes a relay leave frames out."""

from __future__ import annotations

import itertools
import logging

import pytest

from layercast.control.budget import FixedBudgetAllocator
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.limits import RelayLimits
from layercast.transport.overload import HOLD_MOST_S, HOLD_S, LEAST_OFTEN, RELAPSE_S, WINDOW_S, Overload
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
        """Which frames went out, every so-many-th, at the end of each sample."""
        found = []
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.cpu_s += STEP_S * cores
            self.overload.sample(self.now_s, lag_s, self.cpu_s, crowded)
            found.append(self.overload.every)
        return found

    def until_all_go_out(self, **load: float) -> float:
        """Seconds."""
        for step in range(10_000):
            if self.overload.every == 1:
                return step * STEP_S
            self.run(STEP_S, **load)
        raise AssertionError("never")


@pytest.mark.parametrize(
    "load", [{"cores": 0.85}, {"lag_s": 0.002}, {"crowded": False}], ids=["cpu", "lag", "few"]
)
def test_a_processor_that_others_take_and_one_that_is_merely_busy_are_no_reason(load):
    assert set(Load().run(60, **load)) == {1}


def test_a_moment_is_no_reason():
    load = Load()
    for _ in range(10):
        assert set(load.run(0.5 * WINDOW_S) + load.run(1.5 * WINDOW_S, cores=0.5)) == {1}


def test_a_crowd_gets_every_second_frame_until_it_knows_its_links():
    load = Load()
    assert load.run(WINDOW_S + STEP_S)[-1] == 2
    assert load.until_all_go_out(cores=0.6) == pytest.approx(HOLD_S, abs=WINDOW_S + STEP_S)
    other = Load()
    other.run(WINDOW_S + STEP_S)
    assert set(other.run(WINDOW_S + STEP_S, cores=0.6)) == {2}
    assert other.run(WINDOW_S, cores=0.5, crowded=False)[-1] == 1


def test_what_is_too_much_even_so_gets_fewer_and_never_none():
    load = Load()
    assert max(load.run(HOLD_S)) == LEAST_OFTEN


def test_what_comes_back_at_once_is_given_longer_each_time_but_not_for_ever():
    load, held = Load(), []
    for _ in range(8):
        load.run(WINDOW_S + STEP_S)
        assert load.overload.every > 1
        held.append(load.until_all_go_out(cores=0.6, crowded=True))
    assert held[1] > 1.5 * held[0]
    assert all(later >= earlier - WINDOW_S for earlier, later in itertools.pairwise(held))
    assert max(held) <= HOLD_MOST_S + WINDOW_S
    load.run(RELAPSE_S + 1, cores=0.6)
    load.run(WINDOW_S + STEP_S)
    assert load.until_all_go_out(cores=0.6) <= HOLD_S + WINDOW_S


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
    stream.serve_every = 2
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
    stream.serve_every = 4
    for number in range(2, 20):
        stream.publish(unit(number, reference=number - 1))
    assert stream.statistics().left_out == 0
    assert subscriber.outbox.statistics().offered == 20


@live
async def test_a_relay_watches_its_load_and_tells(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "layercast.relay")
    load = iter([4, 4, 1])

    def sample(self: Overload, *_: object) -> bool:
        before, self.every = self.every, next(load, 1)
        return self.every != before

    monkeypatch.setattr(Overload, "sample", sample)
    async with Relay() as relay:
        stream = relay._streams.get("cam")
        await eventually(lambda: stream.serve_every == 4)
        assert relay.statistics().serve_every == 4
        await eventually(lambda: stream.serve_every == 1)
    told = [
        (record.levelname, record.fields["serve_every"])
        for record in caplog.records
        if record.msg == "overload"
    ]
    assert told == [("WARNING", 4), ("INFO", 1)]
