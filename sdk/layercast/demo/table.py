"""The demo's live table: redrawn in place on a terminal, every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layercast.demo.run import Viewer

PLAIN_INTERVAL_S = 4.0
"""Seconds between tables where nothing can be redrawn, such as a log."""

HEADING = (
    f"{'receiver':<10}{'asked kbit/s':>13}{'got kbit/s':>12}{'layers':>12}"
    f"{'PSNR dB':>9}{'latency ms':>12}{'frames':>8}"
)


class Table:
    """Draws on stdout."""

    def __init__(self) -> None:
        self._tty = sys.stdout.isatty()
        self._drawn_s = 0.0
        self._lines = 0

    def draw(self, viewers: Sequence[Viewer], last: bool = False) -> None:
        """Draw what the viewers reported, if it is time or the last time."""
        now_s = time.monotonic()
        if not any(viewer.report.shown for viewer in viewers) and not last:
            return
        if not self._tty and not last and now_s - self._drawn_s < PLAIN_INTERVAL_S:
            return
        self._drawn_s = now_s
        if self._tty and self._lines:
            sys.stdout.write(f"\x1b[{self._lines}A\r\x1b[J")
        lines = [HEADING, *map(line, viewers)]
        self._lines = len(lines)
        print("\n".join(lines), flush=True)


def line(viewer: Viewer) -> str:
    """One receiver's means so far."""
    report = viewer.report
    asked = "no limit" if viewer.budget is None else f"{viewer.budget / 1e3:.0f}"
    if not report.shown:
        return f"{viewer.name:<10}{asked:>13}"
    layers = f"{report.layers / report.shown:.1f} of {report.of_layers / report.shown:.0f}"
    return (
        f"{viewer.name:<10}{asked:>13}{viewer.bitrate / 1e3:>12.0f}{layers:>12}"
        f"{report.psnr / report.shown:>9.2f}{1e3 * report.latency_s / report.shown:>12.0f}{report.shown:>8}"
    )
