"""One status line that is redrawn in place on a terminal, and left out elsewhere."""

from __future__ import annotations

import sys
import time

INTERVAL_S = 0.5
"""Seconds between redraws; a bitrate averaged over less would only flicker."""


def warn(text: str) -> None:
    """One line on stderr about something that did not stop the work."""
    print(f"layercast: warning: {' '.join(text.split())}", file=sys.stderr)


class StatusLine:
    """Draws on stderr; every new warning gets a line of its own, on a terminal or not."""

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()
        self._drawn_s = 0.0
        self._warned = ""

    def show(self, text: str) -> None:
        """Redraw, if it is time."""
        now_s = time.monotonic()
        if self._tty and now_s - self._drawn_s >= INTERVAL_S:
            self._drawn_s = now_s
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()

    def warn(self, text: str) -> None:
        """Say something once, until something else is said."""
        if text != self._warned:
            self._warned = text
            if text:
                self.clear()
                print(f"layercast: {' '.join(text.split())}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for ordinary output."""
        if self._tty:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
