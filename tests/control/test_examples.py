"""The examples in the docstrings of `control` are true."""

from __future__ import annotations

import doctest

import pytest

from layercast.control import budget, share


@pytest.mark.parametrize("module", [budget, share])
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
