"""From what a user types to a source or a sink."""

from __future__ import annotations

import re
from pathlib import Path

from layercast.errors import MediaError
from layercast.media.base import Sink, Source
from layercast.media.pacing import Looped, Paced
from layercast.media.pictures import SUFFIXES
from layercast.media.sinks.folder import FolderSink
from layercast.media.sinks.picture import PictureSink
from layercast.media.sinks.video import VideoSink
from layercast.media.sources.camera import CameraSource
from layercast.media.sources.folder import FolderSource
from layercast.media.sources.pattern import PatternSource
from layercast.media.sources.picture import PictureSource
from layercast.media.sources.video import VideoSource

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov"})
"""Containers for writing that keep every frame's time; for reading, any that FFmpeg knows."""

_PATTERN = re.compile(r"pattern:(\d{1,5})x(\d{1,5})(?:@([\d.]{1,8}))?")
_CAMERA = re.compile(r"camera:([^,@]+)(?:,(\d{1,5})x(\d{1,5}))?(?:@([\d.]{1,8}))?")


def open_source(
    spec: str | Path, *, loop: bool = False, paced: bool = False, frame_rate: float | None = None
) -> Source:
    """A source from a path, ``"pattern:640x480@30"`` or ``"camera:/dev/video0,1280x720@30"``.

    Args:
        loop: start again at the end, for ever.
        paced: play in real time, stamped with the wall clock (a camera always does).
        frame_rate: with `paced`, frames per second instead of the source's own.

    Raises:
        MediaError: nothing there, or nothing that can be read.
        ConfigError: an impossible size or rate.
        MissingDependencyError: PyAV is needed and not installed.
    """
    source = _bare_source(str(spec), frame_rate)
    if isinstance(source, CameraSource):
        return source
    if loop:
        source = Looped(source)
    return Paced(source, frame_rate) if paced else source


def _bare_source(spec: str, frame_rate: float | None) -> Source:
    if spec.startswith("pattern:"):
        if not (match := _PATTERN.fullmatch(spec)):
            raise MediaError(f"bad pattern {spec!r}", hint='write "pattern:640x480@30"')
        return PatternSource(int(match[1]), int(match[2]), _rate(match[3] or "25", spec))
    if spec.startswith(("camera:", "/dev/video")):
        spec = spec if spec.startswith("camera:") else f"camera:{spec}"
        if not (match := _CAMERA.fullmatch(spec)):
            raise MediaError(f"bad camera {spec!r}", hint='write "camera:/dev/video0,1280x720@30"')
        size = (int(match[2]), int(match[3])) if match[2] else None
        return CameraSource(match[1], size=size, frame_rate=_rate(match[4], spec) if match[4] else frame_rate)
    path = Path(spec)
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise MediaError(
            f"{path}: no such file or folder",
            hint='give a path, "pattern:640x480@30" or "camera:/dev/video0"',
        )
    return PictureSource(path) if path.suffix.lower() in SUFFIXES else VideoSource(path)


def _rate(text: str, spec: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MediaError(
            f"bad frame rate in {spec!r}", hint='write, for example, "@30" or "@29.97"'
        ) from None


def open_sink(path: str | Path, *, frame_rate: float = 25.0) -> Sink:
    """A sink by the name's ending: a video, one picture, or else a folder of PNG files.

    Args:
        frame_rate: nominal frames per second of a video file.

    Raises:
        MediaError: it cannot be made.
        MissingDependencyError: PyAV is needed and not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return VideoSink(path, frame_rate or 25.0)
    if suffix in SUFFIXES:
        return PictureSink(path)
    if suffix and not path.is_dir():
        raise MediaError(
            f"{path}: unknown kind of file {suffix!r}",
            hint="use .png or .jpg for a picture, .mp4 for a video, or a folder",
        )
    return FolderSink(path)
