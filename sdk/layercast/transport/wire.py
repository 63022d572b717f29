"""The gRPC contract in Python: method names, hello metadata, names of streams. See proto/layercast/v1."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from layercast.errors import ConfigError, CorruptError, RefusedError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.limits import MAX_HOPS, MAX_RELAY_ID, MAX_RELAYS_BELOW, MAX_STALENESS_S, PROTOCOL

INGEST = "layercast.v1.Ingest"
DISTRIBUTION = "layercast.v1.Distribution"
PUBLISH = f"/{INGEST}/Publish"
SUBSCRIBE = f"/{DISTRIBUTION}/Subscribe"
HELLO_KEY = "layercast-hello-bin"
STREAM_KEY = "layercast-stream-bin"

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Names of streams are also file names, metric labels and token claims."""

SESSION_BYTES = 8
"""Random, so that two sessions of one stream differ."""

M = TypeVar("M", bound=Message)


def check_stream_name(name: str) -> str:
    """The name itself. Raises ConfigError, see `check_name`."""
    return check_name(name, "stream")


def check_name(name: str, what: str) -> str:
    """The name, of `what`, itself.

    Raises:
        ConfigError: not 1..64 characters of [A-Za-z0-9._-].
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"bad {what} name {name!r}", hint="use 1 to 64 letters, digits, '.', '_' or '-'")
    return name


def check_hello(protocol: int, name: str) -> None:
    """Whether this relay understands a hello.

    Raises:
        ConfigError: a bad stream name.
        RefusedError: another version of the protocol.
    """
    check_stream_name(name)
    if protocol != PROTOCOL:
        raise RefusedError(f"protocol {protocol}, this relay speaks {PROTOCOL}", hint="update the older end")


def check_hops(hops: pb.Hops, relay_id: str) -> None:
    """Whether the relay `relay_id` may stand above these relays.

    Raises:
        RefusedError: it is one of them, or they are too many.
    """
    if relay_id in hops.relays:
        raise RefusedError(
            f"loop of relays: {relay_id} is downstream of itself", hint="check the --upstream options"
        )
    if hops.depth >= MAX_HOPS:
        raise RefusedError(f"more than {MAX_HOPS} relays in a row")
    if len(hops.relays) > MAX_RELAYS_BELOW or max(map(len, hops.relays), default=0) > MAX_RELAY_ID:
        raise RefusedError(f"more than {MAX_RELAYS_BELOW} relays below this one, or ids above {MAX_RELAY_ID}")


def to_metadata(key: str, message: Message) -> tuple[tuple[str, bytes], ...]:
    """gRPC metadata that carries `message`."""
    return ((key, message.SerializeToString()),)


def from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None, key: str, kind: type[M]) -> M:
    """The message under `key`.

    Raises:
        CorruptError: it is missing or does not parse.
    """
    for name, value in metadata or ():
        if name == key and isinstance(value, bytes):
            return parse(value, kind)
    raise CorruptError(f"the peer sent no {key}", hint="is the address that of a layercast relay?")


def parse(data: bytes, kind: type[M]) -> M:
    """A protobuf message from untrusted bytes.

    Raises:
        CorruptError: the bytes do not parse.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise CorruptError(f"bytes that are no {kind.__name__} message") from None


def limits_message(
    max_bitrate: float | None, max_layers: int | None, max_staleness_s: float | None = None
) -> pb.Limits:
    """Limits for the wire; None means no limit, or the relay's default staleness bound.

    Raises:
        ConfigError: a limit that is not positive.
    """
    if (max_bitrate is not None and not max_bitrate >= 1) or (max_layers is not None and max_layers < 1):
        raise ConfigError(
            f"impossible budget: max_bitrate={max_bitrate}, max_layers={max_layers}",
            hint="both must be at least 1 (bits per second, layers); leave one out for no limit",
        )
    if max_staleness_s is not None and not 0.001 <= max_staleness_s <= MAX_STALENESS_S:
        raise ConfigError(
            f"a staleness bound of {max_staleness_s} s",
            hint="give some hundred milliseconds, or leave it out",
        )
    return pb.Limits(
        max_layers=max_layers or 0,
        max_bitrate_bps=int(max_bitrate or 0),
        max_staleness_ms=round(1e3 * (max_staleness_s or 0)),
    )
