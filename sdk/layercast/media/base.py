"""What a source and a sink are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) RGB, or (H, W) grey, uint8."""

Frame: TypeAlias = tuple[Image, int]
"""A picture and its timestamp in microseconds: since the start (files) or since the Unix epoch (live)."""

SourceT = TypeVar("SourceT", bound="Source")
SinkT = TypeVar("SinkT", bound="Sink")


class Source(ABC):
    """Yields frames; iterating again starts again (a camera goes on).

    Attributes:
        frame_rate: nominal frames per second, 0.0 when there is none.
        length: number of frames, None when endless or not known beforehand.
    """

    frame_rate: float = 0.0
    length: int | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """The frames in order.

        Raises:
            MediaError: what is read turns out missing, damaged or unsupported.
        """

    def close(self) -> None:  # noqa: B027  most sources hold nothing open
        """Release files and devices; closing twice is fine."""

    def __enter__(self: SourceT) -> SourceT:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sink(ABC):
    """Takes frames."""

    @abstractmethod
    def write(self, image: Image, timestamp_us: int) -> None:
        """Take one frame.

        Raises:
            MediaError: it cannot be written (full disk, no permission, a size the format does not take).
        """

    def close(self) -> None:  # noqa: B027  most sinks hold nothing back
        """Finish what was written; closing twice is fine."""

    def __enter__(self: SinkT) -> SinkT:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
