"""Markdown pieces, and the line under each table that says where its figures are from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

LEFT_OUT = "–"
"""Stands where nothing was measured, or nothing can be said."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value: float | None, digits: int = 2) -> str:
    return LEFT_OUT if value is None else f"{value:.{digits}f}"


def percent(value: float) -> str:
    return f"{value:+.1f} %"


def ratio(value: float) -> str:
    return f"{value:.1f}×" if value >= 10 else f"{value:.2f}×"


def origin(stored: Iterable[dict[str, Any]]) -> str:
    """Machine, versions, commits, date and command of the results shown, each distinct command once."""
    commits: dict[tuple[str, str], set[str]] = {}
    for result in stored:
        about = result["about"]
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        where = f"{about['machine']}; {versions}"
        commits.setdefault((f"`{about['command']}` on {about['date']}", where), set()).add(about["commit"])
    return "\n".join(
        f"<sub>{command}, commit {', '.join(sorted(found))}; {where}.</sub>  "
        for (command, where), found in commits.items()
    )
