"""A standing subscription to one stream of one relay: units in, acknowledgements and limits out.

A Receiver and a relay's upstream side are both built on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import Arrival, make_ack
from layercast.transport.credentials import Credentials
from layercast.transport.limits import MAX_UNIT_BYTES, PROTOCOL
from layercast.transport.link import EOF, Call, Link, LinkStatistics, open_call
from layercast.transport.pace import REPORT_INTERVAL_S, ReportPace
from layercast.transport.tasks import first_of
from layercast.transport.wire import SUBSCRIBE, check_name, check_stream_name

MAX_ACKS = 64
"""Acknowledgements held for one report; they are cumulative, so the newest speak for the older."""


class Subscription:
    """Keeps `stream` coming from the relay at `target`.

    Args:
        target: "host:port".
        stream: its name.
        limits: the most that can be used here.
        on_session: awaited when the relay accepts, before the first unit, with what it says about the stream.
            What it raises ends the subscription.
        on_unit: called with every unit's bytes; returns what is to be acknowledged.
        hops: the relays that the units will pass after this call.
        link: name of the link that it shares with other subscriptions from this address; "" for one of its own.
        wait_s: StreamNotFoundError if the stream has no sender for so long, seconds; None: wait for ever.
        give_up_after_s: see Link.
        credentials: what to show there.
    """

    def __init__(
        self,
        target: str,
        stream: str,
        limits: pb.Limits,
        on_session: Callable[[pb.StreamInfo], Awaitable[None]],
        on_unit: Callable[[bytes], Arrival],
        *,
        hops: pb.Hops | None = None,
        link: str = "",
        wait_s: float | None = None,
        give_up_after_s: float | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._target = target
        self._credentials = credentials
        self._stream = check_stream_name(stream)
        self._limits = limits
        self._on_session = on_session
        self._on_unit = on_unit
        self._hops = hops or pb.Hops()
        self._shared_link = check_name(link, "link") if link else ""
        self._wait_ms = None if wait_s is None else int(wait_s * 1000)
        self._link = Link(target, self._connection, give_up_after_s)
        self._acks: list[pb.Ack] = []
        self._pace = ReportPace(seldom=not self._shared_link)
        self._timer: asyncio.TimerHandle | None = None
        self._limits_changed = self._hops_changed = False
        self._wake = asyncio.Event()

    @property
    def up(self) -> asyncio.Event:
        """Set while the relay serves the stream."""
        return self._link.up

    def set_limits(self, limits: pb.Limits) -> None:
        """Ask for more or less from now on."""
        if limits != self._limits:
            self._limits = limits
            self._limits_changed = True
            self._wake.set()

    def set_hops(self, hops: pb.Hops) -> None:
        """Other relays follow from now on."""
        if hops != self._hops:
            self._hops = hops
            self._hops_changed = True
            self._wake.set()

    async def run(self) -> None:
        """Receive until cancelled.

        Raises:
            LayercastError: see Link.run.
        """
        await self._link.run()

    def statistics(self) -> LinkStatistics:
        """Counts since the subscription was made."""
        return self._link.statistics()

    async def _connection(self) -> None:
        hello = pb.SubscribeHello(
            protocol=PROTOCOL,
            stream=self._stream,
            limits=self._limits,
            hops=self._hops,
            wait_ms=self._wait_ms,
            link=self._shared_link,
        )
        self._acks.clear()
        self._pace = ReportPace(seldom=not self._shared_link)
        self._limits_changed = self._hops_changed = False
        async with open_call(self._target, SUBSCRIBE, hello, MAX_UNIT_BYTES, self._credentials) as (
            call,
            info,
        ):
            await self._on_session(info)
            self._link.accepted()
            await first_of(self._read(call), self._write(call))

    async def _read(self, call: Call) -> None:
        while (unit := await call.read()) is not EOF:
            arrival = self._on_unit(unit)
            self._acks.append(make_ack(arrival.frame_id, arrival.size, arrival.at_s, arrival.decode_lag_s))
            del self._acks[:-MAX_ACKS]
            self._schedule(arrival)
            self._link.flowing()

    def _schedule(self, arrival: Arrival) -> None:
        """Have the arrival reported now, or with the ones that follow."""
        limits, now_s = self._limits, arrival.at_s
        whole = arrival.layers >= min(arrival.total_layers, limits.max_layers or arrival.total_layers)
        delay_s = now_s - arrival.captured_s
        if self._pace.arrived(now_s, delay_s, whole, arrival.size, limits.max_bitrate_bps or None):
            self._wake.set()
        else:
            self._set_timer(self._pace.due_s(now_s) - now_s)

    def _set_timer(self, delay_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            None if delay_s is None else asyncio.get_running_loop().call_later(delay_s, self._wake.set)
        )

    async def _write(self, call: Call) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                self._set_timer(None)
                now_s = time.monotonic()
                self._pace.reported(now_s)
                message = pb.ReceiverMessage(acks=self._acks[-1:] if self._pace.calm(now_s) else self._acks)
                self._acks.clear()
                if self._limits_changed:
                    self._limits_changed = False
                    message.limits.CopyFrom(self._limits)
                if self._hops_changed:
                    self._hops_changed = False
                    message.hops.CopyFrom(self._hops)
                await call.write(message.SerializeToString())
                await asyncio.sleep(REPORT_INTERVAL_S)
        finally:
            self._set_timer(None)
