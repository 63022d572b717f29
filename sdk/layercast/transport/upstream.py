"""A relay's subscription to the next relay up, for one stream, while somebody downstream listens."""

from __future__ import annotations

import asyncio

from layercast.errors import LayercastError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import Arrival
from layercast.transport.credentials import Credentials
from layercast.transport.stream import Clock, RelayStream
from layercast.transport.subscription import Subscription
from layercast.transport.tasks import cancel_and_wait


class Upstream:
    """Feeds `stream` from the relay at `target`; a fatal error there fails the stream's subscribers here.

    Args:
        target: "host:port".
        stream: what to feed; its demand and hops go into the subscription.
        relay_id: of this relay, added to the hops.
        clock: monotonic seconds.
        credentials: what to show there.
    """

    def __init__(
        self,
        target: str,
        stream: RelayStream,
        relay_id: str,
        clock: Clock,
        credentials: Credentials | None = None,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._relay_id = relay_id
        self._subscription = Subscription(
            target,
            stream.name,
            stream.demand().limits,
            self._on_session,
            self._on_unit,
            hops=stream.hops(relay_id),
            credentials=credentials,
        )
        self._task = asyncio.create_task(self._run(), name=f"layercast upstream {stream.name}")

    def update(self) -> None:
        """The demand downstream may have changed."""
        demand = self._stream.demand()
        if demand.active:
            self._subscription.set_limits(demand.limits)
            self._subscription.set_hops(self._stream.hops(self._relay_id))

    async def aclose(self) -> None:
        """Unsubscribe."""
        await cancel_and_wait(self._task)

    @property
    def failed(self) -> bool:
        """Ended by a fatal error."""
        return self._task.done()

    async def _run(self) -> None:
        try:
            await self._subscription.run()
        except LayercastError as error:
            self._stream.fail(error)

    async def _on_session(self, info: pb.StreamInfo) -> None:
        self._stream.begin(info.session, info.description)

    def _on_unit(self, unit: bytes) -> Arrival:
        frame = self._stream.publish(unit)
        header = frame.header
        captured_s = header.timestamp_us / 1e6
        return Arrival(header.frame_id, len(unit), self._clock(), captured_s, frame.kept, header.total_layers)
