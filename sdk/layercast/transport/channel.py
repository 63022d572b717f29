"""gRPC channels and servers with the options that live streams need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from layercast.errors import ConfigError
from layercast.transport.credentials import Credentials
from layercast.transport.limits import (
    CONNECT_TIMEOUT_S,
    HANDSHAKE_TIMEOUT_S,
    IDLE_CONNECTION_S,
    KEEPALIVE_S,
    KEEPALIVE_TIMEOUT_S,
    LOOKAHEAD_BYTES,
    MAX_CALLS_PER_CONNECTION,
    MAX_CONNECTIONS,
)

Options = list[tuple[str, Any]]


def _common_options(max_receive_bytes: int) -> Options:
    return [
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.max_send_message_length", -1),
        # Bandwidth probing would grow the window to megabytes, which a stalled reader then fills.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
        # Measured (grpcio 1.85): the keepalive timeout alone ends no connection, the ping's own does.
        ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def open_channel(
    target: str, max_receive_bytes: int, credentials: Credentials | None = None
) -> grpc.aio.Channel:
    """A channel of its own TCP connection to `target` ("host:port"); connects on the first call.

    Raises:
        ConfigError: the target has no port, or a file of the credentials is of no use.
    """
    check_address(target)
    secret = credentials.channel_credentials() if credentials is not None else None
    options = [
        *_common_options(max_receive_bytes),
        # Two streams on one connection would share its flow control: one stalled reader would stop the other.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_S * 1000)),
        ("grpc.enable_retries", 0),
        # A proxy named in the environment is for web pages; it would also catch calls to localhost.
        ("grpc.enable_http_proxy", 0),
    ]
    if credentials is None or secret is None:
        return grpc.aio.insecure_channel(target, options=options)
    if credentials.server_name:
        options.append(("grpc.ssl_target_name_override", credentials.server_name))
    return grpc.aio.secure_channel(target, secret, options=options)


def make_server(
    max_receive_bytes: int, max_connections: int = MAX_CONNECTIONS, *, share_port: bool = False
) -> grpc.aio.Server:
    """A server with no handlers and no port yet; `share_port`: other processes listen on the same one."""
    options = [
        *_common_options(max_receive_bytes),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.max_concurrent_streams", MAX_CALLS_PER_CONNECTION),
        ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_TIMEOUT_S * 1000)),
        ("grpc.max_connection_idle_ms", int(IDLE_CONNECTION_S * 1000)),
        # With port sharing a second relay on the port would start and get half of the calls.
        ("grpc.so_reuseport", int(share_port)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", int(KEEPALIVE_S * 500)),
        ("grpc.http2.max_ping_strikes", 0),
    ]
    return grpc.aio.server(options=options)


def bind(server: grpc.aio.Server, listen: str, secret: grpc.ServerCredentials | None = None) -> int:
    """Listen on "host:port" (port 0: any free one), with TLS if there are credentials, and return the port.

    Raises:
        ConfigError: no port in `listen`, or the port is taken or not ours.
    """
    check_address(listen)
    try:
        port = server.add_insecure_port(listen) if secret is None else server.add_secure_port(listen, secret)
    except RuntimeError:
        port = 0
    if port == 0:
        raise ConfigError(
            f"cannot listen on {listen}",
            hint="another process holds the port, or the host is not this machine",
        )
    return port


def check_address(address: str) -> None:
    """Raises ConfigError unless `address` ends in a port or is a socket in the file system, "unix:/path"."""
    if address.startswith("unix:/"):
        return
    _, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"bad address {address!r}", hint='write "host:port", for example "127.0.0.1:7400"')


def method_handlers(service: str, methods: Sequence[tuple[str, Any]]) -> Any:
    """`service` with its methods, all of them bidirectional over raw bytes."""
    return grpc.method_handlers_generic_handler(
        service, {name: grpc.stream_stream_rpc_method_handler(handler) for name, handler in methods}
    )
