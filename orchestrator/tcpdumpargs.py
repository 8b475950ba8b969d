"""tcpdump's command line: its own options, bundled (``-nne``) or not; ``-i`` may come again.

An option that is not modelled is refused by name; nothing is swallowed in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.errors import BottomhalfError
from orchestrator.packettext import Detail

USAGE = (
    "-i IF [-i IF]... [-c N] [-w FILE|-] [-r FILE|-] [-s SNAPLEN] [-Q in|out|inout] "
    "[-ADelnpqtUvxX#] [--nano] [EXPRESSION]"
)
#: Those that change nothing here: names are never looked up, output is never held back.
_NOTHING = "nNlUSK"
_FLAGS = _NOTHING + "eptqvxXAD#"
_VALUES = "icwrsBQ"
_LONG = {"--nano": "nano", "--list-interfaces": "D", "--number": "#"}
DIRECTIONS = ("in", "out", "inout")
SNAPLEN_MAX = 262144


@dataclass
class Wish:
    """What stood behind the verb."""

    devices: list[str] = field(default_factory=list)
    count: int = 0
    file: str = ""
    read: str = ""
    snaplen: int = 0
    direction: str = "inout"
    stamps: int = 0  # how many -t
    nano: bool = False
    link: bool = False
    verbose: int = 0
    quiet: bool = False
    hexadecimal: int = 0
    both: int = 0
    ascii: int = 0
    number: bool = False
    list_devices: bool = False
    promiscuous: bool = True
    expression: str = ""

    @property
    def detail(self) -> Detail:
        return Detail(self.link, self.verbose, self.quiet, self.hexadecimal, self.both, self.ascii)


def refuse(what: str, hint: str = USAGE) -> BottomhalfError:
    """What tcpdump says before it exits with 1."""
    return BottomhalfError(what, hint, code=1, program="tcpdump")


def parse(argv: Sequence[str]) -> Wish:
    """Options and the expression."""
    wish = Wish()
    rest = list(argv)
    words: list[str] = []
    while rest:
        word = rest.pop(0)
        if words or not word.startswith("-") or word == "-":
            words.append(word)  # an expression may hold words like -1
            continue
        if word in _LONG:
            _flag(wish, _LONG[word])
            continue
        if word.startswith("--"):
            raise refuse(f"unrecognized option '{word}'", f"modelled: {USAGE}")
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _VALUES:
                value = letters or (rest.pop(0) if rest else "")
                if not value:
                    raise refuse(f"option requires an argument -- '{letter}'")
                _value(wish, letter, value)
                break
            if letter not in _FLAGS:
                raise refuse(
                    f"invalid option -- '{letter}'", f"modelled: {USAGE} (docs/limitations.md)"
                )
            _flag(wish, letter)
    wish.expression = " ".join(words)
    if wish.read and wish.devices:
        raise refuse("-i and -r: a file has its interfaces in it", "tcpdump -r FILE [EXPRESSION]")
    return wish


def _flag(wish: Wish, letter: str) -> None:
    if letter == "t":
        wish.stamps += 1
    elif letter == "v":
        wish.verbose += 1
    elif letter == "x":
        wish.hexadecimal += 1
    elif letter == "X":
        wish.both += 1
    elif letter == "A":
        wish.ascii += 1
    elif letter == "e":
        wish.link = True
    elif letter == "q":
        wish.quiet = True
    elif letter == "p":
        wish.promiscuous = False
    elif letter == "#":
        wish.number = True
    elif letter == "D":
        wish.list_devices = True
    elif letter == "nano":
        wish.nano = True


def _value(wish: Wish, letter: str, value: str) -> None:
    if letter == "i":
        if value in wish.devices:
            raise refuse(f"-i {value} twice", "each device has one column")
        wish.devices.append(value)
    elif letter == "w":
        wish.file = value
    elif letter == "r":
        wish.read = value
    elif letter == "Q":
        if value not in DIRECTIONS:
            raise refuse(f"unknown capture direction `{value}'")
        wish.direction = value
    elif letter == "c":
        if not value.isdecimal() or not int(value):
            raise refuse(f"invalid packet count {value}")
        wish.count = int(value)
    elif letter == "s":
        if not value.isdecimal() or int(value) > SNAPLEN_MAX:
            raise refuse(f"invalid snaplen {value} (must be >= 0 and <= {SNAPLEN_MAX})")
        wish.snaplen = int(value)
    elif not value.isdecimal() or not int(value):
        raise refuse(f"invalid packet buffer size {value}")


def packets_text(count: int) -> str:
    """``1 packet``, ``2 packets``."""
    return f"{count} packet{'' if count == 1 else 's'}"
