"""One connection after another to the same peer, until a fatal error or the end.

A Sender's uplink, a Receiver and a relay's upstream subscription are the same thing seen from here: an
attempt that runs until it fails, a wait that grows while nothing flows, and errors of gRPC turned into
layercast's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from layercast.errors import AuthError, ConnectError, LayercastError, RefusedError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.backoff import Backoff
from layercast.transport.channel import open_channel
from layercast.transport.credentials import Credentials
from layercast.transport.limits import CLOSE_TIMEOUT_S, TAKEN_PATIENCE_S
from layercast.transport.status import FATAL, ElsewhereError, TakenError, from_status
from layercast.transport.tasks import limited
from layercast.transport.wire import HELLO_KEY, STREAM_KEY, from_metadata, to_metadata

Call = Any
"""A `grpc.aio.StreamStreamCall` of bytes both ways; grpc ships no usable types for it."""

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
"""What `Call.read` and a server context's `read` return after the last message."""

STEADY_S = 1.0
"""A call that lasted this long, in seconds, counts as alive even if nothing had to flow: nobody may have
listened."""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """Counts since the link was made.

    Attributes:
        connected: the peer accepted the present call.
        attempts: calls begun.
        failures: attempts in a row in which no frame flowed.
        last_error: why the last call ended, "" if none did.
    """

    connected: bool
    attempts: int
    failures: int
    last_error: str


@contextlib.asynccontextmanager
async def open_call(
    target: str,
    method: str,
    hello: Message,
    max_receive_bytes: int,
    credentials: Credentials | None = None,
) -> AsyncIterator[tuple[Call, pb.StreamInfo]]:
    """Call `method` on a connection of its own and wait until the peer accepts.

    Raises:
        LayercastError: what `from_status` makes of the refusal.
        CorruptError: the peer is not a layercast relay.
    """
    token = credentials.metadata() if credentials is not None else ()
    channel: Any = open_channel(target, max_receive_bytes, credentials)
    call: Call = None
    try:
        call = channel.stream_stream(method)(metadata=(*to_metadata(HELLO_KEY, hello), *token))
        metadata = await call.initial_metadata()
        if not any(name == STREAM_KEY for name, _ in metadata or ()):
            # A refusal: its status is on the way. Anything else that says nothing is no relay.
            with contextlib.suppress(asyncio.TimeoutError):
                code = await limited(call.code(), CLOSE_TIMEOUT_S)
                raise from_status(code, await call.details(), target)
        yield call, from_metadata(metadata, STREAM_KEY, pb.StreamInfo)
    finally:
        if call is not None:
            call.cancel()
        await channel.close()


class Link:
    """Runs `attempt` again and again.

    Args:
        target: "host:port", for messages.
        attempt: one connection, from call to end. It calls `accepted` when the peer took the call and
            `flowing` for every frame that came through: only that resets the backoff.
        give_up_after_s: raise the last error when the peer was away for so long, seconds; None: never give
            up.
    """

    def __init__(
        self, target: str, attempt: Callable[[], Awaitable[None]], give_up_after_s: float | None = None
    ) -> None:
        self._target = target
        self._attempt = attempt
        self._give_up_after_s = give_up_after_s
        self._backoff = Backoff()
        self._attempts = 0
        self._last_error = ""
        self._flowed = False
        self._alive_s = self._accepted_s = time.monotonic()
        self.up = asyncio.Event()

    def accepted(self) -> None:
        """The peer took the call."""
        self._accepted_s = time.monotonic()
        self.up.set()

    def flowing(self) -> None:
        """A frame came through."""
        self._flowed = True
        self._alive_s = time.monotonic()
        self._backoff.succeeded()

    async def run(self) -> None:
        """Try until cancelled.

        Raises:
            LayercastError: one that trying again does not cure, or the last one when it is time to give up. A
                refusal is fatal until frames have flowed once, and waited out afterwards; a name that is
                taken is waited for TAKEN_PATIENCE_S.
        """
        self._alive_s = time.monotonic()
        while True:
            self._attempts += 1
            try:
                await self._attempt()
                error: LayercastError = ConnectError(f"{self._target} ended the call")
            except grpc.aio.AioRpcError as failure:
                error = from_status(failure.code(), failure.details() or "", self._target)
            except asyncio.InvalidStateError:
                error = ConnectError(f"{self._target} ended the call")
            except LayercastError as failure:
                error = failure
            # A token that expired during the call may have been replaced: the next call shows the newest.
            renewable = isinstance(error, AuthError) and self.up.is_set()
            if self.up.is_set():
                self.up.clear()
                if time.monotonic() - self._accepted_s >= STEADY_S:
                    self._alive_s = time.monotonic()
            self._last_error = str(error)
            elsewhere = isinstance(error, ElsewhereError)
            wait_s = self._backoff.soon_s() if elsewhere else self._backoff.next_s()
            fatal = isinstance(error, FATAL) and not renewable
            if fatal or (isinstance(error, RefusedError) and self._is_final(error)):
                raise error
            if self._give_up_after_s is not None:
                left_s = self._alive_s + self._give_up_after_s - time.monotonic()
                if left_s <= 0:
                    raise error
                wait_s = min(wait_s, left_s)
            await asyncio.sleep(wait_s)

    def _is_final(self, error: RefusedError) -> bool:
        if self._flowed:
            return False
        if isinstance(error, TakenError):
            return time.monotonic() - self._alive_s > TAKEN_PATIENCE_S
        return True

    def statistics(self) -> LinkStatistics:
        """Counts since the link was made."""
        return LinkStatistics(self.up.is_set(), self._attempts, self._backoff.failures, self._last_error)
