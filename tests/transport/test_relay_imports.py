"""A relay runs in a small container: it needs no codec, no numpy, no onnxruntime, and starts quickly."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio, sys
from layercast import Relay, RelayLimits

async def main():
    async with Relay(limits=RelayLimits(max_streams=4)) as relay:
        assert relay.port > 0

asyncio.run(main())
heavy = {"numpy", "onnxruntime", "constriction", "PIL", "av", "torch"} & set(sys.modules)
codecs = {name for name in sys.modules if name.startswith("layercast.codecs.")}
codecs -= {"layercast.codecs.base", "layercast.codecs.registry"}
assert not heavy and not codecs, (heavy, codecs)
"""


def test_a_relay_imports_neither_codecs_nor_what_they_need():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
