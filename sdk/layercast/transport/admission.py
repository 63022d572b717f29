"""How many calls, and how many attempts, each peer address may make: pure, no I/O."""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.parse
from collections.abc import Callable, Iterator

from layercast.transport.limits import RelayLimits
from layercast.transport.status import OverLimitError

MAX_PEERS = 65_536
"""Addresses whose recent attempts are remembered: about 15 MB, far more than a relay has subscribers. When so many
call within the seconds that it takes to forget one, strangers are refused, and those known already are not."""

IPV6_PREFIX = 64
"""Bits of an IPv6 address that stand for one peer: everybody gets 2^64 of them."""


class Bucket:
    """A token bucket: `rate` per second, at most `burst` at once."""

    __slots__ = ("_left", "_now_s", "burst", "rate")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self.rate = rate
        self.burst = burst
        self._left = burst
        self._now_s = now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Whether `amount` is there; it is gone then. More than `burst` is there when the bucket is full."""
        self._fill(now_s)
        if self._left < min(amount, self.burst):
            return False
        self._left -= amount
        return True

    def is_full(self, now_s: float) -> bool:
        """Nothing was taken for long enough."""
        self._fill(now_s)
        return self._left >= self.burst

    def _fill(self, now_s: float) -> None:
        self._left = min(self.burst, self._left + (now_s - self._now_s) * self.rate)
        self._now_s = now_s


class _Peer:
    __slots__ = ("attempts", "calls")

    def __init__(self, attempts: Bucket) -> None:
        self.attempts = attempts
        self.calls = 0


class Admission:
    """Counts the calls of each peer.

    Args:
        limits: `max_calls_per_peer` and `max_attempts_per_s`. As many attempts as calls are allowed at once, so
            that everybody behind one address can come back together when the relay has restarted.
        clock: monotonic seconds.
    """

    def __init__(self, limits: RelayLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._peers: dict[str, _Peer] = {}

    def __len__(self) -> int:
        """Peers remembered now."""
        return len(self._peers)

    @contextlib.contextmanager
    def call(self, peer: str) -> Iterator[None]:
        """While a call of `peer` (as gRPC names it) lasts.

        Raises:
            OverLimitError: one call or one attempt too many.
        """
        entry = self._entry(host_of(peer))
        if not entry.attempts.take(1, self._clock()):
            raise OverLimitError(
                "peer-attempts",
                f"more than {self._limits.max_attempts_per_s:g} calls per second from your address",
            )
        if entry.calls >= self._limits.max_calls_per_peer:
            raise OverLimitError(
                "peer-calls", f"more than {self._limits.max_calls_per_peer} calls at once from your address"
            )
        entry.calls += 1
        try:
            yield
        finally:
            entry.calls -= 1

    def forget(self) -> None:
        """Drop the peers that have no call and made no attempt lately."""
        now_s = self._clock()
        self._peers = {
            host: peer for host, peer in self._peers.items() if peer.calls or not peer.attempts.is_full(now_s)
        }

    def _entry(self, host: str) -> _Peer:
        entry = self._peers.get(host)
        if entry is None:
            if len(self._peers) >= MAX_PEERS:
                raise OverLimitError("peers", "too many addresses call at once")
            bucket = Bucket(
                self._limits.max_attempts_per_s, float(self._limits.max_calls_per_peer), self._clock()
            )
            entry = self._peers[host] = _Peer(bucket)
        return entry


def host_of(peer: str) -> str:
    """What counts as one peer in gRPC's "ipv4:1.2.3.4:567" or "ipv6:%5B::1%5D:567": the address, without the port."""
    kind, _, rest = urllib.parse.unquote(peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    if kind != "ipv6":
        return host or peer
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False).network_address)
