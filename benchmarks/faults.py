"""Random faults over a chain: sender -> first relay (2 receivers) -> second relay (3 receivers), all processes, with a
cable (see cable.py) in each connection.

    python -m benchmarks.faults [--events 200] [--seed 1]

Each event kills a process and starts it again after 0.3 to 2.5 s, or restarts it politely, or stops it for so long,
or pulls a cable for up to 6 s. Printed per event, as JSON lines: how long after its end the slowest receiver saw
a new frame, and how many frames the receivers missed whose path the fault was not on. At the end a summary, with the
memory of the relays; all of it goes into benchmarks/results/links/faults.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks import results
from benchmarks.cable import Cables
from layercast.bitstream import FrameHeader, PictureInfo, StreamDescription, pack
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender

LAYERS, LAYER_BYTES, FRAME_RATE = 8, 1500, 30
PATIENCE_S = 20.0
"""How long a receiver may take to recover before it counts as lost, seconds."""

LASTS_S, CUT_LASTS_S = (0.3, 2.5), (0.3, 6.0)
"""How long a fault lasts, seconds; a cable that is out for more than 4.5 s also costs the connection."""

RECOVERY_S = 3.0
"""What is asked of everybody after a fault's end, seconds."""

PATHS = {f"receiver{n}": ("sender", "first") + (("second",) if n > 1 else ()) for n in range(5)}
"""What the frames of each receiver pass."""


def cable(part: str) -> str:
    """The name of the cable by which `part` is connected."""
    return f"cable of {part}"


async def relay(address: str, upstream: str = "") -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with Relay(address, upstream or None):
        print("up", flush=True)
        await told.wait()


async def sender(address: str) -> None:
    description = StreamDescription("none", b"fingerprint-0000", tuple(f"l{k}" for k in range(LAYERS)))
    async with Sender(address, "cam", description=description) as sending:
        print("up", flush=True)
        start_s, number = time.monotonic(), 0
        while True:
            header = FrameHeader(
                number, time.time_ns() // 1000, PictureInfo(64, 48, 3, 200), total_layers=LAYERS
            )
            await sending.send_unit(pack(header, [bytes(LAYER_BYTES)] * LAYERS))
            number += 1
            await asyncio.sleep(max(0.0, start_s + number / FRAME_RATE - time.monotonic()))


async def receiver(address: str) -> None:
    print("up", flush=True)
    async with Receiver(address, "cam", decode=False) as receiving:
        async for frame in receiving:
            print(receiving.statistics().sessions, frame.header.frame_id, flush=True)


class Part:
    """A process that is killed, restarted and stopped; of a receiver, also what it saw."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.seen: list[tuple[float, int, int]] = []  # time, session, frame id
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults", "--role", *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.reader = threading.Thread(target=self.read, args=(self.process,), daemon=True)
        self.reader.start()

    def read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout:
            if line.endswith("\n") and line != "up\n":  # a killed process may leave half a line
                session, frame_id = map(int, line.split())
                self.seen.append((time.monotonic(), session, frame_id))

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    def rss_mb(self) -> float:
        rows = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return round(int(next(row for row in rows if row.startswith("VmRSS")).split()[1]) / 1024, 1)


def missed(seen: list[tuple[float, int, int]], start_s: float, end_s: float) -> int:
    """Frames that did not come between two times, within one session."""
    count, last = 0, None
    for at_s, session, frame_id in list(seen):
        if start_s <= at_s <= end_s:
            if last is not None and session == last[0]:
                count += frame_id - last[1] - 1
            last = session, frame_id
    return count


def wait_for_all(parts: dict[str, Part], since_s: float) -> float:
    """Seconds from `since_s` until the slowest receiver has seen a frame."""
    while time.monotonic() < since_s + PATIENCE_S:
        if all(parts[name].seen and parts[name].seen[-1][0] > since_s + 0.02 for name in PATHS):
            break
        time.sleep(0.01)
    firsts = [next((at for at, _, _ in list(parts[name].seen) if at > since_s), None) for name in PATHS]
    return PATIENCE_S if None in firsts else max(firsts) - since_s


def event(
    parts: dict[str, Part], cables: Cables, rng: random.Random, longest_s: float, settle_s: float
) -> dict[str, object]:
    """One fault; `settle_s` passes after it before the frames are counted."""
    action = rng.choice(["kill", "restart", "stop", "cut"])
    name = rng.choice(cables.names if action == "cut" else sorted(parts))
    low_s, high_s = CUT_LASTS_S if action == "cut" else LASTS_S
    lasts_s = min(longest_s, rng.uniform(low_s, high_s))
    start_s = time.monotonic()
    if action == "cut":
        cables.pull(name)
        time.sleep(lasts_s)
        cables.put_back(name)
    elif action == "stop":
        parts[name].process.send_signal(signal.SIGSTOP)
        time.sleep(lasts_s)
        parts[name].process.send_signal(signal.SIGCONT)
    else:
        parts[name].kill(signal.SIGTERM if action == "restart" else signal.SIGKILL)
        if action == "kill":
            time.sleep(lasts_s)
        parts[name].start()
    end_s = time.monotonic()
    recovered_s = wait_for_all(parts, end_s)
    time.sleep(settle_s)
    hit = {name} if action != "cut" else {name, *(part for part in parts if cable(part) == name)}
    outside = [r for r, path in PATHS.items() if r not in hit and not hit & set(path)]
    return {
        "action": action,
        "of": name,
        "lasts_s": round(end_s - start_s, 2),
        "recovered_s": round(recovered_s, 2),
        "missed_outside": {
            r: count for r in outside if (count := missed(parts[r].seen, start_s, time.monotonic()))
        },
    }


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def soak(
    events: int, seed: int, longest_s: float = PATIENCE_S, settle_s: float = 0.5, rest_s: float = 5.0
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The summary, and one row per event.

    Args:
        events: faults, one after the other.
        seed: of what happens.
        longest_s: no fault lasts longer, seconds.
        settle_s: after each event, seconds.
        rest_s: before the first and after the last event, before the memory is read, seconds.
    """
    rng = random.Random(seed)
    parts: dict[str, Part] = {}
    with contextlib.ExitStack() as stack:
        cables = stack.enter_context(Cables())

        def add(name: str, *arguments: str, target: str) -> None:
            parts[name] = Part(*arguments, cables.lay(cable(name), target))
            stack.callback(lambda: parts[name].kill())

        first, second = free_address(), free_address()
        parts["first"] = Part("relay", first)
        stack.callback(lambda: parts["first"].kill())
        add("second", "relay", second, target=first)
        add("sender", "sender", target=first)
        for name, path in PATHS.items():
            add(name, "receiver", target=second if "second" in path else first)
        wait_for_all(parts, time.monotonic())
        # Relays that come fresh after a fault are compared with relays that were fresh.
        time.sleep(rest_s)
        before = parts["first"].rss_mb(), parts["second"].rss_mb()
        rows = []
        for _ in range(events):
            rows.append(event(parts, cables, rng, longest_s, settle_s))
            print(json.dumps(rows[-1]), flush=True)
        time.sleep(rest_s)
        after = parts["first"].rss_mb(), parts["second"].rss_mb()
    recoveries = sorted(float(str(row["recovered_s"])) for row in rows)
    summary: dict[str, object] = {
        "events": events,
        "seed": seed,
        "recovered_median_s": recoveries[len(recoveries) // 2],
        "recovered_worst_s": recoveries[-1],
        "recovered_within_3_s": sum(each <= RECOVERY_S for each in recoveries),
        "events_with_frames_missed_outside": sum(bool(row["missed_outside"]) for row in rows),
        "relay_rss_mb_before": before,
        "relay_rss_mb_after": after,
    }
    return summary, rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        asyncio.run({"relay": relay, "sender": sender, "receiver": receiver}[args.role[0]](*args.role[1:]))
        return 0
    summary, rows = soak(args.events, args.seed)
    print(json.dumps(summary))
    results.save("links", "faults", rows, summary=summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
