"""What is compiled when layercast is installed and a C compiler is there (setup.py); all of it has a stand-in."""

from __future__ import annotations

import importlib
import os
from typing import Any

PURE = "LAYERCAST_PURE"
"""Environment variable: if it is set, what is compiled is left alone."""


def extension(name: str) -> Any:
    """A module that is compiled, or needs one that is; None where there was no compiler, or with PURE."""
    if os.environ.get(PURE):
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
