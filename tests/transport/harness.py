"""Units, clocks and a runner for the tests of the transport.

`live` runs an asynchronous test under a time limit and fails it if it leaves a task or a thread behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from layercast.bitstream import pack
from layercast.bitstream.types import FrameHeader, FrameKind, PictureInfo, StreamDescription
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.limits import Window
from layercast.transport.link import Call, open_call
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender
from layercast.transport.wire import SUBSCRIBE

PlainRelay = functools.partial(Relay, adaptive=False)
"""Every layer that was asked for, from the first frame on and however fast frames come: for tests of anything but
adaptation."""

LAYERS = 10
LAYER_BYTES = 1000
PICTURE = PictureInfo(width=64, height=48, channels=3, quality_index=200)
DESCRIPTION = StreamDescription(
    "none", b"fingerprint-0000", tuple(f"layer{k}" for k in range(LAYERS)), 30.0, "test"
)
ENDLESS = Window(max_bytes=1 << 40, max_frames=1 << 30, max_age_s=1e9)
"""For tests whose clock runs faster than acknowledgements come."""

PATIENCE_S = 10.0
"""How long a condition may take to come true; far above what it takes, for busy machines."""


def unit(
    frame_id: int,
    sizes: Sequence[int] = (LAYER_BYTES,) * LAYERS,
    *,
    reference: int | None = None,
    timestamp_us: int | None = None,
) -> bytes:
    """An access unit with layers of `sizes` bytes; a delta frame if it has a reference."""
    header = FrameHeader(
        frame_id,
        time.time_ns() // 1000 if timestamp_us is None else timestamp_us,
        PICTURE,
        FrameKind.KEY if reference is None else FrameKind.DELTA,
        reference,
        len(sizes),
    )
    return pack(header, [bytes([k]) * size for k, size in enumerate(sizes)], (1.0,) * len(sizes))


class FakeClock:
    """Monotonic seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


async def eventually(condition: Callable[[], Any], what: str = "the condition") -> None:
    """Give the loop turns until `condition` holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{what} did not come true within {PATIENCE_S} s")
        await asyncio.sleep(0.001)


async def unlimited(sender: Sender) -> None:
    """Wait until the sender knows that somebody takes everything."""

    def asked_for_all() -> bool:
        now = sender.statistics()
        return now.wanted and not now.max_layers and not now.max_bitrate_bps

    await eventually(asked_for_all, "a demand without limits")


async def within(work: Awaitable[Any]) -> Any:
    """`work`, or a failure when it takes too long."""
    return await asyncio.wait_for(work, PATIENCE_S)


@contextlib.asynccontextmanager
async def subscribed(relay: Relay, **hello: Any) -> AsyncIterator[Call]:
    """A subscriber to "cam" that reads what the test reads, and acknowledges nothing; hello: more fields of it."""
    message = pb.SubscribeHello(protocol=1, stream="cam", **hello)
    async with open_call(relay.address, SUBSCRIBE, message, 1 << 25) as (call, _):
        yield call


async def take(frames: Any, count: int) -> list[Any]:
    """The next `count` frames of a receiver."""
    return [await within(frames.__anext__()) for _ in range(count)]


def live(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test; nothing of layercast's may outlive it."""

    @functools.wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        async def guarded() -> None:
            await asyncio.wait_for(test(*arguments, **options), 60)
            mine = asyncio.current_task()
            await eventually(lambda: asyncio.all_tasks() <= {mine}, "the end of all tasks")

        asyncio.run(guarded())
        assert not [t for t in threading.enumerate() if t.name.startswith("layercast")]

    return run
