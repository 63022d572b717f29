"""`layercast bench`: measure the codecs, the entropy coder and the relay on this machine."""

from __future__ import annotations

import argparse

from layercast.cli.arguments import (
    Formatter,
    add_command,
    add_effort_option,
    chosen_codec,
    count,
    quality,
    rate,
    seconds,
)

EXAMPLES = """\
  layercast bench entropy
  layercast bench codec --images kodak/ --codec dct --quality 0.3 0.5 0.7 0.9 --layers all
  layercast bench codec --images kodak/ --layers 4 8 12 --json rows.json
  layercast bench codec --images kodak/ --quality 0.2 0.4 0.6 0.8 --against-jpeg    (with BD-rate)
  layercast bench relay --receivers 25 50 100 200
  layercast bench relay --receivers 100 --workers 1 2
  layercast bench relay --senders 4 --receivers 40 80 --budgets 1 0.5 0.25 --no-plain"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "bench", "measure codecs, entropy coder and relay", EXAMPLES, run_codec)
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
    add_effort_option(codec)
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
    relay = kinds.add_parser(
        "relay",
        help="receivers per core, latency, CPU and memory of a relay under load, beside plain gRPC",
        epilog=f"examples:\n{EXAMPLES}",
        formatter_class=Formatter,
    )
    relay.set_defaults(run=run_relay)
    relay.add_argument("--senders", type=count, default=1, metavar="N", help="streams (default 1)")
    relay.add_argument(
        "--receivers", type=count, nargs="+", default=[25, 50, 100], metavar="M", help="ramp (25 50 100)"
    )
    relay.add_argument(
        "--budgets",
        type=quality,
        nargs="+",
        default=[1.0],
        metavar="S",
        help="shares of a stream's rate that receivers ask for, in turn (default 1: no limit)",
    )
    relay.add_argument("--unit-bytes", type=count, default=16384, metavar="B", help="a frame (16384)")
    relay.add_argument("--rate", type=rate, default=30.0, metavar="FPS", help="frames per second (30)")
    relay.add_argument("--seconds", type=seconds, default=8.0, metavar="S", help="per level (8)")
    relay.add_argument("--fixed-budgets", action="store_true", help="the relay does not follow links")
    relay.add_argument(
        "--workers", type=count, nargs="+", default=[1], metavar="N", help="processes of the relay (1)"
    )
    relay.add_argument(
        "--together", action="store_true", help="relay and plain fan-out at the same time, to compare them"
    )
    relay.add_argument("--no-plain", action="store_true", help="leave the plain gRPC fan-out out")
    relay.add_argument(
        "--tuned", action="store_true", help="and the plain fan-out in a process set up like a relay's"
    )


def _layers(text: str) -> int | str:
    return text if text == "all" else count(text)


def run_entropy(args: argparse.Namespace) -> int:
    from layercast.bench.entropy import main

    main(args.rounds)
    return 0


def run_relay(args: argparse.Namespace) -> int:
    from layercast.bench.relay import main

    return main(
        args.senders,
        args.receivers,
        args.budgets,
        args.unit_bytes,
        args.rate,
        args.seconds,
        adaptive=not args.fixed_budgets,
        plain=not args.no_plain,
        tuned=args.tuned,
        workers=args.workers,
        together=args.together,
    )


def run_codec(args: argparse.Namespace) -> int:
    from layercast.bench.codec import main

    return main(
        images=args.images,
        codec=chosen_codec(args),
        qualities=args.quality,
        layers=args.layers,
        json_path=args.json,
        against_jpeg=args.against_jpeg,
    )
