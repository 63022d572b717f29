"""layercast's codecs as the benchmarks see them: whatever is registered, every quality, every prefix."""

from __future__ import annotations

import inspect
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.pictures import Picture
from layercast import Codec, EncodedFrame, FrameHeader, LayercastError, codec_names, get_codec
from layercast.bitstream import pack, read_index

QUALITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""The sweep of the `quality` setting."""


EFFORTS = ("hierarchical effort 1",)
"""Codecs whose encoder is asked to do more than it does otherwise (see `made`)."""


@dataclass(frozen=True)
class Prefix:
    """What a receiver has after `layers` layers: the trimmed access unit's bytes, and a picture."""

    layers: int
    size: int
    picture: Picture


def every() -> list[str]:
    """Names of all registered codecs, and of those of EFFORTS."""
    return [*codec_names(), *EFFORTS]


def made(name: str, **options: Any) -> Codec:
    """A codec by its registered name, or "NAME effort N"."""
    name, _, effort = name.partition(" effort ")
    return get_codec(name, **options, **({"effort": int(effort)} if effort else {}))


def available(names: list[str] | None = None) -> dict[str, Codec]:
    """The codecs that can run here; one that cannot is named, with the reason, and left out."""
    found = {}
    for name in names or codec_names():
        try:
            found[name] = made(name)
        except (LayercastError, ImportError, AttributeError) as error:
            print(f"{name}: left out: {error}")
    return found


def with_threads(name: str, threads: int) -> Codec:
    """The codec, told how many threads it may use when its constructor takes that."""
    takes = inspect.signature(type(made(name))).parameters
    return made(name, threads=threads) if "threads" in takes else made(name)


def workers() -> ProcessPoolExecutor:
    """A process for each core, to measure whatever is not time; each is to use one thread."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"))


def unit_of(frame: EncodedFrame) -> bytes:
    """The complete access unit, as it would be sent."""
    return pack(FrameHeader(0, 0, frame.picture, frame.kind), frame.layers, frame.gains_db)


def prefixes(codec: Codec, frame: EncodedFrame) -> Iterator[Prefix]:
    """Every prefix of one layer or more, decoded as a receiver would: layer by layer."""
    ends = read_index(unit_of(frame)).ends
    decoder = codec.start(frame.picture)
    for count, layer in enumerate(frame.layers, start=1):
        decoder.push(layer)
        yield Prefix(count, ends[count], decoder.picture())
