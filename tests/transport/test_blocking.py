"""The facades for synchronous code do what the asynchronous objects do, and end when told to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from layercast.errors import ConfigError, ConnectError
from layercast.transport.blocking import BlockingReceiver, BlockingSender, LoopThread
from layercast.transport.relay import Relay

from .harness import DESCRIPTION, PlainRelay, eventually, unit
from .planes import PlaneCodec, picture

PATIENCE_S = 10.0


@contextlib.contextmanager
def threaded_relay() -> Iterator[tuple[Relay, LoopThread]]:
    """A relay, and the thread that its loop has."""
    thread = LoopThread("layercast test relay")
    relay = PlainRelay()
    thread.run(relay.start())
    try:
        yield relay, thread
    finally:
        thread.run(relay.aclose())
        thread.stop()


@contextlib.contextmanager
def relay_thread() -> Iterator[Relay]:
    """A relay on a loop of its own."""
    with threaded_relay() as (relay, _):
        yield relay


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("layercast")]


def test_a_camera_loop_without_asyncio():
    with (
        relay_thread() as relay,
        BlockingSender(relay.address, "cam", codec=PlaneCodec()) as sender,
        BlockingReceiver(relay.address, "cam", codec=PlaneCodec()) as receiver,
    ):
        sender.ready(PATIENCE_S)
        for value in range(5):
            assert sender.send(picture(value))
            assert np.array_equal(next(receiver).image, picture(value))
        assert receiver.statistics().delivered == sender.statistics().encoded == 5


def test_waiting_for_a_frame_can_be_limited():
    with relay_thread() as relay, BlockingReceiver(relay.address, "cam", decode=False) as receiver:
        assert receiver.next(0.05) is None


def test_budgets_and_units_work_as_in_the_asynchronous_classes():
    with (
        relay_thread() as relay,
        BlockingSender(relay.address, "cam", description=DESCRIPTION) as sender,
        BlockingReceiver(relay.address, "cam", decode=False, max_layers=2) as receiver,
    ):
        assert receiver.ready(PATIENCE_S) == DESCRIPTION
        sender.send_unit(unit(0), wait=True)
        frame = receiver.next(PATIENCE_S)
        assert frame is not None
        assert frame.layers == 2
        receiver.set_budget(max_layers=4)
        for number in range(1, 500):
            sender.send_unit(unit(number), wait=True)
            frame = receiver.next(PATIENCE_S)
            assert frame is not None
            if frame.layers == 4:
                break
        assert frame.layers == 4
        sender.drain(PATIENCE_S)


def test_closing_from_another_thread_ends_the_iteration():
    with threaded_relay() as (relay, thread):
        receiver = BlockingReceiver(relay.address, "cam", decode=False)
        seen: list[int] = []
        with receiver:
            reader = threading.Thread(target=lambda: seen.extend(f.layers for f in receiver))
            reader.start()
            # Asked on the relay's own loop: its streams must not change while they are counted.
            thread.run(eventually(lambda: relay.statistics().subscribers > 0))
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
        assert seen == []


@pytest.mark.parametrize("order", ["relay first", "sender first", "receiver first"])
def test_they_close_in_any_order(order: str):
    with contextlib.ExitStack() as last, contextlib.ExitStack() as middle, contextlib.ExitStack() as first:
        stacks = {"relay": middle, "sender": middle, "receiver": middle, order.split()[0]: first}
        relay = stacks["relay"].enter_context(relay_thread())
        sender = stacks["sender"].enter_context(BlockingSender(relay.address, "cam", codec=PlaneCodec()))
        receiver = stacks["receiver"].enter_context(
            BlockingReceiver(relay.address, "cam", codec=PlaneCodec())
        )
        sender.ready(PATIENCE_S)
        sender.send(picture(3))
        assert receiver.next(PATIENCE_S) is not None
        assert last is not None


def test_errors_come_through():
    sender = BlockingSender("127.0.0.1:1", "cam", codec=PlaneCodec())
    with sender, pytest.raises(ConnectError, match=r"127\.0\.0\.1:1"):
        sender.ready(0.2)
    with pytest.raises(ConfigError, match="not open"):
        sender.send(picture(1))
    sender.close()
