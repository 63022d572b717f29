"""A TCP proxy that lets every byte travel for a stated time, both ways."""

from __future__ import annotations

import asyncio
import contextlib

CHUNK_BYTES = 64 << 10
HELD_CHUNKS = 64
"""Chunks on their way at once, per direction; then it stops reading, and the sender's TCP stops sending."""


class DelayProxy:
    """Use as `async with DelayProxy("10.0.0.1:7400", 0.02) as proxy:`, and connect to `proxy.address`."""

    def __init__(self, target: str, delay_s: float) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._delay_s = delay_s
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    async def __aenter__(self) -> DelayProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            except OSError:
                writer.close()
                return
            try:
                await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
            finally:
                writer.close()
                far_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS)

        async def read() -> None:
            while chunk := await reader.read(CHUNK_BYTES):
                await held.put((loop.time() + self._delay_s, chunk))
            await held.put((loop.time() + self._delay_s, b""))

        reading = asyncio.create_task(read())
        try:
            while True:
                due_s, chunk = await held.get()
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                if not chunk:
                    writer.write_eof()
                    return
                writer.write(chunk)
                await writer.drain()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
