"""What goes wrong, said in two lines, and the exit codes.

The first line says what is wrong and where, in the user's words; the second, behind ``hint:``, the
command or the allowed values. Nobody who made a slip sees a traceback; when the fault is ours the
traceback goes to a file and the line says where.
"""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Iterable
from typing import TextIO

OK = 0
EXPECTATION_FAILED = 1
USAGE = 2
OUR_FAULT = 3
#: What a shell reports for a program that ended by Ctrl-C.
INTERRUPTED = 130

PROGRAM = "bottomhalf"

#: A hint that needs more lines than one: how long they are, and what the others begin with.
HINT_COLUMNS, GOES_ON = 92, " " * 8


class BottomhalfError(Exception):
    """A message for the user: ``what`` went wrong, a ``hint`` that mends it, an exit code.

    ``program`` is who says it: a command of the emulated machine speaks with its own name, as on
    Linux, and then the hint is shown only on a terminal."""

    def __init__(
        self, what: str, hint: str = "", code: int = USAGE, program: str = PROGRAM
    ) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.code = code
        self.program = program

    def text(self, terminal: bool = True) -> str:
        """The lines as they are printed, each with its newline."""
        line = f"{self.program}: {self.what}\n"
        if self.hint and (terminal or self.program == PROGRAM):
            line += hint_line(self.hint)
        return line


def hint_line(hint: str) -> str:
    """The second line of a message."""
    return f"  hint: {hint}\n"


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that ``word`` was probably meant to be."""
    found = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """``; did you mean `miimon`?``, or nothing."""
    name = nearest(word, names)
    return f"; did you mean `{name}`?" if name else ""


def words(names: Iterable[str]) -> str:
    """Names in a row, as the hints show them."""
    return " ".join(names)


def listed(head: str, names: Iterable[str]) -> str:
    """Many names behind a word, for a hint: in as many lines as they need."""
    return textwrap.fill(
        f"{head} {words(names)}", HINT_COLUMNS, subsequent_indent=GOES_ON,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def plural(number: int, one: str, many: str = "") -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def nobody_reads() -> None:
    """Whoever read our output has left; the interpreter must not complain about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def guard(run: Callable[[], int], stderr: TextIO | None = None) -> int:
    """Run a command and turn whatever it raises into an exit code and two lines on stderr."""
    stderr = sys.stderr if stderr is None else stderr
    try:
        return run()
    except BottomhalfError as error:
        stderr.write(error.text(stderr.isatty()))
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        nobody_reads()
        return OK
    except Exception as error:
        stderr.write(our_fault(error).text(stderr.isatty()))
        return OUR_FAULT


def our_fault(error: BaseException) -> BottomhalfError:
    """Save the traceback and say so."""
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        handle, path = tempfile.mkstemp(prefix="bottomhalf-traceback-", suffix=".txt")
        with os.fdopen(handle, "w") as file:
            file.writelines(traceback.format_exception(error))
        hint = f"please report it with {path}"
    except OSError as problem:
        hint = f"the traceback could not be saved: {problem.strerror}"
    return BottomhalfError(f"this is a fault of ours: {summary}", hint, OUR_FAULT)
