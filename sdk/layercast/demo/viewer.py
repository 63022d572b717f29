"""One receiver of the demo, a process of its own: counts, compares with the clip, and reports in JSON lines.

It knows the clip that the sender plays, so it can tell the PSNR of what it got: frame id modulo the clip's
length is the picture that was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from layercast.bench.metrics import psnr
from layercast.bitstream import ContainerWriter
from layercast.cli.arguments import quantity
from layercast.demo import assets
from layercast.media import Image, VideoSource, write_picture
from layercast.transport.received import ReceivedFrame
from layercast.transport.receiver import Receiver

REPORT_S = 0.5
"""Seconds between reports."""

KEEP_EVERY = 7
"""Every n-th frame is kept as a picture; over three rounds of the clip all receivers will share a few."""


@dataclass
class Report:
    """What came so far.

    Attributes:
        shown: frames that were decoded and compared; `psnr` and `latency_s` are sums over them.
        arrived: frames that arrived, and `bytes` theirs; more than `shown` when this machine is too slow.
        layers: of the frames shown; `of_layers` is what the sender made.
        psnr: dB against the clip.
        latency_s: capture to decoded picture.
        span_s: capture time of the last frame shown minus that of the first.
    """

    shown: int = 0
    arrived: int = 0
    bytes: int = 0
    layers: int = 0
    of_layers: int = 0
    psnr: float = 0.0
    latency_s: float = 0.0
    span_s: float = 0.0


@dataclass(frozen=True)
class KeptPicture:
    """A picture that a viewer left for the demo; its file's name says what it was made of."""

    path: Path
    frame_id: int
    layers: int
    bytes: int

    @classmethod
    def of(cls, path: Path) -> KeptPicture:
        """What the name of a kept file says."""
        frame_id, layers, size = map(int, path.stem.split("_"))
        return cls(path, frame_id, layers, size)


def main() -> int:
    """Parse the arguments and watch until SIGTERM."""
    parser = argparse.ArgumentParser(prog="layercast.demo.viewer", description="One receiver of the demo.")
    parser.add_argument("relay")
    parser.add_argument("--stream", required=True)
    parser.add_argument("--keep", type=Path, required=True, help="folder for pictures")
    parser.add_argument("--max-bitrate", type=quantity)
    parser.add_argument("--record", help="an .lcast file")
    asyncio.run(watch(parser.parse_args()))
    return 0


async def watch(args: argparse.Namespace) -> None:
    """Receive, compare and report until SIGTERM."""
    clip = [image for image, _ in VideoSource(assets.path(assets.CLIP))]
    report = Report()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    with ExitStack() as stack:
        async with Receiver(args.relay, args.stream, max_bitrate=args.max_bitrate) as receiver:
            print(json.dumps({"waiting": True}), flush=True)
            description = await receiver.ready()
            writer = stack.enter_context(ContainerWriter(args.record, description)) if args.record else None

            async def take() -> None:
                first_us = told_s = 0.0
                async for frame in receiver:
                    if writer is not None:
                        writer.write(frame.unit)
                    await asyncio.to_thread(count, report, frame, clip, args.keep)
                    first_us = first_us or frame.header.timestamp_us
                    report.span_s = (frame.header.timestamp_us - first_us) / 1e6
                    counted = receiver.statistics()
                    report.arrived, report.bytes = counted.frames, counted.bytes
                    if time.monotonic() - told_s >= REPORT_S:
                        told_s = time.monotonic()
                        print(json.dumps(asdict(report)), flush=True)

            taking = asyncio.create_task(take())
            ending = asyncio.create_task(stopped.wait())
            await asyncio.wait({taking, ending}, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if taking.done():
                taking.result()
        await asyncio.gather(taking)
    print(json.dumps(asdict(report)), flush=True)


def count(report: Report, frame: ReceivedFrame, clip: list[Image], folder: Path) -> None:
    """Add one frame to the report, and keep its picture if it is one of those to keep."""
    frame_id = frame.header.frame_id
    image = frame.image
    report.latency_s += time.time() - frame.header.timestamp_us / 1e6
    report.shown += 1
    report.layers += frame.layers
    report.of_layers += frame.header.total_layers
    report.psnr += psnr(clip[frame_id % len(clip)], image)
    if frame_id % KEEP_EVERY == 0:
        write_picture(folder / f"{frame_id}_{frame.layers}_{len(frame.unit)}.png", image)


if __name__ == "__main__":
    sys.exit(main())
