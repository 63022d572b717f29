"""The receiver: one stream from a relay, as an async iterator over the newest frames."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from types import TracebackType

from layercast.bitstream import decode_description, read_index
from layercast.bitstream.types import FrameHeader, FrameKind, StreamDescription
from layercast.codecs.base import Codec
from layercast.codecs.registry import get_codec
from layercast.errors import ConfigError, ConnectError, LayercastError, ModelMismatchError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.acks import Arrival
from layercast.transport.channel import check_address
from layercast.transport.credentials import Credentials
from layercast.transport.lateness import Lateness
from layercast.transport.link import LinkStatistics
from layercast.transport.received import ReceivedFrame, receive
from layercast.transport.subscription import Subscription
from layercast.transport.tasks import cancel_and_wait
from layercast.transport.wire import limits_message
from layercast.transport.worker import Worker

QUEUE_FRAMES = 2
"""Frames that wait for the consumer: one is decoded while one waits; a third would only grow stale."""

REFERENCES = 256
"""Frames whose delivery is remembered for the deltas that refer to them; the relay remembers as many."""


@dataclass(frozen=True, slots=True)
class ReceiverStatistics:
    """Counts since the receiver was made.

    Attributes:
        frames, layers, bytes: arrived and fresh.
        repeated: frames dropped because their id did not grow.
        overtaken: frames dropped because newer ones came before the consumer asked.
        late: frames dropped because they came later than `max_staleness_s`.
        unreferenced: delta frames dropped because their reference was.
        delivered: frames handed to the consumer.
        damaged: of them, with a layer that failed its checksum or its decoder.
        sessions: times the stream began anew.
        latency_s: capture to arrival of the newest frame (both clocks must agree).
        link: the connection to the relay.
    """

    frames: int
    layers: int
    bytes: int
    repeated: int
    overtaken: int
    late: int
    unreferenced: int
    delivered: int
    damaged: int
    sessions: int
    latency_s: float
    link: LinkStatistics


class Receiver:
    """Subscribes to one stream. Use as::

        async with Receiver("host:7400", "cam1", max_bitrate=500_000) as receiver:
            async for frame in receiver:
                show(frame.image)

    The newest frames win: a consumer slower than the stream sees every n-th frame, never an old one. The
    connection is made again in the background until the receiver is closed.

    Args:
        target: the relay, "host:port".
        stream: name of the stream there.
        max_bitrate: bits of access units per second, averaged by a token bucket; None: no limit.
        max_layers: layers per frame; None: no limit.
        max_staleness_s: the hard bound: a frame that waited on its way for longer than this (capture to arrival, less
            the quickest of late), in seconds, is not sent, or if it was on its way already, not handed out. None: the
            relay's default for sending, and everything that comes is handed out.
        decode: decode each frame on a thread before it is handed out; False: on first use of `frame.image`.
        codec: instance to decode with; by default the registry's for the name in the stream description. With
            decode=False and no codec, `frame.image` is refused and no codec is needed.
        link: name of the link that this receiver shares with others: those at the same relay, from this address, with
            the same name. What the link carries then goes where a bit buys most, instead of their competing for it, and
            each `max_bitrate` counts besides; each frame is reported, which costs the relay more. None: its own link.
        wait_s: StreamNotFoundError if the stream has no sender for so long, seconds; None: wait for ever.
        give_up_after_s: raise the last error when the relay was away for so long, seconds; None: keep trying.
        credentials: certificates and token for the relay; None: an open relay without TLS.

    Raises:
        ConfigError: a bad address, stream or link name, budget or bound.
    """

    def __init__(
        self,
        target: str,
        stream: str = "main",
        *,
        max_bitrate: float | None = None,
        max_layers: int | None = None,
        max_staleness_s: float | None = None,
        decode: bool = True,
        codec: Codec | None = None,
        link: str | None = None,
        wait_s: float | None = None,
        give_up_after_s: float | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        check_address(target)
        self._max_staleness_s = max_staleness_s
        self._lateness: Lateness | None = None
        self._late = 0
        self._decode = decode
        self._given_codec = codec
        self._codec: Codec | None = None
        self.description: StreamDescription | None = None
        self._subscription = Subscription(
            target,
            stream,
            limits_message(max_bitrate, max_layers, max_staleness_s),
            self._on_session,
            self._on_unit,
            link=link or "",
            wait_s=wait_s,
            give_up_after_s=give_up_after_s,
            credentials=credentials,
        )
        self._session: tuple[bytes, bytes] = (b"", b"")
        self._worker = Worker("layercast-decode")
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._error: LayercastError | None = None
        self._queue: deque[tuple[float, float, bytes, FrameHeader]] = deque()
        self._arrived = asyncio.Event()
        self._delivered_ids: OrderedDict[int, None] = OrderedDict()
        self._last_id = -1
        self._frames = self._layers = self._bytes = self._repeated = self._overtaken = self._unreferenced = 0
        self._delivered = self._damaged = self._sessions = 0
        self._latency_s = 0.0

    async def __aenter__(self) -> Receiver:
        self._task = asyncio.create_task(self._run(), name="layercast receiver")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Unsubscribe; a consumer that waits sees the end of the iteration."""
        self._closed = True
        self._arrived.set()
        await cancel_and_wait(self._task)
        await self._worker.aclose()

    def set_budget(self, max_bitrate: float | None = None, max_layers: int | None = None) -> None:
        """Replace both limits from the next frame on; None lifts one.

        Raises:
            ConfigError: a limit below 1.
        """
        self._subscription.set_limits(limits_message(max_bitrate, max_layers, self._max_staleness_s))

    async def ready(self, timeout_s: float | None = None) -> StreamDescription:
        """Wait until the relay serves the stream, and return what it says about it.

        Raises:
            ConnectError: not within `timeout_s`; the message is the connection's last error, if there was
                one.
            LayercastError: what ended the receiver.
        """
        up = asyncio.ensure_future(self._subscription.up.wait())
        try:
            waiting = [up] if self._task is None else [up, self._task]
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if self._error is not None:
            raise self._error
        if self.description is None:
            raise ConnectError(self.statistics().link.last_error or "the stream has no sender yet")
        return self.description

    def __aiter__(self) -> Receiver:
        return self

    async def __anext__(self) -> ReceivedFrame:
        """The next frame.

        Raises:
            StopAsyncIteration: the receiver was closed.
            ModelMismatchError: the sender's codec has other tables or weights than the one here.
            LayercastError: what else ended the receiver.
        """
        if self._task is None:
            raise ConfigError(
                "the receiver is not open", hint="use it as `async with Receiver(...) as receiver:`"
            )
        while not self._closed:
            if not self._queue:
                if self._error is not None:
                    raise self._error
                self._arrived.clear()
                await self._arrived.wait()
                continue
            _, latency_s, unit, header = self._queue.popleft()
            if header.kind is FrameKind.DELTA and header.reference_id not in self._delivered_ids:
                self._unreferenced += 1
                continue
            return await self._deliver(unit, latency_s)
        raise StopAsyncIteration

    def statistics(self) -> ReceiverStatistics:
        """Counts since the receiver was made."""
        return ReceiverStatistics(
            frames=self._frames,
            layers=self._layers,
            bytes=self._bytes,
            repeated=self._repeated,
            overtaken=self._overtaken,
            late=self._late,
            unreferenced=self._unreferenced,
            delivered=self._delivered,
            damaged=self._damaged,
            sessions=self._sessions,
            latency_s=self._latency_s,
            link=self._subscription.statistics(),
        )

    async def _deliver(self, unit: bytes, latency_s: float) -> ReceivedFrame:
        frame = receive(unit, latency_s, self._codec)
        if self._decode:
            await self._worker.run(lambda: frame.image)
        self._delivered_ids[frame.header.frame_id] = None
        if len(self._delivered_ids) > REFERENCES:
            self._delivered_ids.popitem(last=False)
        self._delivered += 1
        self._damaged += frame.damage is not None
        return frame

    async def _run(self) -> None:
        try:
            await self._subscription.run()
        except LayercastError as error:
            self._error = error
        finally:
            self._arrived.set()

    async def _on_session(self, info: pb.StreamInfo) -> None:
        if (info.session, info.description) == self._session:
            return
        description = decode_description(info.description)
        if self._decode or self._given_codec is not None:
            self._codec = await self._worker.run(open_codec, description, self._given_codec)
        self.description = description
        self._session = (info.session, info.description)
        self._sessions += 1
        self._lateness = None if self._max_staleness_s is None else Lateness(self._max_staleness_s)
        self._queue.clear()
        self._delivered_ids.clear()
        self._last_id = -1

    def _on_unit(self, unit: bytes) -> Arrival:
        index = read_index(unit)
        now_s = time.monotonic()
        header = index.header
        frame_id = header.frame_id
        if frame_id <= self._last_id:
            self._repeated += 1
        else:
            self._last_id = frame_id
            self._frames += 1
            self._layers += index.kept
            self._bytes += len(unit)
            self._latency_s = time.time() - header.timestamp_us / 1e6
            if self._lateness is not None and self._lateness.is_late(header.timestamp_us / 1e6, now_s):
                self._late += 1
            else:
                self._queue.append((now_s, self._latency_s, unit, header))
                if len(self._queue) > QUEUE_FRAMES:
                    self._queue.popleft()
                    self._overtaken += 1
                self._arrived.set()
        lag_s = now_s - self._queue[0][0] if self._queue else 0.0
        captured_s = header.timestamp_us / 1e6
        return Arrival(frame_id, len(unit), now_s, captured_s, index.kept, header.total_layers, lag_s)


def open_codec(description: StreamDescription, given: Codec | None) -> Codec:
    """The codec for a stream.

    Raises:
        ModelMismatchError: `given`, or the one installed here, does not decode what the sender encodes.
        UnknownCodecError, MissingDependencyError: see get_codec.
    """
    codec = given or get_codec(description.codec)
    if (codec.name, codec.fingerprint) != (description.codec, description.fingerprint):
        raise ModelMismatchError(
            f"the stream is {description.codec} {description.fingerprint.hex()[:8]}, "
            f"here is {codec.name} {codec.fingerprint.hex()[:8]}",
            hint="install the same version of layercast and the same model on both ends",
        )
    return codec
