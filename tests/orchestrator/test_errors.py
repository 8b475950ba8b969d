"""Two lines for the user, never a traceback, and the right exit code."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from orchestrator import errors
from orchestrator.errors import BottomhalfError, guard


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _raise(error: BaseException) -> int:
    raise error


def test_first_line_says_what_and_where_second_line_the_hint():
    error = BottomhalfError("no machine is running", "bottomhalf up -d")
    assert error.text() == "bottomhalf: no machine is running\n  hint: bottomhalf up -d\n"


def test_our_hint_stays_when_stderr_is_no_terminal():
    assert "hint" in BottomhalfError("x", "y").text(terminal=False)


def test_hint_beside_a_tool_is_for_terminals_only():
    error = BottomhalfError("/proc/x: No such file or directory", "not modelled", program="cat")
    assert error.text(terminal=True).startswith("cat: /proc/x")
    assert "hint" in error.text(terminal=True)
    assert "hint" not in error.text(terminal=False)


def test_guard_returns_the_exit_code_of_the_message():
    said = io.StringIO()
    assert guard(lambda: _raise(BottomhalfError("a", "b", code=1)), said) == 1
    assert said.getvalue() == "bottomhalf: a\n  hint: b\n"


def test_guard_passes_the_code_of_a_command_through():
    assert guard(lambda: 7, io.StringIO()) == 7


def test_ctrl_c_is_130_and_says_nothing():
    said = io.StringIO()
    assert guard(lambda: _raise(KeyboardInterrupt()), said) == 130
    assert said.getvalue() == ""


def test_our_own_fault_is_3_and_saves_the_traceback(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said = Terminal()
    assert guard(lambda: _raise(ZeroDivisionError("by zero")), said) == 3
    text = said.getvalue()
    assert "Traceback" not in text
    assert text.startswith("bottomhalf: this is a fault of ours: ZeroDivisionError: by zero\n")
    saved = Path(text.split()[-1])
    assert saved.parent == tmp_path
    assert "ZeroDivisionError: by zero" in saved.read_text()


@pytest.mark.parametrize(
    ("word", "names", "expected"),
    [
        ("mii_mon", ["miimon", "mode"], "; did you mean `miimon`?"),
        ("failovr", ["failover", "one-ping"], "; did you mean `failover`?"),
        ("xyz", ["miimon", "mode"], ""),
    ],
)
def test_nearest_name_only_when_it_looks_like_a_slip(word, names, expected):
    assert errors.did_you_mean(word, names) == expected
