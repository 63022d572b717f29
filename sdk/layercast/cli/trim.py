"""`layercast trim`: drop layers from an .lcast file, as a relay does, without decoding anything."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from layercast.cli.arguments import add_command, count, quantity
from layercast.cli.status import warn
from layercast.errors import ConfigError

if TYPE_CHECKING:
    from layercast.bitstream import UnitIndex

EXAMPLES = """\
  layercast trim photo.lcast small.lcast --layers 5
  layercast trim photo.lcast small.lcast --bytes 20k      (per frame)
  layercast trim clip.lcast slow.lcast --bitrate 500k     (bits per second, as a relay would)"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands, "trim", "drop layers from an .lcast file, without decoding anything", EXAMPLES, run
    )
    parser.add_argument("input", metavar="IN.lcast")
    parser.add_argument("output", metavar="OUT.lcast")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--layers", type=count, metavar="K", help="keep the first K layers of each frame")
    budget.add_argument("--bytes", type=quantity, metavar="N", help="keep what fits into N bytes per frame")
    budget.add_argument("--bitrate", type=quantity, metavar="R", help="keep what fits into R bits per second")


def run(args: argparse.Namespace) -> int:
    from layercast.bitstream import ContainerReader, ContainerWriter, read_index, trim
    from layercast.media.progress import progress

    if _same_file(args.input, args.output):
        raise ConfigError("input and output are the same file", hint="give the output another name")
    choose = _chooser(args)
    before = after = kept = dropped = 0
    with (
        ContainerReader(args.input) as reader,
        ContainerWriter(args.output, reader.description) as writer,
    ):
        for unit in progress(reader, "trim", len(reader)):
            keep = choose(index := read_index(unit))
            before += len(unit)
            if keep == 0:
                dropped += 1
                continue
            if keep < index.kept:
                unit = bytes(trim(unit, keep))
            writer.write(unit)
            after += len(unit)
            kept += 1
    if reader.truncated:
        warn(f"{args.input} was cut or not finished; read up to its end")
    print(
        f"{args.output}: {kept} frames, {after} of {before} bytes"
        + (f", {dropped} dropped" if dropped else "")
    )
    return 0


def _chooser(args: argparse.Namespace) -> Callable[[UnitIndex], int]:
    """How many layers of a unit to keep; 0 drops the frame, since even its first layer is too much."""
    from layercast.control.budget import FixedBudgetAllocator

    if args.layers is not None:
        return lambda index: min(args.layers, index.kept)
    if args.bytes is not None:
        return lambda index: sum(end <= args.bytes for end in index.ends[1:])
    allocator = FixedBudgetAllocator(args.bitrate, None)
    return lambda index: allocator.decide(
        index.header.timestamp_us / 1e6, index.ends, index.header.kind, index.gains_db
    )


def _same_file(first: str, second: str) -> bool:
    import os

    return os.path.exists(second) and os.path.exists(first) and os.path.samefile(first, second)
