"""The sender: pictures in, layered access units out to a relay, and never a camera that waits."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from layercast.bitstream import encode_description, pack
from layercast.bitstream.types import FrameHeader, StreamDescription
from layercast.codecs.base import Codec
from layercast.codecs.registry import default_codec, get_codec
from layercast.control.budget import FixedBudgetAllocator
from layercast.errors import CodecError, ConfigError, ConnectError, LayercastError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.channel import check_address
from layercast.transport.credentials import Credentials
from layercast.transport.limits import CLOSE_TIMEOUT_S, MAX_CONTROL_BYTES, PROTOCOL, Window
from layercast.transport.link import EOF, Call, Link, LinkStatistics, open_call
from layercast.transport.outbox import Outbox, OutboxStatistics
from layercast.transport.shared import SharedFrame
from layercast.transport.tasks import cancel_and_wait, first_of, limited
from layercast.transport.wire import PUBLISH, SESSION_BYTES, check_stream_name, parse
from layercast.transport.worker import Worker

if TYPE_CHECKING:
    from layercast.codecs.base import Image

Picture = tuple[int, int, "Image"]
"""Frame id, capture time in microseconds, pixels."""


@dataclass(frozen=True, slots=True)
class SenderStatistics:
    """Counts since the sender was made.

    Attributes:
        offered: pictures and units given to send.
        unwanted: of them, not taken because nobody listens or the relay is away.
        replaced: pictures overtaken by a newer one before their turn to be encoded.
        encoded: pictures encoded; `encode_s` is the time the last one took.
        wanted: somebody listens now.
        max_layers, max_bitrate_bps: the most that anybody can use now, 0 for no limit.
        link: the connection to the relay.
        outbox: the queue towards the relay.
    """

    offered: int
    unwanted: int
    replaced: int
    encoded: int
    encode_s: float
    wanted: bool
    max_layers: int
    max_bitrate_bps: int
    link: LinkStatistics
    outbox: OutboxStatistics


class Sender:
    """Publishes one stream. Use as `async with Sender("host:7400", "cam1") as sender:`.

    The connection is made, and made again, in the background. A picture given while another is being encoded
    waits, and is replaced by the next: what is sent is always the newest there is. Nothing is encoded when
    nobody listens.

    Args:
        target: the relay, "host:port".
        stream: name of the stream there.
        codec: registry name or an instance; `default_codec()` when neither it nor a description is given.
        quality: 0.0 (smallest) to 1.0 (best), for `codec`; may be changed at any time.
        description: what receivers are told, for a sender of ready-made units; else made from the codec.
        frame_rate: nominal pictures per second, for receivers' information.
        title: free text for people.
        give_up_after_s: let `send` raise when the relay was away for so long, seconds; None: keep trying.
        window: staleness bounds of the way to the relay.
        credentials: certificates and token for the relay; None: an open relay without TLS.
        clock: monotonic seconds.

    Raises:
        ConfigError: a bad address or stream name.
        UnknownCodecError, MissingDependencyError: see get_codec.
    """

    def __init__(
        self,
        target: str,
        stream: str = "main",
        *,
        codec: str | Codec | None = None,
        quality: float = 0.7,
        description: StreamDescription | None = None,
        frame_rate: float = 0.0,
        title: str = "",
        give_up_after_s: float | None = None,
        window: Window | None = None,
        credentials: Credentials | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_address(target)
        self._target = target
        self._credentials = credentials
        self._stream = check_stream_name(stream)
        if codec is None and description is None:
            codec = default_codec()
        self._codec: Codec | None = get_codec(codec) if isinstance(codec, str) else codec
        self.quality = quality
        self.description = description or describe(self._codec, frame_rate, title)
        self._session = secrets.token_bytes(SESSION_BYTES)
        self._clock = clock
        self._link = Link(target, self._connection, give_up_after_s)
        self._outbox = Outbox(FixedBudgetAllocator(None, None), window or Window())
        self._worker = Worker("layercast-encode")
        self._waiting: Picture | None = None
        self._encoding = False
        self._wanted = False
        self._asked = pb.Limits()
        self._error: LayercastError | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._picture_waits = asyncio.Event()
        self._outbox_wakes = asyncio.Event()
        self._progress = asyncio.Event()
        self._next_id = 0
        self._offered = self._unwanted = self._replaced = self._encoded = 0
        self._encode_s = 0.0

    async def __aenter__(self) -> Sender:
        self._tasks = [
            asyncio.create_task(self._guarded(self._link.run()), name=f"layercast sender {self._stream}"),
            asyncio.create_task(self._guarded(self._encode_loop()), name=f"layercast encoder {self._stream}"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Send what waits if the relay takes it within CLOSE_TIMEOUT_S, then leave."""
        if self._tasks and self._error is None:
            with contextlib.suppress(LayercastError, asyncio.TimeoutError):
                await self.drain(CLOSE_TIMEOUT_S)
        tasks, self._tasks = self._tasks, []
        await cancel_and_wait(*tasks)
        await self._worker.aclose()
        self._error = self._error or ConfigError("the sender is closed", hint="open a new one")
        self._changed()

    @property
    def wanted(self) -> bool:
        """Somebody listens: pictures given now are encoded and sent."""
        return self._wanted

    async def send(self, image: Image, timestamp_us: int | None = None, *, wait: bool = False) -> bool:
        """Give the newest picture; returns at once, whatever the network does.

        Args:
            image: (H, W, 3) RGB or (H, W) grey, uint8; copied, so the caller may reuse its buffer.
            timestamp_us: capture time in microseconds since the Unix epoch; now when not given.
            wait: wait for a listener and for room instead of replacing the picture before (files, not
                cameras).

        Returns:
            False if nobody listens and the picture was not taken.

        Raises:
            LayercastError: what ended the sender: a fatal refusal, a picture that the codec does not take.
        """
        if self._codec is None:
            raise ConfigError("this sender has no codec", hint="give it one, or call send_unit")
        if wait:
            await self._until(lambda: self._wanted and self._waiting is None)
        frame_id = self._next_id
        self._next_id += 1
        if not self._take():
            return False
        if self._waiting is not None:
            self._replaced += 1
        stamp = time.time_ns() // 1000 if timestamp_us is None else timestamp_us
        self._waiting = (frame_id, stamp, image.copy())
        self._picture_waits.set()
        return True

    async def send_unit(self, unit: bytes, *, wait: bool = False) -> bool:
        """Give a ready-made access unit, whose frame ids must grow.

        Args:
            unit: the bytes.
            wait: wait for a listener and until the units before are on their way.

        Returns:
            False if nobody listens and the unit was not taken.

        Raises:
            BitstreamError: not a valid access unit.
            ConfigError: its frame id does not grow.
            LayercastError: what ended the sender.
        """
        frame = SharedFrame(unit)
        if frame.header.frame_id < self._next_id:
            raise ConfigError(
                f"frame id {frame.header.frame_id} after {self._next_id - 1}",
                hint="ids grow within a session; open a new Sender to start over",
            )
        if wait:
            await self._until(lambda: self._wanted and self._outbox.statistics().waiting == 0)
        self._next_id = frame.header.frame_id + 1
        if not self._take():
            return False
        self._offer(frame)
        return True

    async def ready(self, timeout_s: float | None = None) -> None:
        """Wait until somebody listens.

        Raises:
            ConnectError: not within `timeout_s`; the message is the connection's last error, if there was
                one.
            LayercastError: what ended the sender.
        """
        try:
            await limited(self._until(lambda: self._wanted), timeout_s)
        except asyncio.TimeoutError:
            raise ConnectError(
                self._link.statistics().last_error or f"nobody listens to {self._stream} at {self._target}"
            ) from None

    async def drain(self, timeout_s: float | None = None) -> None:
        """Wait until everything taken so far has been confirmed by the relay, or is wanted no more.

        Raises:
            TimeoutError: not within `timeout_s`.
            LayercastError: what ended the sender.
        """
        await limited(
            self._until(
                lambda: (
                    not self._wanted or (self._waiting is None and not self._encoding and self._outbox.idle)
                )
            ),
            timeout_s,
        )

    def statistics(self) -> SenderStatistics:
        """Counts since the sender was made."""
        return SenderStatistics(
            offered=self._offered,
            unwanted=self._unwanted,
            replaced=self._replaced,
            encoded=self._encoded,
            encode_s=self._encode_s,
            wanted=self._wanted,
            max_layers=self._asked.max_layers,
            max_bitrate_bps=self._asked.max_bitrate_bps,
            link=self._link.statistics(),
            outbox=self._outbox.statistics(),
        )

    # --- pictures to units ----------------------------------------------------------------------------------

    def _take(self) -> bool:
        if self._error is not None:
            raise self._error
        if not self._tasks:
            raise ConfigError("the sender is not open", hint="use it as `async with Sender(...) as sender:`")
        self._offered += 1
        self._unwanted += not self._wanted
        return self._wanted

    async def _encode_loop(self) -> None:
        while True:
            await self._picture_waits.wait()
            self._picture_waits.clear()
            if self._waiting is None:
                continue
            picture, self._waiting = self._waiting, None
            self._encoding = True
            self._changed()
            started_s = time.perf_counter()
            try:
                unit = await self._worker.run(self._encode, *picture)
            finally:
                self._encoding = False
            self._encode_s = time.perf_counter() - started_s
            self._encoded += 1
            if self._wanted:
                self._offer(SharedFrame(unit))
            self._changed()

    def _encode(self, frame_id: int, timestamp_us: int, image: Image) -> bytes:
        assert self._codec is not None
        try:
            encoded = self._codec.encode(image, self.quality)
        except LayercastError:
            raise
        except Exception as error:  # somebody's own codec: `send` must tell, not the encoder vanish
            raise CodecError(
                f"codec {self._codec.name!r} failed: {type(error).__name__}: {error}",
                hint="a fault of that codec",
            ) from error
        header = FrameHeader(
            frame_id, timestamp_us, encoded.picture, encoded.kind, total_layers=len(encoded.layers)
        )
        return pack(header, encoded.layers, encoded.gains_db)

    def _offer(self, frame: SharedFrame) -> None:
        self._outbox.push(frame, self._clock())
        self._outbox_wakes.set()

    # --- units to the relay ---------------------------------------------------------------------------------

    async def _connection(self) -> None:
        hello = pb.PublishHello(
            protocol=PROTOCOL,
            stream=self._stream,
            session=self._session,
            description=encode_description(self.description),
        )
        try:
            async with open_call(self._target, PUBLISH, hello, MAX_CONTROL_BYTES, self._credentials) as (
                call,
                _info,
            ):
                self._link.accepted()
                await first_of(
                    self._read_feedback(call),
                    self._write_units(call),
                )
        finally:
            self._wanted = False
            self._waiting = None
            self._outbox.clear()
            self._changed()

    async def _read_feedback(self, call: Call) -> None:
        while (data := await call.read()) is not EOF:
            feedback = parse(data, pb.IngestFeedback)
            now_s = self._clock()
            for ack in feedback.acks:
                self._outbox.acknowledge(ack.frame_id, now_s)
                self._link.flowing()
            if feedback.HasField("demand"):
                self._follow(feedback.demand)
            self._outbox_wakes.set()
            self._changed()

    def _follow(self, demand: pb.Demand) -> None:
        limits = self._asked = demand.limits
        self._outbox.allocator.set_limits(limits.max_bitrate_bps or None, limits.max_layers or None)
        self._wanted = demand.active
        if not demand.active:
            self._waiting = None

    async def _write_units(self, call: Call) -> None:
        while True:
            await self._outbox_wakes.wait()
            self._outbox_wakes.clear()
            while (chosen := self._outbox.next(self._clock())) is not None:
                frame, keep = chosen
                await call.write(frame.prefix(keep))
                self._changed()

    # --- waiting and ending ---------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while self._error is None and not condition():
            await self._progress.wait()
        if self._error is not None:
            raise self._error

    async def _guarded(self, running: Coroutine[Any, Any, None]) -> None:
        try:
            await running
        except LayercastError as error:
            self._error = self._error or error
            self._wanted = False
            self._changed()


def describe(codec: Codec | None, frame_rate: float = 0.0, title: str = "") -> StreamDescription:
    """What receivers of a stream made by `codec` are told."""
    if codec is None:
        raise ConfigError("a sender needs a codec or a description")
    names = tuple(layer.name for layer in codec.layer_table)
    return StreamDescription(codec.name, codec.fingerprint, names, frame_rate, title)
