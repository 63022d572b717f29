"""Why each layer of each frame was kept or dropped, as JSON lines, and the replay of such a file.

One object a line. The first is the head, `{"layercast_trace": 1, "max_bitrate_bps": ..., "max_layers": ...,
"staleness_s": ..., ...notes}`; then, in order of time (`t`, seconds of the recording end's clock):

* `{"e": "frame", "t", "kind", "age", "ends": [...], "gains": [...], "keep", "why", "rate", "link", "wait",
  "state"}`: layers `keep` and above were dropped for the reason `why`; see `control.adaptive.Decision`;
* `{"e": "sent", "t", "id", "size"}` and `{"e": "ack", "t", "id", "size", "arrival", "lag"}`;
* `{"e": "limits", "max_bitrate_bps", "max_layers"}` and `{"e": "reports", "interval"}`: what the receiver asks for
  from then on, and how often it was asked to report at most;
* `{"e": "end", "why": "size"}` when the file reached its bound; nothing follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TextIO

from layercast.bitstream.types import MAX_LAYERS, FrameKind
from layercast.control.adaptive import STALENESS_S, AdaptiveAllocator, Decision
from layercast.errors import CorruptError, LimitError, UnsupportedVersionError

VERSION = 1

MAX_TRACE_BYTES = 32 << 20
"""Default bound of a trace in bytes: about half an hour of one receiver at 30 frames/s."""

MAX_READ_BYTES = 256 << 20
"""Longest trace read, in bytes; a replay keeps every frame in memory."""

MAX_LINE_BYTES = 8 << 10
"""Longest line read, in bytes; a frame of MAX_LAYERS layers takes under 1 KiB."""

_END = '{"e":"end","why":"size"}\n'


class TracedAllocator:
    """An `AdaptiveAllocator` that writes down what it is told and what it decides.

    Args:
        allocator: who decides.
        out: a text file, open for writing; the caller closes it.
        notes: more for the head, for example `peer="10.0.0.7:4711"`; strings and numbers.
        max_bytes: bound of the file; see MAX_TRACE_BYTES.
    """

    def __init__(
        self,
        allocator: AdaptiveAllocator,
        out: TextIO,
        notes: dict[str, str | float] | None = None,
        max_bytes: int = MAX_TRACE_BYTES,
    ) -> None:
        self.allocator = allocator
        self._out: TextIO | None = out
        self._left = max_bytes - len(_END)
        self._write({"layercast_trace": VERSION, **allocator.limits, **(notes or {})})

    def decide(
        self,
        now_s: float,
        ends: Sequence[int],
        kind: FrameKind,
        gains_db: Sequence[float],
        age_s: float = 0.0,
    ) -> int:
        """See AdaptiveAllocator.decide."""
        now_s, age_s = round(now_s, 6), round(age_s, 6)  # decide on what is written, so that a replay agrees
        keep = self.allocator.decide(now_s, ends, kind, gains_db, age_s)
        made = self.allocator.decision
        self._write(
            {
                "e": "frame",
                "t": now_s,
                "kind": int(kind),
                "age": age_s,
                "ends": list(ends),
                "gains": list(gains_db),
                "keep": keep,
                "why": made.why,
                "rate": round(made.rate_bps),
                "link": round(made.link_bps),
                "wait": round(made.wait_s, 6),
                "state": made.state,
            }
        )
        return keep

    def on_sent(self, now_s: float, frame_id: int, size: int) -> None:
        """See AdaptiveAllocator.on_sent."""
        now_s = round(now_s, 6)
        self._write({"e": "sent", "t": now_s, "id": frame_id, "size": size})
        self.allocator.on_sent(now_s, frame_id, size)

    def on_ack(
        self, now_s: float, frame_id: int, size: int, arrival_s: float, decode_lag_s: float = 0.0
    ) -> None:
        """See AdaptiveAllocator.on_ack."""
        now_s, arrival_s, decode_lag_s = round(now_s, 6), round(arrival_s, 6), round(decode_lag_s, 6)
        self._write(
            {
                "e": "ack",
                "t": now_s,
                "id": frame_id,
                "size": size,
                "arrival": arrival_s,
                "lag": decode_lag_s,
            }
        )
        self.allocator.on_ack(now_s, frame_id, size, arrival_s, decode_lag_s)

    def set_limits(self, max_bitrate_bps: float | None, max_layers: int | None) -> None:
        """See AdaptiveAllocator.set_limits."""
        self.allocator.set_limits(max_bitrate_bps, max_layers)
        self._write({"e": "limits", "max_bitrate_bps": max_bitrate_bps, "max_layers": max_layers})

    def expect_reports(self, interval_s: float) -> None:
        """See AdaptiveAllocator.expect_reports."""
        self.allocator.expect_reports(interval_s)
        self._write({"e": "reports", "interval": interval_s})

    @property
    def useful_bps(self) -> float:
        """See AdaptiveAllocator.useful_bps."""
        return self.allocator.useful_bps

    @property
    def is_restless(self) -> bool:
        """See AdaptiveAllocator.is_restless."""
        return self.allocator.is_restless

    def close(self) -> None:
        """Stop writing; the stream is gone. The file stays open: its owner closes it."""
        self._out = None
        self.allocator.close()

    def _write(self, event: dict[str, Any]) -> None:
        if self._out is None:
            return
        line = json.dumps(event, separators=(",", ":")) + "\n"
        if len(line) > self._left:
            line, self._left = _END, 0
        self._left -= len(line)
        self._out.write(line)
        if self._left < 0:
            self._out = None


@dataclass(frozen=True, slots=True)
class TracedFrame:
    """One decision of a trace, and what became of the frame.

    Attributes:
        time_s: seconds since the first event.
        ends: bytes with 0, 1, ... layers.
        gains_db: what each layer adds.
        recorded: the decision in the file.
        replayed: the decision of the replaying allocator.
        delay_s: from the decision to the arrival, less the smallest such difference of the file; None if it
            was not sent or never acknowledged.
    """

    time_s: float
    ends: tuple[int, ...]
    gains_db: tuple[float, ...]
    recorded: Decision
    replayed: Decision
    delay_s: float | None


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """A replay in numbers.

    Attributes:
        seconds: from the first event to the last.
        frames, sent, layers_offered, layers_sent, bytes_sent: counts of the recorded decisions.
        dropped: frames that lost layers, by reason.
        mean_bps: bytes sent over time.
        median_rate_bps: of the rate that the allocator had.
        delay_p50_s, delay_p95_s: above the smallest delay; 0.0 without acknowledgements.
        differing: frames for which the replay decided otherwise; 0 with the version that recorded.
        complete: False if the file reached its bound.
    """

    seconds: float
    frames: int
    sent: int
    layers_offered: int
    layers_sent: int
    bytes_sent: int
    dropped: dict[str, int]
    mean_bps: float
    median_rate_bps: float
    delay_p50_s: float
    delay_p95_s: float
    differing: int
    complete: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Replay:
    """A trace, replayed: its head, its frames in order, and the summary."""

    head: dict[str, Any]
    frames: tuple[TracedFrame, ...]
    summary: TraceSummary


def read_trace(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects of a trace, head first. A last line that was cut short is left out.

    Raises:
        CorruptError: not a trace, or a line in it is not what the format says.
        UnsupportedVersionError: a newer version wrote it.
        LimitError: a line, or the whole, is too long.
    """
    head, left = True, MAX_READ_BYTES
    cut: CorruptError | None = None
    for number, line in enumerate(lines, 1):
        if cut is not None:
            raise cut
        left -= len(line)
        if len(line) > MAX_LINE_BYTES or left < 0:
            raise LimitError(f"the trace is too long at line {number}", hint="cut it, head first")
        try:
            event = json.loads(line)
            checked = _check_head(event) if head else _check(event)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            cut = CorruptError(f"line {number} is not of a layercast trace", hint="was it made with --trace?")
            cut.__cause__ = error
            if head:
                raise cut from None
            continue
        head = False
        yield checked
    if head:
        raise CorruptError("the trace is empty", hint="was it made with --trace?")


def replay(lines: Iterable[str], allocator: AdaptiveAllocator | None = None) -> Replay:
    """Feed a trace to an allocator: the same inputs at the same times, no clock.

    Args:
        lines: of the trace file.
        allocator: who decides this time; by default one with the limits in the head.

    Raises:
        CorruptError, UnsupportedVersionError, LimitError: see read_trace.
    """
    events = read_trace(lines)
    head = next(events)
    if allocator is None:
        allocator = AdaptiveAllocator(
            head.get("max_bitrate_bps"),
            head.get("max_layers"),
            staleness_s=head.get("staleness_s", STALENESS_S),
        )
    decisions: list[tuple[float, dict[str, Any], Decision]] = []
    travel: dict[int, float] = {}  # decision number -> arrival less decision, on two clocks
    numbers: dict[int, int] = {}  # frame id -> decision number
    complete, first_s, last_s = True, None, 0.0
    for event in events:
        kind = event["e"]
        if kind == "end":
            complete = False
            break
        if kind == "limits":
            allocator.set_limits(event["max_bitrate_bps"], event["max_layers"])
            continue
        if kind == "reports":
            allocator.expect_reports(event["interval"])
            continue
        last_s = now_s = event["t"]
        first_s = now_s if first_s is None else first_s
        if kind == "frame":
            keep = allocator.decide(
                now_s, event["ends"], FrameKind(event["kind"]), event["gains"], event["age"]
            )
            decisions.append((now_s, event, allocator.decision._replace(keep=keep)))
        elif kind == "sent":
            numbers[event["id"]] = len(decisions) - 1
            allocator.on_sent(now_s, event["id"], event["size"])
        else:
            number = numbers.pop(event["id"], -1)
            if number >= 0:
                travel[number] = event["arrival"] - decisions[number][0]
            allocator.on_ack(now_s, event["id"], event["size"], event["arrival"], event["lag"])
    start_s = first_s or 0.0
    least_s = min(travel.values(), default=0.0)
    frames = tuple(
        TracedFrame(
            now_s - start_s,
            tuple(event["ends"]),
            tuple(event["gains"]),
            Decision(
                event["keep"], event["why"], event["rate"], event["link"], event["wait"], event["state"]
            ),
            replayed,
            travel[number] - least_s if number in travel else None,
        )
        for number, (now_s, event, replayed) in enumerate(decisions)
    )
    return Replay(head, frames, _summary(frames, last_s - start_s, complete))


def _summary(frames: Sequence[TracedFrame], seconds: float, complete: bool) -> TraceSummary:
    delays = sorted(frame.delay_s for frame in frames if frame.delay_s is not None)
    sizes = [frame.ends[frame.recorded.keep] for frame in frames if frame.recorded.keep]
    dropped: dict[str, int] = {}
    for frame in frames:
        if frame.recorded.why:
            dropped[frame.recorded.why] = dropped.get(frame.recorded.why, 0) + 1
    return TraceSummary(
        seconds=seconds,
        frames=len(frames),
        sent=len(sizes),
        layers_offered=sum(len(frame.ends) - 1 for frame in frames),
        layers_sent=sum(frame.recorded.keep for frame in frames),
        bytes_sent=sum(sizes),
        dropped=dropped,
        mean_bps=sum(sizes) * 8 / seconds if seconds > 0 else 0.0,
        median_rate_bps=median(frame.recorded.rate_bps for frame in frames) if frames else 0.0,
        delay_p50_s=delays[len(delays) // 2] if delays else 0.0,
        delay_p95_s=delays[int(0.95 * (len(delays) - 1))] if delays else 0.0,
        differing=sum(frame.recorded.keep != frame.replayed.keep for frame in frames),
        complete=complete,
    )


def _check_head(event: Any) -> dict[str, Any]:
    version = event["layercast_trace"]
    if version != VERSION:
        raise UnsupportedVersionError(f"trace version {version}, this is {VERSION}", hint="update layercast")
    for name in ("max_bitrate_bps", "staleness_s", "max_layers"):
        value = event.get(name)
        if value is not None and not _number(value) > 0:
            raise ValueError(name)
    return dict(event)


def _check(event: Any) -> dict[str, Any]:
    kind = event["e"]
    if kind == "end":
        return dict(event)
    if kind == "limits":
        _check_head({"layercast_trace": VERSION, **event})
        return dict(event)
    if kind == "reports":
        _number(event["interval"])
        return dict(event)
    _number(event["t"])
    if kind == "frame":
        ends, keep = event["ends"], event["keep"]
        if not (1 <= len(ends) <= MAX_LAYERS + 1 and 0 <= keep < len(ends) and sorted(ends) == ends):
            raise ValueError("ends")
        for value in (*ends, *event["gains"], event["age"], event["rate"], event["link"], event["wait"]):
            _number(value)
        FrameKind(event["kind"])
        str.encode(event["why"]), str.encode(event["state"])
    elif kind in ("sent", "ack"):
        for name in ("id", "size") if kind == "sent" else ("id", "size", "arrival", "lag"):
            _number(event[name])
    else:
        raise ValueError(kind)
    return dict(event)


def _number(value: Any) -> float:
    """A finite number, or ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e18:
        raise ValueError(value)
    return value
