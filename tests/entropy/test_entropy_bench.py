"""The benchmark runs, checks what it times, and says what is missing."""

import numpy as np
import pytest

from layercast.bench import entropy
from layercast.entropy import COMPILED, coder


def test_a_mix_is_timed_beside_constriction_and_whatever_else_is_installed(capsys, monkeypatch):
    monkeypatch.setattr(entropy, "MIXES", (entropy.Mix("few", 8, 0.2, 4.0, 5000),))
    monkeypatch.setattr(entropy, "_load_compressai", lambda: None)
    before = coder.backend
    rows = entropy.main(rounds=2)
    ours = ["layercast", "layercast, plain"] if COMPILED else ["layercast"]
    assert [r.coder for r in rows] == [*ours, "constriction, float Gaussians"]
    assert len({r.bytes for r in rows[: len(ours)]}) == 1
    assert coder.backend is before
    assert rows[0].behind == 1.0
    assert 0 < rows[0].overhead < 0.005
    assert all(r.encode > 0 and r.decode > 0 for r in rows)
    printed = capsys.readouterr().out
    assert "5,000 symbols of 8 scales" in printed
    assert entropy.INSTALL_COMPRESSAI in printed


def test_a_coder_that_loses_symbols_is_not_timed(monkeypatch):
    def broken(tables):
        return lambda symbols, rows: b"", lambda data, rows: np.zeros(len(rows), np.int32), len

    monkeypatch.setattr(entropy, "_ours", broken)
    with pytest.raises(AssertionError, match="layercast"):
        entropy.run(entropy.Mix("few", 8, 0.2, 4.0, 100), rounds=1)
