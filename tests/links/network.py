"""A real link of a stated rate, between two network namespaces that are made for it and go with it.

`ip netns` + veth + `tc tbf` on the near end; nothing outside the two namespaces is touched. The queue is deep (tbf
drops nothing), so what is sent too much shows as delay, as on most access links. Delay comes from `proxy.DelayProxy`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from types import TracebackType

NEAR_ADDRESS, FAR_ADDRESS = "10.77.0.1", "10.77.0.2"
"""Inside the namespaces only."""

BURST_BYTES = 3028
"""Depth of tbf's bucket, bytes: two packets of 1514, the least that it shapes evenly."""

PACKET_BYTES = 1600
"""One packet, and a little."""

QUEUE_BYTES = 1 << 20
"""Depth of tbf's queue, bytes: seconds of it, so that nothing is dropped."""


class ShapedLink:
    """Use as `with ShapedLink(1e6) as link:`.

    Args:
        rate_bps: bits per second from the near end to the far end, headers of Ethernet, IP and TCP included; the
            way back is not shaped.

    Attributes:
        near, far: prefixes of commands that run at that end.
    """

    def __init__(self, rate_bps: float) -> None:
        name = f"lc{os.getpid()}"
        self._near, self._far, self._device = f"{name}n", f"{name}f", "shaped"
        self._rate_bps = rate_bps
        self._gone = threading.Event()
        self._following: threading.Thread | None = None
        self.near = ["ip", "netns", "exec", self._near]
        self.far = ["ip", "netns", "exec", self._far]

    def __enter__(self) -> ShapedLink:
        try:
            for namespace in (self._near, self._far):
                _run("ip", "netns", "add", namespace)
                _run("ip", "-n", namespace, "link", "set", "lo", "up")
            _run(
                *("ip", "link", "add", self._device, "netns", self._near, "type", "veth"),
                *("peer", "name", self._device, "netns", self._far),
            )
            for namespace, address in ((self._near, NEAR_ADDRESS), (self._far, FAR_ADDRESS)):
                _run("ip", "-n", namespace, "addr", "add", f"{address}/30", "dev", self._device)
                _run("ip", "-n", namespace, "link", "set", self._device, "up")
            self._shape("add", self._rate_bps)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gone.set()
        if self._following is not None:
            self._following.join()
        self._remove()

    def set_rate(self, rate_bps: float) -> None:
        """The link carries this from now on."""
        self._shape("change", rate_bps)

    def carried_bytes(self) -> int:
        """What has gone through since the link was made, headers included."""
        told = _run("tc", "-n", self._near, "-s", "-j", "qdisc", "show", "dev", self._device)
        return int(next(row["bytes"] for row in json.loads(told) if row["kind"] == "tbf"))

    def follow(self, rates: Iterator[tuple[float, float]]) -> None:
        """Have the rate follow (seconds from now, bits per second), in a thread of this process until it ends.

        Every change fills tbf's bucket; a bucket of one packet keeps what that adds small.
        """
        first_s, _ = next(rates)
        start_s = time.monotonic() - first_s

        def change() -> None:
            command = ["tc", "-n", self._near, "-batch", "-"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as tc:
                assert tc.stdin is not None
                for at_s, rate_bps in rates:
                    if self._gone.wait(max(0.0, start_s + at_s - time.monotonic())):
                        break
                    tc.stdin.write(" ".join(self._shaping("change", rate_bps, PACKET_BYTES)) + "\n")
                    tc.stdin.flush()

        self._following = threading.Thread(target=change, name="link rate")
        self._following.start()

    def _shape(self, verb: str, rate_bps: float) -> None:
        _run("tc", "-n", self._near, *self._shaping(verb, rate_bps))

    def _shaping(self, verb: str, rate_bps: float, burst_bytes: int = BURST_BYTES) -> list[str]:
        shape = f"qdisc {verb} dev {self._device} root tbf rate {rate_bps:.0f}bit"
        return [*shape.split(), "burst", str(burst_bytes), "limit", str(QUEUE_BYTES)]

    def _remove(self) -> None:
        for namespace in (self._near, self._far):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                _run("ip", "netns", "del", namespace)


def why_not() -> str | None:
    """Why no shaped link can be made here; None if it can."""
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"there is no `{tool}` here"
    try:
        with ShapedLink(1e6):
            return None
    except subprocess.CalledProcessError as error:
        return f"not permitted here: `{' '.join(error.cmd)}`: {error.stderr.strip()}"


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
