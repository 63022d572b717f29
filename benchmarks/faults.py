"""Random faults over a chain: sender -> first relay (2 receivers) -> second relay (3 receivers), all processes.

    python -m benchmarks.faults [--events 40] [--seed 1]

Each event picks a process, kills and restarts it, or stops and continues it, for 0.3 to 2.5 s. Printed per event, as
JSON lines: how long after the fault's end the slowest receiver saw a new frame, and how many frames the receivers
missed whose path the fault was not on. At the end a summary, with the memory of the relays, also into
benchmarks/results/links/faults.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from layercast.bitstream import FrameHeader, PictureInfo, StreamDescription, pack
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender

RESULTS = Path(__file__).parent / "results" / "links" / "faults.json"
LAYERS, LAYER_BYTES, FRAME_RATE = 8, 1500, 30
PATIENCE_S = 20.0
"""How long a receiver may take to recover before it counts as lost, seconds."""

PATHS = {f"receiver{n}": ("sender", "first") + (("second",) if n > 1 else ()) for n in range(5)}
"""What the frames of each receiver pass."""


async def relay(address: str, upstream: str = "") -> None:
    async with Relay(address, upstream or None):
        print("up", flush=True)
        await asyncio.Event().wait()


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
            if line != "up\n":
                session, frame_id = map(int, line.split())
                self.seen.append((time.monotonic(), session, frame_id))

    def kill(self) -> None:
        self.process.kill()
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


def event(parts: dict[str, Part], rng: random.Random) -> dict[str, object]:
    name = rng.choice(sorted(parts))
    action = rng.choice(["kill", "stop"])
    lasts_s = rng.uniform(0.3, 2.5)
    start_s = time.monotonic()
    if action == "kill":
        parts[name].kill()
        time.sleep(lasts_s)
        parts[name].start()
    else:
        parts[name].process.send_signal(signal.SIGSTOP)
        time.sleep(lasts_s)
        parts[name].process.send_signal(signal.SIGCONT)
    end_s = time.monotonic()
    recovered_s = wait_for_all(parts, end_s)
    time.sleep(0.5)
    outside = [r for r, path in PATHS.items() if r != name and name not in path]
    return {
        "what": f"{action} {name}",
        "lasts_s": round(lasts_s, 2),
        "recovered_s": round(recovered_s, 2),
        "missed_outside": {
            r: count for r in outside if (count := missed(parts[r].seen, start_s, time.monotonic()))
        },
    }


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def run(events: int, seed: int) -> int:
    rng = random.Random(seed)
    first, second = free_address(), free_address()
    parts = {"first": Part("relay", first), "second": Part("relay", second, first)}
    try:
        parts["sender"] = Part("sender", first)
        parts |= {
            name: Part("receiver", second if "second" in path else first) for name, path in PATHS.items()
        }
        wait_for_all(parts, time.monotonic())
        time.sleep(3)
        before = parts["first"].rss_mb(), parts["second"].rss_mb()
        rows = []
        for _ in range(events):
            rows.append(event(parts, rng))
            print(json.dumps(rows[-1]), flush=True)
        time.sleep(5)
        after = parts["first"].rss_mb(), parts["second"].rss_mb()
    finally:
        for part in parts.values():
            part.kill()
    recoveries = sorted(row["recovered_s"] for row in rows)
    summary = {
        "events": events,
        "seed": seed,
        "recovered_median_s": recoveries[len(recoveries) // 2],
        "recovered_worst_s": recoveries[-1],
        "recovered_within_3_s": sum(each <= 3 for each in recoveries),
        "events_with_frames_missed_outside": sum(bool(row["missed_outside"]) for row in rows),
        "relay_rss_mb_before": before,
        "relay_rss_mb_after": after,
    }
    print(json.dumps(summary))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({**summary, "rows": rows}, indent=1) + "\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        asyncio.run({"relay": relay, "sender": sender, "receiver": receiver}[args.role[0]](*args.role[1:]))
        return 0
    return run(args.events, args.seed)


if __name__ == "__main__":
    sys.exit(main())
