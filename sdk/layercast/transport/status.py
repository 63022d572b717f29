"""gRPC status codes to layercast errors and back, each with a hint."""

from __future__ import annotations

import grpc

from layercast.errors import (
    AuthError,
    BitstreamError,
    CodecError,
    ConfigError,
    ConnectError,
    LayercastError,
    MissingDependencyError,
    RefusedError,
    StreamNotFoundError,
    TransportError,
)

Code = grpc.StatusCode


class TakenError(RefusedError):
    """The stream has a sender. It may be the ghost of the one that asks: this is waited out at first."""

    code = "taken"


class OverLimitError(RefusedError):
    """One of the relay's limits; `reason` is what the refusal is counted under."""

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class AccessError(AuthError):
    """A token that does not open what was asked for; `reason` is what it is counted under."""

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class DroppedError(ConnectError):
    """A call that the relay gave up; `reason` is what it is counted under. The peer may come again."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LeavingError(ConnectError):
    """The relay is being shut down: another one, or the same one later, serves the stream."""

    code = "leaving"


class ElsewhereError(ConnectError):
    """This worker of a relay has more than its share of subscribers: a new connection to the same address reaches
    another one, most likely."""

    code = "elsewhere"


ELSEWHERE = "another process of this relay has more room"
"""Begins the message of an ElsewhereError."""

LEAVING = "the relay is leaving"
"""Begins the message of a LeavingError, and so tells it from gRPC's own UNAVAILABLE."""


def reason(error: LayercastError) -> str:
    """What an error is counted under; one of a fixed set."""
    return str(getattr(error, "reason", error.code))


_TO_STATUS: tuple[tuple[type[LayercastError], Code], ...] = (
    (AuthError, Code.PERMISSION_DENIED),
    (StreamNotFoundError, Code.NOT_FOUND),
    (TakenError, Code.ALREADY_EXISTS),
    (RefusedError, Code.RESOURCE_EXHAUSTED),
    (BitstreamError, Code.INVALID_ARGUMENT),
    (ConfigError, Code.INVALID_ARGUMENT),
    (ConnectError, Code.UNAVAILABLE),
)

FATAL = (AuthError, CodecError, ConfigError, MissingDependencyError, StreamNotFoundError)
"""Errors that trying again does not cure."""


def to_status(error: LayercastError) -> tuple[Code, str]:
    """The status with which a server ends a call because of `error`."""
    for kind, code in _TO_STATUS:
        if isinstance(error, kind):
            return code, str(error)
    return Code.INTERNAL, str(error)


def from_status(code: Code, details: str, target: str) -> LayercastError:
    """The error for a call to `target` that ended with `code`."""
    details = details or code.name.lower().replace("_", " ")
    if code is Code.UNAVAILABLE:
        if details.startswith(LEAVING):
            return LeavingError(f"{target}: {details}")
        if details.startswith(ELSEWHERE):
            return ElsewhereError(f"{target}: {details}")
        if (error := _from_handshake(details, target)) is not None:
            return error
        return ConnectError(
            f"cannot reach {target}: {details}",
            hint=f"is a relay listening there? start one with: layercast relay --listen {target}",
        )
    if code is Code.DEADLINE_EXCEEDED:
        return ConnectError(
            f"{target}: {details}", hint="the network or this machine is too slow for the stream"
        )
    if code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED):
        return AuthError(
            f"{target} refused access: {details}", hint="check the token and the stream it names"
        )
    if code is Code.NOT_FOUND:
        return StreamNotFoundError(
            f"{target}: {details}", hint="start the sender, or check the stream's name"
        )
    if code is Code.UNIMPLEMENTED:
        return ConfigError(
            f"{target} is not a layercast relay: {details}", hint="check the address and the port"
        )
    if code is Code.INVALID_ARGUMENT:
        return ConfigError(
            f"{target} did not accept what was sent: {details}", hint="update the older of the two ends"
        )
    if code is Code.ALREADY_EXISTS:
        return TakenError(f"{target} refused: {details}")
    if code in (Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION):
        return RefusedError(f"{target} refused: {details}")
    return TransportError(f"{target}: {details}")


def _from_handshake(details: str, target: str) -> LayercastError | None:
    """What gRPC says when TLS did not come about."""
    if "certificate has expired" in details:
        return AuthError(f"the certificate of {target} has expired", hint="its operator has to renew it")
    if "not yet valid" in details:
        return AuthError(f"the certificate of {target} is not valid yet", hint="is this clock right?")
    if "is not in peer certificate" in details or "Hostname Verification" in details:
        return AuthError(
            f"the certificate of {target} is for another name",
            hint="use the name in it as the address, or give it as the server name",
        )
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return AuthError(
            f"the certificate of {target} is signed by nobody trusted here",
            hint="give the authority's certificate as the ca",
        )
    if "WRONG_VERSION_NUMBER" in details:
        return ConfigError(f"{target} speaks no TLS", hint="leave TLS out, or switch it on there")
    if "Socket closed" in details and "failed to connect" in details:
        return ConnectError(
            f"{target} closed the connection before the first word",
            hint="it may want TLS, or a client certificate that it trusts and that has not expired, "
            "or has too many connections",
        )
    return None
