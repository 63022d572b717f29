"""The progress bar: there for people, silent for machines."""

import io
import sys

from layercast.media.progress import bar, progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_nothing_is_drawn_where_nobody_looks(capsys):
    assert list(progress([1, 2, 3], "work")) == [1, 2, 3]
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_the_count(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress("abc", "work", total=3)) == ["a", "b", "c"]
    assert "3/3" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")


def test_the_bar_fills_and_tells_the_time_left():
    assert (
        bar("encode", 1, 4, elapsed_s=2.0) == "encode [#######.......................] 1/4 (0.5/s, 6 s left)"
    )
    assert bar("encode", 7, None, elapsed_s=2.0) == "encode 7 (3.5/s)"
