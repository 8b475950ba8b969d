"""arping's command line, its help and its words for what is wrong, as iputils 20221126 has them.

Times are whole seconds.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from nodes.getopt import OPERAND, GetoptError, getopt
from nodes.iputils import INT_MAX, UsageError, getaddrinfo, strtol_or_err

VERSION = (
    "arping from iputils 20221126\n"
    "libcap: yes, IDN: yes, NLS: no, error.h: yes, getrandom(): yes, __fpending(): yes"
)
USAGE = """\

Usage:
  arping [options] <destination>

Options:
  -f            quit on first reply
  -q            be quiet
  -b            keep on broadcasting, do not unicast
  -D            duplicate address detection mode
  -U            unsolicited ARP mode, update your neighbours
  -A            ARP answer mode, update your neighbours
  -V            print version and exit
  -c <count>    how many packets to send
  -w <timeout>  how long to wait for a reply
  -i <interval> set interval between packets (default: 1 second)
  -I <device>   which ethernet device to use
  -s <source>   source ip address
  <destination> dns name or ip address

For more details see arping(8)."""
_FLAGS = {"b": "broadcast_only", "U": "unsolicited", "q": "quiet", "f": "quit_on_reply"}
_NUMBERS = {"c": ("count", 1), "w": ("timeout", 0), "i": ("interval", 0)}


@dataclass
class ArpingOptions:
    """Parsed command line; times in seconds. Plain values: they move with the program."""

    target: bytes = b""
    device: str = ""
    source: str = ""
    count: int = -1
    timeout: int = 0
    interval: int = 1
    broadcast_only: bool = False
    dad: bool = False
    unsolicited: bool = False
    advert: bool = False
    quiet: bool = False
    quit_on_reply: bool = False


def parse(argv: tuple[str, ...], hosts: Mapping[str, str]) -> ArpingOptions:
    """What the words ask for; UsageError carries arping's own message."""
    options, operands = ArpingOptions(), []
    try:
        for letter, text in getopt(argv[1:], "h?bfDUAqc:w:i:s:I:V"):
            if letter == OPERAND:
                operands.append(text)
            elif letter in "cwisI":
                _valued(options, letter, text)
            else:
                _flag(options, letter)
    except GetoptError as error:
        raise UsageError(f"arping: {error}\n{USAGE}") from None
    if len(operands) != 1:
        raise UsageError(USAGE)
    options.target = getaddrinfo("arping", operands[0], hosts)
    return options


def _flag(options: ArpingOptions, letter: str) -> None:
    if letter in _FLAGS:
        setattr(options, _FLAGS[letter], True)
    elif letter == "D":
        options.dad = options.quit_on_reply = True
    elif letter == "A":
        options.advert = options.unsolicited = True
    elif letter == "V":
        raise UsageError(VERSION, 0, out=True)
    else:
        raise UsageError(USAGE)


def _valued(options: ArpingOptions, letter: str, text: str) -> None:
    if letter == "I":
        options.device = text
    elif letter == "s":
        options.source = text
    else:
        name, low = _NUMBERS[letter]
        setattr(options, name, strtol_or_err("arping", text, low, INT_MAX))


def source_address(options: ArpingOptions) -> bytes:
    """-s; 0.0.0.0 without it."""
    if not options.source:
        return bytes(4)
    try:
        return ipaddress.IPv4Address(options.source).packed
    except ValueError:
        raise UsageError(f"arping: invalid source {options.source}") from None
