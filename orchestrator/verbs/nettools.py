"""Verbs that read the emulated /proc and print what sar, netstat and date make of it.

Wrong words end them with the tools' own codes: sysstat's sar 1, net-tools' netstat 3 (words that
are no options it does not look at), coreutils' date 1. What a tool knows and this does not is
refused by name, with 2; so is sar without an interval: it would read a file of what was collected,
and ends with 2 where there is none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Sequence
from getopt import GetoptError, gnu_getopt
from typing import Any

from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.getopt import glibc_text
from orchestrator.captures.capture import epoch_ns
from orchestrator.errors import OK, USAGE, BottomhalfError
from orchestrator.machines import procfiles
from orchestrator.session import Session, Steps, Wait
from orchestrator.views import netstat as tables
from orchestrator.views import sar

SAR_WRONG, NETSTAT_WRONG, DATE_WRONG = 1, 3, 1
_HINTS = {
    "sar": "sar -n DEV 1 5", "netstat": "netstat -lunp · netstat -i", "date": "date [-u] [+FORMAT]",
}  # fmt: skip
#: What else the tools know.
_SAR_OPTIONS = set("AbBCDdeFfHhIijmnoPpqrSstuVvWwxyz")
_SAR_NETWORK = (
    "EDEV NFS NFSD SOCK SOCK6 IP EIP IP6 EIP6 ICMP EICMP ICMP6 EICMP6 TCP ETCP UDP UDP6 FC SOFT ALL"
)
_NETSTAT_OPTIONS, _NETSTAT_LONG = "A:CFMNSUVWZacefghilnoprstuvwx64", {
    "listening": "l", "tcp": "t", "udp": "u", "numeric": "n", "programs": "p", "raw": "w",
    "all": "a", "interfaces": "i", "route": "r", "groups": "g", "statistics": "s",
    "masquerade": "M", "verbose": "v", "wide": "W", "extend": "e", "timers": "o",
    "continuous": "c", "fib": "F", "cache": "C", "context": "Z", "symbolic": "N", "unix": "x",
    "help": "h", "version": "V",
}  # fmt: skip
_DATE_OPTIONS, _DATE_LONG = "d:f:IRr:s:u", (
    "date=", "debug", "file=", "iso-8601", "reference=", "resolution", "rfc-3339=", "rfc-email",
    "set=", "universal", "utc", "help", "version",
)  # fmt: skip
#: MMDDhhmm[[CC]YY][.ss]
_DATE_TO_SET = re.compile(r"\d{8}(\d\d){0,2}(\.\d\d)?")
INTERVAL_MAX_S = 86400
_SPEED_MBPS = 10_000


def _clock(session: Session, form: str) -> str:
    """The machine's time of day, in UTC; %N is date's own, the nanoseconds."""
    seconds, ns = divmod(epoch_ns(session.machine) + session.machine.now_ns(), 1_000_000_000)
    form = re.sub(r"%(.)", lambda found: f"{ns:09}" if found[1] == "N" else found[0], form)
    return time.strftime(form, time.gmtime(seconds))


def _refused(program: str, what: str, code: int = USAGE) -> BottomhalfError:
    return BottomhalfError(what, _HINTS[program], code, program)


# ---------------------------------------------------------------- sar


def sar_main(session: Session, argv: Sequence[str]) -> Steps:
    """sar -n DEV INTERVAL [COUNT]"""
    numbers = _sar_numbers(argv)
    interval_ns, count = numbers[0] * 1_000_000_000, numbers[1] if len(numbers) > 1 else None
    settings = session.machine.settings
    params = with_overrides(PRESETS[settings.era], settings.overrides)
    release = params.sysstat_text
    session.out(
        f"Linux {params.release} ({settings.hostname}) \t{_clock(session, '%m/%d/%y')} \t_x86_64_"
        f"\t({settings.cpus} CPU)\n"
    )
    first = before = yield from _reading(session)
    clock, done = _clock(session, "%H:%M:%S"), 0
    while count is None or done < count:
        yield from session.sleep(
            first.time_ns + (done + 1) * interval_ns - session.machine.now_ns()
        )
        if session.signals:
            break
        now = yield from _reading(session)
        session.out(sar.header(release, clock))
        clock = _clock(session, "%H:%M:%S")
        session.out(sar.table(release, clock, before, now))
        before, done = now, done + 1
    if done:
        session.out(sar.header(release, "Average:"))
        session.out(sar.table(release, "Average:", first, before))
    return OK


def _sar_numbers(argv: Sequence[str]) -> list[int]:
    """The interval, and the count if there is one."""
    words = list(argv)
    if words[:2] != ["-n", "DEV"]:
        first, second = (*words, "", "")[:2]
        known = not first or first.isdecimal() or (first[0] == "-" and {*first[1:]} <= _SAR_OPTIONS)
        if not known or (first == "-n" and second not in _SAR_NETWORK.split()):
            wrong = f"{first} {second}".strip() if known else first
            raise _refused("sar", f"`{wrong}` is no option of sar", SAR_WRONG)
        raise _refused("sar", "only -n DEV is modelled, the network devices")
    if not words[2:]:
        raise _refused("sar", "an interval in seconds is missing")
    for word, what in zip(words[2:], ("an interval", "a count"), strict=False):
        if not word.isdecimal() or not 1 <= int(word) <= INTERVAL_MAX_S:
            text = f"`{word}` is not {what}: a whole number from 1 to {INTERVAL_MAX_S}"
            raise _refused("sar", text, SAR_WRONG)
    if words[4:]:
        raise _refused("sar", f"`{words[4]}` is one word too many", SAR_WRONG)
    return [int(word) for word in words[2:]]


def _reading(session: Session) -> Generator[Wait, None, sar.Reading]:
    text = yield from procfiles.read(session, "/proc/net/dev")
    speeds = dict.fromkeys(session.machine.settings.nic_names, _SPEED_MBPS)
    return sar.Reading(session.machine.now_ns(), sar.parse(text), speeds)


# ---------------------------------------------------------------- netstat


def netstat_main(session: Session, argv: Sequence[str]) -> Steps:
    """netstat -ltunpwa, or -i."""
    letters = _netstat_letters(argv)
    boot: Any = dict((yield from procfiles.tables(session, "/proc/net/udp")))
    kernel = boot[session.machine.settings.cpu_names[0]]
    if "i" in letters:
        rows = sar.parse((yield from procfiles.read(session, "/proc/net/dev")))
        mtus = {name: dev["mtu"] for name, dev in kernel["netdevs"].items()}
        flags = {name: _running(dev) for name, dev in kernel["netdevs"].items()}
        session.out(tables.interfaces(rows, mtus, flags))
        return OK
    programs, listening = "p" in letters, "l" in letters
    everything = "a" in letters
    session.out(tables.header(listening=listening, programs=programs))
    owners = {row["number"]: f"{row['pid']}/{row['name']}" for row in kernel["udp_sockets"]}
    for letter, protocol in (("u", "udp"), ("w", "raw")):
        if letter in letters or not set(letters) & set("tuw"):
            text = yield from procfiles.read(session, f"/proc/net/{protocol}")
            wanted = tables.Wanted(listening, everything, programs)
            session.out(tables.sockets(protocol, text, owners, wanted))
    return OK


def _netstat_letters(argv: Sequence[str]) -> str:
    try:
        options, _ = gnu_getopt(list(argv), _NETSTAT_OPTIONS, list(_NETSTAT_LONG))
    except GetoptError as error:
        raise _refused("netstat", glibc_text(error), NETSTAT_WRONG) from None
    letters = ""
    for option, _ in options:
        letter = _NETSTAT_LONG.get(option[2:], option[1])
        if letter not in "ltunpwai":
            raise _refused("netstat", f"`{option}` is not modelled")
        letters += letter
    return letters


def _running(dev: Any) -> int:
    """SIOCGIFFLAGS computes IFF_RUNNING."""
    flags: int = dev["flags"]
    return flags | 0x40 if flags & 1 and dev["carrier"] else flags


# ---------------------------------------------------------------- date


def date_main(session: Session, argv: Sequence[str]) -> Steps:
    """coreutils' date in the C locale, in UTC."""
    try:
        options, words = gnu_getopt(list(argv), _DATE_OPTIONS, list(_DATE_LONG))
    except GetoptError as error:
        raise _refused("date", glibc_text(error), DATE_WRONG) from None
    if words[1:]:
        raise _refused("date", f"extra operand '{words[1]}'", DATE_WRONG)
    sets = bool(words) and _DATE_TO_SET.fullmatch(words[0]) is not None
    if words and not sets and not words[0].startswith("+"):
        raise _refused("date", f"invalid date '{words[0]}'", DATE_WRONG)
    if sets or {"-s", "--set"} & {option for option, _ in options}:
        raise _refused("date", "setting the time is not modelled")
    for option, _ in options:
        if option not in ("-u", "--utc", "--universal"):
            raise _refused("date", f"`{option}` is not modelled")
    form = words[0][1:] if words else "%a %b %e %H:%M:%S UTC %Y"
    session.out(_clock(session, form) + "\n")
    yield from session.sleep(0)
    return OK
