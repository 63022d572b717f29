"""Running networks: ONNX Runtime sessions, the choice of execution provider, and proof that the prior is exact."""

from layercast.runtime.session import Session, SessionOptions, choose_provider

__all__ = ["Session", "SessionOptions", "choose_provider"]
