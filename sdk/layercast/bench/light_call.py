"""The least of a gRPC client, for the receivers of a load test: one call over a connection of its own.

With grpc.aio a receiver takes as long for a frame as a relay does, 146 us, in two threads: two hundred of them fill a
core before the relay does theirs, and frames come late that a relay takes for slow links. Without it they take 119 to
129 us in one (a plain fan-out's 79 instead of 103). A server cannot tell the two apart: settings and windows are
grpcio's, and so is when windows are opened again (looked up on the wire, grpcio 1.85). Compression, trailers, deadlines
and everything else that a load test does not meet are left out.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
"""Types of frames (RFC 9113, section 6)."""

ACK, END_STREAM, END_HEADERS = 1, 1, 4
"""Flags of frames."""

HEAD_BYTES = 9
MESSAGE_HEAD_BYTES = 5
WINDOW_BYTES = 1 << 18
FIRST_WINDOW_BYTES = (1 << 16) - 1
"""Of a connection before anybody has said anything."""

OPEN_AGAIN_BYTES = 1 << 17
"""With so much taken a window is opened again; with less along with the next report."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def message_frame(message: bytes) -> bytes:
    """A gRPC message in one frame of the call."""
    return frame(DATA, 0, 1, b"\0" + len(message).to_bytes(4, "big") + message)


def headers(target: str, path: str, metadata: Sequence[tuple[str, str | bytes]]) -> bytes:
    """What begins the call: literals without indexing (RFC 7541, section 6.2.2), none longer than 126 bytes."""
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", target)]
    pairs += [("te", "trailers"), ("content-type", "application/grpc")]
    for name, value in metadata:
        text = base64.b64encode(value).decode().rstrip("=") if isinstance(value, bytes) else value
        pairs.append((name, text))
    block = bytearray()
    for pair in pairs:
        block.append(0)
        for part in pair:
            encoded = part.encode()
            if len(encoded) > 126:
                raise ValueError(f"{part!r} is too long for a load test's metadata")
            block.append(len(encoded))
            block += encoded
    return frame(HEADERS, END_HEADERS, 1, bytes(block))


class LightCall(asyncio.Protocol):
    """A call that messages come from.

    Args:
        begin: frames that begin it, see `headers`.
        on_message: gets each message.

    Attributes:
        ended: done when there will be no more.
    """

    def __init__(self, begin: bytes, on_message: Callable[[bytes], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begin = begin
        self._on_message = on_message
        self._transport: asyncio.Transport | None = None
        self._frames, self._messages = bytearray(), bytearray()
        self._taken = 0

    @classmethod
    async def open(
        cls,
        target: str,
        path: str,
        metadata: Sequence[tuple[str, str | bytes]],
        on_message: Callable[[bytes], None],
    ) -> LightCall:
        """Call `path` at `target` ("host:port").

        Raises:
            OSError: nobody listens there.
        """
        host, _, port = target.rpartition(":")
        begin, loop = headers(target, path, metadata), asyncio.get_running_loop()
        _, call = await loop.create_connection(lambda: cls(begin, on_message), host, int(port))
        return call

    async def write(self, message: bytes) -> None:
        """Send a message; never waits, reports are small."""
        assert self._transport is not None
        self._transport.write(self._opened() + message_frame(message))

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        pairs = (2, 0), (3, 0), (4, WINDOW_BYTES), (6, 1 << 14)
        settings = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs)
        room = (WINDOW_BYTES - FIRST_WINDOW_BYTES).to_bytes(4, "big")
        self._transport.write(
            PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, room) + self._begin
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        frames, at = self._frames, 0
        frames += data
        while len(frames) - at >= HEAD_BYTES:
            end = at + HEAD_BYTES + int.from_bytes(frames[at : at + 3], "big")
            if end > len(frames):
                break
            kind, flags = frames[at + 3], frames[at + 4]
            if kind == DATA:
                self._messages += frames[at + HEAD_BYTES : end]
                self._taken += end - at - HEAD_BYTES
            elif kind in (SETTINGS, PING) and not flags & ACK:
                answer = b"" if kind == SETTINGS else bytes(frames[at + HEAD_BYTES : end])
                self._write(frame(kind, ACK, 0, answer))
            if kind in (RST_STREAM, GOAWAY) or (kind in (DATA, HEADERS) and flags & END_STREAM):
                self.close()
            at = end
        del frames[:at]
        self._hand_on()
        if self._taken >= OPEN_AGAIN_BYTES:
            self._write(self._opened())

    def _hand_on(self) -> None:
        messages = self._messages
        while len(messages) >= MESSAGE_HEAD_BYTES:
            end = MESSAGE_HEAD_BYTES + int.from_bytes(messages[1:MESSAGE_HEAD_BYTES], "big")
            if end > len(messages):
                break
            message = bytes(messages[MESSAGE_HEAD_BYTES:end])
            del messages[:end]
            self._on_message(message)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _opened(self) -> bytes:
        """Frames that open both windows by what was taken."""
        if not self._taken:
            return b""
        room, self._taken = self._taken.to_bytes(4, "big"), 0
        return frame(WINDOW_UPDATE, 0, 1, room) + frame(WINDOW_UPDATE, 0, 0, room)
