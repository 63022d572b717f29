"""`layercast decode`: an .lcast file back into pictures or video, from as many layers as asked for."""

from __future__ import annotations

import argparse

from layercast.cli.arguments import add_command, add_frames_option, count
from layercast.cli.status import warn

EXAMPLES = """\
  layercast decode photo.lcast photo.png
  layercast decode clip.lcast clip.mp4
  layercast decode clip.lcast frames/ --layers 4       (the first four layers only)"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "decode", "turn an .lcast file into pictures or a video", EXAMPLES, run)
    parser.add_argument("input", metavar="IN.lcast")
    parser.add_argument("output", metavar="OUT", help="a picture (.png ...), a video (.mp4 ...) or a folder")
    parser.add_argument("--layers", type=count, metavar="K", help="use at most the first K layers")
    add_frames_option(parser)


def run(args: argparse.Namespace) -> int:
    import itertools

    from layercast.bitstream import ContainerReader, read_index, trim
    from layercast.media import open_sink
    from layercast.media.progress import progress
    from layercast.transport.received import receive
    from layercast.transport.receiver import open_codec

    frames = damaged = 0
    with ContainerReader(args.input) as reader:
        codec = open_codec(reader.description, None)
        total = min(len(reader), args.frames or len(reader))
        with open_sink(args.output, frame_rate=reader.description.frame_rate) as sink:
            for unit in progress(itertools.islice(reader, args.frames), "decode", total):
                if args.layers is not None and args.layers < read_index(unit).kept:
                    unit = bytes(trim(unit, args.layers))
                frame = receive(unit, 0.0, codec)
                sink.write(frame.image, frame.header.timestamp_us)
                frames += 1
                damaged += bool(frame.damage)
        if reader.truncated:
            warn(f"{args.input} was cut or not finished; read up to its end")
        if reader.damaged:
            warn(f"{reader.damaged} frames of {args.input} are lost to damage")
    if damaged:
        warn(f"{damaged} of {frames} frames lost their finer layers to damage")
    print(f"{args.output}: {frames} frame{'s' * (frames != 1)}")
    return 0
