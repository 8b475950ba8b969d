"""Verbs of the kernel layer: they print what the tool on that Linux box prints.

``ping`` runs on a CPU of the machine and only its text passes here. ``dmesg`` reads the log rings
in RAM. Files: ``orchestrator.verbs.files``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from orchestrator.errors import OK, BottomhalfError, words
from orchestrator.machines import kernellog
from orchestrator.session import Session, Steps

#: Between two looks of ``dmesg -w`` at the rings: they are memory and wake nobody.
_WATCH_NS = 50_000_000


def ping(session: Session, argv: Sequence[str]) -> Steps:
    """Run ping as a task on a CPU of the machine, or on the gateway."""
    job = yield from session.program(("ping", *argv), show=not session.json)
    if job.failed:
        raise BottomhalfError(job.failed, "bottomhalf ps", code=1, program="ping")
    assert job.exit_code is not None
    if session.json:
        said = job.take()
        session.err("".join(text for stream, text in said if stream == 2))
        found = ping_result("".join(text for stream, text in said if stream == 1))
        if found:
            session.out(json.dumps(found | {"exit": job.exit_code}) + "\n")
    return job.exit_code


def ping_result(text: str) -> dict[str, Any]:
    """What ping printed, for programs; nothing if it never got so far as its statistics."""
    counts = re.search(
        r"^--- (\S+) ping statistics ---\n(\d+) packets transmitted, (\d+) received"
        r"(?:, \+(\d+) duplicates)?",
        text,
        re.MULTILINE,
    )
    if counts is None:
        return {}
    rtt = re.search(r"^rtt min/avg/max/mdev = ([\d.]+)/([\d.]+)/([\d.]+)/([\d.]+) ms", text, re.M)
    replies = re.findall(
        r"from (?:\S+ \()?([\d.]+)\)?: icmp_seq=(\d+) ttl=(\d+) time=([\d.]+) ms", text
    )
    return {
        "destination": counts[1],
        "transmitted": int(counts[2]),
        "received": int(counts[3]),
        "duplicates": int(counts[4] or 0),
        "rtt_ms": dict(zip(("min", "avg", "max", "mdev"), map(float, rtt.groups()), strict=True))
        if rtt
        else None,
        "replies": [
            {"from": host, "seq": int(seq), "ttl": int(ttl), "time_ms": float(ms)}
            for host, seq, ttl, ms in replies
        ],
    }


def spoken(argv: Sequence[str]) -> tuple[str, ...]:
    """A command's words, also if it was quoted as a whole: ``'ping -c 1 gateway'``."""
    if len(argv) != 1 or " " not in argv[0]:
        return tuple(argv)
    try:
        return tuple(shlex.split(argv[0]))
    except ValueError as error:
        raise BottomhalfError(f"{argv[0]}: {error}", "ping -c 1 gateway") from None


def dmesg(session: Session, argv: Sequence[str]) -> Steps:
    """util-linux's dmesg with the options -w, -t and -J."""
    known = {"-w": "w", "--follow": "w", "-t": "t", "--notime": "t", "-J": "J", "--json": "J"}
    chosen = set()
    for word in argv:
        if word not in known:
            raise BottomhalfError(
                f"unrecognized option '{word}'",
                f"modelled are {words(known)} (docs/limitations.md)",
                code=1,
                program="dmesg",
            )
        chosen.add(known[word])
    log = kernellog.KernelLog(session.machine.ram)
    if session.json or "J" in chosen:
        entries = [
            {"pri": line.level, "time": line.time_ns / 1e9, "msg": line.text} for line in log.new()
        ]
        session.out(json.dumps({"dmesg": entries}, indent=3) + "\n")
        return OK
    while True:
        text = "".join(
            (line.text if "t" in chosen else line.stamped()) + "\n" for line in log.new()
        )
        if text:
            session.out(text)
        if "w" not in chosen or session.signals:
            return OK
        yield from session.sleep(_WATCH_NS)
