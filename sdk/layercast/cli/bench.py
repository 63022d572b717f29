"""`layercast bench`: measure the codecs and the entropy coder on this machine."""

from __future__ import annotations

import argparse

from layercast.cli.arguments import Formatter, add_command, count, quality

EXAMPLES = """\
  layercast bench entropy
  layercast bench codec --images kodak/ --codec dct --quality 0.3 0.5 0.7 0.9 --layers all
  layercast bench codec --images kodak/ --layers 4 8 12 --json rows.json
  layercast bench codec --images kodak/ --quality 0.2 0.4 0.6 0.8 --against-jpeg    (with BD-rate)"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "bench", "measure the codecs and the entropy coder", EXAMPLES, run_codec)
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT", required=True)
    entropy = kinds.add_parser("entropy", help="Msymbols/s of the entropy coder, beside others")
    entropy.set_defaults(run=run_entropy)
    entropy.add_argument("--rounds", type=count, default=9, metavar="N", help="default 9; the best counts")
    codec = kinds.add_parser(
        "codec",
        help="rate, distortion and time of a codec, beside JPEG, WebP and JPEG 2000",
        epilog=f"examples:\n{EXAMPLES}",
        formatter_class=Formatter,
    )
    codec.set_defaults(run=run_codec)
    codec.add_argument("--images", required=True, metavar="DIR", help="a folder of pictures, or one picture")
    codec.add_argument("--codec", metavar="NAME", help="see `layercast codecs`")
    codec.add_argument("--quality", type=quality, nargs="+", default=[0.7], metavar="Q", help="default 0.7")
    codec.add_argument(
        "--layers",
        type=_layers,
        nargs="+",
        default=[None],
        metavar="K",
        help='prefix lengths, or "all" of them',
    )
    codec.add_argument("--json", metavar="OUT", help="write one row per picture, quality and prefix length")
    codec.add_argument(
        "--against-jpeg",
        action="store_true",
        help="BD-rate against JPEG (progressive, 4:2:0, quality 10 to 95)",
    )


def _layers(text: str) -> int | str:
    return text if text == "all" else count(text)


def run_entropy(args: argparse.Namespace) -> int:
    from layercast.bench.entropy import main

    main(args.rounds)
    return 0


def run_codec(args: argparse.Namespace) -> int:
    from layercast.bench.codec import main
    from layercast.codecs.registry import default_codec

    return main(
        images=args.images,
        codec_name=args.codec or default_codec(),
        qualities=args.quality,
        layers=args.layers,
        json_path=args.json,
        against_jpeg=args.against_jpeg,
    )
