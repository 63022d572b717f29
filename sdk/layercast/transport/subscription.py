"""A standing subscription to one stream of one relay: units in, acknowledgements and limits out.

A Receiver and a relay's upstream side are both built on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from layercast.bitstream.unit import MAGIC
from layercast.errors import CorruptError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import Arrival
from layercast.transport.credentials import Credentials
from layercast.transport.limits import MAX_UNIT_BYTES, PROTOCOL
from layercast.transport.link import EOF, Call, Link, LinkStatistics, open_call
from layercast.transport.reports import Reports
from layercast.transport.tasks import first_of, result_of
from layercast.transport.wire import SUBSCRIBE, check_name, check_stream_name, parse


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
        self._reports: Reports | None = None

    @property
    def up(self) -> asyncio.Event:
        """Set while the relay serves the stream."""
        return self._link.up

    def set_limits(self, limits: pb.Limits) -> None:
        """Ask for more or less from now on."""
        self._limits = limits
        self._ask()

    def set_hops(self, hops: pb.Hops) -> None:
        """Other relays follow from now on."""
        self._hops = hops
        self._ask()

    def _ask(self) -> None:
        if self._reports is not None:
            self._reports.ask(self._limits, self._hops)

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
            takes_notes=True,
        )
        async with open_call(self._target, SUBSCRIBE, hello, MAX_UNIT_BYTES, self._credentials) as (
            call,
            info,
        ):
            reports = Reports(call.write, hello.limits, hello.hops, seldom=not self._shared_link)
            reports.ask(self._limits, self._hops)
            self._reports = reports
            try:
                await self._on_session(info)
                self._link.accepted()
                await first_of(self._read(call, reports), result_of(reports.failed))
            finally:
                self._reports = None
                reports.close()

    async def _read(self, call: Call, reports: Reports) -> None:
        while (message := await call.read()) is not EOF:
            note = note_of(message)
            if note is None:
                reports.arrived(self._on_unit(message))
                self._link.flowing()
            else:
                reports.heed(note)


def note_of(message: bytes) -> pb.RelayNote | None:
    """What a relay says between two units; None if it is no note, or none that can be read."""
    if message.startswith(MAGIC):
        return None
    try:
        return parse(message, pb.RelayNote)
    except CorruptError:
        return None
