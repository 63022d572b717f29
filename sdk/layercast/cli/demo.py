"""`layercast demo`: everything at once, on this machine alone."""

from __future__ import annotations

import argparse

from layercast.cli.arguments import add_command

EXAMPLES = """\
  layercast demo
  layercast demo --out somewhere

It starts a relay, a sender that plays a bundled clip, and three receivers with different budgets; prints what
each of them gets; leaves pictures and a recording in the output folder; and ends in under a minute. The exit
code is 0 only if every receiver got pictures within its budget."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "demo", "see it work, on this machine alone", EXAMPLES, run)
    parser.add_argument("--out", default="demo-out", metavar="DIR", help="default demo-out")
    parser.add_argument("--codec", metavar="NAME", help="see `layercast codecs`")


def run(args: argparse.Namespace) -> int:
    from layercast.demo.run import main

    return main(args.out, args.codec)
