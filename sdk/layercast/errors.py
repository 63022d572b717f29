"""Every error layercast raises on purpose.

::

    LayercastError                 .code (stable string), .hint (what to do), .exit_code (of the CLI)
    ├── BitstreamError             bytes that are not a valid access unit, container or layer
    │   ├── TruncatedError         the bytes end too early; what came before is still usable
    │   ├── CorruptError           a checksum or a field contradicts the rest
    │   ├── UnsupportedVersionError  a newer layercast wrote these bytes
    │   └── LimitError             a size or count above the stated bound (checked before allocating)
    ├── CodecError                 a codec cannot do what it was asked
    │   ├── UnknownCodecError      no codec of that name
    │   ├── PictureError           a picture of unsupported shape, dtype or size
    │   ├── ModelError             a model file is missing, damaged or fails its self-test
    │   └── ModelMismatchError     the two ends hold different models
    ├── TransportError             the network side
    │   ├── ConnectError           the peer cannot be reached, or vanished
    │   ├── StreamNotFoundError    no such stream at that relay
    │   ├── AuthError              missing, expired or insufficient credentials
    │   └── RefusedError           a limit of the peer (streams, subscribers, message size, rate)
    ├── MediaError                 a picture, video or camera cannot be read or written
    ├── ConfigError                contradictory or impossible settings
    └── MissingDependencyError     an optional dependency is not installed; the hint names the extra
"""

from __future__ import annotations

from typing import ClassVar


class LayercastError(Exception):
    """Base of all errors of this package.

    Args:
        message: what went wrong, one line.
        hint: what the user can do about it, one line; may be empty.
    """

    code: ClassVar[str] = "layercast"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class BitstreamError(LayercastError):
    code = "bitstream"
    exit_code = 3


class TruncatedError(BitstreamError):
    code = "truncated"


class CorruptError(BitstreamError):
    code = "corrupt"


class UnsupportedVersionError(BitstreamError):
    code = "unsupported-version"


class LimitError(BitstreamError):
    code = "limit"


class CodecError(LayercastError):
    code = "codec"
    exit_code = 4


class UnknownCodecError(CodecError):
    code = "unknown-codec"


class PictureError(CodecError):
    code = "picture"


class ModelError(CodecError):
    code = "model"


class ModelMismatchError(CodecError):
    code = "model-mismatch"


class TransportError(LayercastError):
    code = "transport"
    exit_code = 5


class ConnectError(TransportError):
    code = "connect"


class StreamNotFoundError(TransportError):
    code = "stream-not-found"


class AuthError(TransportError):
    code = "auth"
    exit_code = 6


class RefusedError(TransportError):
    code = "refused"


class MediaError(LayercastError):
    code = "media"
    exit_code = 7


class ConfigError(LayercastError):
    code = "config"
    exit_code = 2


class MissingDependencyError(LayercastError):
    code = "missing-dependency"
    exit_code = 8
