"""Sender and Receiver for synchronous code: the same objects on an event loop in a thread of their own.

with BlockingSender("host:7400", "cam1") as sender:
    while True:
        sender.send(camera.capture_array())
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from layercast.bitstream.types import StreamDescription
from layercast.errors import ConfigError
from layercast.transport.received import ReceivedFrame
from layercast.transport.receiver import Receiver, ReceiverStatistics
from layercast.transport.sender import Sender, SenderStatistics
from layercast.transport.tasks import limited

if TYPE_CHECKING:
    from layercast.codecs.base import Image

T = TypeVar("T")
S = TypeVar("S", bound="_Facade")


class LoopThread:
    """An event loop in a daemon thread, from construction to `stop`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for what it returns or raises; an interrupt here cancels it there.

        Raises:
            ConfigError: the loop was stopped before `work` was done.
        """
        with self._lock:
            if self._stopped:
                work.close()
                raise ConfigError("it is closed", hint="open a new one")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ConfigError("it was closed meanwhile", hint="open a new one") from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Cancel what still runs and end the thread."""
        with self._lock:
            self._stopped = True
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _Facade:
    """A context manager that opens and closes an asynchronous object on a loop thread."""

    def __init__(self, inner: Sender | Receiver, name: str) -> None:
        self._inner = inner
        self._name = name
        self._thread: LoopThread | None = None

    def __enter__(self: S) -> S:
        self._thread = LoopThread(f"layercast {self._name}")
        self._run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close and end the thread; a second call does nothing."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            thread.run(self._inner.aclose())
            thread.stop()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            work.close()
            raise ConfigError(f"the {self._name} is not open", hint="use it in a `with` block")
        return self._thread.run(work)


class BlockingSender(_Facade):
    """A Sender for a synchronous camera loop: `send` hands the picture over and returns.

    Takes the arguments of Sender.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._sender = Sender(*arguments, **options)
        super().__init__(self._sender, "sender")

    def send(self, image: Image, timestamp_us: int | None = None, *, wait: bool = False) -> bool:
        """See Sender.send."""
        return self._run(self._sender.send(image, timestamp_us, wait=wait))

    def send_unit(self, unit: bytes, *, wait: bool = False) -> bool:
        """See Sender.send_unit."""
        return self._run(self._sender.send_unit(unit, wait=wait))

    def ready(self, timeout_s: float | None = None) -> None:
        """See Sender.ready."""
        self._run(self._sender.ready(timeout_s))

    def drain(self, timeout_s: float | None = None) -> None:
        """See Sender.drain."""
        self._run(self._sender.drain(timeout_s))

    def statistics(self) -> SenderStatistics:
        """See Sender.statistics."""
        return self._sender.statistics()


class BlockingReceiver(_Facade):
    """A Receiver for synchronous code: `for frame in receiver:`.

    Takes the arguments of Receiver.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._receiver = Receiver(*arguments, **options)
        super().__init__(self._receiver, "receiver")

    def __iter__(self) -> BlockingReceiver:
        return self

    def __next__(self) -> ReceivedFrame:
        """The next frame; the iteration ends when the receiver is closed, also by another thread."""
        try:
            return self._run(self._receiver.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def next(self, timeout_s: float) -> ReceivedFrame | None:
        """The next frame, or None if none comes within `timeout_s`."""
        return self._run(self._next(timeout_s))

    async def _next(self, timeout_s: float) -> ReceivedFrame | None:
        try:
            return await limited(self._receiver.__anext__(), timeout_s)
        except asyncio.TimeoutError:
            return None

    def ready(self, timeout_s: float | None = None) -> StreamDescription:
        """See Receiver.ready."""
        return self._run(self._receiver.ready(timeout_s))

    def set_budget(self, max_bitrate: float | None = None, max_layers: int | None = None) -> None:
        """See Receiver.set_budget."""
        self._run(self._set_budget(max_bitrate, max_layers))

    async def _set_budget(self, max_bitrate: float | None, max_layers: int | None) -> None:
        self._receiver.set_budget(max_bitrate, max_layers)

    def statistics(self) -> ReceiverStatistics:
        """See Receiver.statistics."""
        return self._receiver.statistics()
