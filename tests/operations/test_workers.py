"""Several processes behind one port: whoever reaches whichever of them gets the same streams."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.transport.harness import DESCRIPTION, eventually, live, unit, within

from layercast.cli.main import main
from layercast.cli.workers import held_port
from layercast.errors import AuthError, ConfigError, LayercastError
from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender

RECEIVERS = 8
"""Enough that the kernel's spreading leaves a worker without any once in a hundred runs; then this tests less."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")


@contextlib.contextmanager
def relay(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A relay of two workers, and its address."""
    command = [sys.executable, "-m", "layercast.cli", "relay", "--listen", "127.0.0.1:0", "--workers", "2"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def frame(receiver: Receiver) -> int:
    return (await within(receiver.__anext__())).header.frame_id


@live
async def test_every_receiver_gets_every_frame_whichever_worker_it_reached():
    with relay("--fixed-budgets") as (process, address):
        async with contextlib.AsyncExitStack() as stack:
            sender = await stack.enter_async_context(Sender(address, "cam", description=DESCRIPTION))
            receivers = [
                await stack.enter_async_context(Receiver(address, "cam", decode=False))
                for _ in range(RECEIVERS)
            ]
            await asyncio.gather(*(receiver.ready(10) for receiver in receivers), sender.ready(10))
            await eventually(lambda: sender.statistics().wanted)
            for number in range(5):
                await sender.send_unit(unit(number))
                await eventually(lambda n=number: all(r.statistics().frames > n for r in receivers))
            assert len({await frame(receiver) for receiver in receivers}) <= 2
            with pytest.raises(LayercastError, match="already has a sender"):
                async with Sender(address, "cam", description=DESCRIPTION, give_up_after_s=0.1) as second:
                    await second.ready(10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@live
async def test_a_worker_that_dies_is_replaced_and_its_receivers_go_on():
    with relay("--fixed-budgets") as (process, address):
        async with (
            Sender(address, "cam", description=DESCRIPTION) as sender,
            Receiver(address, "cam", decode=False) as receiver,
        ):
            await receiver.ready(10)
            await sender.ready(10)
            os.kill(workers_of(process)[0], signal.SIGKILL)
            await eventually(lambda: len([pid for pid in workers_of(process) if is_running(pid)]) == 2)
            newest = asyncio.create_task(frame(receiver))
            for number in itertools.count():
                await sender.send_unit(unit(number))
                if (await asyncio.wait({newest}, timeout=0.05))[0]:
                    break
            assert newest.result() >= 0


@live
async def test_workers_do_not_outlive_a_hub_that_was_killed():
    with relay() as (process, _):
        workers = workers_of(process)
        process.kill()
        await eventually(lambda: not any(map(is_running, workers)))


@live
async def test_each_worker_is_a_door_of_its_own(tmp_path):
    keys = tmp_path / "keys.json"
    assert main(["token", "key", "--keys", str(keys), "--id", "1"]) == 0
    with relay("--token-keys", str(keys)) as (_, address):
        for _ in range(4):
            async with Receiver(address, "cam", decode=False) as receiver:
                with pytest.raises(AuthError, match="asks for a token"):
                    await receiver.ready(10)


def test_a_port_that_is_taken_is_not_shared_with_strangers():
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = f"127.0.0.1:{stranger.getsockname()[1]}"
        with pytest.raises(ConfigError, match="cannot listen"), held_port(taken):
            pass
    with held_port("127.0.0.1:0") as listen:
        assert not listen.endswith(":0")
