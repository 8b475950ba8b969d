"""What ping and arping say of their command lines, as iputils 20221126 does (iputils_common.c).

The machine's tools speak so, and the ping of the host behind the switch. Exit codes are iputils'
own: 1 for a number that is none or out of its range and for no destination, else 2. What is no
number of seconds ping refuses as its later versions do; this one warns and goes on with zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address

INT_MAX, LONG_MAX = 2**31 - 1, 2**63 - 1
_LONG = re.compile(r"\s*[-+]?\d+", re.ASCII)
#: What float() takes and strtod() does not: 1_000, digits of other scripts.
_NO_STRTOD = re.compile(r"_|[^\x00-\x7f]")


class UsageError(ValueError):
    """What a tool prints before it exits, and the exit code; ``out``: on standard output."""

    def __init__(self, text: str, code: int = 2, *, out: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.out = out


def strtol_or_err(program: str, text: str, low: int, high: int) -> int:
    """A whole number within its range."""
    wrong = f"{program}: invalid argument: '{text}'"
    if not _LONG.fullmatch(text):
        raise UsageError(wrong, 1)
    digits = text.strip().lstrip("-+").lstrip("0")
    if len(digits) > len(str(LONG_MAX)) or int(digits or 0) > LONG_MAX:
        raise UsageError(f"{wrong}: Numerical result out of range", 1)
    value = int(text)
    if not low <= value <= high:
        raise UsageError(f"{wrong}: out of range: {low} <= value <= {high}", 1)
    return value


def ping_strtod(text: str, what: str) -> float:
    """Seconds; ``what`` (``timing interval``) is what is bad."""
    try:
        value = -1.0 if _NO_STRTOD.search(text) else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= INT_MAX / 1000:
        raise UsageError(f"ping: bad {what}: {text}")
    return value


def ping_ttl(text: str) -> int:
    """-t; the socket refuses none at all."""
    ttl = strtol_or_err("ping", text, 0, 255)
    if not ttl:
        raise UsageError("ping: cannot set unicast time-to-live: Invalid argument")
    return ttl


def ping_destination(operands: Sequence[str]) -> str:
    """The host; several would be a source route."""
    if not operands:
        raise UsageError("ping: usage error: Destination address required", 1)
    if len(operands) > 1:
        raise UsageError("ping: record route: not modelled (docs/limitations.md)")
    return operands[0]


def getaddrinfo(program: str, host: str, hosts: Mapping[str, str]) -> bytes:
    """The address of a name of /etc/hosts (addresses by name), or of dotted decimal."""
    try:
        return IPv4Address(hosts.get(host, host)).packed
    except AddressValueError:
        raise UsageError(f"{program}: {host}: Name or service not known") from None
