"""The msgpack arrays inside access units and descriptions: decoded under limits, checked field by field."""

from __future__ import annotations

from typing import Any

import msgpack

from layercast.errors import CorruptError, LimitError

MAX_ITEMS = 64
"""Most elements of any msgpack array or map in a header, at every depth: twice MAX_LAYERS. The decoder
allocates an array before it has seen its elements, so a forged header costs at most this times the decoder's
nesting limit (1024) times 8 bytes: 512 KiB."""


def decode_array(data: bytes, least: int, what: str) -> tuple[Any, ...]:
    """Decode one msgpack array of at least `least` elements; `what` names it in errors.

    More elements than that come from a newer minor writer and are for the caller to ignore.

    Raises:
        CorruptError: not exactly one msgpack array, or one that is too short.
    """
    try:
        array = msgpack.unpackb(data, use_list=False, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS)
    except (ValueError, msgpack.UnpackException) as error:
        raise CorruptError(f"{what} is not valid msgpack: {error}") from error
    if type(array) is not tuple or len(array) < least:
        raise CorruptError(f"{what} is not an array of at least {least} elements")
    return array


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """`value` if it is an integer in low..high.

    Raises:
        CorruptError: not an integer.
        LimitError: out of range.
    """
    if type(value) is not int:
        raise CorruptError(f"{name} is not an integer")
    if not low <= value <= high:
        raise LimitError(f"{name} {value} is outside {low}..{high}")
    return value
