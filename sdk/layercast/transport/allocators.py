"""Making one allocator per subscription: adaptive or of a fixed budget, written down or not."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TextIO

from layercast.control.adaptive import STALENESS_S, AdaptiveAllocator, Peer
from layercast.control.budget import FixedBudgetAllocator
from layercast.control.trace import TracedAllocator
from layercast.errors import ConfigError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.admission import host_of
from layercast.transport.limits import MAX_STALENESS_S
from layercast.transport.outbox import Allocator
from layercast.transport.wire import check_name

MAX_TRACES = 64
"""Subscriptions that one relay writes down; the later ones go untraced. With MAX_TRACE_BYTES each, 2 GiB."""


class Allocators:
    """Opens allocators as a relay's subscribers come.

    Args:
        adaptive: follow each subscriber's link; False: only hold what it asked for.
        trace: file for the decisions of the first subscription; the n-th one's name ends in "-n" before the
            suffix. Existing files are replaced.

    Raises:
        ConfigError: a trace of fixed budgets, which have nothing to tell, or one that cannot be written.
    """

    def __init__(self, adaptive: bool = True, trace: str | PathLike[str] | None = None) -> None:
        if trace is not None and not adaptive:
            raise ConfigError("fixed budgets leave no trace", hint="leave adaptation on, or the trace out")
        self._adaptive = adaptive
        self._trace = None if trace is None else Path(trace)
        self._traced = 0
        self._links: dict[tuple[str, str, str], Peer] = {}
        if self._trace is not None:
            _create(self._trace).close()

    def open(self, limits: pb.Limits, stream: str, peer: str, link: str = "", subject: str = "") -> Allocator:
        """An allocator for one subscription; whoever asked closes it.

        Args:
            limits: what the subscriber asks for.
            stream: for the head of the trace.
            peer: its address, as gRPC names it.
            link: subscriptions from one address with the same name share what their link carries, by gain per bit; ""
                for a link of its own. They leave no trace, which is of one subscription.
            subject: whose token it came with: strangers behind one router share nothing.

        Raises:
            ConfigError: the trace file cannot be written, or a bad name.
        """
        max_bitrate_bps, max_layers = limits.max_bitrate_bps or None, limits.max_layers or None
        if not self._adaptive:
            return FixedBudgetAllocator(max_bitrate_bps, max_layers)
        staleness_s = min(limits.max_staleness_ms / 1e3, MAX_STALENESS_S) or STALENESS_S
        if link:
            key = host_of(peer), subject, check_name(link, "link")
            return _Sharing(self._links, key, max_bitrate_bps, max_layers, staleness_s)
        allocator = AdaptiveAllocator(max_bitrate_bps, max_layers, staleness_s=staleness_s)
        if self._trace is None or self._traced == MAX_TRACES:
            return allocator
        self._traced += 1
        path = self._trace
        if self._traced > 1:
            path = path.with_name(f"{path.stem}-{self._traced}{path.suffix}")
        return _Recording(allocator, _create(path), stream, peer)


class _Sharing(AdaptiveAllocator):
    """An allocator on the link `key`, which is forgotten with the last of them."""

    def __init__(
        self,
        links: dict[tuple[str, str, str], Peer],
        key: tuple[str, str, str],
        max_bitrate_bps: float | None,
        max_layers: int | None,
        staleness_s: float,
    ) -> None:
        self._links, self._key = links, key
        peer = links.setdefault(key, Peer(seldom=False))
        super().__init__(max_bitrate_bps, max_layers, staleness_s=staleness_s, peer=peer)

    def close(self) -> None:
        super().close()
        if self.peer.idle:
            self._links.pop(self._key, None)


class _Recording(TracedAllocator):
    """A traced allocator that owns its file."""

    def __init__(self, allocator: AdaptiveAllocator, file: TextIO, stream: str, peer: str) -> None:
        super().__init__(allocator, file, {"stream": stream, "peer": peer})
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()


def _create(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write the trace {path}: {error.strerror}", hint="choose another file"
        ) from None
