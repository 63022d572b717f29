"""Codecs by name, imported only when asked for, so that naming one costs nothing."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

from layercast.codecs.base import Codec
from layercast.errors import ConfigError, MissingDependencyError, UnknownCodecError

_BUILTIN: dict[str, str] = {
    "dct": "layercast.codecs.dct:DctCodec",
    "hierarchical": "layercast.codecs.hierarchical:HierarchicalCodec",
}
_REGISTERED: dict[str, Callable[..., Codec]] = {}


def register(name: str, factory: Callable[..., Codec]) -> None:
    """Add a codec of your own under `name`.

    Raises:
        ConfigError: the name is taken.
    """
    if name in _BUILTIN or name in _REGISTERED:
        raise ConfigError(f"codec {name!r} is already registered", hint="choose another name")
    _REGISTERED[name] = factory


def codec_names() -> tuple[str, ...]:
    """Names that `get_codec` takes."""
    return tuple(sorted({*_BUILTIN, *_REGISTERED}))


def default_codec() -> str:
    """Name of the codec that is used when nobody chooses one: "hierarchical", or "dct" without onnxruntime."""
    return "hierarchical" if importlib.util.find_spec("onnxruntime") else "dct"


def get_codec(name: str, **options: Any) -> Codec:
    """Make a codec by name; `options` go to its constructor.

    Raises:
        UnknownCodecError: no codec of that name.
        MissingDependencyError: the codec needs packages that are not installed.
        ConfigError: the codec has no such option, or the option no such value.
    """
    if name in _REGISTERED:
        return _made(name, _REGISTERED[name], options)
    try:
        module_name, attribute = _BUILTIN[name].split(":")
    except KeyError:
        raise UnknownCodecError(
            f"no codec named {name!r}", hint=f"choose one of: {', '.join(codec_names())}"
        ) from None
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if (error.name or "").startswith("layercast"):
            raise
        raise MissingDependencyError(
            f"codec {name!r} needs the package {error.name!r}",
            hint='install it with: pip install "layercast[codec]"',
        ) from error
    return _made(name, getattr(module, attribute), options)


def _made(name: str, factory: Callable[..., Codec], options: dict[str, Any]) -> Codec:
    taken = inspect.signature(factory).parameters
    unknown = sorted(options.keys() - taken.keys())
    if unknown and all(p.kind is not p.VAR_KEYWORD for p in taken.values()):
        raise ConfigError(
            f"codec {name!r} has no option {', '.join(unknown)}",
            hint=f"it takes: {', '.join(taken) or 'none'}",
        )
    return factory(**options)
