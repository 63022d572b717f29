"""`layercast encode`: pictures, video or a camera into an .lcast file."""

from __future__ import annotations

import argparse
import itertools

from layercast.cli.arguments import add_codec_options, add_command, add_frames_option, chosen_codec

EXAMPLES = """\
  layercast encode photo.png photo.lcast
  layercast encode holiday/ holiday.lcast --quality 0.9 --effort 1
  layercast encode clip.mp4 clip.lcast --codec dct
  layercast encode camera:/dev/video0 now.lcast --frames 100    (or until Ctrl-C: the file is complete)"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands, "encode", "turn a picture, folder, video or camera into an .lcast file", EXAMPLES, run
    )
    parser.add_argument("source", metavar="IN", help='path, "pattern:640x480@30" or "camera:/dev/video0"')
    parser.add_argument("output", metavar="OUT.lcast")
    add_codec_options(parser)
    add_frames_option(parser)


def run(args: argparse.Namespace) -> int:
    from layercast.bitstream import ContainerWriter
    from layercast.cli.units import encode_unit
    from layercast.media import open_source
    from layercast.media.progress import progress
    from layercast.transport.sender import describe

    codec = chosen_codec(args)
    frames = coded_bytes = pixels = 0
    with open_source(args.source) as source:
        description = describe(codec, source.frame_rate)
        total = min(filter(None, (source.length, args.frames)), default=None)
        pictures = itertools.islice(source, args.frames)
        with ContainerWriter(args.output, description) as writer:
            try:
                for image, timestamp_us in progress(pictures, "encode", total):
                    unit = encode_unit(codec, image, frames, timestamp_us, args.quality)
                    writer.write(unit)
                    frames += 1
                    coded_bytes += len(unit)
                    pixels += image.shape[0] * image.shape[1]
            finally:
                if frames:
                    bpp = 8 * coded_bytes / pixels
                    print(
                        f"{args.output}: {frames} frame{'s' * (frames > 1)},"
                        f" {codec.name}, {len(description.layer_names)} layers,"
                        f" {coded_bytes} bytes, {bpp:.3f} bits per pixel"
                    )
    return 0
