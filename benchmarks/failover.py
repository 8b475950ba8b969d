"""How long a pulled cable costs: the gap's distribution over many seeds, against its bound.

The bonded pair, active-backup, on the simulation. Each seed is a machine of its own whose active
slave's cable is pulled at a moment that the seed draws, while a ping runs every millisecond. The
gap is what the person at the console sees: from the last reply before the longest silence to the
first one after it.

The bound is that of the kernel's own arithmetic, era by era (``Bound``):

* the MII monitor looks at the carrier once a period. The period is ``miimon`` in jiffies, rounded
  up; the hierarchical timer wheel (4.8 and later) never fires early and so adds a jiffy, or eight
  from 63 jiffies on. HZ is 1000 in 2.6.18 and 3.10 and 250 in 6.1, where ``miimon=10`` therefore
  means a look every 16 ms;
* ``downdelay`` adds that many whole looks; with 0 the look that finds the carrier gone also commits
  (bond_miimon_commit, bond_select_active_slave), in the same work;
* before it, the driver must hear of the link (LSC interrupt, service task: ``DRIVER_NS``); if RTNL
  is taken, the look is repeated one jiffy later;
* after it, the first packet sent goes out by the new slave and teaches the switch: no gratuitous
  ARP has to be waited for. Up to one ping interval until it is sent, one before the cable was
  pulled, and a round trip.

    python -m benchmarks.failover [--seeds N] [--miimon MS,...] [--downdelay MS] [--era ERA,...]
                                  [--jobs N] [--json]

200 seeds, three eras and three settings take some 130 s of CPU time: 70 s on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.machines import machine_settings
from bus.identity import die_with_parent
from nodes.cpu.kernel.params import PRESETS
from orchestrator.machines.simulated import SimulatedMachine

SEEDS = 200
MIIMON_MS = (10, 50, 100)
MS = 1_000_000
PING_NS = 1 * MS
BOOT_NS, LEAD_NS = 300 * MS, 20 * MS
#: Cable out to netif_carrier_off in this machine: interrupt, read of EICS, service task; and a
#: round trip. Tens of microseconds each; generous.
DRIVER_NS = 500_000
SEEDS_A_TASK = 10
COLUMNS = 40
_SHADES = ".:-=+*#@"


class Case(NamedTuple):
    """What is distributed."""

    era: str
    miimon_ms: int
    downdelay_ms: int = 0


class Bound(NamedTuple):
    """The longest gap that a case may have, and what it is made of; ms."""

    period_ms: float  # between two looks
    looks: int  # that must find the carrier gone
    retry_ms: float  # RTNL taken once
    rest_ms: float  # driver, ping intervals, round trip

    @property
    def ms(self) -> float:
        return self.period_ms * self.looks + self.retry_ms + self.rest_ms


def bound_of(case: Case) -> Bound:
    """See the module's text."""
    params = PRESETS[case.era]
    jiffies = -(-case.miimon_ms * params.hz // 1000)
    if params.timer_wheel == "hierarchical":
        jiffies += _granularity(jiffies)
    looks = 1 + case.downdelay_ms // case.miimon_ms
    retry = 0 if params.link_commit == "one-pass" else 1000 / params.hz
    rest = (2 * PING_NS + DRIVER_NS) / MS
    return Bound(jiffies * 1000 / params.hz, looks, retry, rest)


def _granularity(jiffies: int) -> int:
    """How late a timer may be on the hierarchical wheel: 1 jiffy below 63, 8 below 504, ..."""
    step = 1
    while jiffies >= 63 * step:
        step *= 8
    return step


# ---------------------------------------------------------------- one failover


def gap_ms(sent: Sequence[int], received: Sequence[int]) -> float:
    """Longest time between two replies with a lost request between them; 0 if none was lost."""
    answered = [n for n, reply in enumerate(received) if reply]
    gaps = [received[b] - received[a] for a, b in pairwise(answered) if b > a + 1]
    return max(gaps, default=0) / MS


def fail_over(case: Case, seed: int) -> float:
    """The gap of one machine in ms. RuntimeError if no reply came any more."""
    settings = machine_settings("failover", 1, case.miimon_ms)._replace(era=case.era)
    assert settings.bond is not None
    settings = settings._replace(bond=settings.bond._replace(downdelay=case.downdelay_ms))
    machine = SimulatedMachine(settings, seed=seed)
    bound = bound_of(case)
    phase = random.Random(f"{seed}/{case}").randrange(int(bound.period_ms * MS))
    machine.pump(machine.now_ns() + BOOT_NS)
    job = machine.spawn("cpu0", ("ping", "-q", "-i", str(PING_NS / 1e9), "gateway"))
    machine.pump(machine.now_ns() + LEAD_NS + phase)
    machine.cable("eth0", False)
    pulled = machine.now_ns()
    machine.pump(pulled + int(bound.ms * MS) + LEAD_NS)
    sent, received = ping_times(machine)
    if job.done or not received[-5:] or not any(received[-5:]):
        raise RuntimeError(f"{case}, seed {seed}: no reply after the failover")
    return gap_ms(sent, received)


def ping_times(machine: SimulatedMachine) -> tuple[list[int], list[int]]:
    """When each request was sent and its reply came (0: it did not)."""
    sent: list[int] = []
    received: list[int] = []
    while True:
        asked = machine.ask("cpu0", f"ping:{len(sent) + 1}")
        if not machine.wait(lambda: asked.done, 1000) or not asked.ok:  # noqa: B023
            raise RuntimeError(f"cpu0 did not answer: {asked}")
        sent += asked.value["sent"]
        received += asked.value["received"]
        if len(sent) >= asked.value["total"]:
            return sent, received


# ---------------------------------------------------------------- many


def _task(case: Case, seeds: Sequence[int]) -> list[float]:
    return [fail_over(case, seed) for seed in seeds]


def _worker(parent_pid: int) -> None:
    """Ctrl-C is the parent's to take; no worker outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent_pid)


def run(
    cases: Sequence[Case], seeds: int, jobs: int, progress: Callable[[int, int], None]
) -> dict[Case, list[float]]:
    """Gaps of each case, by seed; ``progress(done, all)`` after each task."""
    gaps: dict[Case, list[float]] = {case: [0.0] * seeds for case in cases}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _worker, (os.getpid(),)) as pool:
        tasks = {}
        for first in range(0, seeds, SEEDS_A_TASK):
            some = range(first, min(first + SEEDS_A_TASK, seeds))
            for case in cases:
                tasks[pool.submit(_task, case, some)] = (case, some)
        try:
            for number, task in enumerate(as_completed(tasks)):
                case, some = tasks[task]
                gaps[case][some.start : some.stop] = task.result()
                progress(number + 1, len(tasks))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return gaps


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def figures(case: Case, gaps: Sequence[float]) -> dict[str, Any]:
    """What is reported of one case."""
    bound = bound_of(case)
    return {
        **case._asdict(),
        "seeds": len(gaps),
        "median_ms": statistics.median(gaps),
        "p99_ms": percentile(gaps, 99),
        "max_ms": max(gaps),
        "bound_ms": bound.ms,
        "bound": bound._asdict(),
        "met": max(gaps) <= bound.ms,
        "gaps_ms": sorted(gaps),
    }


# ---------------------------------------------------------------- drawing


def density(gaps: Sequence[float], right_ms: float, columns: int = COLUMNS) -> str:
    """One line: the denser a column, the darker its character."""
    counts = [0] * columns
    for gap in gaps:
        counts[min(columns - 1, int(gap / right_ms * columns))] += 1
    top = max(counts) or 1
    return "".join(_SHADES[(n * len(_SHADES) - 1) // top] if n else " " for n in counts)


def draw(found: Sequence[dict[str, Any]]) -> str:
    """A row for each case, at most 79 columns; rows of one ``miimon`` share an axis."""
    lines = []
    for miimon in dict.fromkeys(row["miimon_ms"] for row in found):
        rows = [row for row in found if row["miimon_ms"] == miimon]
        right = max(max(row["bound_ms"], row["max_ms"]) for row in rows)
        delay = rows[0]["downdelay_ms"]
        title = f"miimon {miimon}" + (f" downdelay {delay}" if delay else "")
        title += f": a column is {right / COLUMNS:.2g} ms"
        lines.append(f"{title:<{COLUMNS + 10}} median    p99  bound")
        for row in rows:
            bar = density(row["gaps_ms"], right)
            said = f"{row['median_ms']:7.1f}{row['p99_ms']:7.1f}{row['bound_ms']:7.1f}"
            met = "met" if row["met"] else "PASSED"
            lines.append(f"  {row['era']:<6}|{bar}|{said}  {met}")
    return "\n".join(lines)


def say_progress(done: int, of: int) -> None:
    """On a terminal one line that counts; else a line for each tenth."""
    if sys.stderr.isatty():
        end = "\n" if done == of else ""
        print(f"\rfailovers: {done * 100 // of:3} %", end=end, file=sys.stderr, flush=True)
    elif done * 10 // of > (done - 1) * 10 // of:
        print(f"failovers: {done * 100 // of} %", file=sys.stderr, flush=True)


def distribution(
    cases: Sequence[Case],
    seeds: int = SEEDS,
    jobs: int | None = None,
    progress: Callable[[int, int], None] = say_progress,
) -> list[dict[str, Any]]:
    """The figures of all cases."""
    gaps = run(cases, seeds, jobs or os.cpu_count() or 1, progress)
    return [figures(case, gaps[case]) for case in cases]


def cases_of(miimons: Sequence[int], eras: Sequence[str], downdelay: int = 0) -> list[Case]:
    return [Case(era, ms, downdelay) for ms in miimons for era in eras]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _eras(text: str) -> list[str]:
    eras = text.split(",")
    for era in eras:
        if era not in PRESETS:
            raise argparse.ArgumentTypeError(f"no era {era}: {', '.join(PRESETS)}")
    return eras


def main(argv: Sequence[str]) -> int:
    """Run and draw; 1 if a gap passed its bound."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.failover",
        description="How long a pulled cable costs: median and p99 against the bound.",
    )
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--miimon", type=_numbers, default=list(MIIMON_MS), metavar="MS,...")
    parser.add_argument("--downdelay", type=int, default=0, metavar="MS")
    parser.add_argument("--era", type=_eras, default=list(PRESETS), metavar="ERA,...")
    parser.add_argument("--jobs", type=int, default=None, help="processes (one a core)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a chart")
    options = parser.parse_args(argv)
    if options.seeds < 1 or min(options.miimon) < 1 or options.downdelay < 0:
        parser.error("--seeds and --miimon are 1 or more, --downdelay 0 or more")
    cases = cases_of(options.miimon, options.era, options.downdelay)
    try:
        found = distribution(cases, options.seeds, options.jobs)
    except KeyboardInterrupt:
        return 130
    print(json.dumps(found, indent=2) if options.json else draw(found))
    return 0 if all(row["met"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
