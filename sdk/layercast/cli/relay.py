"""`layercast relay`: pass streams on, each subscriber's copy cut to its link and budget; needs no codec, no numpy."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layercast.cli.arguments import add_command, count, per_second, quantity, seconds
from layercast.cli.settings import Setting, add_settings, credentials, credentials_settings, resolve
from layercast.errors import ConfigError

if TYPE_CHECKING:
    import asyncio

    from layercast.transport.limits import RelayLimits
    from layercast.transport.relay import Relay
    from layercast.transport.shares import Share

DEFAULT_LISTEN = "127.0.0.1:7400"
"""This machine only: a relay that others reach is something to ask for."""

MAX_WORKERS = 64
"""More than the cores that one machine gives to this."""

LOOPBACK = ("127.", "localhost:", "[::1]:")

EXAMPLES = """\
  layercast relay                                           (this machine only)
  layercast relay --listen 0.0.0.0:7400                     (for the network)
  layercast relay --listen 0.0.0.0:7400 --upstream hub.example:7400
                                         (fetches streams from another relay while somebody listens here)
  layercast relay --listen 127.0.0.1:0                      (any free port; the first line tells which)
  layercast relay --listen 0.0.0.0:7400 --workers 4         (on four cores)
  layercast relay --config /etc/layercast/relay.toml        (see docs/operations.md)

Ctrl-C stops it. SIGTERM drains it first: no new calls, and --drain seconds for the running ones to move away;
a second signal stops it. SIGHUP reads the token keys again. It ends with exit code 0."""

LIMITS = (
    Setting("max_streams", count, "N", "names with a sender or a receiver", 256, "limits"),
    Setting("max_subscribers", count, "N", "over all streams", 1024, "limits"),
    Setting("max_subscribers_per_stream", count, "N", "of each stream", None, "limits"),
    Setting("max_connections", count, "N", "TCP connections, also of strangers", 1536, "limits"),
    Setting("max_calls_per_peer", count, "N", "at once from one address (IPv6: one /64)", 512, "limits"),
    Setting("max_attempts_per_s", per_second, "R", "calls per second from one address", 20.0, "limits"),
    Setting("max_unit_bytes", quantity, "N", "largest frame (default 32 MiB)", None, "limits"),
    Setting("max_frames_per_s", per_second, "R", "of each sender", None, "limits"),
    Setting("max_publish_bitrate", quantity, "R", "of each sender, bits per second", None, "limits"),
    Setting(
        "max_reports_per_s",
        per_second,
        "R",
        "of all receivers, who are asked to keep to it",
        1000.0,
        "limits",
    ),
)


_log = logging.getLogger("layercast.relay")


def _one_of(*choices: str) -> Any:
    def parse(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return parse


def _workers(text: str) -> int:
    number = count(text)
    if number > MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"{number} workers, at most {MAX_WORKERS}")
    return number


SETTINGS = (
    Setting("listen", str, "HOST:PORT", "where", DEFAULT_LISTEN),
    Setting("upstream", str, "HOST:PORT", "another relay, for streams not sent to this one"),
    Setting("workers", _workers, "N", "processes that share the port, one per core", 1),
    Setting("fixed_budgets", None, "", "send what receivers ask for, whatever their links carry", False),
    Setting(
        "trace",
        str,
        "FILE",
        "write down why each layer was kept or dropped; FILE for the first receiver, FILE-2 ... for more "
        "(see `layercast trace`)",
    ),
    *LIMITS,
    Setting("certificate", Path, "FILE", "serve with TLS: certificate chain (PEM)", None, "access"),
    Setting("key", Path, "FILE", "its private key (PEM)", None, "access"),
    Setting("client_ca", Path, "FILE", "ask clients for a certificate signed by these (PEM)", None, "access"),
    Setting(
        "token_keys", Path, "FILE", "ask for tokens signed by these (see `layercast token`)", None, "access"
    ),
    *credentials_settings("upstream_", "access to the upstream relay"),
    Setting("metrics", str, "HOST:PORT", "serve Prometheus metrics over HTTP", None, "operations"),
    Setting("metrics_per_receiver", None, "", "a series per receiver, or only sums", True, "operations"),
    Setting("reflection", None, "", "let tools list the gRPC services", False, "operations"),
    Setting("drain", seconds, "S", "for running calls to move away after SIGTERM", 10.0, "operations"),
    Setting(
        "drain_hint", str, "TEXT", "for who calls meanwhile", "connect again, or elsewhere", "operations"
    ),
    Setting("log_format", _one_of("text", "json"), "F", "text or json", "text", "operations"),
    Setting(
        "log_level",
        _one_of("debug", "info", "warning", "error"),
        "L",
        "debug, info, warning or error",
        "warning",
        "operations",
    ),
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "relay", "pass streams on, each copy cut to its link", EXAMPLES, run)
    add_settings(parser, SETTINGS)


def run(args: argparse.Namespace) -> int:
    from layercast.transport import logs
    from layercast.transport.process import run_relay

    values = resolve("relay", SETTINGS, args)
    logs.configure(values["log_format"], values["log_level"])
    run_relay(_serve(values))
    return 0


def make_relay(values: dict[str, Any], workers: int = 0, share: Share | None = None) -> Relay:
    """The relay that resolved SETTINGS describe, not started.

    Args:
        values: resolved SETTINGS; of a worker, also "hub".
        workers: how many will call it, if it is to be their hub; 0: it is none.
        share: of a worker, see Relay.

    Raises:
        ConfigError: they contradict each other, or a file they name is of no use.
    """
    from layercast.transport.credentials import ServerTls
    from layercast.transport.relay import Relay

    tls = keys = None
    certificate, key = values["certificate"], values["key"]
    if (certificate is None) != (key is None) or (certificate is None and values["client_ca"]):
        raise ConfigError("TLS needs a certificate and its key", hint="give both")
    if certificate is not None:
        tls = ServerTls(certificate, key, values["client_ca"])
    if values["token_keys"] is not None:
        from layercast.transport.logs import event
        from layercast.transport.tokens import TokenKeys

        keys = TokenKeys(values["token_keys"])
        if tls is None and not values["listen"].startswith(LOOPBACK):
            event(_log, logging.WARNING, "tokens without TLS: whoever sees the packets can copy them")
    limits, hub = make_limits(values), values.get("hub")
    if workers:
        from layercast.cli.workers import hub_limits

        limits = hub_limits(limits, workers)
    return Relay(
        values["listen"],
        values["upstream"],
        limits=limits,
        adaptive=not values["fixed_budgets"],
        trace=values["trace"],
        tls=tls,
        token_keys=keys,
        upstream_credentials=credentials(values, "upstream_") if hub is None else None,
        hub=hub,
        share=share,
        metrics=values["metrics"],
        metrics_per_receiver=values["metrics_per_receiver"],
        reflection=values["reflection"],
    )


def make_limits(values: dict[str, Any]) -> RelayLimits:
    """The limits among resolved SETTINGS."""
    from layercast.transport.limits import RelayLimits

    given = {limit.name: values[limit.name] for limit in LIMITS if values[limit.name] is not None}
    if "max_unit_bytes" in given:
        given["max_unit_bytes"] = int(given["max_unit_bytes"])
    return RelayLimits(**given)


async def _serve(values: dict[str, Any]) -> None:
    import asyncio
    import signal

    leaving, stopped = told()
    if values["workers"] > 1:
        from layercast.cli.workers import serve

        await serve(values, leaving, stopped)
    else:
        async with make_relay(values) as relay:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, relay.reload)
            announce(relay.address, relay.metrics_port)
            await drained(relay, values, leaving, stopped)
    print("relay stopped", flush=True)


def told() -> tuple[asyncio.Event, asyncio.Event]:
    """Set when signals ask to leave, and to stop at once."""
    import asyncio
    import signal

    leaving, stopped = asyncio.Event(), asyncio.Event()

    def leave(at_once: bool) -> None:
        if at_once or leaving.is_set():
            stopped.set()
        leaving.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, leave, True)
    loop.add_signal_handler(signal.SIGTERM, leave, False)
    return leaving, stopped


def announce(address: str, metrics_port: int) -> None:
    """Say that everything is up."""
    print(f"relay listening on {address}", flush=True)
    if metrics_port:
        print(f"metrics on port {metrics_port}", flush=True)


async def drained(
    relay: Relay, values: dict[str, Any], leaving: asyncio.Event, stopped: asyncio.Event
) -> None:
    """Wait until told to leave; then until the relay is empty, its time is over, or told to stop."""
    from layercast.transport.tasks import first_of

    async def wait_stopped() -> None:
        await stopped.wait()

    await leaving.wait()
    if not stopped.is_set():
        await first_of(relay.drain(values["drain"], values["drain_hint"]), wait_stopped())
