"""getopt(3), as programs of iputils use it: short options, letter by letter.

Letters may stand together (``-qc 3``), an argument may be attached (``-c3``) or be the next word,
whatever that is. Options may stand behind operands, as glibc has it; ``--`` ends them, ``-`` is an
operand. There are no long options: ``--count`` asks for an option called ``-``. Programs that have
some use the standard library's ``gnu_getopt``, and ``glibc_text``.
"""

from __future__ import annotations

import getopt as standard
from collections.abc import Iterator, Sequence

#: What comes back instead of a letter with a word that is no option (glibc's 1).
OPERAND = ""


class GetoptError(ValueError):
    """getopt's own words, which stand behind the program's name."""


def getopt(words: Sequence[str], options: str) -> Iterator[tuple[str, str]]:
    """(letter, argument) of each option in its order, (OPERAND, word) of each operand. ``options``
    are the letters that there are, with a colon behind those that take an argument."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            break
        if word == "-" or not word.startswith("-"):
            yield OPERAND, word
            continue
        for at, letter in enumerate(word[1:], 2):
            place = options.find(letter)
            if place < 0 or letter == ":":
                raise GetoptError(f"invalid option -- '{letter}'")
            if options[place + 1 : place + 2] == ":":
                argument = word[at:] or next(rest, None)
                if argument is None:
                    raise GetoptError(f"option requires an argument -- '{letter}'")
                yield letter, argument
                break
            yield letter, ""
    for word in rest:
        yield OPERAND, word


def glibc_text(error: standard.GetoptError) -> str:
    """What glibc says where Python's ``gnu_getopt`` raises this."""
    long = len(error.opt) > 1
    if "requires argument" in error.msg:
        if long:
            return f"option '--{error.opt}' requires an argument"
        return f"option requires an argument -- '{error.opt}'"
    return f"unrecognized option '--{error.opt}'" if long else f"invalid option -- '{error.opt}'"
