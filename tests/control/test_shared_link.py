"""The promise: several streams over one link share it by what a bit buys, and fill it as well as one does."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import pytest

from layercast.bitstream.types import FrameKind
from layercast.control.adaptive import AdaptiveAllocator, Peer

from .simulation import Trace, pair

DELAY_S = 0.02


@dataclass
class Fared:
    """What became of one stream: frames offered, gain and bytes that arrived, and delays above the empty link's."""

    offered: int
    gain: float
    size: int
    delays: list[float]

    @property
    def p95_s(self) -> float:
        return sorted(self.delays)[int(0.95 * len(self.delays))]


def over_one_link(streams, steps, seconds, after_s):
    """Run (allocator, source) pairs over a FIFO link that follows `steps`; what is offered from `after_s` on counts."""
    trace, free_s, events = Trace(steps), 0.0, []
    fared = [Fared(0, 0.0, 0, []) for _ in streams]
    for which, (_, source) in enumerate(streams):
        for number, (time_s, ends, gains) in enumerate(source.frames(seconds)):
            offset_s = which / len(streams) / source.fps
            heapq.heappush(events, (time_s + offset_s, which, number, (ends, gains)))
    while events:
        now_s, which, number, what = heapq.heappop(events)
        allocator, counted = streams[which][0], now_s >= after_s
        if isinstance(what, float):
            allocator.on_ack(now_s, number, 0, what + 100.0)
            continue
        ends, gains = what
        fared[which].offered += counted
        keep = allocator.decide(now_s, ends, FrameKind.KEY, gains)
        if not keep:
            continue
        allocator.on_sent(now_s, number, ends[keep])
        free_s = trace.finish(max(now_s, free_s), ends[keep])
        heapq.heappush(events, (free_s + 2 * DELAY_S, which, number, free_s + DELAY_S))
        if counted:
            fared[which].gain += sum(gains[:keep])
            fared[which].size += ends[keep]
            fared[which].delays.append(free_s - now_s)
    return fared


def two(shared: bool, **caps):
    """An allocator for each of `pair`'s streams, on one link or each on its own."""
    peers = [Peer(seldom=False)] * 2 if shared else [None, None]
    names = ("rich", "poor")
    return [
        (AdaptiveAllocator(caps.get(name), peer=peer), source)
        for name, source, peer in zip(names, pair(), peers, strict=True)
    ]


@pytest.mark.parametrize("bps", [0.8e6, 1.5e6, 2.5e6])
def test_what_a_link_carries_goes_where_it_buys_most(bps):
    rich, poor = over_one_link(two(shared=True), [(0, bps)], 40, 10)
    seconds = 30
    assert (rich.size + poor.size) * 8 / seconds >= 0.92 * bps, "used"
    assert max(rich.p95_s, poor.p95_s) <= 0.15
    assert min(len(rich.delays), len(poor.delays)) >= 0.98 * 30 * seconds, "nobody goes without first layers"
    apart = over_one_link(two(shared=False), [(0, bps)], 40, 10)
    assert rich.gain + poor.gain >= 1.04 * sum(each.gain for each in apart)


def test_a_link_that_carries_everything_gives_everything():
    rich, poor = over_one_link(two(shared=True), [(0, 10e6)], 30, 10)
    for each in (rich, poor):
        assert each.size * 8 / 20 >= 1.9e6
        assert each.p95_s < 0.03


def test_a_stream_keeps_its_own_cap_and_leaves_the_rest_to_the_others():
    rich, poor = over_one_link(two(shared=True, rich=0.5e6), [(0, 1.5e6)], 40, 10)
    assert 0.45e6 <= rich.size * 8 / 30 <= 0.5e6
    assert poor.size * 8 / 30 >= 0.85 * 1e6


def test_a_step_of_a_shared_link_is_followed():
    streams = two(shared=True)
    rich, poor = over_one_link(streams, [(0, 3e6), (20, 0.8e6)], 40, 21)
    assert max(rich.p95_s, poor.p95_s) <= 0.2
    assert (rich.size + poor.size) * 8 / 19 >= 0.85 * 0.8e6


def test_a_cap_of_one_stream_can_change():
    first, second = (stream for stream, _ in two(shared=True, rich=0.5e6))
    first.set_limits(None, 3)
    assert first.limits["max_bitrate_bps"] is None
    assert second.limits["max_bitrate_bps"] is None
    first.set_limits(1e6, None)
    assert second.limits["max_bitrate_bps"] is None
