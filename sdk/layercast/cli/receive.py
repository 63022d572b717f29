"""`layercast receive`: subscribe to a stream within a budget, and show, keep or record what comes."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from layercast.cli.arguments import add_command, add_frames_option, count, quantity, seconds
from layercast.cli.settings import add_settings, credentials, credentials_settings, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from layercast.bitstream import StreamDescription
    from layercast.cli.status import StatusLine
    from layercast.transport.blocking import BlockingReceiver
    from layercast.transport.received import ReceivedFrame

EXAMPLES = """\
  layercast receive --from 127.0.0.1:7400 --stream cam1 frames/
  layercast receive --from 127.0.0.1:7400 --stream cam1 seen.mp4 --max-bitrate 500k
  layercast receive --from 127.0.0.1:7400 --stream cam1 kept.lcast        (as it came, not decoded)
  layercast receive --from 127.0.0.1:7400 --stream cam1 --frames 100      (only count)

It runs until Ctrl-C, --frames or --idle, finishes the file, and then ends with exit code 0."""


ACCESS = credentials_settings()


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "receive", "subscribe to a stream, within a budget", EXAMPLES, run)
    parser.add_argument("output", nargs="?", metavar="OUT", help="folder, video (.mp4 ...) or .lcast file")
    parser.add_argument("--from", dest="relay", required=True, metavar="HOST:PORT", help="the relay")
    parser.add_argument("--stream", default="main", metavar="NAME", help="name of the stream (default main)")
    parser.add_argument("--max-bitrate", type=quantity, metavar="R", help="bits per second, e.g. 500k or 2M")
    parser.add_argument("--max-layers", type=count, metavar="K", help="layers per frame")
    parser.add_argument(
        "--link",
        metavar="NAME",
        help="share what the link carries with other receivers here that give this name, by gain per bit",
    )
    add_frames_option(parser)
    parser.add_argument("--idle", type=seconds, metavar="S", help="stop when no frame comes for S seconds")
    parser.add_argument(
        "--wait",
        type=seconds,
        metavar="S",
        help="end with an error when the stream has no sender for S seconds",
    )
    parser.add_argument(
        "--give-up-after",
        type=seconds,
        metavar="S",
        help="end with an error when the relay is away for S seconds",
    )
    add_settings(parser, ACCESS)


def run(args: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from layercast.cli.status import StatusLine
    from layercast.transport.blocking import BlockingReceiver

    status = StatusLine()
    totals = Totals()
    decodes = bool(args.output) and not args.output.lower().endswith(".lcast")
    receiver = BlockingReceiver(
        args.relay,
        args.stream,
        max_bitrate=args.max_bitrate,
        max_layers=args.max_layers,
        link=args.link,
        decode=decodes,
        wait_s=args.wait,
        give_up_after_s=args.give_up_after,
        credentials=credentials(resolve("receive", ACCESS, args)),
    )
    try:
        with ExitStack() as stack:
            stack.enter_context(receiver)
            keep: Callable[[ReceivedFrame], None] | None = None
            for frame in _frames(receiver, args, status):
                if keep is None:
                    keep = _keeper(args.output, receiver, stack)
                keep(frame)
                totals.add(frame)
                status.show(totals.line())
    except KeyboardInterrupt:
        pass
    status.clear()
    print(totals.line())
    return 0


def _frames(
    receiver: BlockingReceiver, args: argparse.Namespace, status: StatusLine
) -> Iterator[ReceivedFrame]:
    seen = 0
    silent_s = time.monotonic()
    while args.frames is None or seen < args.frames:
        frame = receiver.next(timeout_s=min(1.0, args.idle or 1.0))
        if frame is not None:
            seen += 1
            silent_s = time.monotonic()
            status.warn("")
            yield frame
            continue
        status.warn(receiver.statistics().link.last_error or "waiting for frames")
        if args.idle and time.monotonic() - silent_s >= args.idle:
            return


def _keeper(
    output: str | None, receiver: BlockingReceiver, stack: ExitStack
) -> Callable[[ReceivedFrame], None]:
    """What to do with each frame; made when the first one is here, since only then the stream is known."""
    if not output:
        return lambda frame: None
    description = receiver.ready(timeout_s=5.0)
    if output.lower().endswith(".lcast"):
        return _recorder(output, receiver, description, stack)
    from layercast.media import open_sink

    sink = stack.enter_context(open_sink(output, frame_rate=description.frame_rate))
    return lambda frame: sink.write(frame.image, frame.header.timestamp_us)


def _recorder(
    output: str, receiver: BlockingReceiver, description: StreamDescription, stack: ExitStack
) -> Callable[[ReceivedFrame], None]:
    from layercast.bitstream import ContainerWriter
    from layercast.errors import ConfigError

    writer = stack.enter_context(ContainerWriter(output, description))
    sessions = receiver.statistics().sessions

    def record(frame: ReceivedFrame) -> None:
        nonlocal sessions
        if receiver.statistics().sessions != sessions:
            sessions = receiver.statistics().sessions
            if receiver.ready(timeout_s=5.0) != description:
                raise ConfigError(
                    "the sender changed its codec", hint=f"{output} is complete; record a new one"
                )
        writer.write(frame.unit)

    return record


class Totals:
    """What came so far."""

    def __init__(self) -> None:
        self.frames = self.bytes = self.layers = self.of_layers = self.damaged = 0
        self.first_s = self.last_s = self.latency_s = 0.0

    def add(self, frame: ReceivedFrame) -> None:
        """Count one frame."""
        self.last_s = time.monotonic()
        if self.frames == 0:
            self.first_s = self.last_s
        self.frames += 1
        self.bytes += len(frame.unit)
        self.layers += frame.layers
        self.of_layers += frame.header.total_layers
        self.damaged += bool(frame.damage)
        self.latency_s = frame.latency_s

    def line(self) -> str:
        """One line for people."""
        if not self.frames:
            return "0 frames"
        # N frames span N - 1 intervals.
        elapsed_s = (self.last_s - self.first_s) * self.frames / max(1, self.frames - 1)
        rate = f", {8 * self.bytes / elapsed_s / 1e3:.0f} kbit/s" if elapsed_s > 0 else ""
        damaged = f", {self.damaged} damaged" if self.damaged else ""
        return (
            f"{self.frames} frame{'s' * (self.frames > 1)}, {self.bytes} bytes{rate}, "
            f"{self.layers / self.frames:.1f} of {self.of_layers / self.frames:.0f} layers, "
            f"{self.latency_s * 1e3:.0f} ms from capture to here{damaged}"
        )
