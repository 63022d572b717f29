"""A trace of layer decisions as a picture: rate and budget, layers, delay, over time."""

from __future__ import annotations

from collections import deque
from os import PathLike

from layercast.control.trace import Replay
from layercast.errors import MissingDependencyError

RATE_WINDOW_S = 0.5
"""The sent rate is drawn as the mean of so much time, seconds: 15 frames at 30 frames/s."""


def plot(replay: Replay, path: str | PathLike[str]) -> None:
    """Write the chart of a replayed trace.

    Args:
        replay: from `layercast.control.trace.replay`.
        path: of the picture; its ending sets the format (.png, .svg, .pdf).

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "plotting needs matplotlib", hint="pip install matplotlib, or leave the picture out"
        ) from error
    frames = replay.frames
    times = [frame.time_s for frame in frames]
    figure = Figure(figsize=(11, 8), layout="constrained")
    rate, layers, delay = figure.subplots(3, 1, sharex=True)
    rate.plot(times, sent_rates_bps(replay), label=f"sent, mean of {RATE_WINDOW_S} s", linewidth=0.8)
    rate.plot(times, [frame.recorded.rate_bps for frame in frames], label="budget")
    rate.plot(times, [frame.recorded.link_bps for frame in frames], label="link, estimated", linestyle=":")
    rate.set_ylabel("bits per second")
    rate.set_ylim(bottom=0)
    rate.legend(loc="upper right")
    layers.plot(times, [len(frame.ends) - 1 for frame in frames], label="offered", color="0.8")
    layers.plot(times, [frame.recorded.keep for frame in frames], ".", label="sent", markersize=2)
    for why in sorted(replay.summary.dropped):
        chosen = [frame for frame in frames if frame.recorded.why == why and frame.recorded.keep == 0]
        if chosen:
            layers.plot([f.time_s for f in chosen], [0] * len(chosen), "x", label=f"skipped: {why}")
    layers.set_ylabel("layers")
    layers.legend(loc="upper right")
    arrived = [(frame.time_s, frame.delay_s * 1e3) for frame in frames if frame.delay_s is not None]
    delay.plot(
        [at for at, _ in arrived], [value for _, value in arrived], ".", markersize=2, label="measured"
    )
    delay.plot(
        times, [frame.recorded.wait_s * 1e3 for frame in frames], label="predicted wait", linewidth=0.8
    )
    delay.set_ylabel("ms above the least delay")
    delay.set_xlabel("seconds")
    delay.legend(loc="upper right")
    figure.savefig(path)


def sent_rates_bps(replay: Replay) -> list[float]:
    """For each frame of a replay, the mean rate sent over the RATE_WINDOW_S before it, bits per second."""
    window: deque[tuple[float, int]] = deque()
    total, rates = 0, []
    for frame in replay.frames:
        size = frame.ends[frame.recorded.keep] if frame.recorded.keep else 0
        window.append((frame.time_s, size))
        total += size
        while window[0][0] <= frame.time_s - RATE_WINDOW_S:
            total -= window.popleft()[1]
        rates.append(total * 8 / RATE_WINDOW_S)
    return rates
