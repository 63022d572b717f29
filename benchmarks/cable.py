"""TCP cables that can be pulled out and put back: proxies of this process, on a thread of their own.

While a cable is out nothing travels, and nothing says so: no reset, no end. What was under way, and connections begun
meanwhile, go on when it is back, as TCP's own retransmission would have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading

CHUNK_BYTES = 64 << 10


class Cables:
    """Use as `with Cables() as cables:`; `cables.lay(name, target)` returns the address to connect to."""

    def __enter__(self) -> Cables:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._whole: dict[str, asyncio.Event] = {}
        self._servers: list[asyncio.Server] = []
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def names(self) -> list[str]:
        """Of all cables."""
        return sorted(self._whole)

    def lay(self, name: str, target: str) -> str:
        """A cable to `target`, "host:port"; returns its near end."""
        return asyncio.run_coroutine_threadsafe(self._lay(name, target), self._loop).result()

    def pull(self, name: str) -> None:
        """Nothing travels from now on."""
        self._loop.call_soon_threadsafe(self._whole[name].clear)

    def put_back(self, name: str) -> None:
        """Everything travels again."""
        self._loop.call_soon_threadsafe(self._whole[name].set)

    async def _lay(self, name: str, target: str) -> str:
        whole = self._whole[name] = asyncio.Event()
        whole.set()
        host, _, port = target.rpartition(":")

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
                await whole.wait()
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
                with contextlib.closing(far_writer):
                    there = asyncio.create_task(carry(reader, far_writer))
                    back = asyncio.create_task(carry(far_reader, writer))
                    try:
                        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        there.cancel()
                        back.cancel()

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while chunk := await reader.read(CHUNK_BYTES):
                    await whole.wait()
                    writer.write(chunk)
                    await writer.drain()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
