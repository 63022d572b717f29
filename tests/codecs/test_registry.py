"""Which codec is used when nobody chooses one."""

from __future__ import annotations

import importlib.util

import pytest

from layercast.codecs.registry import codec_names, default_codec, get_codec
from layercast.errors import ConfigError


def test_the_learned_codec_is_the_default() -> None:
    assert default_codec() == "hierarchical"
    assert default_codec() in codec_names()
    assert get_codec(default_codec()).name == "hierarchical"


def test_without_onnxruntime_the_default_needs_numpy_only(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else found(name, *rest)
    )
    assert default_codec() == "dct"


def test_options_go_to_the_codec_or_are_refused() -> None:
    assert get_codec("hierarchical", threads=1, effort=1).name == "hierarchical"
    for name in ("dct", "hierarchical"):
        with pytest.raises(ConfigError, match="no option sharpness"):
            get_codec(name, sharpness=1)
    with pytest.raises(ConfigError, match="no option effort"):
        get_codec("dct", effort=1)
