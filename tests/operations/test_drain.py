"""Leaving: health says so at once, nobody new comes in, and who is in has time to move away."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.transport.harness import DESCRIPTION, eventually, live, take, unit, within

from layercast.errors import ConnectError
from layercast.transport.channel import open_channel
from layercast.transport.health import SERVICES
from layercast.transport.limits import RelayLimits
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender
from layercast.transport.status import LeavingError

from .strangers import ended_with, honest, publishing, subscribing

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def status(channel: grpc.aio.Channel, service: str = "") -> int:
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return answer.status


@live
async def test_health_answers_for_each_service_and_turns_when_the_relay_drains():
    async with Relay() as relay:
        channel = open_channel(relay.address, 1 << 16)
        assert [await status(channel, name) for name in SERVICES] == [SERVING] * len(SERVICES)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(channel, "nothing")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await within(watch.read())).status == SERVING
        await relay.drain(1.0)
        assert (await within(watch.read())).status == NOT_SERVING
        assert [await status(channel, name) for name in SERVICES] == [NOT_SERVING] * len(SERVICES)
        assert relay.statistics().leaving
        await channel.close()


@live
async def test_watching_counts_as_a_call():
    async with Relay(limits=RelayLimits(max_calls_per_peer=2)) as relay:
        channel = open_channel(relay.address, 1 << 16)
        watches = [
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()) for _ in range(3)
        ]
        await eventually(lambda: relay.statistics().refused)
        assert list(relay.statistics().refused) in (["peer-calls"], ["peer-attempts"])
        for watch in watches:
            watch.cancel()
        await channel.close()


@live
async def test_who_calls_a_draining_relay_is_told_what_to_do():
    async with Relay() as relay, honest(relay) as stream:
        draining = asyncio.create_task(relay.drain(60.0, "use relay2.example:7400"))
        await eventually(lambda: relay.statistics().leaving)
        async with Receiver(relay.address, "cam", decode=False, give_up_after_s=0.01) as late:
            with pytest.raises(LeavingError, match=r"relay2\.example:7400"):
                await take(late, 1)
        assert relay.statistics().refused == {"leaving": late.statistics().link.attempts}
        await stream.frame()
        draining.cancel()


@live
async def test_a_drain_without_calls_is_over_at_once():
    async with Relay() as relay:
        started_s = time.monotonic()
        await relay.drain(60.0)
        assert time.monotonic() - started_s < 5


@live
async def test_calls_run_on_for_half_of_the_time_and_then_end_one_after_another_readers_first():
    ended: list[tuple[str, float]] = []

    async def follow(name: str, opened) -> None:
        async with opened as (call, _):
            ready.append(name)
            assert isinstance(await ended_with(call), LeavingError)
            ended.append((name, time.monotonic() - started_s))

    async with Relay(adaptive=False) as relay:
        ready: list[str] = []
        calls = {"sender": publishing(relay, "cam")}
        started_s = time.monotonic()
        tasks = [asyncio.create_task(follow("sender", calls["sender"]))]
        await eventually(lambda: ready == ["sender"])
        tasks += [asyncio.create_task(follow(f"reader{n}", subscribing(relay, "cam"))) for n in range(2)]
        await eventually(lambda: len(ready) == 3)
        started_s = time.monotonic()
        await relay.drain(0.9)
        await asyncio.gather(*tasks)
    names, times_s = zip(*ended, strict=True)
    assert sorted(names[:2]) == ["reader0", "reader1"]
    assert names[2] == "sender"
    assert times_s[0] >= 0.44
    assert times_s[1] - times_s[0] > 0.05


@live
async def test_everybody_moves_to_the_next_relay_at_the_same_address():
    """As behind a load balancer: the address stays, the relay behind it changes."""
    first = Relay(adaptive=False)
    await first.start()
    second = Relay(first.address, adaptive=False)
    async with (
        Sender(first.address, "cam", description=DESCRIPTION) as sender,
        Receiver(first.address, "cam", decode=False) as receiver,
    ):
        await sender.ready(5)
        await sender.send_unit(unit(0))
        await take(receiver, 1)
        await first.drain(0.4)
        await first.aclose()
        await second.start()
        await sender.ready(10)
        await sender.send_unit(unit(1))
        assert (await take(receiver, 1))[0].header.frame_id == 1
    await second.aclose()


@live
async def test_reflection_lists_the_services_when_asked_for():
    async with Relay(reflection=True) as relay:
        channel = open_channel(relay.address, 1 << 20)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        answer = await within(call.read())
        names = {service.name for service in answer.list_services_response.service}
        assert {"layercast.v1.Ingest", "layercast.v1.Distribution"} <= names
        await channel.close()


@pytest.mark.parametrize("signals", ["TERM", "TERM TERM", "INT"])
def test_the_command_drains_on_sigterm_and_stops_on_the_second_signal(signals):
    options = ("--listen", "127.0.0.1:0", "--drain", "60", "--log-level", "info", "--log-format", "json")
    relay = subprocess.Popen(
        [sys.executable, "-m", "layercast.cli", "relay", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert relay.stdout is not None
    assert relay.stderr is not None
    address = relay.stdout.readline().split()[-1]
    first, *more = (signal.Signals[f"SIG{name}"] for name in signals.split())

    @live
    async def use() -> None:
        async with (
            Sender(address, "cam", description=DESCRIPTION) as sender,
            Receiver(address, "cam", decode=False),
        ):
            await sender.ready(5)
            relay.send_signal(first)
            if first is signal.SIGTERM:
                while "drain began" not in await within(asyncio.to_thread(relay.stderr.readline)):
                    pass
                async with Receiver(address, "cam", decode=False, give_up_after_s=0.01) as late:
                    with pytest.raises(ConnectError, match="the relay is leaving"):
                        await take(late, 1)
            for number in more:
                relay.send_signal(number)
            if signals != "TERM":  # otherwise both calls end here, and with them the drain
                await asyncio.to_thread(relay.wait, 20)

    try:
        use()
        out, _ = relay.communicate(timeout=20)
    finally:
        relay.kill()
        relay.communicate()
    assert relay.returncode == 0
    assert out == "relay stopped\n"
