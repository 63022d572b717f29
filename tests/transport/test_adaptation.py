"""A relay that follows its receivers' links: on a link that takes all, nobody loses anything for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from layercast.bitstream import read_index
from layercast.bitstream.types import FrameKind
from layercast.control.adaptive import AdaptiveAllocator
from layercast.errors import ConfigError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import make_ack
from layercast.transport.allocators import MAX_TRACES, Allocators
from layercast.transport.limits import RelayLimits, Window
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender
from layercast.transport.stream import RelayStream, Subscriber

from .harness import DESCRIPTION, LAYERS, FakeClock, eventually, live, unit, unlimited

FRAME_RATE = 30
RAMP_S, MEASURED_S = 3.0, 5.0


async def frames_in_time(start_s: float) -> AsyncIterator[int]:
    """Numbers of the frames of RAMP_S and MEASURED_S, each at its time."""
    for number in range(int((RAMP_S + MEASURED_S) * FRAME_RATE)):
        await asyncio.sleep(max(0.0, start_s + number / FRAME_RATE - time.monotonic()))
        yield number


@live
async def test_a_cap_is_held_and_used_and_a_neighbour_soon_gets_every_byte():
    whole = len(unit(0))
    cap_bps = 0.25 * whole * 8 * FRAME_RATE
    async with (
        Relay() as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        Receiver(relay.address, "cam", decode=False, max_bitrate=cap_bps) as capped,
        Receiver(relay.address, "cam", decode=False) as free,
    ):
        await eventually(lambda: relay.statistics().subscribers == 2)
        await unlimited(sender)
        start_s, before = time.monotonic(), None
        async for number in frames_in_time(start_s):
            if number == int(RAMP_S * FRAME_RATE):
                before = free.statistics(), capped.statistics()
            await sender.send_unit(unit(number))
        passed_s = time.monotonic() - start_s - RAMP_S
        await eventually(lambda: relay.statistics().streams["cam"].subscribers[1].in_flight_frames == 0)
        frames = free.statistics().frames - before[0].frames
        assert frames >= 0.95 * MEASURED_S * FRAME_RATE
        assert free.statistics().bytes - before[0].bytes >= 0.97 * frames * whole
        assert capped.statistics().frames - before[1].frames >= 0.95 * MEASURED_S * FRAME_RATE
        got_bps = (capped.statistics().bytes - before[1].bytes) * 8 / passed_s
        assert 0.92 * cap_bps <= got_bps <= 1.02 * cap_bps, "the mean of five seconds, on a busy machine"


class Stage:
    """A stream with one adaptive subscriber behind a link of `link_bps`, on a clock of the test's own."""

    def __init__(self, link_bps: float) -> None:
        self.clock = FakeClock()
        self.asked: list[pb.Demand] = []
        limits = RelayLimits(window=Window(full_layers_s=0.4))
        self.stream = RelayStream(
            "cam", limits, lambda stream: self.asked.append(stream.demand()), self.clock
        )
        self.allocator = AdaptiveAllocator()
        self.subscriber = Subscriber(pb.Limits(), pb.Hops(), self.allocator, limits.window, self.clock)
        self.link_bps = link_bps
        self.number = 0
        self.sizes: list[int] = []

    def run(self, seconds: float) -> None:
        """30 frames a second; each is acknowledged when the link is done with it."""
        done_s = self.clock.now_s
        arrivals: list[tuple[float, int, int]] = []
        for _ in range(int(seconds * FRAME_RATE)):
            self.stream.publish(unit(self.number))
            self.number += 1
            while (message := self.subscriber.next()) is not None:
                size = len(message)
                done_s = max(done_s, self.clock.now_s) + size * 8 / self.link_bps
                arrivals.append((done_s, read_index(message).header.frame_id, size))
                self.sizes.append(size)
            self.clock.advance(1 / FRAME_RATE)
            while arrivals and arrivals[0][0] <= self.clock.now_s:
                arrived_s, frame_id, size = arrivals.pop(0)
                self.stream.acknowledge(self.subscriber, [make_ack(frame_id, size, arrived_s)])


@live
async def test_a_thin_link_below_lowers_what_is_asked_for_above():
    stage = Stage(link_bps=500_000)
    stage.stream.begin(b"session.", b"any")
    stage.stream.attach(stage.subscriber)
    stage.stream.serve(stage.subscriber)
    stage.run(20)
    assert stage.asked[0].active
    assert stage.asked[0].limits.max_bitrate_bps == 0, "at first nothing is known of the link"
    assert 500_000 < stage.asked[-1].limits.max_bitrate_bps < 1_200_000
    used_bps = sum(stage.sizes[-300:]) * 8 / 10
    assert 0.92 * 500_000 <= used_bps <= 500_000
    stage.link_bps = 2_000_000
    stage.run(15)
    assert stage.asked[-1].limits.max_bitrate_bps > 2_000_000, "and a better link raises it again"
    stage.stream.detach(stage.subscriber)
    assert not stage.asked[-1].active


def test_fixed_budgets_send_everything_from_the_first_frame_on():
    allocator = Allocators(adaptive=False).open(pb.Limits(), "cam", "peer")
    ends = tuple(range(0, 11_000, 1000))
    assert allocator.decide(0.0, ends, FrameKind.KEY, ()) == LAYERS
    allocator.set_limits(None, 3)
    assert allocator.decide(0.0, ends, FrameKind.KEY, ()) == 3


def test_traces_are_bounded_in_number_and_fixed_budgets_leave_none(tmp_path):
    allocators = Allocators(trace=tmp_path / "t.jsonl")
    for _ in range(MAX_TRACES + 3):
        allocators.open(pb.Limits(), "cam", "peer").close()
    assert len(list(tmp_path.iterdir())) == MAX_TRACES
    with pytest.raises(ConfigError, match="no trace"):
        Allocators(adaptive=False, trace=tmp_path / "t.jsonl")


# --- several streams to one receiver ------------------------------------------------------------------------


def test_subscriptions_from_one_address_that_name_one_link_share_it_until_the_last_one_leaves():
    allocators = Allocators()

    def opened(peer: str, link: str, subject: str = "") -> AdaptiveAllocator:
        allocator = allocators.open(pb.Limits(max_bitrate_bps=500_000), "cam", peer, link, subject)
        assert isinstance(allocator, AdaptiveAllocator)
        return allocator

    first, second = opened("ipv4:10.0.0.7:4001", "wan"), opened("ipv4:10.0.0.7:4002", "wan")
    assert first.peer is second.peer
    others = [
        opened("ipv4:10.0.0.8:4001", "wan"),
        opened("ipv4:10.0.0.7:4003", "lan"),
        opened("ipv4:10.0.0.7:4004", ""),
        opened("ipv4:10.0.0.7:4008", "wan", "somebody else"),
    ]
    assert len({id(each.peer) for each in (first, *others)}) == 5
    shared = first.peer
    first.close()
    assert opened("ipv4:10.0.0.7:4005", "wan").peer is shared
    for each in (second, *others):
        each.close()
    allocators.open(pb.Limits(), "cam", "ipv4:10.0.0.7:4006", "wan").close()
    assert opened("ipv4:10.0.0.7:4007", "wan").peer is shared, "one of them has stayed"


def test_a_link_is_forgotten_with_its_last_subscription():
    allocators = Allocators()
    first = allocators.open(pb.Limits(), "cam", "ipv4:10.0.0.7:4001", "wan")
    first.close()
    second = allocators.open(pb.Limits(), "cam", "ipv4:10.0.0.7:4002", "wan")
    assert isinstance(first, AdaptiveAllocator)
    assert isinstance(second, AdaptiveAllocator)
    assert first.peer is not second.peer


def test_a_shared_link_leaves_no_trace_and_fixed_budgets_share_none(tmp_path):
    traced = Allocators(trace=tmp_path / "link.jsonl")
    traced.open(pb.Limits(), "cam", "ipv4:10.0.0.7:4001", "wan").close()
    assert (tmp_path / "link.jsonl").read_text() == ""
    fixed = Allocators(adaptive=False)
    assert not isinstance(fixed.open(pb.Limits(), "cam", "ipv4:10.0.0.7:4001", "wan"), AdaptiveAllocator)


@pytest.mark.parametrize("name", ["two words", "x" * 65])
def test_a_link_has_a_name_like_a_stream(name):
    with pytest.raises(ConfigError, match="link name"):
        Allocators().open(pb.Limits(), "cam", "ipv4:10.0.0.7:4001", name)
    with pytest.raises(ConfigError, match="link name"):
        Receiver("127.0.0.1:1", "cam", link=name)


@live
async def test_receivers_that_share_a_link_report_every_frame_and_each_keeps_its_budget():
    whole = len(unit(0))
    cap_bps = 0.25 * whole * 8 * FRAME_RATE
    async with (
        Relay() as relay,
        Sender(relay.address, "cam1", description=DESCRIPTION) as one,
        Sender(relay.address, "cam2", description=DESCRIPTION) as two,
        Receiver(relay.address, "cam1", decode=False, link="wan") as free,
        Receiver(relay.address, "cam2", decode=False, link="wan", max_bitrate=cap_bps) as capped,
    ):
        await eventually(lambda: relay.statistics().subscribers == 2)
        await unlimited(one)
        await two.ready(10)
        start_s, before = time.monotonic(), None
        async for number in frames_in_time(start_s):
            if number == int(RAMP_S * FRAME_RATE):
                before = free.statistics(), capped.statistics()
            await one.send_unit(unit(number))
            await two.send_unit(unit(number))
        passed_s = time.monotonic() - start_s - RAMP_S
        await eventually(lambda: relay.statistics().streams["cam1"].subscribers[0].in_flight_frames == 0)
        frames = free.statistics().frames - before[0].frames
        assert free.statistics().bytes - before[0].bytes >= 0.95 * frames * whole
        got_bps = (capped.statistics().bytes - before[1].bytes) * 8 / passed_s
        assert 0.85 * cap_bps <= got_bps <= 1.02 * cap_bps
