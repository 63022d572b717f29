"""Real processes, really stopped (SIGSTOP) and really killed (SIGKILL)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layercast.transport.receiver import Receiver

from .harness import eventually, live, within

ACTORS = Path(__file__).with_name("actors.py")
STOPPED_S = 10.0
MAX_GROWTH_BYTES = 20 << 20
MAX_LATENCY_S = 1.0
"""Far above the milliseconds it takes, far below the ten seconds that one receiver is stopped."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Actors:
    """Starts actors, and reads what they print."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.running: list[subprocess.Popen[str]] = []

    def start(self, role: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ACTORS), role, self.address]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.running.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        self.running.remove(process)


@pytest.fixture
def actors() -> Iterator[Actors]:
    present = Actors(free_address())
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [present.kill(process) for process in list(present.running)])
        yield present


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints; blocks."""
    assert process.stdout is not None
    read = process.stdout.readline()
    assert read, f"{process.args} ended"
    return read


def resident_bytes(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith("VmRSS")).split()[1]) << 10


@live
async def stop_one_receiver(actors: Actors) -> None:
    relay = actors.start("relay")
    await asyncio.to_thread(line, relay)
    actors.start("sender")
    victim = actors.start("receiver")
    latencies: list[float] = []
    ids: list[int] = []

    async def watch(receiver: Receiver) -> None:
        async for frame in receiver:
            latencies.append(frame.latency_s)
            ids.append(frame.header.frame_id)

    async with Receiver(actors.address, "cam", decode=False) as steady:
        watching = asyncio.create_task(watch(steady))
        for _ in range(30):
            await within(asyncio.to_thread(line, victim))
        await eventually(lambda: len(ids) >= 30)
        before = resident_bytes(relay)
        del ids[:], latencies[:]
        victim.send_signal(signal.SIGSTOP)
        peak, end_s = before, time.monotonic() + STOPPED_S
        while time.monotonic() < end_s:
            await asyncio.sleep(0.2)
            peak = max(peak, resident_bytes(relay))
        victim.send_signal(signal.SIGCONT)
        assert ids == list(range(ids[0], ids[0] + len(ids))), "the other receiver missed a frame"
        assert len(ids) >= STOPPED_S * 15, "half of the frame rate, for a busy machine"
        assert max(latencies) <= MAX_LATENCY_S
        assert peak - before < MAX_GROWTH_BYTES
        known = len(ids)
        await eventually(lambda: len(ids) > known + 30)
        for _ in range(60):  # more than can have been on its way when it was stopped
            await within(asyncio.to_thread(line, victim))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def test_a_receiver_stopped_for_ten_seconds_costs_the_others_and_the_relay_nothing(actors: Actors):
    stop_one_receiver(actors)


def test_killed_and_restarted_in_every_order_the_stream_heals(actors: Actors):
    parts = {"relay": actors.start("relay")}
    line(parts["relay"])
    parts |= {role: actors.start(role) for role in ("sender", "receiver")}

    def frames_flow() -> None:
        seen_s: Callable[[], float] = time.monotonic
        first = int(line(parts["receiver"]))
        started_s = seen_s()
        # Lines printed before the kill may still be in the pipe: wait for frames of the present.
        while seen_s() - started_s < 0.3 or int(line(parts["receiver"])) < first + 5:
            line(parts["receiver"])

    frames_flow()
    for order in itertools.permutations(parts):
        for role in order:
            actors.kill(parts[role])
            parts[role] = actors.start(role)
            frames_flow()
