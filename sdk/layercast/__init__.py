"""layercast: images and video as layers, where every prefix is a good picture.

The public API is what this module exports; names load on first use, so that a relay, which needs neither
numpy nor a codec, imports neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layercast.bitstream.types import FrameHeader, FrameKind, PictureInfo, StreamDescription
    from layercast.codecs.base import Codec, EncodedFrame, LayerInfo
    from layercast.codecs.registry import codec_names, get_codec, register
    from layercast.errors import LayercastError
    from layercast.transport.blocking import BlockingReceiver, BlockingSender
    from layercast.transport.limits import RelayLimits
    from layercast.transport.received import ReceivedFrame
    from layercast.transport.receiver import Receiver
    from layercast.transport.relay import Relay
    from layercast.transport.sender import Sender

__version__ = "0.1.0"

_EXPORTS = {
    "BlockingReceiver": "layercast.transport.blocking",
    "BlockingSender": "layercast.transport.blocking",
    "Codec": "layercast.codecs.base",
    "EncodedFrame": "layercast.codecs.base",
    "FrameHeader": "layercast.bitstream.types",
    "FrameKind": "layercast.bitstream.types",
    "LayerInfo": "layercast.codecs.base",
    "LayercastError": "layercast.errors",
    "PictureInfo": "layercast.bitstream.types",
    "ReceivedFrame": "layercast.transport.received",
    "Receiver": "layercast.transport.receiver",
    "Relay": "layercast.transport.relay",
    "RelayLimits": "layercast.transport.limits",
    "Sender": "layercast.transport.sender",
    "StreamDescription": "layercast.bitstream.types",
    "codec_names": "layercast.codecs.registry",
    "get_codec": "layercast.codecs.registry",
    "register": "layercast.codecs.registry",
}

__all__ = [
    "BlockingReceiver",
    "BlockingSender",
    "Codec",
    "EncodedFrame",
    "FrameHeader",
    "FrameKind",
    "LayerInfo",
    "LayercastError",
    "PictureInfo",
    "ReceivedFrame",
    "Receiver",
    "Relay",
    "RelayLimits",
    "Sender",
    "StreamDescription",
    "__version__",
    "codec_names",
    "get_codec",
    "register",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
