"""`layercast relay`: pass streams on, each subscriber's copy cut to its budget; needs no codec, no numpy."""

from __future__ import annotations

import argparse

from layercast.cli.arguments import add_command, count

DEFAULT_LISTEN = "127.0.0.1:7400"
"""This machine only: a relay that others reach is something to ask for."""

EXAMPLES = """\
  layercast relay                                           (this machine only)
  layercast relay --listen 0.0.0.0:7400                     (for the network)
  layercast relay --listen 0.0.0.0:7400 --upstream hub.example:7400
                                         (fetches streams from another relay while somebody listens here)
  layercast relay --listen 127.0.0.1:0                      (any free port; the first line tells which)

It runs until Ctrl-C or SIGTERM, and then ends with exit code 0."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "relay", "pass streams on, each copy cut to its budget", EXAMPLES, run)
    parser.add_argument(
        "--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help=f"default {DEFAULT_LISTEN}"
    )
    parser.add_argument(
        "--upstream", metavar="HOST:PORT", help="another relay, for streams not sent to this one"
    )
    parser.add_argument(
        "--fixed-budgets",
        action="store_true",
        help="send what receivers ask for, whatever their links carry (default: follow each link)",
    )
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="write down why each layer was kept or dropped; FILE for the first receiver, FILE-2 ... for more "
        "(see `layercast trace`)",
    )
    parser.add_argument("--max-streams", type=count, default=256, metavar="N", help="default 256")
    parser.add_argument("--max-subscribers", type=count, default=1024, metavar="N", help="default 1024")


def run(args: argparse.Namespace) -> int:
    import asyncio

    asyncio.run(_serve(args))
    return 0


async def _serve(args: argparse.Namespace) -> None:
    import asyncio
    import signal

    from layercast.transport.limits import RelayLimits
    from layercast.transport.relay import Relay

    limits = RelayLimits(max_streams=args.max_streams, max_subscribers=args.max_subscribers)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with Relay(
        args.listen, args.upstream, limits=limits, adaptive=not args.fixed_budgets, trace=args.trace
    ) as relay:
        print(f"relay listening on {relay.address}", flush=True)
        await stopped.wait()
    print("relay stopped", flush=True)
