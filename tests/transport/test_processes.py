"""Real processes, really stopped (SIGSTOP) and really killed (SIGKILL)."""

from __future__ import annotations

import asyncio
import itertools
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from layercast.transport.receiver import Receiver

from .harness import PATIENCE_S, eventually, live, within

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


class Actor:
    """A process and the lines it prints."""

    def __init__(self, role: str, address: str) -> None:
        command = [sys.executable, str(ACTORS), role, address]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def line(self) -> str:
        """The next line; fails when none comes."""
        return self._lines.get(timeout=PATIENCE_S)

    def forget(self) -> None:
        """Drop the lines that have come so far."""
        while not self._lines.empty():
            self._lines.get()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Stage:
    """Starts actors that talk through one relay's address."""

    def __init__(self) -> None:
        self.address = free_address()
        self.running: list[Actor] = []

    def start(self, role: str) -> Actor:
        actor = Actor(role, self.address)
        self.running.append(actor)
        return actor

    def kill(self, actor: Actor) -> None:
        actor.kill()
        self.running.remove(actor)


@pytest.fixture
def stage() -> Iterator[Stage]:
    present = Stage()
    yield present
    for actor in list(present.running):
        present.kill(actor)


def resident_bytes(actor: Actor) -> int:
    status = Path(f"/proc/{actor.process.pid}/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith("VmRSS")).split()[1]) << 10


@live
async def stop_one_receiver(stage: Stage) -> None:
    relay = stage.start("relay")
    await asyncio.to_thread(relay.line)
    stage.start("sender")
    victim = stage.start("receiver")
    latencies: list[float] = []
    ids: list[int] = []

    async def watch(receiver: Receiver) -> None:
        async for frame in receiver:
            latencies.append(frame.latency_s)
            ids.append(frame.header.frame_id)

    async with Receiver(stage.address, "cam", decode=False) as steady:
        watching = asyncio.create_task(watch(steady))
        for _ in range(30):
            await within(asyncio.to_thread(victim.line))
        await eventually(lambda: len(ids) >= 30)
        before = resident_bytes(relay)
        del ids[:], latencies[:]
        victim.process.send_signal(signal.SIGSTOP)
        peak, end_s = before, time.monotonic() + STOPPED_S
        while time.monotonic() < end_s:
            await asyncio.sleep(0.2)
            peak = max(peak, resident_bytes(relay))
        victim.process.send_signal(signal.SIGCONT)
        assert ids == list(range(ids[0], ids[0] + len(ids))), "the other receiver missed a frame"
        assert len(ids) >= STOPPED_S * 15, "half of the frame rate, for a busy machine"
        assert max(latencies) <= MAX_LATENCY_S
        assert peak - before < MAX_GROWTH_BYTES
        known = len(ids)
        await eventually(lambda: len(ids) > known + 30)
        for _ in range(60):  # more than can have been on its way when it was stopped
            await within(asyncio.to_thread(victim.line))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def test_a_receiver_stopped_for_ten_seconds_costs_the_others_and_the_relay_nothing(stage: Stage):
    stop_one_receiver(stage)


def test_killed_and_restarted_in_every_order_the_stream_heals(stage: Stage):
    parts = {"relay": stage.start("relay")}
    parts["relay"].line()
    parts |= {role: stage.start(role) for role in ("sender", "receiver")}
    parts["receiver"].line()
    for order in itertools.permutations(parts):
        for role in order:
            stage.kill(parts[role])
            parts["receiver"].forget()
            parts[role] = stage.start(role)
            for _ in range(5):
                parts["receiver"].line()
