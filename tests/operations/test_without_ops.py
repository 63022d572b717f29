"""A relay starts with nothing but its few required packages; what asks for more names the extra."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio, sys
OPTIONAL = ("prometheus_client", "grpc_health", "grpc_reflection", "cryptography", "numpy", "onnxruntime", "jwt")
for name in OPTIONAL[:6]:
    sys.modules[name] = None
from layercast import Relay
from layercast.errors import MissingDependencyError

async def main():
    async with Relay() as relay:
        assert relay.port > 0
    assert "jwt" not in sys.modules, "tokens are not asked for"
    for options in ({"metrics": "127.0.0.1:0"}, {"reflection": True}):
        try:
            await Relay(**options).start()
        except MissingDependencyError as error:
            print(error)

asyncio.run(main())
"""


def test_a_relay_without_the_ops_extra():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('pip install "layercast[ops]"') == 2
