"""ping's command line, with iputils' options and its words for what is wrong with them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

SIZE_MAX = 65507
USAGE = """
Usage
  ping [options] <destination>

Options:
  <destination>      dns name or ip address
  -A                 use adaptive ping
  -c <count>         stop after <count> replies
  -D                 print timestamps
  -f                 flood ping
  -I <interface>     either interface name or address
  -i <interval>      seconds between sending each packet
  -l <preload>       send <preload> number of packages while waiting replies
  -n                 no reverse DNS name resolution
  -O                 report outstanding replies
  -q                 quiet output
  -s <size>          use <size> as number of data bytes to be sent
  -t <ttl>           define time to live
  -W <timeout>       time to wait for response
  -w <deadline>      reply wait <deadline> in seconds
"""

_FLAGS = "ADfnOqUbLrRv"
_VALUED = "cIilstWw"


class UsageError(Exception):
    """What ping prints on stderr before it exits with 2 (or 1)."""


@dataclass
class PingOptions:
    """Parsed command line; times in ns."""

    host: str = ""
    address: bytes = b""
    count: int | None = None
    interval_ns: int = 1_000_000_000
    interval_given: bool = False
    size: int = 56
    ttl: int = 64
    deadline_ns: int | None = None
    linger_ns: int | None = None
    preload: int = 1
    flood: bool = False
    adaptive: bool = False
    quiet: bool = False
    timestamps: bool = False
    outstanding: bool = False
    device: str = ""


def _number(letter: str, text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"ping: invalid argument: '{text}'") from None
    if not low <= value <= high:
        raise UsageError(
            f"ping: invalid argument: '{text}': out of range: {low} <= value <= {high}"
        )
    return value


def _seconds(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"ping: invalid argument: '{text}'") from None
    if not 0 <= value <= 2**31 / 1000:
        raise UsageError(f"ping: bad timing interval: {text}")
    return int(value * 1_000_000_000)


def parse(cpu: Cpu, argv: tuple[str, ...]) -> PingOptions:
    """Options and destination; UsageError carries ping's own message."""
    options, hosts = PingOptions(), []
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            hosts.append(word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _FLAGS:
                _flag(options, letter)
            elif letter in _VALUED:
                if not letters and not words:
                    raise UsageError(f"ping: option requires an argument -- '{letter}'{USAGE}")
                _valued(options, letter, letters or words.pop(0))
                letters = ""
            else:
                raise UsageError(f"ping: invalid option -- '{letter}'{USAGE}")
    if len(hosts) != 1:
        raise UsageError(f"ping: usage error: Destination address required{USAGE}")
    options.host = hosts[0]
    options.address = resolve(cpu, hosts[0])
    if options.flood and not options.interval_given:
        options.interval_ns = 0
    return options


def _flag(options: PingOptions, letter: str) -> None:
    names = {"A": "adaptive", "D": "timestamps", "f": "flood", "O": "outstanding", "q": "quiet"}
    if letter in names:
        setattr(options, names[letter], True)


def _valued(options: PingOptions, letter: str, text: str) -> None:
    if letter == "c":
        options.count = _number(letter, text, 1, 2**63 - 1)
    elif letter == "i":
        options.interval_ns, options.interval_given = _seconds(text), True
    elif letter == "s":
        options.size = _number(letter, text, 0, SIZE_MAX)
    elif letter == "t":
        options.ttl = _number(letter, text, 1, 255)
    elif letter == "l":
        options.preload = _number(letter, text, 1, 65536)
    elif letter == "w":
        options.deadline_ns = _number(letter, text, 0, 2**31 - 1) * 1_000_000_000
    elif letter == "W":
        options.linger_ns = _seconds(text)
    elif letter == "I":
        options.device = text


def resolve(cpu: Cpu, host: str) -> bytes:
    """/etc/hosts of the machine: gateway and the machine's own name; else dotted decimal."""
    if host == "gateway" and cpu.machine.gateway.addresses:
        host = cpu.machine.gateway.addresses[0]
    elif host == cpu.machine.name:
        host = ".".join(str(octet) for octet in next(iter(cpu.net.addresses), b"\x7f\0\0\1"))
    try:
        return ipaddress.IPv4Address(host).packed
    except ValueError:
        raise UsageError(f"ping: {host}: Name or service not known") from None
