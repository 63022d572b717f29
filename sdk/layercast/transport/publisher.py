"""The relay's side of one Publish call: units in, demand and acknowledgements out."""

from __future__ import annotations

import asyncio
from typing import Any

from layercast.errors import LayercastError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import make_ack
from layercast.transport.admission import Bucket
from layercast.transport.limits import RATE_BURST_S, RelayLimits
from layercast.transport.link import EOF
from layercast.transport.status import OverLimitError
from layercast.transport.stream import Clock, RelayStream

ACK_DELAY_S = 0.15
"""An acknowledgement waits so long for the next units, and the newest one speaks for all, seconds. A message of its own
for every second frame at 30 frames/s was a third of what a sender costs a relay. A sender only holds its window against
them: Window.max_age_s less this is what the way there and back may take."""

ACK_FRAMES = 16
"""Units that are acknowledged at once, well below Window.max_frames..."""

ACK_BYTES = 1 << 20
"""... and so many bytes, well below Window.max_bytes."""


class Publisher:
    """One sender of one stream.

    Args:
        session: of the sender.
        limits: of the relay.
        clock: monotonic seconds.
    """

    def __init__(self, session: bytes, limits: RelayLimits, clock: Clock) -> None:
        self.session = session
        self.wake = asyncio.Event()
        self.wake.set()
        self.ended: asyncio.Future[LayercastError] = asyncio.get_running_loop().create_future()
        self._newest: tuple[int, int, float] | None = None  # frame id, bytes, arrival
        self._owed_frames = self._owed_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._clock = clock
        self._max_bytes = limits.max_unit_bytes
        self._frames = _rate(limits.max_frames_per_s, clock)
        self._bits = _rate(limits.max_publish_bitrate, clock)

    def end(self, error: LayercastError) -> None:
        """Have the handler end the call with `error`."""
        if not self.ended.done():
            self.ended.set_result(error)

    async def take_units(self, context: Any, stream: RelayStream) -> None:
        """Hand every unit to `stream` until the sender ends the call.

        Raises:
            BitstreamError: bytes that are no unit.
            OverLimitError: too large, too many or too much.
        """
        while (unit := await context.read()) is not EOF:
            self._check(len(unit))
            frame = stream.publish(unit)
            self._newest = frame.header.frame_id, len(unit), self._clock()
            self._owed_frames += 1
            self._owed_bytes += len(unit)
            if self._owed_frames >= ACK_FRAMES or self._owed_bytes >= ACK_BYTES:
                self.wake.set()
            elif self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(ACK_DELAY_S, self.wake.set)

    async def send_feedback(self, context: Any, stream: RelayStream) -> None:
        """Tell the sender what has arrived and what is asked for, whenever either changes."""
        told: pb.Demand | None = None
        while True:
            try:
                await self.wake.wait()
            finally:
                self._stop_timer()
            self.wake.clear()
            feedback = pb.IngestFeedback(acks=[] if self._newest is None else [make_ack(*self._newest)])
            self._newest, self._owed_frames, self._owed_bytes = None, 0, 0
            demand = stream.demand()
            if demand != told:
                feedback.demand.CopyFrom(demand)
                told = demand
            if feedback.acks or feedback.HasField("demand"):
                await context.write(feedback.SerializeToString())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, size: int) -> None:
        now_s = self._clock()
        if size > self._max_bytes:
            raise OverLimitError("unit-size", f"a unit of {size} bytes, at most {self._max_bytes} are taken")
        if self._frames is not None and not self._frames.take(1, now_s):
            raise OverLimitError("frame-rate", f"more than {self._frames.rate:g} frames per second")
        if self._bits is not None and not self._bits.take(8 * size, now_s):
            raise OverLimitError("bitrate", f"more than {self._bits.rate:g} bits per second")


def _rate(per_s: float | None, clock: Clock) -> Bucket | None:
    return None if per_s is None else Bucket(per_s, per_s * RATE_BURST_S, clock())
