"""`layercast info`: what an .lcast file holds, layer by layer."""

from __future__ import annotations

import argparse
import json
from typing import Any

from layercast.cli.arguments import add_command

EXAMPLES = """\
  layercast info clip.lcast
  layercast info clip.lcast --json | python -m json.tool"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "info", "show what an .lcast file holds, layer by layer", EXAMPLES, run)
    parser.add_argument("input", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(args: argparse.Namespace) -> int:
    facts = collect(args.input)
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    width, height = facts["width"], facts["height"]
    print(f"{args.input}: {facts['frames']} frames of {width}x{height}, codec {facts['codec']}")
    print(
        f"  {facts['bytes']} bytes of access units, {facts['seconds']:.2f} s,"
        f" {facts['bits_per_pixel']:.3f} bits per pixel"
    )
    if facts["title"]:
        print(f"  title: {facts['title']}")
    print(f"  {'layers':>6}  {'last':<16}{'bytes/frame':>12}{'bpp':>9}{'over grey':>12}")
    for row in facts["layers"]:
        gain = f"{row['gain_db']:.2f} dB" if row["gain_db"] is not None else "-"
        print(f"  {row['layers']:>6}  {row['name']:<16}{row['bytes']:>12.0f}{row['bpp']:>9.3f}{gain:>12}")
    if facts["truncated"]:
        print("  the file is cut short; these are the frames before the cut")
    if facts["damaged"]:
        print(f"  {facts['damaged']} frames are damaged")
    return 0


def collect(path: str) -> dict[str, Any]:
    """The facts as a dictionary of JSON values; layer rows are means over the frames that hold that many.

    `gain_db` is the PSNR that the prefix adds to a mid-grey picture, as its encoder states it.
    """
    from layercast.bitstream import ContainerReader, read_index, unpack

    with ContainerReader(path) as reader:
        description = reader.description
        count = [0] * len(description.layer_names)
        size = [0] * len(count)
        area = [0] * len(count)
        gain: list[float] = [0.0] * len(count)
        gained = [0] * len(count)
        frames = total = pixels = damaged = width = height = first_us = last_us = 0
        for unit in reader:
            index = read_index(unit)
            picture = index.header.picture
            width, height = picture.width, picture.height
            first_us = index.header.timestamp_us if frames == 0 else first_us
            last_us = index.header.timestamp_us
            frames += 1
            total += len(unit)
            pixels += width * height
            damaged += bool(unpack(unit).damage)
            gain_db = 0.0
            for k, end in enumerate(index.ends[1 : len(count) + 1]):
                count[k] += 1
                size[k] += end
                area[k] += width * height
                if k < len(index.gains_db):
                    gain_db += index.gains_db[k]
                    gain[k] += gain_db
                    gained[k] += 1
        truncated = reader.truncated
        damaged += reader.damaged
    rate = description.frame_rate
    layers = [
        {
            "layers": k + 1,
            "name": name,
            "bytes": size[k] / count[k],
            "bpp": 8 * size[k] / area[k],
            "gain_db": gain[k] / gained[k] if gained[k] else None,
        }
        for k, name in enumerate(description.layer_names)
        if count[k]
    ]
    return {
        "codec": description.codec,
        "fingerprint": description.fingerprint.hex(),
        "title": description.title,
        "frame_rate": rate,
        "width": width,
        "height": height,
        "frames": frames,
        "seconds": (last_us - first_us) / 1e6 + (1 / rate if rate and frames else 0.0),
        "bytes": total,
        "bits_per_pixel": 8 * total / pixels if pixels else 0.0,
        "truncated": truncated,
        "damaged": damaged,
        "layers": layers,
    }
