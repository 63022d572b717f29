"""The few real pictures that ship with the package; ATTRIBUTION.md beside this file names their origin."""

from __future__ import annotations

from pathlib import Path

from layercast.errors import MediaError

CLIP = "cars.mp4"
"""56 frames of 512x288 at 12.5 frames/s: two cars drive past a fixed camera."""

PICTURES = ("kodim03.png", "kodim20.png", "kodim23.png")
"""Three of the 24 Kodak pictures, 768x512."""


def path(name: str) -> Path:
    """Where the asset `name` lies.

    Raises:
        MediaError: no such asset in this installation.
    """
    found = Path(__file__).parent / name
    if not found.is_file():
        raise MediaError(f"no asset {name!r} in this installation", hint="reinstall layercast")
    return found
