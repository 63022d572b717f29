"""Do two differently configured ends of `hierarchical` agree on every symbol, mean and distribution?

    python -m benchmarks.exactness --pictures DIR

Encodes with one thread and no graph optimisation and decodes with two threads and all of them, and the reverse, at
three qualities, and compares what both ends know after every layer.
"""

from __future__ import annotations

import argparse
import hashlib

from benchmarks import pictures, results
from layercast import EncodedFrame
from layercast.codecs.hierarchical import HierarchicalCodec

QUALITIES = (0.2, 0.6, 1.0)


def states(codec: HierarchicalCodec, frame: EncodedFrame) -> list[str]:
    """A digest of everything the decoder knows after each layer."""
    decoder = codec.start(frame.picture)
    found = []
    for layer in frame.layers:
        decoder.push(layer)
        found.append(hashlib.sha256(decoder.state()).hexdigest())
    return found


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_argument(ap)
    chosen = pictures.chosen(ap.parse_args())
    plain = HierarchicalCodec(threads=1, optimise=False)
    fast = HierarchicalCodec(threads=2)
    rows = []
    for quality in QUALITIES:
        compared = different = 0
        for image in chosen.pictures.values():
            for encoder, decoder in ((plain, fast), (fast, plain)):
                frame = encoder.encode(image, quality)
                pairs = zip(states(encoder, frame), states(decoder, frame), strict=True)
                verdicts = [a == b for a, b in pairs]
                compared += len(verdicts)
                different += verdicts.count(False)
        rows.append({"quality": quality, "prefixes": compared, "different": different})
        print(rows[-1], flush=True)
    results.save("exactness", chosen.name, rows, **chosen.about)
    return int(any(row["different"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
