"""Backoff, status codes, hellos and names."""

from __future__ import annotations

import contextlib
import random

import grpc
import pytest

from layercast.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    CorruptError,
    LayercastError,
    RefusedError,
    StreamNotFoundError,
)
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.backoff import FIRST_S, LAST_S, Backoff
from layercast.transport.channel import check_address
from layercast.transport.limits import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S, PEER_LOSS_S, RelayLimits
from layercast.transport.status import from_status, to_status
from layercast.transport.wire import check_stream_name, from_metadata, limits_message, parse, to_metadata


def test_backoff_grows_to_its_ceiling_and_starts_over_after_success():
    backoff = Backoff(random.Random(1))
    waits = [backoff.next_s() for _ in range(12)]
    assert FIRST_S / 2 <= waits[0] <= FIRST_S
    assert all(LAST_S / 2 <= wait <= LAST_S for wait in waits[-4:])
    backoff.succeeded()
    assert backoff.next_s() <= FIRST_S


def test_two_clients_do_not_come_back_at_the_same_moment():
    assert Backoff(random.Random(1)).next_s() != Backoff(random.Random(2)).next_s()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_is_an_error_of_the_package(code: grpc.StatusCode):
    error = from_status(code, "", "host:1")
    assert isinstance(error, LayercastError)
    assert "host:1" in str(error)


def test_an_unreachable_relay_is_named_with_what_to_do():
    error = from_status(grpc.StatusCode.UNAVAILABLE, "connection refused", "host:7400")
    assert isinstance(error, ConnectError)
    assert "layercast relay" in error.hint


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (AuthError("x"), AuthError),
        (RefusedError("x"), RefusedError),
        (StreamNotFoundError("x"), StreamNotFoundError),
        (ConnectError("x"), ConnectError),
        (CorruptError("x"), ConfigError),
    ],
)
def test_a_refusal_keeps_its_kind_over_the_wire(error: LayercastError, seen: type[LayercastError]):
    assert type(from_status(*to_status(error), "host:1")) is seen


def test_a_hello_survives_metadata():
    hello = pb.SubscribeHello(protocol=1, stream="cam", hops=pb.Hops(relays=["a", "b"]))
    assert (
        from_metadata([("other", "x"), *to_metadata("hello-bin", hello)], "hello-bin", pb.SubscribeHello)
        == hello
    )


@pytest.mark.parametrize("metadata", [None, [], [("hello-bin", b"\xff\xff\xff")]])
def test_a_missing_or_broken_hello_is_an_error(metadata: list[tuple[str, bytes]] | None):
    with pytest.raises(CorruptError):
        from_metadata(metadata, "hello-bin", pb.SubscribeHello)


def test_hostile_control_bytes_are_an_error_of_the_package():
    rng = random.Random(3)
    for _ in range(2000):
        data = rng.randbytes(rng.randrange(40))
        with contextlib.suppress(CorruptError):
            parse(data, pb.ReceiverMessage)


@pytest.mark.parametrize("name", ["cam1", "a", "A.b_c-9", "x" * 64])
def test_good_names(name: str):
    assert check_stream_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "kamera\n", "ä"])
def test_bad_names(name: str):
    with pytest.raises(ConfigError):
        check_stream_name(name)


@pytest.mark.parametrize("address", ["", "host", "host:", "host:port", "host:99999"])
def test_bad_addresses(address: str):
    with pytest.raises(ConfigError, match="host:port"):
        check_address(address)


@pytest.mark.parametrize(("bitrate", "layers"), [(0, None), (-1.0, None), (float("nan"), None), (None, 0)])
def test_impossible_budgets(bitrate: float | None, layers: int | None):
    with pytest.raises(ConfigError):
        limits_message(bitrate, layers)


def test_no_budget_means_no_limit():
    assert limits_message(None, None) == pb.Limits()


def test_the_stated_time_to_notice_a_vanished_peer_covers_ping_and_timeout():
    assert KEEPALIVE_S + KEEPALIVE_TIMEOUT_S <= PEER_LOSS_S


def test_impossible_relay_limits():
    with pytest.raises(ConfigError):
        RelayLimits(max_streams=0)
