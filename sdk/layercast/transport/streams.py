"""The streams of one relay, and its subscriptions to the relay above it: opened for a stream that somebody here listens
to and nobody publishes here, closed some time after the last listener left."""

from __future__ import annotations

import asyncio

from layercast.transport.credentials import Credentials
from layercast.transport.limits import UPSTREAM_LINGER_S, RelayLimits
from layercast.transport.publisher import Publisher
from layercast.transport.status import DroppedError, OverLimitError, TakenError
from layercast.transport.stream import Clock, RelayStream
from layercast.transport.upstream import Upstream


class Streams:
    """Streams by name, as far as anybody publishes or subscribes to them.

    Args:
        relay_id: of the relay.
        limits: of the relay.
        upstream: "host:port" of the relay above it, None if there is none.
        credentials: what to show there.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        relay_id: str,
        limits: RelayLimits,
        upstream: str | None,
        credentials: Credentials | None,
        clock: Clock,
    ) -> None:
        self.by_name: dict[str, RelayStream] = {}
        self._relay_id = relay_id
        self._limits = limits
        self._target = upstream
        self._credentials = credentials
        self._clock = clock
        self._upstreams: dict[str, Upstream] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._open = True

    def get(self, name: str) -> RelayStream:
        """The stream of this name, a new one if need be.

        Raises:
            OverLimitError: there are too many.
        """
        stream = self.by_name.get(name)
        if stream is None:
            most = self._limits.max_streams
            if len(self.by_name) >= most:
                raise OverLimitError("streams", f"this relay serves at most {most} streams")
            stream = self.by_name[name] = RelayStream(name, self._limits, self.on_demand, self._clock)
        return stream

    def check_room(self, name: str, subscribers: int) -> None:
        """Whether one more may subscribe to `name`, beside `subscribers` of all streams.

        Raises:
            OverLimitError: no.
        """
        most = self._limits.max_subscribers
        if subscribers >= most:
            raise OverLimitError("subscribers", f"this relay serves at most {most} subscribers")
        stream, most_here = self.by_name.get(name), self._limits.max_subscribers_per_stream
        if most_here is None or stream is None:
            return
        if sum(not subscriber.is_copy for subscriber in stream.subscribers) >= most_here:
            raise OverLimitError("stream-subscribers", f"this stream has at most {most_here} subscribers")

    def claim(self, stream: RelayStream, publisher: Publisher) -> None:
        """`publisher` is the stream's source from now on; the same sender's older call ends.

        Raises:
            TakenError: the stream has another sender.
        """
        present = stream.source
        if isinstance(present, Publisher):
            if present.session != publisher.session:
                raise TakenError(
                    f"stream {stream.name} already has a sender",
                    hint="choose another name, or stop the other sender",
                )
            present.end(DroppedError("replaced", "the sender connected again"))
        stream.source = publisher
        self._unsubscribe(stream.name)

    def on_demand(self, stream: RelayStream) -> None:
        """What is asked for here may have changed: tell the sender or the relay above."""
        if isinstance(stream.source, Publisher):
            stream.source.wake.set()
        elif stream.subscribers:
            self._subscribe(stream)
        elif stream.name in self._upstreams and self._open:
            asyncio.get_running_loop().call_later(UPSTREAM_LINGER_S, self._close_if_idle, stream)
        else:
            self._close_if_idle(stream)

    def close(self) -> None:
        """Ask nothing more of the relay above."""
        self._open = False

    async def aclose(self) -> None:
        """Unsubscribe from everything."""
        for name in list(self._upstreams):
            self._unsubscribe(name)
        await asyncio.gather(*self._closing)

    def _subscribe(self, stream: RelayStream) -> None:
        present = self._upstreams.get(stream.name)
        if present is not None and not present.failed:
            present.update()
        elif self._target is not None and self._open:
            upstream = Upstream(self._target, stream, self._relay_id, self._clock, self._credentials)
            stream.source = self._upstreams[stream.name] = upstream

    def _close_if_idle(self, stream: RelayStream) -> None:
        if not stream.subscribers and not isinstance(stream.source, Publisher):
            self._unsubscribe(stream.name)
            if self.by_name.get(stream.name) is stream:
                del self.by_name[stream.name]

    def _unsubscribe(self, name: str) -> None:
        upstream = self._upstreams.pop(name, None)
        if upstream is not None:
            task = asyncio.create_task(upstream.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
