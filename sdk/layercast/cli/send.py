"""`layercast send`: publish a camera, a video, pictures or an .lcast file to a relay."""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING

from layercast.cli.arguments import (
    add_codec_options,
    add_command,
    add_frames_option,
    chosen_codec,
    rate,
    seconds,
)
from layercast.cli.settings import add_settings, credentials, credentials_settings, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layercast.bitstream import AccessUnit, ContainerReader
    from layercast.cli.status import StatusLine
    from layercast.transport.blocking import BlockingSender

EXAMPLES = """\
  layercast send camera:/dev/video0 --to 127.0.0.1:7400 --stream cam1
  layercast send clip.mp4 --to 127.0.0.1:7400 --stream film --loop
  layercast send pattern:640x480@30 --to 127.0.0.1:7400 --stream test --quality 0.5
  layercast send clip.lcast --to 127.0.0.1:7400 --stream film      (already encoded)

Everything is sent in real time. All but a camera begins when the first receiver listens; while nobody
listens, nothing is encoded or sent. While the relay is away the sender keeps trying (see --give-up-after)."""


ACCESS = credentials_settings()


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "send", "publish a camera, video, folder or .lcast file", EXAMPLES, run)
    parser.add_argument("source", metavar="SOURCE", help='path, "pattern:640x480@30" or "camera:/dev/video0"')
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the relay")
    parser.add_argument("--stream", default="main", metavar="NAME", help="name of the stream (default main)")
    add_codec_options(parser)
    parser.add_argument(
        "--rate", type=rate, metavar="FPS", help="frames per second, instead of the source's own"
    )
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    add_frames_option(parser)
    parser.add_argument(
        "--give-up-after",
        type=seconds,
        metavar="S",
        help="end with an error when the relay is away for S seconds",
    )
    add_settings(parser, ACCESS)


def run(args: argparse.Namespace) -> int:
    from layercast.cli.status import StatusLine

    status = StatusLine()
    send = _send_units if args.source.lower().endswith(".lcast") else _send_pictures
    try:
        sender = send(args, status)
    except KeyboardInterrupt:
        status.clear()
        return 0
    status.clear()
    counted = sender.statistics()
    print(
        f"{counted.offered} frames: {counted.unwanted} while nobody listened, {counted.replaced} overtaken,"
        f" {counted.outbox.sent} sent, {counted.outbox.bytes_sent} bytes"
    )
    return 0


def _send_pictures(args: argparse.Namespace, status: StatusLine) -> BlockingSender:
    from layercast.media import CameraSource, open_source
    from layercast.transport.blocking import BlockingSender

    with (
        open_source(args.source, loop=args.loop, paced=True, frame_rate=args.rate) as source,
        BlockingSender(
            args.to,
            args.stream,
            codec=chosen_codec(args),
            quality=args.quality,
            frame_rate=source.frame_rate,
            give_up_after_s=args.give_up_after,
            credentials=credentials(resolve("send", ACCESS, args)),
        ) as sender,
    ):
        if not isinstance(source, CameraSource):
            _wait_for_listener(sender, status)
        for image, timestamp_us in itertools.islice(source, args.frames):
            sender.send(image, timestamp_us)
            _show(sender, status)
        _finish(sender)
    return sender


def _send_units(args: argparse.Namespace, status: StatusLine) -> BlockingSender:
    from layercast.bitstream import ContainerReader
    from layercast.media.pacing import pace
    from layercast.transport.blocking import BlockingSender

    with ContainerReader(args.source) as reader:
        description = reader.description
        with BlockingSender(
            args.to,
            args.stream,
            description=description,
            give_up_after_s=args.give_up_after,
            credentials=credentials(resolve("send", ACCESS, args)),
        ) as sender:
            _wait_for_listener(sender, status)
            units = _stored_units(reader, args.loop)
            live = pace(itertools.islice(units, args.frames), args.rate or 0.0)
            for frame_id, (unit, timestamp_us) in enumerate(live):
                sender.send_unit(_restamped(unit, frame_id, timestamp_us))
                _show(sender, status)
            _finish(sender)
    return sender


def _stored_units(reader: ContainerReader, loop: bool) -> Iterator[tuple[AccessUnit, int]]:
    """Units and their timestamps; frames keep their distances when the file starts again."""
    from layercast.bitstream import unpack

    period_us = round(1e6 / (reader.description.frame_rate or 25.0))
    offset_us = 0
    while True:
        first_us = last_us = None
        for unit in map(unpack, reader):
            last_us = unit.header.timestamp_us
            first_us = last_us if first_us is None else first_us
            yield unit, offset_us + last_us - first_us
        if not loop or first_us is None or last_us is None:
            return
        offset_us += last_us - first_us + period_us


def _restamped(unit: AccessUnit, frame_id: int, timestamp_us: int) -> bytes:
    """The same layers as a frame of now; a delta frame's distance to its reference stays."""
    from dataclasses import replace

    from layercast.bitstream import pack

    header = unit.header
    reference_id = header.reference_id
    if reference_id is not None:
        reference_id += frame_id - header.frame_id
    header = replace(header, frame_id=frame_id, timestamp_us=timestamp_us, reference_id=reference_id)
    return pack(header, unit.layers, unit.gains_db)


def _wait_for_listener(sender: BlockingSender, status: StatusLine) -> None:
    from layercast.errors import ConnectError

    while not sender.statistics().wanted:
        try:
            sender.ready(timeout_s=1.0)
        except ConnectError as error:
            status.warn(sender.statistics().link.last_error or f"waiting: {error.message}")


def _finish(sender: BlockingSender) -> None:
    import asyncio
    import contextlib

    with contextlib.suppress(asyncio.TimeoutError):
        sender.drain(timeout_s=5.0)


def _show(sender: BlockingSender, status: StatusLine) -> None:
    counted = sender.statistics()
    status.warn(counted.link.last_error if not counted.wanted else "")
    listening = "sending" if counted.wanted else "nobody listens"
    status.show(
        f"{listening}: {counted.offered} frames, {counted.outbox.sent} sent,"
        f" {counted.encode_s * 1e3:.0f} ms to encode"
    )
