"""The yardstick: a bare ring of five Python processes over the bus's ZeroMQ pattern.

T tokens run round five processes. Sockets (``bus.links``), waiting (epoll, then a drain until the
inbox is empty) and batching (one ZeroMQ message to the next process in each turn, holding all
tokens that are there) are those of ``bus.process``; there is no node and no page. So a lap is what
five hops cost at the least in this design on this computer, and whatever a ping takes beyond it is
our own code. What a token is can be chosen: ``bare``, two numbers in MessagePack; ``messages``, a
message of the bus's vocabulary that every process decodes, validates and encodes again (the
smallest thing that the bus can carry).

    python -m benchmarks.ring TOKENS LAPS pinned|free [bare|messages]

Run in a process of its own, so that the caller may hold ZeroMQ contexts.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import zmq

from bus.codec import decode_batch, encode_batch
from bus.links import EVENTS, HEADER_BYTES, NOBLOCK, POLLIN, Inbox, Link, header, listen
from bus.messages import MemRead

MEMBERS = 5
PLACEMENTS = ("pinned", "free")
_GUARD_S = 120


class RingResult(NamedTuple):
    """Figures of one run; times in microseconds, CPU time is that of all five processes."""

    tokens: int
    laps: int
    placement: str
    lap_us_p50: float
    lap_us_p99: float
    hop_us_p50: float
    laps_per_s: float
    cpu_us_per_lap: float


def run_ring(tokens: int, laps: int, placement: str = "free", wire: str = "bare") -> RingResult:
    """Let ``tokens`` tokens make ``laps`` laps in all; "pinned" puts all processes on one core."""
    if placement not in PLACEMENTS:
        raise ValueError(f"placement is one of {', '.join(PLACEMENTS)}, not {placement!r}")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ring", str(tokens), str(laps), placement, wire],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        check=True,
        timeout=_GUARD_S,
    )
    return RingResult(**json.loads(done.stdout))


def _measure(tokens: int, laps: int, placement: str, wire: str) -> dict[str, Any]:
    """Fork the five (no ZeroMQ here), wait for the first one's report, end the others."""
    if placement == "pinned":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    directory = tempfile.mkdtemp(prefix="bh-ring-")
    read_fd, write_fd = os.pipe()
    children = []
    try:
        for number in range(MEMBERS):
            pid = os.fork()
            if pid == 0:
                os.close(read_fd)
                code = 1
                try:
                    code = _member(number, directory, tokens, laps, wire, write_fd)
                finally:
                    os._exit(code)
            children.append(pid)
        os.close(write_fd)
        with os.fdopen(read_fd) as pipe:
            report = json.loads(pipe.readline())
            for pid in children[1:]:
                os.kill(pid, signal.SIGTERM)
            others = [float(line) for line in pipe]
        report["cpu_us_per_lap"] = (report.pop("cpu_s") + sum(others)) / laps * 1e6
        return report
    finally:
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            os.waitpid(pid, 0)
        shutil.rmtree(directory, ignore_errors=True)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _bare() -> tuple[Callable[[bytes], list[Any]], Callable[[list[Any]], bytes]]:
    """A token is [number, laps]."""
    return msgpack.unpackb, msgpack.Packer(autoreset=True).pack


def _messages() -> tuple[Callable[[bytes], list[Any]], Callable[[list[Any]], bytes]]:
    """A token is a ``MemRead`` whose tag is its number and whose offset is its laps."""

    def unpack(data: bytes) -> list[Any]:
        return [(m.tag, m.offset) for m in decode_batch(data[HEADER_BYTES:]).messages]

    first = header(0)

    def pack(tokens: list[Any]) -> bytes:
        return first + encode_batch(1, 1, [MemRead(token, 0, lap) for token, lap in tokens])

    return unpack, pack


def _member(number: int, directory: str, tokens: int, laps: int, wire: str, report_fd: int) -> int:
    """One process of the ring; number 0 starts the tokens, measures and reports."""
    context: zmq.Context[Any] = zmq.Context()
    path = f"{directory}/{number}"
    inbox = Inbox(context, listen(path).detach(), path)
    link = Link(context, "next", f"{directory}/{(number + 1) % MEMBERS}")
    setup = select.epoll()
    setup.register(link.monitor_fd, select.EPOLLIN)
    link.changes()
    while not link.up:
        setup.poll()
        link.changes()
    epoll = select.epoll()
    epoll.register(inbox.fd, select.EPOLLIN)
    receive, events, wait = inbox.receive, inbox.events, epoll.poll
    clock = time.perf_counter
    unpack, pack = _messages() if wire == "messages" else _bare()

    cpu_before = 0.0

    def stop(*_: object) -> None:
        os.write(report_fd, f"{_cpu_s() - cpu_before}\n".encode())
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    left = laps
    times: list[float] = []
    passed = [0.0] * tokens
    begun = 0.0
    if number == 0:
        link.send(pack([[token, 0] for token in range(tokens)]))
    while left > 0:
        wait(None, 64)
        try:
            here = unpack(receive(NOBLOCK))
        except zmq.Again:
            continue
        while events(EVENTS) & POLLIN:
            here += unpack(receive(NOBLOCK))
        if number == 0:
            now = clock()
            for token, lap in here:
                if lap > 1:
                    times.append(now - passed[token])
                passed[token] = now
            if not begun:  # the first lap held the start of the processes
                begun, cpu_before = now, _cpu_s()
            else:
                left -= len(here)
        elif not cpu_before:
            cpu_before = _cpu_s()
        link.send(pack([[token, lap + 1] for token, lap in here]))
    elapsed = clock() - begun
    ordered = sorted(times)
    report = {
        "tokens": tokens,
        "laps": laps,
        "placement": "",
        "lap_us_p50": statistics.median(ordered) * 1e6,
        "lap_us_p99": ordered[len(ordered) * 99 // 100] * 1e6,
        "hop_us_p50": statistics.median(ordered) * 1e6 / MEMBERS,
        "laps_per_s": laps / elapsed,
        "cpu_s": _cpu_s() - cpu_before,
    }
    os.write(report_fd, (json.dumps(report) + "\n").encode())
    return 0


def main() -> None:
    tokens, laps, placement = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    wire = sys.argv[4] if len(sys.argv) > 4 else "bare"
    print(json.dumps({**_measure(tokens, laps, placement, wire), "placement": placement}))


if __name__ == "__main__":
    main()
