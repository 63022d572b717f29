"""Running networks: ONNX Runtime sessions, the choice of execution provider, and proof that the prior is exact.

`keep_freed_memory` serves codecs without a network, too: ONNX Runtime is imported when a name of it is first used.
"""

from typing import TYPE_CHECKING, Any

from layercast.runtime.memory import keep_freed_memory

if TYPE_CHECKING:
    from layercast.runtime.programs import ProgramNetwork, load_network
    from layercast.runtime.session import Session, SessionOptions, choose_provider

__all__ = [
    "ProgramNetwork",
    "Session",
    "SessionOptions",
    "choose_provider",
    "keep_freed_memory",
    "load_network",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from layercast.runtime import programs, session

    return getattr(programs if hasattr(programs, name) else session, name)
