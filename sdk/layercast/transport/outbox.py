"""The queue between a stream and one peer: what to send next, how many layers of it, and when to stop.

Pure: frames, acknowledgements and times go in, (frame, layers) comes out. A relay has one per subscriber, a
sender one towards its relay. Three things cut a frame, in this order:

* *waiting*: while the peer's window is shut (see `Window`) frames wait; those that waited lose layers,
  then go;
* *the reference*: a delta frame keeps no more layers than its reference kept at this peer, and none if that
  was skipped, so everything is skipped until the next key frame;
* *the budget*: the allocator picks the longest prefix that fits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from layercast.bitstream.types import FrameKind
from layercast.transport.limits import Window
from layercast.transport.shared import SharedFrame

REFERENCES = 256
"""Frames whose kept layers are remembered, at least, and at most twice as many: a reference lies at most a key-frame
interval back, seconds of video."""


class Allocator(Protocol):
    """Decides how many layers of a frame one peer gets; one object per peer (see docs/control.md, "The seam")."""

    def decide(
        self,
        now_s: float,
        ends: Sequence[int],
        kind: FrameKind,
        gains_db: Sequence[float],
        age_s: float = 0.0,
    ) -> int:
        """Layers to keep, 0 to skip the frame; `ends[k]` is the unit's size in bytes with k layers."""

    def on_sent(self, now_s: float, frame_id: int, size: int) -> None:
        """`size` bytes of the frame were handed to the connection."""

    def on_ack(
        self, now_s: float, frame_id: int, size: int, arrival_s: float, decode_lag_s: float = 0.0
    ) -> None:
        """The peer has the frame and whatever was sent before it; `arrival_s` is the peer's clock."""

    def set_limits(self, max_bitrate_bps: float | None, max_layers: int | None) -> None:
        """What the peer asks for now; None is no limit."""

    def expect_reports(self, interval_s: float) -> None:
        """The peer was asked to report no more often than this, seconds; 0.0: as often as it helps."""

    @property
    def useful_bps(self) -> float:
        """What the way to the peer takes now, bits per second; infinite if no limit is known."""

    @property
    def is_restless(self) -> bool:
        """The peer reports each frame, as far as is known here."""

    def close(self) -> None:
        """The peer is gone."""


@dataclass(frozen=True, slots=True)
class OutboxStatistics:
    """Counts since the peer came.

    Attributes:
        offered: frames put in.
        sent: frames given out; `layers_sent` of `layers_offered` and `bytes_sent` are theirs.
        stale: frames dropped because they waited too long or the queue was full.
        over_budget: frames that the allocator skipped.
        unreferenced: delta frames skipped because their reference was.
        acknowledged: frames the peer has confirmed.
        waiting: frames in the queue now.
        in_flight_frames, in_flight_bytes: given out and not yet confirmed.
    """

    offered: int = 0
    sent: int = 0
    stale: int = 0
    over_budget: int = 0
    unreferenced: int = 0
    acknowledged: int = 0
    layers_offered: int = 0
    layers_sent: int = 0
    bytes_sent: int = 0
    waiting: int = 0
    in_flight_frames: int = 0
    in_flight_bytes: int = 0


class Outbox:
    """Frames waiting for one peer, and those on their way to it.

    Args:
        allocator: decides the layers of each frame; may be replaced at any time through `allocator`.
        window: the staleness bounds.
    """

    def __init__(self, allocator: Allocator, window: Window) -> None:
        self.allocator = allocator
        self._window = window
        self._waiting: deque[tuple[float, SharedFrame]] = deque()
        self._in_flight: deque[tuple[int, float, int]] = deque()  # frame id, when it went, bytes
        self._in_flight_bytes = 0
        self._kept: dict[int, int] = {}
        self._last_progress_s = 0.0
        self._quiet_s = 0.0
        self._offered = self._sent = self._stale = self._over_budget = self._unreferenced = 0
        self._acknowledged = self._layers_offered = self._layers_sent = self._bytes_sent = 0

    def push(self, frame: SharedFrame, now_s: float) -> None:
        """Add the newest frame; the oldest ones go if they are stale or too many."""
        self._offered += 1
        self._waiting.append((now_s, frame))
        if len(self._waiting) == 1:
            return
        self._drop_stale(now_s)
        while len(self._waiting) > self._window.max_waiting:
            self._waiting.popleft()
            self._stale += 1

    def next(self, now_s: float) -> tuple[SharedFrame, int] | None:
        """The next frame to send and its layers (>= 1), now in flight; None while there is nothing or no
        room."""
        waiting = self._waiting
        while waiting:
            waited_s = now_s - waiting[0][0]
            if waited_s > self._window.max_wait_s:
                waiting.popleft()
                self._stale += 1
            elif not self.is_open(now_s):
                return None
            else:
                frame = waiting.popleft()[1]
                keep = self._decide(frame, now_s, waited_s)
                if keep:
                    self._depart(frame, keep, now_s)
                    return frame, keep
        return None

    def is_open(self, now_s: float) -> bool:
        """Whether the window lets another frame out."""
        if not self._in_flight:
            return True
        oldest_s = self._in_flight[0][1]
        return (
            len(self._in_flight) < self._window.max_frames
            and self._in_flight_bytes < self._window.max_bytes
            and now_s - oldest_s <= self._window.max_age_s + self._quiet_s
        )

    def acknowledge(self, frame_id: int, now_s: float, *, alone: bool = False) -> float | None:
        """The peer has `frame_id` and whatever was sent before it.

        Args:
            frame_id: of a frame in flight.
            now_s: monotonic seconds.
            alone: it is the only one in its report. If it speaks for several frames then, the peer reports seldom.

        Returns:
            Seconds since that frame was given out, or None if it is not in flight (a repeated or made-up id).
        """
        if all(flying_id != frame_id for flying_id, _, _ in self._in_flight):
            return None
        seldom = alone and self._in_flight[0][0] != frame_id
        self._quiet_s = min(self._window.max_quiet_s, now_s - self._last_progress_s) if seldom else 0.0
        self._last_progress_s = now_s
        while True:
            gone_id, sent_s, size = self._in_flight.popleft()
            self._in_flight_bytes -= size
            self._acknowledged += 1
            if gone_id == frame_id:
                return now_s - sent_s

    def silent_s(self, now_s: float) -> float:
        """For how long the peer has owed an acknowledgement, seconds; 0.0 when it owes none."""
        if not self._in_flight:
            return 0.0
        oldest_s = self._in_flight[0][1]
        return now_s - max(oldest_s, self._last_progress_s)

    def queue_age_s(self, now_s: float) -> float:
        """How long the oldest frame has been waiting, seconds."""
        return now_s - self._waiting[0][0] if self._waiting else 0.0

    @property
    def waiting(self) -> int:
        """Frames in the queue."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is in flight."""
        return not self._waiting and not self._in_flight

    def clear(self) -> None:
        """The peer is gone: forget what waits, what is in flight and what it holds."""
        self._waiting.clear()
        self._in_flight.clear()
        self._kept.clear()
        self._in_flight_bytes = 0
        self._quiet_s = 0.0

    def statistics(self) -> OutboxStatistics:
        """Counts since the peer came."""
        return OutboxStatistics(
            offered=self._offered,
            sent=self._sent,
            stale=self._stale,
            over_budget=self._over_budget,
            unreferenced=self._unreferenced,
            acknowledged=self._acknowledged,
            layers_offered=self._layers_offered,
            layers_sent=self._layers_sent,
            bytes_sent=self._bytes_sent,
            waiting=len(self._waiting),
            in_flight_frames=len(self._in_flight),
            in_flight_bytes=self._in_flight_bytes,
        )

    def _drop_stale(self, now_s: float) -> None:
        while self._waiting and now_s - self._waiting[0][0] > self._window.max_wait_s:
            self._waiting.popleft()
            self._stale += 1

    def _decide(self, frame: SharedFrame, now_s: float, waited_s: float) -> int:
        limit = frame.kept
        if waited_s > self._window.full_layers_s:
            limit = layers_after_waiting(limit, waited_s, self._window)
        if frame.reference_id is not None:
            # Layer k of a delta frame needs layers 0..k of its reference; what this peer lacks is of no use.
            limit = min(limit, self._kept.get(frame.reference_id, 0))
            if limit == 0:
                self._unreferenced += 1
                return 0
        ends, gains_db = frame.ends, frame.gains_db
        if limit < frame.kept:
            ends, gains_db = ends[: limit + 1], gains_db[:limit]
        keep = self.allocator.decide(now_s, ends, frame.header.kind, gains_db, waited_s)
        if keep == 0:
            self._over_budget += 1
        return keep

    def _depart(self, frame: SharedFrame, keep: int, now_s: float) -> None:
        size = frame.ends[keep]
        frame_id = frame.header.frame_id
        self.allocator.on_sent(now_s, frame_id, size)
        self._in_flight.append((frame_id, now_s, size))
        self._in_flight_bytes += size
        self._kept[frame_id] = keep
        if len(self._kept) >= 2 * REFERENCES:
            for old_id in tuple(islice(self._kept, REFERENCES)):
                del self._kept[old_id]
        self._sent += 1
        self._layers_offered += frame.kept
        self._layers_sent += keep
        self._bytes_sent += size


def layers_after_waiting(layers: int, waited_s: float, window: Window) -> int:
    """All `layers` up to `full_layers_s`, then half as many per `halving_s`, never less than one."""
    late_s = waited_s - window.full_layers_s
    if late_s <= 0:
        return layers
    return max(1, layers >> (1 + int(late_s / window.halving_s)))
