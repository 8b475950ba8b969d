"""A line of the shell taken apart: commands and what joins them, then words and redirections.

The part of bash's grammar that makes sense on the emulated machine: quotes, ``;`` ``&&`` ``||``,
``>`` ``>>``, ``$?`` and ``#``. What stands behind a command's first ``|`` is left alone: it is a
command line for the host's shell. Everything else that bash would understand is refused by name.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.errors import BottomhalfError

SYNTAX_ERROR = 2
_GLOB = "*?["
_REFUSED = {
    "<": "input from a file",
    "&": "a job in the background",
    "`": "`...`",
    "(": "(...)",
    ")": "(...)",
}


class Command(NamedTuple):
    """One command: what joins it to the one before (``;``, ``&&``, ``||``), its text, and the
    host's command line behind its pipe."""

    joiner: str
    text: str
    host: str | None


class Word(NamedTuple):
    """A word, without its quotes; ``pattern`` if an unquoted ``*?[`` stands in it."""

    text: str
    pattern: bool = False


class Simple(NamedTuple):
    """A command ready to run: words and the file that ``>`` or ``>>`` names."""

    words: list[Word]
    target: Word | None


def _syntax(token: str) -> BottomhalfError:
    return BottomhalfError(
        f"syntax error near unexpected token `{token}'", "", SYNTAX_ERROR, "bash"
    )


def _unmodelled(what: str) -> BottomhalfError:
    hint = "; && || > >> | $? and quotes work; behind a | the host's shell has everything"
    return BottomhalfError(f"{what} is not modelled", hint, SYNTAX_ERROR, "bash")


def _quoted(line: str, at: int) -> int:
    """Index behind what begins at ``at`` with a quote or a backslash."""
    if line[at] == "\\":
        return min(at + 2, len(line))
    end = at + 1
    while end < len(line) and line[end] != line[at]:
        end += 2 if line[end] == "\\" and line[at] == '"' else 1
    if end >= len(line):
        raise BottomhalfError(
            f"unexpected EOF while looking for matching `{line[at]}'", "", SYNTAX_ERROR, "bash"
        )
    return end + 1


def split(line: str) -> list[Command]:
    """The commands of a line, in order."""
    found: list[Command] = []
    joiner, begin, pipe, at = ";", 0, -1, 0

    def take(end: int, token: str) -> None:
        text = line[begin : pipe if pipe >= 0 else end].strip()
        host = line[pipe + 1 : end].strip() if pipe >= 0 else None
        if host == "" or (not text and (host or token != "newline" or joiner != ";")):
            raise _syntax("|" if host and not text else token)
        if text:
            found.append(Command(joiner, text, host))

    while at < len(line):
        char, pair = line[at], line[at : at + 2]
        if char in "'\"\\":
            at = _quoted(line, at)
            continue
        if char == "#" and (at == 0 or line[at - 1] in " \t;"):
            line = line[:at]
            break
        if char in "\n;" or pair in ("&&", "||"):
            token = "newline" if char == "\n" else pair if pair in ("&&", "||") else ";"
            if char == "\n" and not line[begin:at].strip() and joiner == ";":
                at = begin = at + 1
                continue
            take(at, token)
            joiner = ";" if token == "newline" else token
            at += len(pair) if token in ("&&", "||") else 1
            begin, pipe = at, -1
            continue
        if char == "|" and pipe < 0:
            pipe = at
        at += 1
    if line[begin:].strip() or joiner != ";":
        take(len(line), "newline")
    return found


def words(text: str, status: int) -> Simple:
    """Words of one command; ``status`` stands for ``$?``."""
    found: list[Word] = []
    target: Word | None = None
    wanted = False  # a > waits for its file
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        if text[at] == ">":
            if wanted or target is not None:
                raise _syntax(">") if wanted else _unmodelled("a second redirection")
            wanted = True
            at += 2 if text[at : at + 2] == ">>" else 1
            continue
        if text[at] in "012" and text[at + 1 : at + 2] == ">":
            raise _unmodelled(f"{text[at]}>")
        word, at = _word(text, at, status)
        if wanted:
            target, wanted = word, False
        else:
            found.append(word)
    if wanted:
        raise _syntax("newline")
    return Simple(found, target)


def _word(text: str, at: int, status: int) -> tuple[Word, int]:
    """The word that begins at ``at``, and the index behind it."""
    said, pattern = "", False
    while at < len(text) and text[at] not in " \t>":
        char = text[at]
        if char == "'":
            end = _quoted(text, at)
            said += text[at + 1 : end - 1]
            at = end
        elif char == '"':
            end = _quoted(text, at)
            said += _double(text[at + 1 : end - 1], status)
            at = end
        elif char == "\\":
            said += text[at + 1 : at + 2]
            at += 2
        elif char == "$":
            piece, at = _dollar(text, at, status)
            said += piece
        elif char in _REFUSED:
            raise _unmodelled(_REFUSED[char])
        else:
            pattern = pattern or char in _GLOB
            said += char
            at += 1
    return Word(said, pattern), at


def _double(text: str, status: int) -> str:
    """What stood between double quotes."""
    said, at = "", 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in ("\\", '"', "$", "`"):
            said += text[at + 1]
            at += 2
        elif text[at] == "$":
            piece, at = _dollar(text, at, status)
            said += piece
        elif text[at] == "`":
            raise _unmodelled(_REFUSED["`"])
        else:
            said += text[at]
            at += 1
    return said


def _dollar(text: str, at: int, status: int) -> tuple[str, int]:
    following = text[at + 1 : at + 2]
    if following == "?":
        return str(status), at + 2
    if following.isalpha() or following in ("_", "{", "("):
        raise _unmodelled(f"${following}...")
    return "$", at + 1
