"""Pictures in, pictures out: sources and sinks that fit any codec and any stream.

A source yields ``(image, timestamp_us)``, a sink takes them, and neither knows what is between them::

    from layercast.media import open_sink, open_source

    with open_source("pattern:320x240@25") as source, open_sink("pictures") as sink:
        for image, timestamp_us in source:
            sink.write(image, timestamp_us)
"""

from __future__ import annotations

from layercast.errors import MissingDependencyError

try:
    import numpy  # noqa: F401
    import PIL  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        f"pictures need the package {error.name!r}", hint='install it with: pip install "layercast[codec]"'
    ) from error

from layercast.media.base import Frame, Image, Sink, Source
from layercast.media.opening import open_sink, open_source
from layercast.media.pacing import Looped, Paced
from layercast.media.pictures import read_picture, write_picture
from layercast.media.sinks.arrays import ArraySink
from layercast.media.sinks.callback import CallbackSink
from layercast.media.sinks.folder import FolderSink
from layercast.media.sinks.picture import PictureSink
from layercast.media.sinks.video import VideoSink
from layercast.media.sources.arrays import ArraySource
from layercast.media.sources.camera import CameraSource
from layercast.media.sources.folder import FolderSource
from layercast.media.sources.pattern import PatternSource
from layercast.media.sources.picture import PictureSource
from layercast.media.sources.video import VideoSource

__all__ = [
    "ArraySink",
    "ArraySource",
    "CallbackSink",
    "CameraSource",
    "FolderSink",
    "FolderSource",
    "Frame",
    "Image",
    "Looped",
    "Paced",
    "PatternSource",
    "PictureSink",
    "PictureSource",
    "Sink",
    "Source",
    "VideoSink",
    "VideoSource",
    "open_sink",
    "open_source",
    "read_picture",
    "write_picture",
]
