"""tcpdump's command line as getopt_long reads it; ``-i`` may come again.

Options may stand together (``-nne``) and behind the expression. One that tcpdump 4.99 knows and
this does not is refused by name; one that is none gets tcpdump's own words and usage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from getopt import GetoptError, gnu_getopt

from nodes.getopt import glibc_text
from orchestrator.captures.packettext import Detail
from orchestrator.errors import BottomhalfError

USAGE = (
    "-i IF [-i IF]... [-c N] [-w FILE|-] [-r FILE|-] [-s SNAPLEN] [-Q in|out|inout] "
    "[-ADelnpqtUvxX#] [--nano] [EXPRESSION]"
)
#: What tcpdump itself prints of its usage.
TOOLS_USAGE = """\
tcpdump version 4.99.3
libpcap version 1.10.3 (with TPACKET_V3)
Usage: tcpdump [-AbdDefhHIJKlLnNOpqStuUvxX#] [ -B size ] [ -c count ] [--count]
\t\t[ -C file_size ] [ -E algo:secret ] [ -F file ] [ -G seconds ]
\t\t[ -i interface ] [ --immediate-mode ] [ -j tstamptype ]
\t\t[ -M secret ] [ --number ] [ --print ] [ -Q in|out|inout ]
\t\t[ -r file ] [ -s snaplen ] [ -T type ] [ --version ]
\t\t[ -V file ] [ -w file ] [ -W filecount ] [ -y datalinktype ]
\t\t[ --time-stamp-precision precision ] [ --micro ] [ --nano ]
\t\t[ -z postrotate-command ] [ -Z user ] [ expression ]"""
#: Those that change nothing here: names are never looked up, output is never held back.
_NOTHING = "nNlUSK"
_VALUES = "icwrsBQ"
_MODELLED = _NOTHING + _VALUES + "eptqvxXAD#"
#: All that tcpdump knows.
_SHORT = "aAbB:c:C:dDeE:fF:G:hHi:Ij:JKlLm:M:nNOpqQ:r:s:StT:uUvV:w:W:xXy:Yz:Z:#"
_LONG = {
    "interface=": "i", "list-interfaces": "D", "direction=": "Q", "snapshot-length=": "s",
    "buffer-size=": "B", "no-promiscuous-mode": "p", "packet-buffered": "U", "number": "#",
    "absolute-tcp-sequence-numbers": "S", "dont-verify-checksums": "K", "nano": "nano",
}  # fmt: skip
_LONG_BESIDES = (
    "count", "help", "immediate-mode", "lengths", "linktype=", "list-data-link-types",
    "list-time-stamp-types", "micro", "monitor-mode", "no-optimize", "print",
    "relinquish-privileges=", "time-stamp-precision=", "time-stamp-type=", "version",
)  # fmt: skip
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
    try:
        options, words = gnu_getopt(list(argv), _SHORT, [*_LONG, *_LONG_BESIDES])
    except GetoptError as error:
        raise refuse(f"{glibc_text(error)}\n{TOOLS_USAGE}", f"modelled: {USAGE}") from None
    for option, value in options:
        name = option.lstrip("-")
        letter = _LONG.get(name) or _LONG.get(name + "=") or name
        if letter != "nano" and (len(letter) > 1 or letter not in _MODELLED):
            raise refuse(f"{option}: not modelled (docs/limitations.md)", f"modelled: {USAGE}")
        if letter in _VALUES:
            _value(wish, letter, value)
        else:
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
