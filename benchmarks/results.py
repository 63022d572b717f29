"""Measured figures as JSON files, each with what it takes to judge and to repeat them."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
REPOSITORY = ROOT.parent

_PACKAGES = ("layercast", "numpy", "pillow", "imagecodecs", "av", "onnxruntime", "constriction")


def provenance() -> dict[str, Any]:
    """Machine, versions, commit, date and command of a measurement made now."""
    return {
        "machine": machine(),
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _COMMIT,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "command": _command(),
    }


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        facts = dict(
            line.split(":", 1) for line in cpuinfo.read_text().split("\n\n")[0].splitlines() if ":" in line
        )
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        family = f"family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"
        model = f"{facts.get('model name', model)} ({family})"
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def save(part: str, name: str, rows: list[dict[str, Any]], **facts: Any) -> Path:
    """Write `rows` as results/PART/NAME.json, one row a line, so that a diff shows what moved."""
    path = RESULTS / part / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps({"about": provenance(), **facts}, indent=1, ensure_ascii=False)[:-2]
    body = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f'{head},\n "rows": [\n  {body}\n ]\n}}\n', encoding="utf-8")
    return path


def load(part: str, name: str) -> dict[str, Any] | None:
    path = RESULTS / part / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def load_all(part: str) -> dict[str, dict[str, Any]]:
    """Every stored result of one part, by name."""
    return {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted((RESULTS / part).glob("*.json"))
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    commit = git("rev-parse", "--short=10", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "sdk")
    return f"{commit} with changes" if changed else commit


_COMMIT = _commit()
"""Taken when the process starts: what it measures is the code that it then loads."""


def _command() -> str:
    spec = sys.modules["__main__"].__spec__
    name = f"python -m {spec.name}" if spec else Path(sys.argv[0]).name
    arguments = [Path(a).name if os.path.isabs(a) or a.startswith("..") else a for a in sys.argv[1:]]
    return " ".join([name, *arguments])
