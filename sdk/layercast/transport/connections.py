"""How many TCP connections a port holds, as the kernel counts them: gRPC accepts those of strangers, and closes them
again, without telling anybody."""

from __future__ import annotations

from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED = "01"


def connections(port: int) -> int | None:
    """Established connections to the local `port` in this network namespace; None where the kernel does not tell
    (not Linux). Takes a millisecond for some hundred of them."""
    suffix, found, told = f":{port:04X}", 0, False
    for table in TABLES:
        try:
            with table.open() as lines:
                for line in lines:
                    fields = line.split(None, 4)
                    found += fields[3] == ESTABLISHED and fields[1].endswith(suffix)
            told = True
        except OSError:
            continue
    return found if told else None
