"""Figure 6: whoever is not welcome is refused or dropped with a counted reason; the honest notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

import grpc
import grpc.aio
import pytest
from tests.transport.harness import FakeClock, eventually, live, take, unit

from layercast.errors import AuthError, ConfigError, RefusedError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.admission import Admission, Bucket, host_of
from layercast.transport.channel import open_channel
from layercast.transport.credentials import Credentials
from layercast.transport.limits import GIANT_FACTOR, MAX_CONTROL_BYTES, MAX_REPORTS_PER_S, RelayLimits
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.status import OverLimitError
from layercast.transport.tokens import TokenKeys
from layercast.transport.wire import HELLO_KEY, SUBSCRIBE, to_metadata

from .papers import Issuer
from .strangers import ended_with, from_elsewhere, honest, publishing, subscribing

ATTEMPTS = 2000
"""Of each kind in the floods; figure 6 speaks of 10^5, which take minutes on one core."""


class Doors:
    """A relay that asks for tokens, whose wall clock stands still."""

    def __init__(self, folder, **options) -> None:
        self.issuer = Issuer(folder / "keys.json", "old")
        self.now_s = 1_800_000_000.0
        self.relay = Relay(token_keys=TokenKeys(self.issuer.path, self.clock), adaptive=False, **options)

    def clock(self) -> float:
        return self.now_s

    def papers(self, stream: str, right: str, lifetime_s: float = 3600, **options) -> Credentials:
        return Credentials(token=self.issuer.token(stream, right, lifetime_s, clock=self.clock, **options))

    def honest(self):
        return honest(self.relay, self.papers("cam", "publish"), self.papers("cam", "subscribe"))


@pytest.fixture
def doors(tmp_path) -> Doors:
    return Doors(tmp_path)


def test_calls_without_the_right_token_are_refused_by_reason(doors, tmp_path):
    old = doors.papers("*", "both", 60)
    doors.now_s += 61
    strangers = {
        "no-token": None,
        "token-expired": old,
        "wrong-stream": doors.papers("other*", "both"),
        "bad-token": Credentials(token="not.a.token"),
        "unknown-key": Credentials(token=Issuer(tmp_path / "theirs.json", "theirs").token()),
    }

    @live
    async def attempt() -> None:
        async with doors.relay as relay, doors.honest() as stream:
            for credentials in strangers.values():
                for opened in (publishing, subscribing):
                    with pytest.raises(AuthError):
                        async with opened(relay, "cam", credentials):
                            pass
                await stream.frame()
            with pytest.raises(AuthError, match="allows to subscribe, not to publish"):
                async with publishing(relay, "cam", doors.papers("cam", "subscribe")):
                    pass
            with pytest.raises(AuthError, match="allows to publish, not to subscribe"):
                async with subscribing(relay, "cam", doors.papers("cam", "publish")):
                    pass
            expected = dict.fromkeys(strangers, 2) | {"wrong-right": 2}
            assert relay.statistics().refused == expected
            assert list(relay.statistics().streams) == ["cam"]

    attempt()


def test_a_token_that_expires_during_the_call_ends_it_and_a_new_one_goes_on(doors, tmp_path):
    token = tmp_path / "token"
    token.write_text(doors.papers("cam", "subscribe", 60).token)

    @live
    async def attempt() -> None:
        async with (
            doors.relay as relay,
            doors.honest() as stream,
            Receiver(
                relay.address, "cam", decode=False, credentials=Credentials(token_file=token)
            ) as renewed,
            Receiver(
                relay.address, "cam", decode=False, credentials=doors.papers("cam", "subscribe", 60)
            ) as expired,
        ):
            for receiver in (renewed, expired):
                await take(receiver, 1)
            token.write_text(doors.papers("cam", "subscribe", 600).token)
            doors.now_s += 60
            relay.reload()
            with pytest.raises(AuthError, match="has expired"):
                await take(expired, 1)
            await eventually(lambda: back_again(renewed))
            await stream.frame()
            assert (await take(renewed, 1))[0].header.frame_id == 1
            assert relay.statistics().refused == {"token-expired": 3}, "two calls ended, one not begun"

    attempt()


def back_again(receiver: Receiver) -> bool:
    link = receiver.statistics().link
    return link.connected and link.attempts == 2


def test_a_key_taken_away_ends_the_calls_that_it_opened_and_no_others(doors):
    revoked = doors.papers("cam", "subscribe", kid="old")
    doors.issuer.add("new")

    @live
    async def attempt() -> None:
        async with doors.relay as relay:
            relay.reload()
            async with doors.honest() as stream, subscribing(relay, "cam", revoked) as (call, _):
                doors.issuer.remove("old")
                relay.reload()
                assert isinstance(await ended_with(call), AuthError)
                assert relay.statistics().refused == {"unknown-key": 1}
                await stream.frame()

    attempt()


@live
async def test_units_too_large_end_their_call():
    limits = RelayLimits(max_unit_bytes=20_000)
    async with Relay(limits=limits, adaptive=False) as relay, honest(relay) as stream:
        async with publishing(relay) as (call, _):
            await call.write(unit(0, [limits.max_unit_bytes]))
            assert isinstance(await ended_with(call), RefusedError)
        assert relay.statistics().refused == {"unit-size": 1}
        for size in (GIANT_FACTOR * limits.max_unit_bytes + 1, 20 << 20):
            async with publishing(relay) as (call, _):
                with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    await call.write(bytes(size))
                assert isinstance(await ended_with(call), RefusedError), "by gRPC, unread"
            await stream.frame()
        await eventually(lambda: relay.statistics().hung_up["publish"] == 2)
        await eventually(lambda: list(relay.statistics().streams) == ["cam"])


@live
async def test_units_that_are_none_end_their_call_by_reason():
    rng = random.Random(5)
    good = unit(1)
    async with Relay(adaptive=False) as relay, honest(relay) as stream:
        for garbage in (b"", rng.randbytes(5000), good[: len(good) // 2], good + b"x"):
            async with publishing(relay) as (call, _):
                await call.write(garbage)
                assert isinstance(await ended_with(call), ConfigError)
            await stream.frame()
        refused = relay.statistics().refused
        assert sum(refused.values()) == 4
        assert set(refused) <= {"corrupt", "truncated", "unsupported-version", "limit"}


def taken(relay: Relay) -> int:
    """Units that the relay took of the hostile stream."""
    streams = relay.statistics().streams
    return streams["evil"].frames if "evil" in streams else 0


@pytest.mark.parametrize(
    ("limits", "units", "reason"),
    [
        ({"max_frames_per_s": 10}, 12, "frame-rate"),
        ({"max_publish_bitrate": 400_000}, 8, "bitrate"),
    ],
    ids=["frames", "bits"],
)
def test_a_sender_that_exceeds_its_rate_is_ended(limits, units, reason):
    @live
    async def attempt() -> None:
        async with (
            Relay(limits=RelayLimits(**limits), adaptive=False, clock=FakeClock()) as relay,
            honest(relay) as stream,
        ):
            async with publishing(relay) as (call, _):
                # One at a time: a call that is ended while a message is being written shows grpc.aio's
                # "Internal error from Core" at times, in place of the relay's status.
                for number in range(units):
                    await call.write(unit(number))
                    await eventually(lambda n=number: relay.statistics().refused or taken(relay) > n)
                    if relay.statistics().refused:
                        break
                assert isinstance(await ended_with(call), RefusedError)
            assert relay.statistics().refused == {reason: 1}
            await stream.frame()

    attempt()


@live
async def test_a_reader_that_reports_too_much_is_ended():
    async with Relay(adaptive=False, clock=FakeClock()) as relay, honest(relay) as stream:
        async with subscribing(relay) as (call, _):
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                for number in range(int(2 * MAX_REPORTS_PER_S) + 1):
                    await call.write(
                        pb.ReceiverMessage(limits=pb.Limits(max_layers=number + 1)).SerializeToString()
                    )
            assert isinstance(await ended_with(call), RefusedError)
        async with subscribing(relay) as (call, _):
            await call.write(bytes(MAX_CONTROL_BYTES + 1))
            assert isinstance(await ended_with(call), RefusedError)
        assert relay.statistics().refused == {"report-rate": 1, "report-size": 1}
        await stream.frame()


@live
async def test_a_reader_that_never_reads_is_dropped():
    async with (
        Relay(limits=RelayLimits(ack_timeout_s=1.0), adaptive=False) as relay,
        honest(relay) as stream,
        subscribing(relay),
    ):
        while "silent" not in relay.statistics().refused:
            await stream.frame()
            await asyncio.sleep(0.02)
        assert relay.statistics().subscribers == 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_subscribers": 2}, "subscribers"),
        ({"max_subscribers_per_stream": 2}, "stream-subscribers"),
        ({"max_calls_per_peer": 3}, "peer-calls"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_there_are_only_so_many_calls(limits, reason):
    @live
    async def attempt() -> None:
        async with (
            Relay(limits=RelayLimits(**limits, max_attempts_per_s=1000), adaptive=False) as relay,
            honest(relay) as stream,
            subscribing(relay),
        ):
            await asyncio.sleep(0.01)  # three attempts of a burst of three come back
            with pytest.raises(RefusedError):
                async with subscribing(relay):
                    pass
            assert relay.statistics().refused == {reason: 1}
            await stream.frame()

    attempt()


@live
async def test_a_flood_of_calls_from_one_address_leaves_the_others_room():
    limits = RelayLimits(max_calls_per_peer=20, max_attempts_per_s=1)
    async with (
        Relay(limits=limits, adaptive=False) as relay,
        honest(relay) as stream,
        from_elsewhere(relay, "127.0.0.9") as address,
    ):
        channel = open_channel(address, 1 << 20)
        hello = to_metadata(HELLO_KEY, pb.SubscribeHello(protocol=1, stream="nothing", wait_ms=0))
        codes = []

        async def attempt() -> None:
            call = channel.stream_stream(SUBSCRIBE)(metadata=hello)
            codes.append(await call.code())

        at_once = 10  # more on one connection are refused by gRPC: MAX_CALLS_PER_CONNECTION
        for number in range(ATTEMPTS // at_once):
            await asyncio.gather(*(attempt() for _ in range(at_once)))
            if number % 10 == 0:
                await stream.frame()
        async with Receiver(relay.address, "cam", decode=False) as late:
            await take(late, 1)
        await channel.close()
        refused = relay.statistics().refused
        assert refused["peer-attempts"] > ATTEMPTS * 0.9
        assert sum(refused.values()) == ATTEMPTS == len(codes)


@live
async def test_a_flood_of_connections_that_say_nothing_or_nonsense_is_closed():
    most = 50
    async with (
        Relay(limits=RelayLimits(max_connections=most), adaptive=False) as relay,
        honest(relay) as stream,
    ):
        held: list[socket.socket] = []
        for number in range(ATTEMPTS):
            stranger = socket.create_connection(("127.0.0.1", relay.port))
            if number % 10 == 0:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            if number % 20:
                stranger.close()
            else:
                held.append(stranger)
            if number % 50 == 0:
                await stream.frame()
        closed = 0
        for stranger in held:
            stranger.settimeout(0.5)
            try:
                while stranger.recv(1 << 12):
                    pass
                closed += 1
            except ConnectionResetError:
                closed += 1
            except TimeoutError:
                pass
            stranger.close()
        assert closed >= len(held) - most
        await stream.frame()
        async with Receiver(relay.address, "cam", decode=False) as late:
            await take(late, 1)


# --- the pure parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.7:4711", "192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:4711", "2001:db8:1:2::"),
        ("ipv6:[2001:db8:1:2::9]:1", "2001:db8:1:2::"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:1", "192.0.2.7"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_a_peer_is_an_address_or_a_network_of_ipv6(peer, host):
    assert host_of(peer) == host


def test_a_bucket_refills_up_to_its_burst():
    bucket = Bucket(2.0, 4.0, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(5)] == [True] * 4 + [False]
    assert not bucket.is_full(1.9)
    assert bucket.is_full(2.0)
    assert bucket.take(9, 2.0), "more than fits passes when the bucket is full"
    assert not bucket.take(1, 4.0), "and is paid off afterwards"
    assert bucket.take(1, 5.0)


def test_peers_are_forgotten_when_they_are_quiet_and_refused_when_they_are_too_many(monkeypatch):
    clock = FakeClock()
    admission = Admission(RelayLimits(max_calls_per_peer=2, max_attempts_per_s=1), clock)
    with admission.call("ipv4:192.0.2.1:1"):
        clock.advance(100)
        admission.forget()
        assert len(admission) == 1, "it has a call"
    admission.forget()
    assert len(admission) == 0
    monkeypatch.setattr("layercast.transport.admission.MAX_PEERS", 3)
    for number in range(3):
        with admission.call(f"ipv4:192.0.2.{number}:1"):
            pass
    with pytest.raises(OverLimitError, match="too many addresses"), admission.call("ipv4:192.0.2.9:1"):
        pass
    with admission.call("ipv4:192.0.2.1:1"):
        pass
