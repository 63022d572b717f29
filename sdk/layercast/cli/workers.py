"""`layercast relay --workers N`: one port, N processes, and a hub that holds the streams.

The process that was started is the hub: a relay on a socket file that only this user can open. The workers are
ordinary relays that share the port; the kernel spreads the connections, and they even out what it does
(transport/shares.py). A worker serves its own receivers with what senders send to it, gives the hub a copy when
receivers of other workers listen, and subscribes at the hub to what senders send to others. So a stream costs its
worker one subscriber more, and the hub one copy per worker, however many receivers there are, and it does not matter
which worker a sender or a receiver reaches.

A worker gets its settings as one line of JSON on stdin; the end of that pipe tells it that the hub is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from layercast.errors import ConfigError
from layercast.transport import logs
from layercast.transport.channel import check_address
from layercast.transport.limits import RelayLimits
from layercast.transport.process import run_relay
from layercast.transport.shares import GONE, Share, Shares

RESTART_S = 1.0
"""A worker that ended by itself is started again after so long, seconds: its receivers have gone to the others."""

START_S = 20.0
"""Time in which a worker must say that it listens, seconds; it takes under one."""

UP = b"up\n"

_log = logging.getLogger("layercast.relay")


class Workers:
    """The processes that share a port.

    Args:
        values: resolved settings of `layercast relay`, with a port that is not 0.
        hub: address of the hub.
        shares: file for the counts of their subscribers.
    """

    def __init__(self, values: dict[str, Any], hub: str, shares: Path) -> None:
        self._values = values
        self._hub = hub
        self._shares_file = shares
        Shares.create(shares, values["workers"])
        self._shares = Shares(shares)
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._leaving = False

    async def start(self) -> None:
        """Return when all of them listen.

        Raises:
            ConfigError: one of them does not; what it said is on stderr.
        """
        numbers = range(1, self._values["workers"] + 1)
        await asyncio.gather(*(self._spawn(number) for number in numbers))
        self._keepers = [asyncio.create_task(self._keep(number)) for number in numbers]

    def send(self, what: signal.Signals) -> None:
        """A signal to all of them."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(what)

    def leave(self, at_once: bool) -> None:
        """Have them drain, or stop; none is started again."""
        self._leaving = True
        self.send(signal.SIGINT if at_once else signal.SIGTERM)

    async def ended(self) -> None:
        """Wait until all of them are gone."""
        await asyncio.gather(*self._keepers)

    async def aclose(self) -> None:
        """End what still runs."""
        self.leave(at_once=True)
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError, asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), START_S)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        self._shares.close()

    async def _spawn(self, number: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "layercast.cli.workers",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._processes[number] = process
        assert process.stdin is not None
        assert process.stdout is not None
        settings = {
            **self._values,
            "hub": self._hub,
            "shares": str(self._shares_file),
            "number": number,
            "metrics": worker_metrics(self._values["metrics"], number),
        }
        process.stdin.write(json.dumps(settings, default=str).encode() + b"\n")
        try:
            said = await asyncio.wait_for(process.stdout.readline(), START_S)
        except asyncio.TimeoutError:
            said = b""
        if said != UP:
            raise ConfigError(f"worker {number} of this relay did not start")

    async def _keep(self, number: int) -> None:
        while True:
            await self._processes[number].wait()
            if self._leaving:
                return
            self._shares.tell(number - 1, GONE)
            logs.event(
                _log, logging.ERROR, "worker ended", worker=number, code=self._processes[number].returncode
            )
            await asyncio.sleep(RESTART_S)
            with contextlib.suppress(ConfigError):
                await self._spawn(number)


def hub_limits(limits: RelayLimits, workers: int) -> RelayLimits:
    """What the hub takes on: all of its callers are the workers, who have checked the limits of each peer. A worker may
    send more at once than its sender did: the frames since the newest key frame, when somebody begins to listen."""
    calls = (workers + 1) * limits.max_streams
    return replace(
        limits,
        max_subscribers=calls,
        max_subscribers_per_stream=None,
        max_connections=2 * calls,
        max_calls_per_peer=2 * calls,
        max_attempts_per_s=2.0 * calls,
        max_frames_per_s=None,
        max_publish_bitrate=None,
    )


def worker_metrics(listen: str | None, number: int) -> str | None:
    """Where worker `number` serves its metrics: `number` ports above the hub's."""
    if listen is None:
        return None
    check_address(listen)
    host, _, port = listen.rpartition(":")
    return f"{host}:{int(port) + number if int(port) else 0}"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """For files that only this user can open."""
    with tempfile.TemporaryDirectory(prefix="layercast-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def held_port(listen: str) -> Iterator[str]:
    """`listen` with its port taken, for processes that share it; port 0 becomes a free one.

    Raises:
        ConfigError: something else listens there, or the host is not this machine.
    """
    check_address(listen)
    host, _, port = listen.rpartition(":")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)  # without sharing: fails if anybody is there
        with socket.socket(family, kind) as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address)
            yield f"{host}:{holder.getsockname()[1]}"
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {listen}: {error.strerror}",
            hint="another process holds the port, or the host is not this machine",
        ) from None


async def serve(values: dict[str, Any], leaving: asyncio.Event, stopped: asyncio.Event) -> None:
    """Hub and workers, until they are told to leave.

    Args:
        values: resolved settings.
        leaving, stopped: set when everybody is to drain, or to stop.
    """
    from layercast.cli.relay import announce, make_relay

    if values["trace"] is not None:
        raise ConfigError("several workers cannot write one trace", hint="use one worker, or no trace")
    with held_port(values["listen"]) as listen, private_folder() as folder:
        hub_address = f"unix:{folder}/hub"
        open_door = {"certificate": None, "key": None, "client_ca": None, "token_keys": None}
        own = {"listen": hub_address, "fixed_budgets": True, "reflection": False}
        async with make_relay({**values, **open_door, **own}, workers=values["workers"]) as hub:
            workers = Workers({**values, "listen": listen}, hub_address, folder / "subscribers")
            try:
                await workers.start()
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, workers.send, signal.SIGHUP)
                announce(listen, hub.metrics_port)
                await leaving.wait()
                workers.leave(stopped.is_set())
                ended, stop = asyncio.ensure_future(workers.ended()), asyncio.ensure_future(stopped.wait())
                await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                ended.cancel()
            finally:
                await workers.aclose()


async def _work(values: dict[str, Any]) -> None:
    from layercast.cli.relay import drained, make_relay, told

    leaving, stopped = told()

    def hub_is_gone() -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        stopped.set()
        leaving.set()

    # Nothing more comes on stdin but its end.
    asyncio.get_running_loop().add_reader(sys.stdin, hub_is_gone)
    shares = Shares(Path(values["shares"]))
    async with make_relay(values, share=Share(shares, values["number"] - 1)) as relay:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, relay.reload)
        sys.stdout.buffer.write(UP)
        sys.stdout.flush()
        await drained(relay, values, leaving, stopped)


def main() -> None:
    """One worker: settings from stdin, then serve until told to leave or until stdin ends."""
    from layercast.cli.relay import SETTINGS

    values = json.loads(sys.stdin.buffer.readline())
    for setting in SETTINGS:
        if setting.parse is Path and values[setting.name] is not None:
            values[setting.name] = Path(values[setting.name])
    logs.configure(values["log_format"], values["log_level"])
    run_relay(_work(values))


if __name__ == "__main__":
    main()
