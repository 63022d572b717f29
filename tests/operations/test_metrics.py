"""Metrics are what Prometheus reads, tell what happened, and forget who is gone."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.transport.harness import DESCRIPTION, LAYERS, eventually, live, unit, within

from layercast.errors import ConfigError, RefusedError
from layercast.transport.latency import BOUNDS_S, Latency
from layercast.transport.limits import RelayLimits
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender

from .strangers import honest, publishing, subscribing

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(relay: Relay) -> Samples:
    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{relay.metrics_port}/metrics", timeout=5) as page:
            return page.read().decode()

    text = await within(asyncio.to_thread(read))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """The one sample of that name with at least those labels."""
    found = [
        each
        for (other, theirs), each in samples.items()
        if other == name and frozenset(labels.items()) <= theirs
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


@live
async def test_counts_are_those_of_what_happened():
    async with Relay(metrics="127.0.0.1:0", adaptive=False) as relay, honest(relay) as stream:
        for _ in range(4):
            await stream.frame()
        size = len(unit(0))
        now = await scrape(relay)
        assert value(now, "layercast_streams") == 1
        assert value(now, "layercast_subscribers") == 1
        assert value(now, "layercast_leaving") == 0
        assert value(now, "layercast_stream_published", stream="cam") == 1
        assert value(now, "layercast_stream_frames_total", stream="cam") == 5
        assert value(now, "layercast_stream_bytes_total", stream="cam") == 5 * size
        assert value(now, "layercast_receiver_frames_total", stream="cam") == 5
        assert value(now, "layercast_receiver_bytes_total", stream="cam") == 5 * size
        assert value(now, "layercast_receiver_layers_total", stream="cam") == 5 * LAYERS
        assert value(now, "layercast_receiver_layers_offered_total", stream="cam") == 5 * LAYERS
        for reason in ("stale", "over_budget", "unreferenced"):
            assert value(now, "layercast_receiver_drops_total", stream="cam", reason=reason) == 0
        assert value(now, "layercast_receiver_queue_age_seconds", stream="cam") == 0
        assert value(now, "layercast_forwarding_seconds_count") == 5
        assert value(now, "layercast_forwarding_seconds_bucket", le="+Inf") == 5
        assert 0 < value(now, "layercast_forwarding_seconds_sum") < 5
        assert value(now, "process_cpu_seconds_total") > 0


@live
async def test_refusals_are_counted_by_reason():
    limits = RelayLimits(max_streams=1)
    async with Relay(metrics="127.0.0.1:0", limits=limits, adaptive=False) as relay, honest(relay):
        for _ in range(3):
            with pytest.raises(RefusedError):
                async with publishing(relay):
                    pass
        assert value(await scrape(relay), "layercast_refusals_total", reason="streams") == 3


@live
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the kernel tells in /proc")
async def test_connections_of_strangers_show_while_they_last():
    async with Relay(metrics="127.0.0.1:0") as relay, honest(relay):
        assert value(await scrape(relay), "layercast_connections") == 2
        strangers = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(5)]
        assert value(await scrape(relay), "layercast_connections") == 7
        for stranger in strangers:
            stranger.close()


@live
async def test_a_receiver_that_is_gone_has_no_series():
    async with Relay(metrics="127.0.0.1:0", adaptive=False) as relay:
        empty = await scrape(relay)
        async with Sender(relay.address, "cam", description=DESCRIPTION) as sender:
            await eventually(lambda: sender.statistics().link.connected)
            alone = await scrape(relay)
            for _ in range(5):
                async with Receiver(relay.address, "cam", decode=False) as receiver:
                    await receiver.ready(5)
                    during = await scrape(relay)
                    assert len(during) > len(alone)
                    assert value(during, "layercast_receiver_frames_total", stream="cam") == 0
                await eventually(lambda: relay.statistics().subscribers == 0)
            assert (await scrape(relay)).keys() == alone.keys()
        await eventually(lambda: not relay.statistics().streams)
        assert (await scrape(relay)).keys() == empty.keys()


@live
async def test_a_frame_that_waits_shows_its_age():
    async with (
        Relay(metrics="127.0.0.1:0", adaptive=False) as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
        subscribing(relay),
    ):
        await sender.ready(5)
        for number in range(80):  # the window of a reader that acknowledges nothing holds 64
            await sender.send_unit(unit(number), wait=True)
        await eventually(lambda: relay.statistics().streams["cam"].subscribers[0].waiting)
        now = await scrape(relay)
        assert value(now, "layercast_receiver_queue_frames") > 0
        assert 0 < value(now, "layercast_receiver_queue_age_seconds") < 2
        assert value(now, "layercast_receiver_in_flight_bytes") > 0


@live
async def test_series_per_receiver_can_be_left_out():
    async with (
        Relay(metrics="127.0.0.1:0", metrics_per_receiver=False, adaptive=False) as relay,
        honest(relay),
    ):
        now = await scrape(relay)
        assert not [name for name, _ in now if "receiver" in name]
        assert value(now, "layercast_subscribers") == 1


@live
async def test_a_port_that_is_taken_is_named():
    async with Relay(metrics="127.0.0.1:0") as relay:
        second = Relay(metrics=f"127.0.0.1:{relay.metrics_port}")
        with pytest.raises(ConfigError, match="cannot serve metrics"):
            await second.start()


def test_latencies_fall_into_their_buckets():
    latency = Latency()
    for latency_s in (0.0, BOUNDS_S[0], BOUNDS_S[0] * 1.01, 5.0):
        latency.add(latency_s)
    counted = latency.statistics()
    assert counted.counts == (2, 1, *(0,) * (len(BOUNDS_S) - 2), 1)
    assert counted.total_s == pytest.approx(5.0 + 2.01 * BOUNDS_S[0])


@live
async def test_scrapes_and_frames_do_not_disturb_each_other():
    async with Relay(metrics="127.0.0.1:0", adaptive=False) as relay, honest(relay) as stream:
        scrapes = [asyncio.create_task(scrape(relay)) for _ in range(10)]
        for _ in range(50):
            await stream.frame()
        for now in await asyncio.gather(*scrapes):
            assert value(now, "layercast_streams") == 1
