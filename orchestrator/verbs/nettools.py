"""Verbs that read the emulated /proc and print what sar, netstat and date make of it."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Sequence
from typing import Any

from nodes.cpu.kernel.params import PRESETS, with_overrides
from orchestrator import netstat as tables
from orchestrator import procfiles, sar
from orchestrator.capture import epoch_ns
from orchestrator.errors import OK, BottomhalfError
from orchestrator.session import Session, Steps, Wait

SAR_USAGE, NETSTAT_USAGE = "sar -n DEV 1 5", "netstat -lunp · netstat -i"
INTERVAL_MAX_S = 86400
_SPEED_MBPS = 10_000


def _clock(session: Session, form: str) -> str:
    """The machine's time of day, in UTC; %N is date's own, the nanoseconds."""
    seconds, ns = divmod(epoch_ns(session.machine) + session.machine.now_ns(), 1_000_000_000)
    form = re.sub(r"%(.)", lambda found: f"{ns:09}" if found[1] == "N" else found[0], form)
    return time.strftime(form, time.gmtime(seconds))


# ---------------------------------------------------------------- sar


def sar_main(session: Session, argv: Sequence[str]) -> Steps:
    """sar -n DEV INTERVAL [COUNT]"""
    words = list(argv)
    if words[:2] != ["-n", "DEV"]:
        raise BottomhalfError("sar: only -n DEV is modelled, the network devices", SAR_USAGE, 1)
    if not words[2:]:
        raise BottomhalfError("sar: an interval in seconds is missing", SAR_USAGE, 1)
    for word, what in zip(words[2:], ("an interval", "a count"), strict=False):
        if not word.isdecimal() or not 1 <= int(word) <= INTERVAL_MAX_S:
            text = f"sar: `{word}` is not {what}: a whole number from 1 to {INTERVAL_MAX_S}"
            raise BottomhalfError(text, SAR_USAGE, 1)
    if words[4:]:
        raise BottomhalfError(f"sar: `{words[4]}` is one word too many", SAR_USAGE, 1)
    numbers = [int(word) for word in words[2:]]
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


def _reading(session: Session) -> Generator[Wait, None, sar.Reading]:
    text = yield from procfiles.read(session, "/proc/net/dev")
    speeds = dict.fromkeys(session.machine.settings.nic_names, _SPEED_MBPS)
    return sar.Reading(session.machine.now_ns(), sar.parse(text), speeds)


# ---------------------------------------------------------------- netstat


def netstat_main(session: Session, argv: Sequence[str]) -> Steps:
    """netstat -ltunpwa, or -i."""
    letters = "".join(word.removeprefix("-") for word in argv)
    for word in argv:
        if not word.startswith("-") or set(word[1:]) - set("ltunpwai"):
            raise BottomhalfError(f"netstat: `{word}` is not modelled", NETSTAT_USAGE, 1)
    boot: Any = dict((yield from procfiles.tables(session, "/proc/net/udp")))
    kernel = boot[session.machine.settings.cpu_names[0]]
    if "i" in letters:
        rows = sar.parse((yield from procfiles.read(session, "/proc/net/dev")))
        mtus = {name: dev["mtu"] for name, dev in kernel["netdevs"].items()} | {"lo": 65536}
        flags = {name: _running(dev) for name, dev in kernel["netdevs"].items()} | {"lo": 0x49}
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


def _running(dev: Any) -> int:
    """SIOCGIFFLAGS computes IFF_RUNNING."""
    flags: int = dev["flags"]
    return flags | 0x40 if flags & 1 and dev["carrier"] else flags


# ---------------------------------------------------------------- date


def date_main(session: Session, argv: Sequence[str]) -> Steps:
    """coreutils' date in the C locale, in UTC."""
    words = [word for word in argv if word not in ("-u", "--utc", "--universal")]
    if len(words) > 1 or (words and not words[0].startswith("+")):
        raise BottomhalfError("date: setting the time is not modelled", "date [-u] [+FORMAT]", 1)
    form = words[0][1:] if words else "%a %b %e %H:%M:%S UTC %Y"
    session.out(_clock(session, form) + "\n")
    yield from session.sleep(0)
    return OK
