"""Two CPUs flooding at once, against one: how far the machine's work really spreads.

Each CPU runs a ``ping -f`` of its own, held there by its affinity mask, to a gateway address whose
replies RSS gives to that CPU's queue, whose interrupt goes to that CPU; what it sends leaves by its
own ring. So they share a NIC, a switch and the bond, but hand nothing to one another.

``two_cpus_ratio`` is pings a second of both over those of one. What the computer itself allows is
told beside it: one CPU's flood keeps ``cores_busy`` processors busy, all processes together, so
with C of them the ratio can hardly pass ``two_cpus_bound`` = C / cores_busy, however well it
spreads (a ping costs a little less where more of them travel together). ``two_cpus_single_ratio``
is the same for plain ``ping -f``, one request under way on each CPU: most of its time is waking up.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil

from nodes.cpu.page import CPU_SCHEMA
from orchestrator.machines.processes import ProcessMachine

PINGS, OUTSTANDING = 10_000, 64
#: One ping in so many is sent where only one at a time is under way.
SINGLE_PART = 5
GUARD_MS = 120_000


class NoSuchAddressError(RuntimeError):
    """The RSS key of this boot sends all of the gateway's addresses to one queue."""


class Flood(NamedTuple):
    """Answered pings a second, and the share of those that nobody answered."""

    pings_per_s: float
    lost: float


def cpu_times_s(machine: ProcessMachine) -> dict[str, float]:
    """utime + stime of every node, in clock ticks of 10 ms."""
    times = {}
    for name in machine.settings.node_names:
        used = psutil.Process(machine.state(name).pid).cpu_times()
        times[name] = used.user + used.system
    return times


def addresses_by_queue(machine: ProcessMachine) -> tuple[str, str]:
    """Gateway addresses whose replies RSS puts on queue 0 and on queue 1 (of two)."""
    found: dict[bool, str] = {}
    page = machine.ram.page("cpu1", CPU_SCHEMA)
    for address in machine.settings.gateway.addresses:
        handed = page.run("handover_out")[2]
        flood(machine, [("cpu0", address)], pings=5, outstanding=1)
        found.setdefault(page.run("handover_out")[2] > handed, address)
        if len(found) == 2:
            return found[False], found[True]
    raise NoSuchAddressError


def flood(
    machine: ProcessMachine,
    where: Sequence[tuple[str, str]],
    pings: int = PINGS,
    outstanding: int = OUTSTANDING,
) -> Flood:
    """Flood from each (CPU, address) at once, until the last has ended. RuntimeError if one does
    not end, or hears nothing."""
    argv = ("ping", "-q", "-f", "-l", str(outstanding), "-c", str(pings))
    began = time.monotonic()
    jobs = [
        machine.spawn(cpu, (*argv, host), 1 << int(cpu.removeprefix("cpu"))) for cpu, host in where
    ]
    over = machine.wait(lambda: all(job.done for job in jobs), GUARD_MS)
    took = time.monotonic() - began
    received = 0
    for job in jobs:
        said = "".join(text for _, text in job.take())
        counted = re.search(r"(\d+) received", said)
        if not over or job.exit_code != 0 or counted is None:
            raise RuntimeError(f"{' '.join(job.argv)} on {job.cpu}: {said or job}")
        received += int(counted[1])
    return Flood(received / took, 1 - received / (pings * len(jobs)))


def two_cpus(machine: ProcessMachine, near: str, far: str, pings: int = PINGS) -> dict[str, float]:
    """One CPU's flood, both CPUs' floods, and their ratio; that of single pings too."""
    one_single = flood(machine, [("cpu0", near)], pings // SINGLE_PART, 1)
    both_single = flood(machine, [("cpu0", near), ("cpu1", far)], pings // SINGLE_PART, 1)
    before = cpu_times_s(machine)
    one = flood(machine, [("cpu0", near)], pings)
    used = {name: now - before[name] for name, now in cpu_times_s(machine).items()}
    busy = sum(used.values()) * one.pings_per_s / pings
    both = flood(machine, [("cpu0", near), ("cpu1", far)], pings)
    return {
        "one_cpu_pings_per_s": one.pings_per_s,
        "one_cpu_us_per_ping": sum(used[n] for n in machine.settings.cpu_names) / pings * 1e6,
        "two_cpus_pings_per_s": both.pings_per_s,
        "two_cpus_lost": both.lost,
        "two_cpus_single_ratio": both_single.pings_per_s / one_single.pings_per_s,
        "two_cpus_ratio": both.pings_per_s / one.pings_per_s,
        "cores_busy": busy,
        "two_cpus_bound": max(1.0, len(os.sched_getaffinity(0)) / busy) if busy else 0.0,
    }
