"""`layercast codecs`: which codecs this installation has, and their layers."""

from __future__ import annotations

import argparse

from layercast.cli.arguments import add_command

EXAMPLES = """\
  layercast codecs
  layercast codecs dct          (its layer table)
  layercast codecs hierarchical          (and what its networks run on, and why)"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands, "codecs", "list the codecs, or the layers of one and what it runs on", EXAMPLES, run
    )
    parser.add_argument("name", nargs="?", metavar="NAME")


def run(args: argparse.Namespace) -> int:
    from layercast.codecs.base import Situated
    from layercast.codecs.registry import codec_names, default_codec, get_codec
    from layercast.errors import LayercastError

    if args.name:
        codec = get_codec(args.name)
        print(f"{codec.name}, fingerprint {codec.fingerprint.hex()}")
        for number, layer in enumerate(codec.layer_table, 1):
            print(f"  {number:>2}  {layer.name:<16}  {layer.about}")
        if isinstance(codec, Situated):
            for part, place in codec.runs_on.items():
                print(f"{part}: {place}")
        return 0
    for name in sorted(codec_names(), key=lambda name: (name != default_codec(), name)):
        try:
            about = f"{len(get_codec(name).layer_table)} layers"
        except LayercastError as error:
            about = str(error)
        print(f"{name:<14}{about}{'  (default)' if name == default_codec() else ''}")
    return 0
