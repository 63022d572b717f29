"""A deterministic, discrete-event model of relay, link and receiver, to drive an allocator without a network.

The link is a FIFO bottleneck whose rate follows a trace, then a fixed delay: what `tc tbf` and a veth pair
make. Whole frames are handed to a connection that accepts `buffer_bytes` (socket and HTTP/2 flow control)
beyond what the link has sent, then blocks, as gRPC does. The receiver acknowledges each frame when its last
byte is there, on its own clock, or as seldom as a real receiver does (`Link.paced`). The relay's queue
has the bounds of the real one: frames in flight, their
age, and the waiting time.
"""

from __future__ import annotations

import csv
import heapq
import math
import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean

from layercast.bitstream.types import FrameKind
from layercast.transport.pace import ReportPace

MAX_FLIGHT_FRAMES = 64
MAX_FLIGHT_AGE_S = 0.5
MAX_QUIET_S = 0.7
MAX_WAIT_S = 0.6
RESEND_S = 0.5  # a lost acknowledgement comes so much later, when a newer one has mostly overtaken it


class Trace:
    """A link rate over time: `steps` of (start in seconds, bits per second); the last one stays."""

    def __init__(self, steps):
        self.times = [start for start, _ in steps]
        self.rates = [rate for _, rate in steps]
        self.sums = [0.0]
        for (start, rate), (end, _) in pairwise(steps):
            self.sums.append(self.sums[-1] + rate * (end - start))

    def bits_until(self, time_s):
        step = max(0, bisect_right(self.times, time_s) - 1)
        return self.sums[step] + self.rates[step] * (time_s - self.times[step])

    def finish(self, start_s, size):
        """When `size` bytes are through that begin at `start_s`."""
        bits = self.bits_until(start_s) + size * 8
        step = max(0, bisect_right(self.sums, bits) - 1)
        while self.rates[step] <= 0:
            step += 1
        return max(start_s, self.times[step] + (bits - self.sums[step]) / self.rates[step])


@dataclass
class Source:
    """Frames like a codec's: sizes wander from frame to frame, layers take 4 to 15 per cent each."""

    fps: float = 30.0
    layers: int = 12
    bps: float = 4e6
    seed: int = 1
    spread: float = 0.2

    def frames(self, seconds):
        rng = random.Random(self.seed)
        shares = [1 + 2.5 * number / max(1, self.layers - 1) for number in range(self.layers)]
        gains = [12.0] + [2.0 - 1.4 * number / max(1, self.layers - 2) for number in range(self.layers - 1)]
        wander = 0.0
        for number in range(int(seconds * self.fps)):
            wander = 0.95 * wander + 0.31 * rng.gauss(0, 1) * self.spread
            size = self.bps / 8 / self.fps * math.exp(wander + rng.gauss(0, 0.3 * self.spread))
            parts = [share * rng.uniform(0.8, 1.2) for share in shares]
            ends = [24]
            for part in parts:
                ends.append(ends[-1] + 8 + round(size * part / sum(parts)))
            yield number / self.fps, tuple(ends), tuple(gains)


@dataclass
class Weighed(Source):
    """Layers above the first buy `worth` times as much as those of `Source`."""

    worth: float = 1.0

    def frames(self, seconds):
        for time_s, ends, gains in super().frames(seconds):
            yield time_s, ends, (gains[0], *(gain * self.worth for gain in gains[1:]))


def pair():
    """A stream whose layers buy much and one whose layers buy little, of 2 Mbit/s each."""
    return tuple(
        Weighed(bps=2e6, seed=seed, spread=0.05, worth=worth) for seed, worth in ((1, 2.0), (2, 0.3))
    )


CAMERAS = Path(__file__).parent / "data" / "camera_sizes.csv"
"""Bytes of the layers of 200 frames of three clips (30, 30 and 25 frames/s, at most 640 samples wide) that
`hierarchical` encoded at quality 0.7: a hand-held walk through a room, cups moved on a table, a view from a car."""

CLIPS = ("bedroom", "cups", "dashcam")


@dataclass
class Recorded(Source):
    """Frames as large as those of a real clip in relation to each other, layer by layer; played forth and back."""

    clip: str = CLIPS[0]

    def __post_init__(self):
        with CAMERAS.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row[0] == self.clip]
        self.sizes = [[int(size) for size in row[1:]] for row in rows]
        self.layers = len(self.sizes[0])

    def frames(self, seconds):
        gains = next(super().frames(1))[2]
        usual = mean(map(sum, self.sizes))
        forth_and_back = self.sizes + self.sizes[-2:0:-1]
        for number in range(int(seconds * self.fps)):
            ends = [24]
            for size in forth_and_back[number % len(forth_and_back)]:
                ends.append(ends[-1] + 8 + round(size / usual * self.bps / 8 / self.fps))
            yield number / self.fps, tuple(ends), tuple(gains)


def source_of(sizes):
    """Frames whose sizes wander by a share (0.2), or those of a recorded clip, by name."""
    return Recorded(clip=sizes) if sizes in CLIPS else Source(spread=float(sizes))


PAIR = "pair"


def sources_of(sizes):
    """The streams of "pair", or the one of `source_of`."""
    return pair() if sizes == PAIR else (source_of(sizes),)


@dataclass
class Link:
    """Everything between relay and receiver.

    `report_every_s`: acknowledgements are sent together, at most so often; `pauses`: (start, end) of times when
    the receiver is stopped; `paced`: reports are those of transport.pace, and seldom while all is well;
    `budget_bps`: what such a receiver asked for; `asked_s`: no more often than this, says its relay.
    """

    trace: Trace
    delay_s: float = 0.02
    ack_delay_s: float = 0.02
    ack_jitter_s: float = 0.0
    ack_loss: float = 0.0
    report_every_s: float = 0.0
    jitter_s: float = 0.0
    buffer_bytes: int = 256 << 10
    skew_ppm: float = 0.0
    offset_s: float = 1234.5
    pauses: tuple = ()
    seed: int = 2
    paced: bool = False
    budget_bps: float | None = None
    asked_s: float = 0.0


@dataclass
class Sent:
    """One frame as it fared; `delay_s` is from the offer to the arrival, less the idle link's delay."""

    offered_s: float
    keep: int
    size: int
    gain: float
    arrival_s: float = math.inf
    delay_s: float = math.inf


@dataclass
class Run:
    frames: list = field(default_factory=list)
    trace: Trace | None = None
    reports: list = field(default_factory=list)  # when they were sent, of a paced link

    def between(self, start_s, end_s):
        return [frame for frame in self.frames if start_s <= frame.offered_s < end_s]

    def delivered_bps(self, start_s, end_s):
        """By arrival at the far end of the bottleneck."""
        size = sum(f.size for f in self.frames if start_s <= f.offered_s + f.delay_s < end_s)
        return size * 8 / (end_s - start_s)

    def sent_bps(self, start_s, end_s):
        return sum(f.size for f in self.between(start_s, end_s)) * 8 / (end_s - start_s)

    def used(self, start_s, end_s):
        capacity = self.trace.bits_until(end_s) - self.trace.bits_until(start_s)
        return self.delivered_bps(start_s, end_s) * (end_s - start_s) / capacity

    def delays(self, start_s=0.0, end_s=math.inf):
        return sorted(f.delay_s for f in self.between(start_s, end_s) if f.size)

    def p95(self, start_s=0.0, end_s=math.inf):
        delays = self.delays(start_s, end_s)
        return delays[int(0.95 * (len(delays) - 1))]

    def worst(self, start_s=0.0, end_s=math.inf):
        return self.delays(start_s, end_s)[-1]

    def quality(self, start_s=0.0, end_s=math.inf):
        """Mean of the summed gains; a frame that did not go counts as nothing."""
        return mean(f.gain for f in self.between(start_s, end_s))

    def layer_seconds(self, start_s, end_s):
        """Mean layers of each second: the level that a viewer sees."""
        return [
            mean(f.keep for f in self.between(second, second + 1))
            for second in range(math.ceil(start_s), math.floor(end_s))
        ]

    def direction_changes(self, start_s, end_s):
        """How often the mean layer count of a second turned round, each turn a whole layer at least."""
        return turns(self.layer_seconds(start_s, end_s), 1.0)

    def frame_turns(self, start_s, end_s):
        """How often the layer count of the single frames turned round, each turn two layers at least."""
        return turns((frame.keep for frame in self.between(start_s, end_s)), 2.0)


def turns(levels, least):
    """Changes of direction of a series; swings smaller than `least` are none."""
    count, direction, extreme = 0, 0, None
    for level in levels:
        if extreme is None or (direction and direction * (level - extreme) >= 0):
            extreme = level
        elif abs(level - extreme) >= least:
            count += direction != 0
            direction, extreme = (1 if level > extreme else -1), level
    return count


def simulate(allocator, link, source, seconds):
    """Run `allocator` (with or without `on_sent` and `on_ack`) and return a `Run`."""
    rng = random.Random(link.seed)
    run = Run(trace=link.trace)
    events = []  # (time, order, kind, value)
    order = 0

    def at(time_s, kind, value=None):
        nonlocal order
        order += 1
        heapq.heappush(events, (time_s, order, kind, value))

    offers = list(source.frames(seconds))
    for number, (time_s, _, _) in enumerate(offers):
        at(time_s, "offer", number)
    waiting = deque()
    in_flight = {}  # frame number -> sent time
    link_free_s = last_arrival_s = last_ack_s = report_s = 0.0
    writer_free_s = 0.0
    outcomes = {}
    pace, pending, due_s = ReportPace(), [], math.inf  # of the receiver: arrived and not reported
    pace.ask(link.asked_s)
    if link.asked_s:
        allocator.expect_reports(link.asked_s)
    quiet_s, progress_s = 0.0, 0.0  # of the window: see transport.outbox

    def arrival_of(finish_s):
        nonlocal last_arrival_s
        arrival = finish_s + link.delay_s + rng.uniform(0, link.jitter_s)
        for start, end in link.pauses:
            if start <= arrival < end:
                arrival = end
        last_arrival_s = max(last_arrival_s + 1e-5, arrival)
        return last_arrival_s

    while events:
        now, _, kind, value = heapq.heappop(events)
        if now > seconds + 5:
            break
        if kind == "offer":
            time_s, ends, gains = offers[value]
            waiting.append(value)
            outcomes[value] = Sent(time_s, 0, 0, 0.0)
        elif kind == "arrival":
            number, whole = value
            pending.append(number)
            offered_s, size = outcomes[number].offered_s, outcomes[number].size
            if pace.arrived(now, now - offered_s, whole, size, link.budget_bps):
                at(now, "report", now)
                due_s = now
            else:
                due_s = pace.due_s(now)
                at(due_s, "report", due_s)
        elif kind == "report" and value == due_s and pending:
            pace.reported(now)
            run.reports.append(now)
            at(now + link.ack_delay_s, "acks", pending[-1:] if pace.brief(now) else pending)
            pending, due_s = [], math.inf
        elif kind == "acks":
            # What transport.stream does with a report.
            for number in value:
                clock = outcomes[number].arrival_s * (1 + link.skew_ppm * 1e-6) + link.offset_s
                allocator.on_ack(now, number, outcomes[number].size, clock, 0.0)
            covered = [number for number in in_flight if number <= value[-1]]
            quiet_s = min(MAX_QUIET_S, now - progress_s) if len(value) == 1 < len(covered) else 0.0
            progress_s = now
            for number in covered:
                del in_flight[number]
        elif kind == "ack" and value in in_flight:
            for number in [n for n in in_flight if n <= value]:
                del in_flight[number]
            if hasattr(allocator, "on_ack"):
                outcome = outcomes[value]
                clock = outcome.arrival_s * (1 + link.skew_ppm * 1e-6) + link.offset_s
                allocator.on_ack(now, value, outcome.size, clock, 0.0)
        while waiting and now >= writer_free_s:
            if now - offers[waiting[0]][0] > MAX_WAIT_S:
                waiting.popleft()
                continue
            oldest = min(in_flight.values(), default=now)
            if len(in_flight) >= MAX_FLIGHT_FRAMES or now - oldest > MAX_FLIGHT_AGE_S + quiet_s:
                break
            number = waiting.popleft()
            time_s, ends, gains = offers[number]
            outcome = outcomes[number]
            if hasattr(allocator, "on_sent"):
                keep = allocator.decide(now, ends, FrameKind.KEY, gains, now - time_s)
            else:
                keep = allocator.decide(now, ends, FrameKind.KEY, gains)
            if keep == 0:
                continue
            size = ends[keep]
            outcome.keep, outcome.size, outcome.gain = keep, size, sum(gains[:keep])
            if hasattr(allocator, "on_sent"):
                allocator.on_sent(now, number, size)
            in_flight[number] = now
            start_s = max(now, link_free_s)
            link_free_s = link.trace.finish(start_s, size)
            outcome.arrival_s = arrival_of(link_free_s)
            outcome.delay_s = outcome.arrival_s - time_s - link.delay_s
            if link.paced:
                at(outcome.arrival_s, "arrival", (number, keep == len(ends) - 1))
            lost_s = RESEND_S if rng.random() < link.ack_loss else 0.0
            # Arrivals wait for the report that is due; with none due, one goes at once.
            if outcome.arrival_s > report_s:
                report_s = max(outcome.arrival_s, report_s + link.report_every_s)
            ack_s = report_s + link.ack_delay_s + rng.uniform(0, link.ack_jitter_s) + lost_s
            if not lost_s:
                ack_s = last_ack_s = max(last_ack_s, ack_s)
            if not link.paced:
                at(ack_s, "ack", number)
            # The write ends when all but what the buffers hold has left.
            bits = link.trace.bits_until(link_free_s) - link.buffer_bytes * 8
            if bits > link.trace.bits_until(now):
                step = bisect_right(link.trace.sums, bits) - 1
                writer_free_s = (
                    link.trace.times[step] + (bits - link.trace.sums[step]) / link.trace.rates[step]
                )
                at(writer_free_s, "write")
    run.frames = [outcomes[number] for number in sorted(outcomes)]
    return run


def oracle(link, source, seconds, most_wait_s):
    """What somebody would deliver who knows the trace: each frame's longest prefix that arrives in time.

    Args:
        most_wait_s: latest arrival after the offer, less the idle delay. The oracle of a trace is the best of
            several: a longer wait bridges short fades, a shorter one loses less in long ones.
    """
    run = Run(trace=link.trace)
    free_s = 0.0
    for time_s, ends, gains in source.frames(seconds):
        start_s = max(time_s, free_s)
        room = (link.trace.bits_until(time_s + most_wait_s) - link.trace.bits_until(start_s)) / 8
        keep = max(0, bisect_right(ends, room) - 1)
        sent = Sent(time_s, keep, ends[keep] if keep else 0, sum(gains[:keep]))
        if keep:
            free_s = link.trace.finish(start_s, sent.size)
            sent.arrival_s, sent.delay_s = free_s + link.delay_s, free_s - time_s
        run.frames.append(sent)
    return run
