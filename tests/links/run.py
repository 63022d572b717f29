"""Runs a relay over a shaped link and tells what the receiver saw."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.control.simulation import turns

from .network import NEAR_ADDRESS, ShapedLink

PORT = 7400
DELAY_S = 0.02
"""Travelling time of the link, each way, seconds."""

SAMPLE_S = 0.05
"""How often the bytes that went through are looked up, seconds."""

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Arrival:
    """One frame of a stream at its receiver; `delay_s` is from its capture, less the travelling time."""

    stream: int
    offered_s: float
    delay_s: float
    layers: int
    size: int

    @property
    def arrival_s(self) -> float:
        return self.offered_s + self.delay_s


@dataclass(frozen=True)
class Outcome:
    """Times are seconds since the first frame. `carried` is (time, bytes through the link, headers included);
    `sender_bytes` what the sender sent to the relay; `late` counts frames that came after the staleness bound and were
    dropped at the receiver."""

    arrivals: list[Arrival]
    carried: list[tuple[float, int]]
    rate_changes_s: list[float]
    sender_bytes: int
    late: int

    def between(self, start_s: float, end_s: float) -> list[Arrival]:
        return [each for each in self.arrivals if start_s <= each.offered_s < end_s]

    def delivered_bps(self, start_s: float, end_s: float) -> float:
        """Bits of access units per second that arrived."""
        size = sum(each.size for each in self.arrivals if start_s <= each.arrival_s < end_s)
        return size * 8 / (end_s - start_s)

    def sent_bps(self, start_s: float, end_s: float) -> float:
        """By the time of capture."""
        return sum(each.size for each in self.between(start_s, end_s)) * 8 / (end_s - start_s)

    def carried_bps(self, start_s: float, end_s: float) -> float:
        """Bits per second through the link, headers included, over the samples next to these times."""
        first = min(self.carried, key=lambda sample: abs(sample[0] - start_s))
        last = min(self.carried, key=lambda sample: abs(sample[0] - end_s))
        return (last[1] - first[1]) * 8 / (last[0] - first[0])

    def delays(self, start_s: float = 0.0, end_s: float = 1e9) -> list[float]:
        return sorted(each.delay_s for each in self.between(start_s, end_s))

    def turns(self, start_s: float, end_s: float) -> int:
        """How often the mean layer count of a second turned round by a whole layer or more."""
        seconds = [self.between(second, second + 1) for second in range(int(start_s), int(end_s))]
        return turns([sum(each.layers for each in now) / max(1, len(now)) for now in seconds], 1.0)

    def frame_turns(self, start_s: float, end_s: float) -> int:
        """How often the layer count of the single frames turned round by two layers or more."""
        return turns([each.layers for each in self.between(start_s, end_s)], 2.0)


def over_link(
    steps: Sequence[tuple[float, float]],
    seconds: float,
    folder: Path,
    sizes: float | str = 0.2,
    *,
    following: bool = False,
    shared: bool = False,
) -> Outcome:
    """A synthetic stream of 4 Mbit/s in some 12 layers, 30 frames/s, or several, over a real relay and a shaped link.

    Args:
        steps: (seconds since the first frame, bits per second); the first at 0.
        seconds: length of the stream.
        folder: for the receiver's rows and the relay's trace (near.jsonl).
        sizes: of frames: by how much they wander, or a recorded clip's name, or "pair" (`sources_of`).
        shared: the receivers say that they share the link.
        following: for many steps: the link follows them by itself, see ShapedLink.follow.
    """
    address = f"{NEAR_ADDRESS}:{PORT}"
    rows = folder / "rows.jsonl"
    carried, changes = [], []
    with (
        ShapedLink(steps[0][1]) as link,
        _end(link.near, "near", address, seconds, sizes, folder / "near.jsonl") as near,
    ):
        assert near.stdout is not None
        assert near.stdout.readline() == "up\n"
        with _end(link.far, "far", address, DELAY_S * 1e3, rows, sizes, *["site"] * shared) as far:
            assert near.stdout.readline() == "flowing\n"
            start_s, left = time.monotonic(), list(steps[1:])
            if following:
                link.follow(iter(steps))
                left = []
            while near.poll() is None:
                now_s = time.monotonic() - start_s
                if left and now_s >= left[0][0]:
                    link.set_rate(left.pop(0)[1])
                    changes.append(time.monotonic() - start_s)
                carried.append((now_s, link.carried_bytes()))
                time.sleep(SAMPLE_S)
            far.terminate()
            assert far.wait(10) == 0
            assert near.returncode == 0
            sender_bytes = int(near.stdout.readline())
    late, *told = [json.loads(line) for line in rows.read_text().splitlines()]
    first_us = told[0][2] - told[0][1] / 30 * 1e6
    return Outcome(
        [
            Arrival(stream, (us - first_us) / 1e6, delay_s - DELAY_S, layers, size)
            for stream, _, us, delay_s, layers, size in told
        ],
        carried,
        changes,
        sender_bytes,
        late,
    )


@contextlib.contextmanager
def _end(prefix: Sequence[str], role: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [*prefix, sys.executable, "-m", "tests.links.ends", role, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()
