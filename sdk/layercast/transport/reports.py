"""What a subscription tells its relay: which frames have arrived, and what it asks for when that changes.

A report is written by the frame that makes it due, or by a timer when no frame comes; see `pump` for why no task does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any

from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import Arrival, make_ack
from layercast.transport.pace import REPORT_INTERVAL_S, ReportPace
from layercast.transport.pump import Pump

MAX_ACKS = 64
"""Acknowledgements held for one report; they are cumulative, so the newest speak for the older."""


class Reports:
    """Those of one connection.

    Args:
        write: begins to write a message; a coroutine function.
        limits, hops: what the relay has been told of them.
        seldom: see `ReportPace`.
    """

    def __init__(
        self,
        write: Callable[[bytes], Coroutine[Any, Any, None]],
        limits: pb.Limits,
        hops: pb.Hops,
        *,
        seldom: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pump = Pump(self._take, write)
        self._limits, self._hops = limits, hops
        self._changed = pb.ReceiverMessage()  # what of them is new
        self._arrivals: deque[Arrival] = deque(maxlen=MAX_ACKS)
        self._pace = ReportPace(seldom=seldom)
        self._due_s = inf  # when to report, this loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._next_s = -inf  # no report before this

    @property
    def failed(self) -> asyncio.Future[None]:
        """Gets what a write raised."""
        return self._pump.failed

    def arrived(self, arrival: Arrival) -> None:
        """Report a frame now, or with the ones that follow."""
        self._arrivals.append(arrival)
        limits, now_s, total = self._limits, arrival.at_s, arrival.total_layers
        whole = arrival.layers >= (min(total, limits.max_layers) if limits.max_layers else total)
        delay_s = now_s - arrival.captured_s
        if self._pace.arrived(now_s, delay_s, whole, arrival.size, limits.max_bitrate_bps or None):
            self._due_s = -inf
            self._pump.kick()
        else:
            self._report_at(self._loop.time() + self._pace.due_s(now_s) - now_s)

    def ask(self, limits: pb.Limits, hops: pb.Hops) -> None:
        """From now on, ask for no more than `limits`; the relays `hops` follow."""
        if limits != self._limits:
            self._changed.limits.CopyFrom(limits)
            self._limits = limits
            self._report_at(-inf)
        if hops != self._hops:
            self._changed.hops.CopyFrom(hops)
            self._hops = hops
            self._report_at(-inf)

    def heed(self, note: pb.RelayNote) -> None:
        """What the relay asks: to report no more often than it says, however restless; 0: as often as it helps."""
        if note.HasField("report_interval_ms"):
            self._pace.ask(note.report_interval_ms / 1e3)

    def close(self) -> None:
        """Report nothing more."""
        self._pump.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _report_at(self, due_s: float) -> None:
        """Report then at the latest.

        A timer that is set for earlier stays: when it rings it is set anew, which costs less than setting it for every
        frame.
        """
        self._due_s = due_s
        when_s = max(due_s, self._next_s)
        if self._timer is not None:
            if self._timer.when() <= when_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._pump.kick()

    def _take(self) -> bytes | None:
        """The report that is due, None if none is."""
        now_s = self._loop.time()
        if now_s < max(self._due_s, self._next_s):
            if self._due_s < inf:
                self._report_at(self._due_s)
            return None
        self._due_s, self._next_s = inf, now_s + REPORT_INTERVAL_S
        pace_s = time.monotonic()  # the clock of arrivals, which the loop's need not be
        self._pace.reported(pace_s)
        arrivals = [self._arrivals[-1]] if self._arrivals and self._pace.brief(pace_s) else self._arrivals
        report = self._changed
        report.acks.extend(
            make_ack(each.frame_id, each.size, each.at_s, each.decode_lag_s) for each in arrivals
        )
        message: bytes = report.SerializeToString()
        report.Clear()
        self._arrivals.clear()
        return message
