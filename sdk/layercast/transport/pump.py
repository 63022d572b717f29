"""Writing messages to one peer, one at a time, without a task that has to be woken for each.

A task that waits for "there is a message" costs an event loop two more turns for each, a twentieth of a relay's time.
Here what brings a message begins the write itself, and the end of the write looks for the next one. So the coroutine
that gRPC's `write` is gets driven by hand: `send(None)` runs it up to the future that it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Pump:
    """Hands messages to `write` as fast as it takes them.

    Args:
        take: the next message, None if there is none now.
        write: begins to write a message; a coroutine function.
        written: called when a message has been written.

    Attributes:
        failed: gets what a write raised; nothing is written after it.
    """

    def __init__(
        self,
        take: Callable[[], bytes | None],
        write: Callable[[bytes], Coroutine[Any, Any, None]],
        written: Callable[[], None] | None = None,
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._take = take
        self._write = write
        self._written = written
        self._writing: Coroutine[Any, Any, None] | None = None

    def kick(self) -> None:
        """There may be something to write, or room for it."""
        while self._writing is None and not self.failed.done() and (message := self._take()) is not None:
            self._writing = self._write(message)
            self._step()

    def close(self) -> None:
        """Write nothing more; a write that is under way is abandoned."""
        self.failed.cancel()
        if self._writing is not None:
            self._writing.close()
            self._writing = None

    def _step(self) -> None:
        """Run the write until it waits for something or ends."""
        assert self._writing is not None
        try:
            pending = self._writing.send(None)
        except StopIteration:
            self._writing = None
            if self._written is not None:
                self._written()
        except (Exception, asyncio.CancelledError) as error:
            self._writing = None
            self._fail(error)
        else:
            # What a task does with a future that its coroutine yields.
            pending._asyncio_future_blocking = False
            pending.add_done_callback(self._resume)

    def _resume(self, _pending: asyncio.Future[Any]) -> None:
        if self._writing is not None:
            self._step()
            self.kick()

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(
                ConnectionError() if isinstance(error, asyncio.CancelledError) else error
            )
