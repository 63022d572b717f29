"""Pictures that are already in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layercast.errors import MediaError
from layercast.media.base import Frame, Image, Source
from layercast.media.pacing import DEFAULT_RATE


class ArraySource(Source):
    """A sequence of images, or one array (N, H, W, 3), uint8.

    Args:
        frame_rate: frames per second that the timestamps tell.

    Raises:
        MediaError: something in it is no picture (when its turn comes).
    """

    def __init__(self, images: Sequence[Image] | Image, frame_rate: float = DEFAULT_RATE) -> None:
        self._images = images
        self.frame_rate = frame_rate
        self.length = len(images)

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            if image.dtype != "uint8" or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
                raise MediaError(
                    f"array {index} is no picture: {image.dtype} of shape {image.shape}",
                    hint="pass uint8 arrays of shape (H, W, 3) or (H, W)",
                )
            yield image, round(index * 1e6 / self.frame_rate)
