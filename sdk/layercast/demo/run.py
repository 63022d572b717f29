"""`layercast demo`: a relay, a sender and three receivers, each a process, over real gRPC on this machine.

The relay and the sender are the ordinary commands; the receivers are `layercast.demo.viewer`, which also
knows the clip and so can tell what each picture is worth.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from layercast.bench.metrics import psnr
from layercast.bitstream import read_index, trim, unpack
from layercast.cli.units import encode_unit
from layercast.codecs.base import Codec
from layercast.codecs.registry import default_codec, get_codec
from layercast.demo import assets
from layercast.demo.sheets import half_size, write_sheet
from layercast.demo.table import Table
from layercast.demo.viewer import KeptPicture, Report
from layercast.errors import ConnectError, MediaError
from layercast.media import VideoSource, read_picture

PLAY_S = 13.0
"""Long enough for mean bitrates, short enough for a demo, seconds."""

LEAST_FRAMES = 42
"""Three quarters of the clip: so many are played even where that takes longer."""

LOAD = 0.6
"""Share of this machine's cores that encoding and decoding may take; the rate is lowered to that."""

LEAST_RATE = 2.0
"""Frames per second below which the demo would outlast its deadline."""

QUALITY = 0.7

SHARES = {"full": None, "quarter": 0.25, "thin": 0.1}
"""The receivers' budgets as shares of the full bitrate."""

TOLERANCE = 0.03
"""How far a mean bitrate may stand above its budget: the token bucket starts full."""

LEAST_SHOWN = 0.5
"""Share of the frames sent that each receiver must show; only a starved machine shows fewer."""

LEAST_PSNR_DB = 20.0
"""A picture worse than this would not be one."""

SHOWN = (7, 21, 35)
"""Frames of the clip that go into the sheet: one car, two cars, both about to leave."""

DEADLINE_S = 55.0
"""After so long something is stuck."""


@dataclass
class Viewer:
    """One receiver as the demo sees it."""

    name: str
    budget: int | None
    folder: Path
    process: Process | None = None
    report: Report = field(default_factory=Report)

    @property
    def bitrate(self) -> float:
        """Bits per second that arrived, over the time that the frames span."""
        report = self.report
        if report.shown < 2:
            return 0.0
        return 8 * report.bytes / (report.span_s * report.shown / (report.shown - 1))

    def complaint(self, sent: int) -> str:
        """What is wrong with what it got, when `sent` frames were sent; "" if nothing is."""
        report = self.report
        if report.shown < LEAST_SHOWN * sent:
            return f"{self.name} showed {report.shown} of {sent} frames"
        if report.psnr / report.shown < LEAST_PSNR_DB:
            return f"{self.name} got pictures of {report.psnr / report.shown:.1f} dB"
        if self.budget and self.bitrate > (1 + TOLERANCE) * self.budget:
            return f"{self.name} got {self.bitrate / 1e3:.0f} kbit/s, its budget is {self.budget / 1e3:.0f}"
        return ""


def main(out: str, codec_name: str | None = None) -> int:
    """Run the demo; its files go to the folder `out`.

    Returns:
        0 if every receiver got pictures within its budget, else 1.

    Raises:
        LayercastError: it could not run at all.
    """
    codec = get_codec(codec_name or default_codec())
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(
            f"cannot make {out}: {error.strerror}", hint="choose another folder with --out"
        ) from error
    plan = make_plan(codec)
    still_pictures(codec, folder / "stills.png")
    with tempfile.TemporaryDirectory(prefix="layercast-demo-") as kept:
        viewers = [Viewer(name, budget, Path(kept, name)) for name, budget in plan.budgets.items()]
        for viewer in viewers:
            viewer.folder.mkdir()
        try:
            asyncio.run(asyncio.wait_for(play(plan, viewers, folder / "recording.lcast"), DEADLINE_S))
        except asyncio.TimeoutError:
            raise ConnectError(
                f"the demo was not done after {DEADLINE_S:g} s", hint="is the machine busy?"
            ) from None
        side_by_side(viewers, folder / "side-by-side.png")
    print(f"\n{folder}: side-by-side.png, stills.png, recording.lcast")
    complaints = [text for viewer in viewers if (text := viewer.complaint(plan.frames))]
    for text in complaints:
        print(f"not as promised: {text}", file=sys.stderr)
    if not complaints:
        print("every receiver got pictures within its budget")
    return 1 if complaints else 0


@dataclass(frozen=True)
class Plan:
    """What this machine can do.

    Attributes:
        codec: registry name.
        rate: frames per second to play, the clip's own or less.
        frames: how many to play.
        budgets: bits per second for each receiver, shares of what all layers take at that rate.
    """

    codec: str
    rate: float
    frames: int
    budgets: dict[str, int | None]


def make_plan(codec: Codec) -> Plan:
    """Encode and decode a few frames of the clip, and fit the demo to what that took."""
    source = VideoSource(assets.path(assets.CLIP))
    sample = [image for image, _ in source][::8]
    codec.encode(sample[0], QUALITY)  # the first call also loads tables
    started_s = time.perf_counter()
    units = [encode_unit(codec, image, 0, 0, QUALITY) for image in sample]
    encoded_s = time.perf_counter()
    for unit in units:
        parts = unpack(unit)
        codec.decode(parts.layers, parts.header.picture)
    decoded_s = time.perf_counter()
    work_s = (encoded_s - started_s + len(SHARES) * (decoded_s - encoded_s)) / len(sample)
    rate = max(LEAST_RATE, min(source.frame_rate, LOAD * (os.cpu_count() or 1) / work_s))
    full = 8 * rate * sum(map(len, units)) / len(units)
    budgets = {name: None if share is None else round(share * full) for name, share in SHARES.items()}
    return Plan(codec.name, rate, max(LEAST_FRAMES, round(PLAY_S * rate)), budgets)


async def play(plan: Plan, viewers: list[Viewer], recording: Path) -> None:
    """Start everything, show the table until the sender is done, stop everything.

    Raises:
        ConnectError: one of the processes ended early.
    """
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(
            process("relay", "-m", "layercast.cli", "relay", "--listen", "127.0.0.1:0")
        )
        address = (await read_line(relay, "the relay")).split()[-1]
        for viewer in viewers:
            arguments = [
                "-m",
                "layercast.demo.viewer",
                address,
                "--stream",
                "demo",
                "--keep",
                str(viewer.folder),
            ]
            if viewer.budget:
                arguments += ["--max-bitrate", str(viewer.budget)]
            else:
                arguments += ["--record", str(recording)]
            viewer.process = await stack.enter_async_context(process(viewer.name, *arguments))
        for viewer in viewers:
            assert viewer.process is not None
            await read_line(viewer.process, viewer.name)
        clip = str(assets.path(assets.CLIP))
        sender = await stack.enter_async_context(
            process(
                "sender", "-m", "layercast.cli", "send", clip, "--loop", "--frames", str(plan.frames),
                "--rate", f"{plan.rate:.2f}", "--to", address, "--stream", "demo",
                "--codec", plan.codec, "--quality", str(QUALITY),
            )
        )  # fmt: skip
        following = [asyncio.create_task(follow(viewer)) for viewer in viewers]
        table = Table()
        while sender.returncode is None:
            table.draw(viewers)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(sender.wait(), 0.5)
        for viewer in viewers:
            assert viewer.process is not None
            terminate(viewer.process)
            await viewer.process.wait()
        await asyncio.gather(*following)
        table.draw(viewers, last=True)
        if sender.returncode:
            raise ConnectError(f"the sender ended with exit code {sender.returncode}")


@contextlib.asynccontextmanager
async def process(name: str, *arguments: str) -> AsyncIterator[Process]:
    """A Python process that is gone when the block ends."""
    started = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE)
    try:
        yield started
    finally:
        terminate(started)
        try:
            await asyncio.wait_for(started.wait(), 5.0)
        except asyncio.TimeoutError:
            started.kill()
            await started.wait()


def terminate(started: Process) -> None:
    """SIGTERM, if it still runs. (Process.send_signal would reap it behind asyncio's back.)"""
    if started.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGTERM)


async def read_line(started: Process, name: str) -> str:
    """The next line that a process prints.

    Raises:
        ConnectError: it ended instead.
    """
    assert started.stdout is not None
    line = (await started.stdout.readline()).decode().strip()
    if not line:
        raise ConnectError(f"{name} did not start", hint="its own message stands above")
    return line


async def follow(viewer: Viewer) -> None:
    """Keep the viewer's report current until it ends."""
    assert viewer.process is not None
    assert viewer.process.stdout is not None
    async for line in viewer.process.stdout:
        viewer.report = Report(**json.loads(line))


def side_by_side(viewers: list[Viewer], path: Path) -> None:
    """Source and receivers for each frame of SHOWN, the last time that all of them showed it."""
    clip = [image for image, _ in VideoSource(assets.path(assets.CLIP))]
    kept = [{p.frame_id: p for p in map(KeptPicture.of, viewer.folder.iterdir())} for viewer in viewers]
    shared = set.intersection(*map(set, kept))
    rows = []
    for index in SHOWN:
        frame_id = max((number for number in shared if number % len(clip) == index), default=None)
        if frame_id is None:
            continue
        row = [(clip[index], f"source, frame {frame_id}")]
        for viewer, pictures in zip(viewers, kept, strict=True):
            asked = "no limit" if viewer.budget is None else f"{viewer.budget / 1e3:.0f} kbit/s"
            picture = pictures[frame_id]
            image = read_picture(picture.path)
            got = f"{picture.layers} layers, {picture.bytes} bytes, {psnr(clip[index], image):.1f} dB"
            row.append((image, f"{viewer.name} ({asked}): {got}"))
        rows.append(row)
    if rows:
        write_sheet(path, rows)


def still_pictures(codec: Codec, path: Path) -> None:
    """Each bundled picture, at half size, from a few prefixes of one access unit."""
    rows = []
    for name in assets.PICTURES:
        image = read_picture(assets.path(name))
        unit = encode_unit(codec, image, 0, 0, QUALITY)
        total = read_index(unit).kept
        row = [(half_size(image), f"{name}: {image.nbytes} bytes of pixels")]
        for keep in sorted({max(1, total // 4), max(1, total // 2), total}):
            cut = unpack(trim(unit, keep))
            decoded = codec.decode(cut.layers, cut.header.picture)
            text = f"{keep} of {total} layers: {len(trim(unit, keep))} bytes, {psnr(image, decoded):.1f} dB"
            row.append((half_size(decoded), text))
        rows.append(row)
    write_sheet(path, rows)
