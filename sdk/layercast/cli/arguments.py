"""Values that people type: sizes, bitrates, counts; and how help is laid out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layercast.codecs.base import Codec

_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([kKMG]?)")
_FACTORS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the examples as they are written, and leaves room for long option names."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def quantity(text: str) -> float:
    """ "500k", "2M" or "1.5M" as a number, decimal factors, at least 1."""
    match = _NUMBER.fullmatch(text)
    value = float(match[1]) * _FACTORS[match[2]] if match else 0.0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size or rate; write 20000, 500k or 1.5M")
    return value


def count(text: str) -> int:
    """A whole number, at least 1."""
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def seconds(text: str) -> float:
    """A positive number of seconds."""
    return _ranged(text, 0.001, 86400.0, "seconds")


def per_second(text: str) -> float:
    """A count per second, at least 1."""
    return _ranged(text, 1.0, 1e6, "a count per second")


def rate(text: str) -> float:
    """Frames per second."""
    return _ranged(text, 0.001, 1000.0, "frames per second")


def quality(text: str) -> float:
    """0.0 to 1.0."""
    return _ranged(text, 0.0, 1.0, "a quality")


def _ranged(text: str, low: float, high: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {low:g} to {high:g}")
    return value


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    examples: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """A subcommand whose help ends with `examples`."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=Formatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_codec_options(parser: argparse.ArgumentParser) -> None:
    """--codec, --quality and --effort, for commands that encode."""
    parser.add_argument(
        "--codec", metavar="NAME", help="see `layercast codecs`; the first there is the default"
    )
    parser.add_argument("--quality", type=quality, default=0.7, metavar="Q", help="0 to 1 (default 0.7)")
    add_effort_option(parser)


def add_effort_option(parser: argparse.ArgumentParser) -> None:
    """--effort, see `chosen_codec`."""
    parser.add_argument(
        "--effort",
        type=int,
        metavar="N",
        help="of the encoder: hierarchical takes half as long again for each and saves bits, up to 3 (default 0)",
    )


def chosen_codec(args: argparse.Namespace) -> Codec:
    """The codec that --codec and --effort ask for.

    Raises:
        UnknownCodecError, MissingDependencyError, ConfigError: see `get_codec`.
    """
    from layercast.codecs.registry import default_codec, get_codec

    options = {} if args.effort is None else {"effort": args.effort}
    return get_codec(args.codec or default_codec(), **options)


def add_frames_option(parser: argparse.ArgumentParser) -> None:
    """--frames N."""
    parser.add_argument("--frames", type=count, metavar="N", help="stop after N frames")
