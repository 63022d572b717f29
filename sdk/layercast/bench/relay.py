"""How many receivers one relay core serves, how late, at what cost; and a plain grpc.aio fan-out beside it.

Relay, senders and receivers are processes of this machine, over loopback. The relay has a core of its own where there
are two. Its CPU time and memory are the kernel's, from /proc; latencies are from `send` to arrival, one clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from layercast.bench.relay_load import BUCKET_S
from layercast.errors import ConfigError

MAX_RECEIVERS = 500
"""Of one level: each is a TCP connection, and a relay takes about as many from one address."""

MAX_SENDERS = 64
MAX_LEVELS = 16
MAX_SECONDS = 60.0
"""Measured at each level, seconds."""

WARM_UP_S = 7.0
"""Before each measurement, seconds: the allocators find out what the link carries, in two, and receivers have come to
rest: what is measured is what goes on for hours."""

ENOUGH = 0.95
"""A level that delivers less of the frames than this is the last."""

RECEIVERS_PER_PROCESS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One level.

    Attributes:
        kind: "layercast"; "plain", a fan-out that hands messages on and looks at nothing; or "tuned", the same program
            in a process that collects garbage and shares its processor as a relay's does (transport.process).
        adaptive: it follows each receiver's link.
        workers: processes of the relay that serve receivers; with several there is a hub beside them.
        senders, receivers, frame_rate, unit_bytes: what was asked for.
        delivered: share of the frames that came.
        frames_per_s, bytes_per_s: that came, over all receivers.
        bytes_per_frame: mean size of what came.
        cpu_us_per_frame: of the relay, all its processes, user and system, per delivered frame.
        cores: that it kept busy.
        busiest: cores that its busiest process kept busy: when that is 1, more receivers are too many.
        receivers_per_core: receivers at this frame rate that a whole core would serve.
        p50_ms, p95_ms, p99_ms: `send` to arrival.
        rss_mb: memory of the relay at the end, all its processes.
    """

    kind: str
    adaptive: bool
    workers: int
    senders: int
    receivers: int
    frame_rate: float
    unit_bytes: int
    delivered: float
    frames_per_s: float
    bytes_per_s: float
    bytes_per_frame: float
    cpu_us_per_frame: float
    cores: float
    busiest: float
    receivers_per_core: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rss_mb: float


def main(
    senders: int,
    receivers: Sequence[int],
    budgets: Sequence[float],
    unit_bytes: int,
    frame_rate: float,
    seconds: float,
    *,
    adaptive: bool = True,
    plain: bool = True,
    tuned: bool = False,
    workers: Sequence[int] = (1,),
    together: bool = False,
) -> int:
    """Print one JSON line per level and kind.

    Args:
        senders: streams; receivers take them in turn.
        receivers: levels of the ramp.
        budgets: shares of a stream's rate that receivers ask for, in turn; 1.0 is no limit.
        unit_bytes: size of an access unit.
        frame_rate: of each stream.
        seconds: measured at each level.
        adaptive: whether the relay follows each receiver's link.
        plain: measure the plain fan-out too.
        tuned: and once more, in a process like a relay's.
        workers: numbers of the relay's processes to measure with, one after the other.
        together: measure all of them in the same seconds, each with as many receivers, on one core: what else the
            machine does then changes the figures, and not how they compare.

    Raises:
        ConfigError: more than the bounds of this module allow, or not Linux.
    """
    if not Path("/proc/self/stat").exists():
        raise ConfigError("CPU time is read from /proc, which is not here", hint="run it on Linux")
    bounds = (senders, MAX_SENDERS), (len(receivers), MAX_LEVELS), (max(receivers), MAX_RECEIVERS)
    if any(value > most for value, most in bounds) or seconds > MAX_SECONDS:
        raise ConfigError(
            "a load test of that size",
            hint=f"at most {MAX_SENDERS} senders, {MAX_LEVELS} levels, {MAX_RECEIVERS} receivers, {MAX_SECONDS:g} s",
        )
    load = Load(senders, budgets, unit_bytes, frame_rate)
    contenders = [Contender("layercast", adaptive, number) for number in workers]
    contenders += [Contender("plain", False)] * plain + [Contender("tuned", False)] * tuned
    for group in [contenders] if together else [[each] for each in contenders]:
        for count in receivers:
            rows = level(group, load, count, seconds)
            for row in rows:
                print(json.dumps(asdict(row)), flush=True)
            if min(row.delivered for row in rows) < ENOUGH:
                break
    return 0


@dataclass(frozen=True, slots=True)
class Contender:
    """What is measured; see Row."""

    kind: str
    adaptive: bool
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Load:
    """What it is measured with; see `main`."""

    senders: int
    budgets: Sequence[float]
    unit_bytes: int
    frame_rate: float


class _Running:
    """One contender with its senders and receivers, all of them up."""

    def __init__(self, contender: Contender, load: Load, receivers: int, stack: contextlib.ExitStack) -> None:
        self._contender, self._load, self._receivers = contender, load, receivers
        kind, workers = contender.kind, contender.workers
        relay_cores, load_cores = _cores()
        if workers > 1:
            relay = stack.enter_context(_run(_relay_command(receivers, contender), relay_cores))
        else:
            options: dict[str, object] = {"receivers": receivers, "adaptive": contender.adaptive}
            role, given = ("relay", options) if kind == "layercast" else (kind, {})
            relay = stack.enter_context(_process(role, given, relay_cores))
        protocol = "layercast" if kind == "layercast" else "plain"
        common: dict[str, object] = {"kind": protocol, "target": _line(relay).split()[-1]}
        self._groups = []
        for first in range(0, receivers, RECEIVERS_PER_PROCESS):
            numbers = range(first, min(receivers, first + RECEIVERS_PER_PROCESS))
            group = {
                "streams": [number % load.senders for number in numbers],
                "shares": [load.budgets[number // load.senders % len(load.budgets)] for number in numbers],
                "bps": load.unit_bytes * 8 * load.frame_rate,
            }
            self._groups.append(stack.enter_context(_process("receivers", {**common, **group}, load_cores)))
        for process in self._groups:
            _line(process)
        streams = {"count": load.senders, "unit_bytes": load.unit_bytes, "frame_rate": load.frame_rate}
        _line(stack.enter_context(_process("senders", {**common, **streams}, load_cores)))
        self._pids = [relay.pid, *_children(relay.pid)]

    def start(self) -> None:
        """Count from now on."""
        self._before_s, self._start_s = [_cpu_s(pid) for pid in self._pids], time.monotonic()
        _tell(self._groups, "start")

    def stop(self) -> None:
        """Count no more."""
        self._used_s = [_cpu_s(pid) - before for pid, before in zip(self._pids, self._before_s, strict=True)]
        self._passed_s = time.monotonic() - self._start_s
        _tell(self._groups, "stop")
        self._rss_mb = sum(map(_rss_mb, self._pids))

    def row(self) -> Row:
        """What was counted."""
        told = [json.loads(_line(process)) for process in self._groups]
        load, used_s, passed_s = self._load, self._used_s, self._passed_s
        frames = sum(part["frames"] for part in told)
        latencies: Counter[int] = Counter()
        for part in told:
            latencies.update({int(bucket): count for bucket, count in part["latencies"].items()})
        p50, p95, p99 = (_percentile(latencies, share) for share in (0.5, 0.95, 0.99))
        size = sum(part["bytes"] for part in told)
        per_frame_s = sum(used_s) / max(1, frames)
        return Row(
            kind=self._contender.kind,
            adaptive=self._contender.adaptive,
            workers=self._contender.workers,
            senders=load.senders,
            receivers=self._receivers,
            frame_rate=load.frame_rate,
            unit_bytes=load.unit_bytes,
            delivered=round(frames / (self._receivers * load.frame_rate * passed_s), 4),
            frames_per_s=round(frames / passed_s, 1),
            bytes_per_s=round(size / passed_s),
            bytes_per_frame=round(size / max(1, frames), 1),
            cpu_us_per_frame=round(per_frame_s * 1e6, 1),
            cores=round(sum(used_s) / passed_s, 3),
            busiest=round(max(used_s) / passed_s, 3),
            receivers_per_core=round(1 / (load.frame_rate * per_frame_s), 1) if per_frame_s else 0.0,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            rss_mb=round(self._rss_mb, 1),
        )


def level(contenders: Sequence[Contender], load: Load, receivers: int, seconds: float) -> list[Row]:
    """Start everything, warm up, measure once, stop everything; several contenders at the same time."""
    with contextlib.ExitStack() as stack:
        running = [_Running(contender, load, receivers, stack) for contender in contenders]
        time.sleep(WARM_UP_S)
        for each in running:
            each.start()
        time.sleep(seconds)
        for each in running:
            each.stop()
        return [each.row() for each in running]


@contextlib.contextmanager
def _process(role: str, options: dict[str, object], cores: set[int]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "layercast.bench.relay_load", role, json.dumps(options)]
    with _run(command, cores) as process:
        yield process


def _relay_command(receivers: int, contender: Contender) -> list[str]:
    command = [sys.executable, "-m", "layercast.cli", "relay", "--listen", "127.0.0.1:0"]
    command += ["--workers", str(contender.workers), "--max-subscribers", str(receivers + 8)]
    return command if contender.adaptive else [*command, "--fixed-budgets"]


@contextlib.contextmanager
def _run(command: list[str], cores: set[int]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, cores)  # what it starts later inherits this
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise ConfigError(f"a process of the load test ended early: {process.args!r}")
    return line


def _tell(processes: Sequence[subprocess.Popen[str]], command: str) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(command + "\n")
        process.stdin.flush()


def _cores() -> tuple[set[int], set[int]]:
    """For the relay, and for everything else."""
    cores = sorted(os.sched_getaffinity(0))
    return (set(cores[:1]), set(cores[1:])) if len(cores) > 1 else (set(cores), set(cores))


def _cpu_s(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def _rss_mb(pid: int) -> float:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(int(next(row for row in rows if row.startswith("VmRSS")).split()[1]) / 1024, 1)


def _percentile(counts: Counter[int], share: float) -> float:
    """In milliseconds."""
    left = share * sum(counts.values())
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0:
            return round((bucket + 1) * BUCKET_S * 1e3, 1)
    return 0.0
