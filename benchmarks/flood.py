"""A relay under a flood of calls, then of connections, with an honest stream beside (docs/operations.md).

python -m benchmarks.flood [--number 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from layercast.bitstream import FrameHeader, PictureInfo, StreamDescription, pack
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.channel import open_channel
from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender
from layercast.transport.wire import HELLO_KEY, SUBSCRIBE, to_metadata

FRAME_RATE = 30
LAYERS = 10
LAYER_BYTES = 1000
CALLERS = 20
"""Connections that the calls come from, one call at a time on each."""

HELD = 1000
"""Connections that the flood keeps open."""


class Honest:
    """Counts and latencies of a stream that nobody should disturb."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        self.latencies_s: list[float] = []

    async def send(self, sender: Sender) -> None:
        while True:
            header = FrameHeader(
                self.sent, time.time_ns() // 1000, PictureInfo(64, 48, 3, 200), total_layers=LAYERS
            )
            await sender.send_unit(pack(header, [bytes(LAYER_BYTES)] * LAYERS, (1.0,) * LAYERS))
            self.sent += 1
            await asyncio.sleep(1 / FRAME_RATE)

    async def receive(self, receiver: Receiver) -> None:
        async for frame in receiver:
            self.received += 1
            self.latencies_s.append(frame.latency_s)

    def report(self, what: str, seconds: float, pid: int) -> None:
        ordered, self.latencies_s = sorted(self.latencies_s), []
        p50, p99 = (ordered[int(len(ordered) * part)] * 1e3 for part in (0.5, 0.99))
        print(
            f"{what}: {seconds:.1f} s, honest frames {self.received} of {self.sent}, p50 {p50:.1f} ms, "
            f"p99 {p99:.1f} ms, relay {resident_mb(pid)} MB",
            flush=True,
        )


def resident_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


async def measure(number: int, pid: int, address: str, metrics: str) -> None:
    honest = Honest()
    description = StreamDescription("none", b"fingerprint-0000", tuple(f"layer{k}" for k in range(LAYERS)))
    async with (
        Sender(address, "cam", description=description) as sender,
        Receiver(address, "cam", decode=False) as receiver,
    ):
        await sender.ready(5)
        tasks = [asyncio.create_task(honest.send(sender)), asyncio.create_task(honest.receive(receiver))]
        await asyncio.sleep(3)
        honest.report("before", 3, pid)
        for kind in ("calls", "connections"):
            started_s = time.monotonic()
            flood = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.flood",
                "--as",
                kind,
                "--to",
                address,
                "--number",
                str(number),
            )
            await flood.wait()
            honest.report(f"{number} {kind}", time.monotonic() - started_s, pid)
        await asyncio.sleep(7)
        honest.report("afterwards", 7, pid)
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(metrics, timeout=5).read().decode())
        print("\n".join(line for line in page.splitlines() if line.startswith("layercast_refusals_total")))
        for task in tasks:
            task.cancel()


async def call(address: str, number: int) -> None:
    hello = to_metadata(HELLO_KEY, pb.SubscribeHello(protocol=1, stream="nothing", wait_ms=0))

    async def caller() -> None:
        channel = open_channel(address, 1 << 20)
        for _ in range(number // CALLERS):
            await channel.stream_stream(SUBSCRIBE)(metadata=hello).code()
        await channel.close()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def connect(address: str, number: int) -> None:
    host, _, port = address.rpartition(":")
    held: list[socket.socket] = []
    for index in range(number):
        stranger = socket.create_connection((host, int(port)), 5)
        if index % 3 == 0:
            stranger.send(b"GET / HTTP/1.1\r\n\r\n")
        if index % 7:
            stranger.close()
        else:
            held.append(stranger)
        if len(held) > HELD:
            held.pop(0).close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100_000, help="of calls, and of connections")
    parser.add_argument("--as", dest="role", choices=["calls", "connections"], help=argparse.SUPPRESS)
    parser.add_argument("--to", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == "calls":
        asyncio.run(call(args.to, args.number))
    elif args.role == "connections":
        connect(args.to, args.number)
    else:
        command = [sys.executable, "-m", "layercast.cli", "relay", "--listen", "127.0.0.1:0"]
        command += ["--metrics", "127.0.0.1:0", "--fixed-budgets", "--log-level", "error"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
            assert relay.stdout is not None
            address, port = (relay.stdout.readline().split()[-1] for _ in range(2))
            try:
                asyncio.run(measure(args.number, relay.pid, address, f"http://127.0.0.1:{port}/metrics"))
            finally:
                relay.terminate()


if __name__ == "__main__":
    main()
