"""Where the time of one picture goes, so that the next optimisation is obvious.

A `StageClock` gives every moment between two readings to one stage; a codec reads it a few times per layer (a
tenth of a microsecond each), so it is always on. Only the calling thread is timed: the stages add up to no more
than the call, and work that another thread does meanwhile shows up as the wait for it.
"""

from __future__ import annotations

from time import perf_counter

STAGES = {
    "conversion": "pixels to what the transform takes and back: padding, cropping, data type; part of analysis "
    "and synthesis where the transform does it",
    "analysis": "pixels to latents",
    "prior": "the distribution of every symbol from what is known; of dct the order of coding, too",
    "order": "which symbols come next, ranked by worth, and known ones to where they belong",
    "choice": "latents to symbols: rounding, and what is not worth its bits",
    "refinement": "symbols chosen anew by what is wrong with the decoded picture, where more effort is asked for",
    "entropy": "symbols to bytes and back, or the wait for the thread that does it",
    "gains": "what each layer is worth in dB, for the relay",
    "synthesis": "known symbols to latents, and these to pixels",
}
"""Every stage that a codec may name, and what belongs to it."""


class StageClock:
    """Seconds by stage of one call, or of one frame that is decoded in several calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def resume(self) -> None:
        """Leave out the time since the last reading: nobody worked on this frame."""
        self._last = perf_counter()

    def spent(self, stage: str) -> None:
        """Give the time since the last reading to a stage of `STAGES`."""
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + (now - self._last)
        self._last = now
