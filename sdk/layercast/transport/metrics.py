"""A relay's counts for Prometheus, read when somebody asks: a receiver that is gone has no series.

Only what is there now gets labels (bounded by max_streams and max_subscribers) and the reasons of refusals come
from a fixed set, so that nobody outside can make the number of series grow.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from layercast.errors import ConfigError, MissingDependencyError
from layercast.transport.channel import check_address
from layercast.transport.connections import connections
from layercast.transport.latency import BOUNDS_S

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from layercast.transport.relay import RelayStatistics

SCRAPE_TIMEOUT_S = 5.0
"""How long a scrape waits for the relay's event loop, in seconds; a healthy one answers within milliseconds."""


def families(now: RelayStatistics, per_receiver: bool, connected: int | None = None) -> Iterator[Metric]:
    """All metric families.

    Args:
        now: what to tell.
        per_receiver: one series per receiver; otherwise only sums per stream.
        connected: TCP connections to the relay's port, None if that is not known.
    """
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    yield GaugeMetricFamily("layercast_streams", "Streams with a sender or a subscriber", len(now.streams))
    yield GaugeMetricFamily("layercast_subscribers", "Subscribers of all streams", now.subscribers)
    yield GaugeMetricFamily("layercast_leaving", "1 while the relay drains", int(now.leaving))
    yield CounterMetricFamily(
        "layercast_tls_handshakes", "TLS handshakes begun, also those that failed", now.handshakes
    )
    yield GaugeMetricFamily(
        "layercast_frames_served",
        "Share of the frames that go out: below 1 while the relay is overloaded",
        now.frames_served,
    )
    yield GaugeMetricFamily(
        "layercast_report_interval_seconds",
        "Least time between two reports that receivers are asked for, 0 while they are few",
        now.report_interval_s,
    )
    if connected is not None:
        yield GaugeMetricFamily(
            "layercast_connections", "TCP connections to the relay's port, also of strangers", connected
        )
    refused = CounterMetricFamily(
        "layercast_refusals", "Calls refused or ended by the relay", labels=["reason"]
    )
    for reason, count in now.refused.items():
        refused.add_metric([reason], count)
    hung_up = CounterMetricFamily(
        "layercast_hung_up", "Calls that ended from outside: left, lost, or a giant message", labels=["right"]
    )
    for right, count in now.hung_up.items():
        hung_up.add_metric([right], count)
    yield from (refused, hung_up)

    counts = accumulate(now.forwarding.counts)
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    yield HistogramMetricFamily(
        "layercast_forwarding_seconds",
        "From the last byte of a frame in until it was handed to gRPC for one subscriber",
        buckets=list(zip(bounds, counts, strict=True)),
        sum_value=now.forwarding.total_s,
    )

    published = GaugeMetricFamily(
        "layercast_stream_published", "1 while the stream has a sender", labels=["stream"]
    )
    frames = CounterMetricFamily("layercast_stream_frames", "Frames from the sender", labels=["stream"])
    size = CounterMetricFamily("layercast_stream_bytes", "Bytes from the sender", labels=["stream"])
    left_out = CounterMetricFamily(
        "layercast_stream_left_out",
        "Frames sent to nobody because the relay was overloaded",
        labels=["stream"],
    )
    cached = GaugeMetricFamily(
        "layercast_stream_cached_bytes", "Held for receivers that join late", labels=["stream"]
    )
    for name, stream in now.streams.items():
        published.add_metric([name], int(stream.published))
        frames.add_metric([name], stream.frames)
        size.add_metric([name], stream.bytes)
        left_out.add_metric([name], stream.left_out)
        cached.add_metric([name], stream.cached_bytes)
    yield from (published, frames, size, left_out, cached)
    yield from _receivers(now) if per_receiver else ()


def _receivers(now: RelayStatistics) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = ["stream", "receiver"]
    sent = CounterMetricFamily("layercast_receiver_frames", "Frames sent", labels=labels)
    size = CounterMetricFamily("layercast_receiver_bytes", "Bytes of access units sent", labels=labels)
    layers = CounterMetricFamily("layercast_receiver_layers", "Layers sent", labels=labels)
    offered = CounterMetricFamily(
        "layercast_receiver_layers_offered", "Layers that the frames sent had", labels=labels
    )
    drops = CounterMetricFamily(
        "layercast_receiver_drops",
        "Frames not sent: too old, over the budget, or without what they refer to",
        labels=[*labels, "reason"],
    )
    waiting = GaugeMetricFamily("layercast_receiver_queue_frames", "Frames that wait", labels=labels)
    age = GaugeMetricFamily(
        "layercast_receiver_queue_age_seconds", "Age of the oldest of them", labels=labels
    )
    flying = GaugeMetricFamily(
        "layercast_receiver_in_flight_bytes", "Sent and not acknowledged", labels=labels
    )
    for name, stream in now.streams.items():
        for peer, age_s, outbox in zip(stream.peers, stream.queue_age_s, stream.subscribers, strict=True):
            values = [name, peer]
            sent.add_metric(values, outbox.sent)
            size.add_metric(values, outbox.bytes_sent)
            layers.add_metric(values, outbox.layers_sent)
            offered.add_metric(values, outbox.layers_offered)
            drops.add_metric([*values, "stale"], outbox.stale)
            drops.add_metric([*values, "over_budget"], outbox.over_budget)
            drops.add_metric([*values, "unreferenced"], outbox.unreferenced)
            waiting.add_metric(values, outbox.waiting)
            age.add_metric(values, age_s)
            flying.add_metric(values, outbox.in_flight_bytes)
    yield from (sent, size, layers, offered, drops, waiting, age, flying)


class MetricsServer:
    """Serves the counts of a relay over HTTP at /metrics, on a thread of prometheus_client's.

    Args:
        listen: "host:port"; port 0 takes any free one, see `port`.
        statistics: called on the event loop for every scrape.
        per_receiver: see `families`.
        relay_port: TCP port of the relay, 0 if it has none.

    Raises:
        ConfigError: a bad address, or a port that cannot be had.
        MissingDependencyError: the package prometheus-client is not installed.
    """

    def __init__(
        self,
        listen: str,
        statistics: Callable[[], RelayStatistics],
        per_receiver: bool = True,
        relay_port: int = 0,
    ) -> None:
        check_address(listen)
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
        except ImportError:
            raise MissingDependencyError(
                "metrics need prometheus-client", hint='pip install "layercast[ops]"'
            ) from None
        self._loop = asyncio.get_running_loop()
        self._statistics = statistics
        self._per_receiver = per_receiver
        self._relay_port = relay_port
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(self)
        host, _, port = listen.rpartition(":")
        try:
            self._server, self._thread = start_http_server(int(port), host.strip("[]"), registry)
        except OSError as error:
            raise ConfigError(f"cannot serve metrics on {listen}: {error.strerror}") from None
        self.port: int = self._server.server_port

    def describe(self) -> list[Any]:
        """Nothing; its presence keeps the registry from collecting when it registers."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client on the thread of a scrape."""
        result: concurrent.futures.Future[RelayStatistics] = concurrent.futures.Future()

        def read() -> None:
            try:
                result.set_result(self._statistics())
            except Exception as error:
                result.set_exception(error)

        self._loop.call_soon_threadsafe(read)
        connected = connections(self._relay_port) if self._relay_port else None
        yield from families(result.result(SCRAPE_TIMEOUT_S), self._per_receiver, connected)

    async def aclose(self) -> None:
        """Free the port and end the thread."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()
        await asyncio.to_thread(self._thread.join)
