"""`layercast bench entropy`, stored: the entropy coder beside others on the same symbols."""

from __future__ import annotations

import argparse
import dataclasses

from benchmarks import results
from layercast.bench import entropy


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.entropy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="default 9; the best counts")
    rows = entropy.main(parser.parse_args().rounds)
    results.save("entropy", "coders", [dataclasses.asdict(row) for row in rows])


if __name__ == "__main__":
    main()
