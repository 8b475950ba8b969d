"""ping's command line, with the options of iputils 20221126 and its words for what is wrong.

Options that need what is not modelled (record route, time stamps in the IP header, IPv6) are
refused by name; those that could make no difference here (marks, buffer sizes) are taken.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.ip_output import (
    IP_PMTUDISC_DO,
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_WANT,
)
from nodes.cpu.programs.pinghelp import USAGE, VERSION
from nodes.getopt import OPERAND, GetoptError, getopt
from nodes.iputils import (
    INT_MAX,
    LONG_MAX,
    UsageError,
    getaddrinfo,
    ping_destination,
    ping_strtod,
    ping_ttl,
    strtol_or_err,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PATTERN_BYTES_MAX = 16
_PMTUDISC = {"do": IP_PMTUDISC_DO, "dont": IP_PMTUDISC_DONT, "want": IP_PMTUDISC_WANT}
_FLAGS = {
    "A": "adaptive", "D": "timestamps", "f": "flood", "O": "outstanding", "q": "quiet",
    "v": "verbose", "U": "latency", "a": "audible", "n": "numeric",
}  # fmt: skip
_REFUSED = {
    "R": "record route", "T": "timestamps in the IP header", "6": "IPv6", "b": "broadcast",
}  # fmt: skip
_OPTIONS = "h?4bRT:6F:N:aABc:CdDe:fI:i:l:Lm:M:nOp:qQ:rs:S:t:UvVw:W:"


@dataclass
class PingOptions:
    """Parsed command line; times in ns. Plain values: a ping that moves takes them along."""

    host: str = ""
    address: bytes = b""
    count: int | None = None
    interval_ns: int = 1_000_000_000
    interval_given: bool = False
    size: int = 56
    ttl: int = 64
    tos: int = 0
    pmtudisc: int = IP_PMTUDISC_WANT
    deadline_ns: int | None = None
    linger_ns: int = 10_000_000_000
    preload: int = 1
    pattern: bytes = b""
    ident: int | None = None
    flood: bool = False
    adaptive: bool = False
    quiet: bool = False
    timestamps: bool = False
    outstanding: bool = False
    verbose: bool = False
    latency: bool = False
    audible: bool = False
    numeric: bool = False  # names of addresses are not looked up
    device: str = ""
    source: bytes = b""  # -I with an address


def _number(text: str, low: int, high: int) -> int:
    return strtol_or_err("ping", text, low, high)


def parse(cpu: Cpu, argv: tuple[str, ...], hosts: Mapping[str, str]) -> PingOptions:
    """Options and destination, one of ``hosts`` or an address; UsageError carries ping's own
    message."""
    options, operands = PingOptions(), []
    try:
        for letter, text in getopt(argv[1:], _OPTIONS):
            if letter == OPERAND:
                operands.append(text)
            elif letter in _FLAGS:
                setattr(options, _FLAGS[letter], True)
            elif letter in _REFUSED:
                raise UsageError(f"ping: {_REFUSED[letter]}: not modelled (docs/limitations.md)")
            elif letter == "V":
                raise UsageError(VERSION, 0, out=True)
            elif letter in "h?":
                raise UsageError(USAGE)
            else:
                _valued(cpu, options, letter, text)
    except GetoptError as error:
        raise UsageError(f"ping: {error}\n{USAGE}") from None
    options.host = ping_destination(operands)
    options.address = getaddrinfo("ping", options.host, hosts)
    options.numeric = options.numeric or options.host not in hosts
    if options.address == b"\xff\xff\xff\xff":
        raise UsageError(
            "ping: Do you want to ping broadcast? Then -b. If not, check your local firewall rules"
        )
    if options.flood and not options.interval_given:
        options.interval_ns = 0
    if options.interval_ns // 1_000_000 >= INT_MAX // options.preload:
        raise UsageError(
            f"ping: illegal preload and/or interval: {options.interval_ns // 1_000_000}"
        )
    return options


def _valued(cpu: Cpu, options: PingOptions, letter: str, text: str) -> None:
    if letter == "c":
        options.count = _number(text, 1, LONG_MAX)
    elif letter == "i":
        options.interval_ns = int(ping_strtod(text, "timing interval") * 1_000_000_000)
        options.interval_given = True
    elif letter == "s":
        options.size = _number(text, 0, INT_MAX)
    elif letter == "t":
        options.ttl = ping_ttl(text)
    elif letter == "l":
        options.preload = _number(text, 1, 65536)
    elif letter == "w":
        options.deadline_ns = _number(text, 0, INT_MAX) * 1_000_000_000 or None
    elif letter == "W":
        options.linger_ns = int(ping_strtod(text, "linger time") * 1000) * 1_000_000
    elif letter == "p":
        options.pattern = _pattern(text)
    elif letter == "M":
        if text not in _PMTUDISC:
            raise UsageError(f"ping: invalid -M argument: {text}")
        options.pmtudisc = _PMTUDISC[text]
    elif letter == "Q":
        options.tos = _tos(text)
    elif letter == "e":
        options.ident = _number(text, 0, 0xFFFF)
    elif letter in "mS":
        _number(text, 0, INT_MAX)
    elif letter == "I":
        _interface(cpu, options, text)


def _interface(cpu: Cpu, options: PingOptions, text: str) -> None:
    """A device, or an address of ours."""
    try:
        source = ipaddress.IPv4Address(text).packed
    except ValueError:
        if cpu.net.device(text) is None:
            raise UsageError(f"ping: SO_BINDTODEVICE {text}: No such device") from None
        options.device = text
        return
    if source not in cpu.net.addresses:
        raise UsageError("ping: bind: Cannot assign requested address")
    options.source = source


def _pattern(text: str) -> bytes:
    """Up to sixteen bytes; a last digit alone is a byte too."""
    wrong = re.search(r"[^0-9a-fA-F]", text)
    if wrong is not None:
        said = text[wrong.start() :]
        raise UsageError(f"ping: patterns must be specified as hex digits: {said}")
    return bytes(int(text[at : at + 2], 16) for at in range(0, len(text), 2))[:PATTERN_BYTES_MAX]


def _tos(text: str) -> int:
    try:
        value = int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError:
        raise UsageError(f"ping: bad TOS value: {text}") from None
    if not 0 <= value <= 255:
        raise UsageError(f"ping: the decimal value of TOS bits must be in range 0-255: {value}")
    return value
