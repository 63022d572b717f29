"""Run a bench that prints JSON lines, and store them like every other result, with machine, versions and commit.

python -m benchmarks.keep relay/uncapped layercast bench relay --receivers 50 100 200
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from benchmarks import results


def measured(command: list[str]) -> list[dict[str, Any]]:
    """The objects that a command prints, a line each; whatever else it prints is passed on."""
    beside = Path(sysconfig.get_path("scripts")) / command[0]
    start = [sys.executable] if command[0] == "python" else [str(beside) if beside.exists() else command[0]]
    rows = []
    with subprocess.Popen([*start, *command[1:]], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("{"):
                rows.append(json.loads(line))
    if process.returncode or not rows:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}, {len(rows)} rows")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keep", description=__doc__.split("\n")[0])
    parser.add_argument("name", metavar="PART/NAME", help="of the file under benchmarks/results")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="layercast ... or python ...")
    args = parser.parse_args()
    part, _, name = args.name.partition("/")
    path = results.save(part, name, measured(args.command))
    path.with_suffix(".jsonl").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
