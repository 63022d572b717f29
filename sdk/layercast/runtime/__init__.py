"""Running networks: ONNX Runtime sessions, the choice of execution provider, and proof that the prior is exact."""

from layercast.runtime.memory import keep_freed_memory
from layercast.runtime.session import Session, SessionOptions, choose_provider

__all__ = ["Session", "SessionOptions", "choose_provider", "keep_freed_memory"]
