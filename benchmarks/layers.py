"""What a packet costs, layer by layer, in each kind of process: microseconds and Python calls.

A machine runs in the simulation: one seed, so the same packets meet the same code each time, and
the calls are exact. Its nodes are told that time passes by itself (``step_ns`` 0), as in a process,
and what a process would get from and give to ZeroMQ is really encoded, decoded and validated. What
is not in it: ZeroMQ, epoll and waking up; ``benchmarks.run`` has these, as what the CPU processes
of a real flood use beyond this table.

Time is taken twice, by turns: CPU time without a profiler, for the total of each kind of process,
and ``cProfile``'s, for how it divides (``benchmarks.profiles``). Whoever else uses the computer
meanwhile can only add to the latter, so of each function the lower quartile of many short blocks
counts. ``share`` is without the profiler's own cost, ``raw_share`` with it. Calls are exact; a
generator that is resumed counts as one.

    python -m benchmarks.layers [--json] [--top N] [--quick]
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.layermap import ORDER, REST
from benchmarks.machines import machine_settings
from benchmarks.profiles import (
    Function,
    by_layer,
    calibration,
    clock_ns,
    combined,
    functions_of,
    net_seconds,
)
from bus.codec import decode_batch, encode_batch
from bus.node import Inbox, Node, Surroundings
from bus.simulation import NodeFactory, Place
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import APIC, LAN
from orchestrator.machines import places as known_places
from orchestrator.machines.simulated import SimulatedMachine

SEED = 1
OUTSTANDING = 64
BLOCKS, PACKETS = 12, 250
QUICK_BLOCKS = 3
_GUARD_MS = 60_000
_SETTLE_NS = 2_000_000


#: Command lines, each on a CPU of its own.
Commands = tuple[tuple[str, ...], ...]


class Meter:
    """CPU time of one kind of process while ``on``; with a profiler or without."""

    def __init__(self) -> None:
        self.on = False
        self.profile: cProfile.Profile | None = None
        self.ns = 0


class Metered(Node):
    """A node, and around it what its process does with each batch."""

    def __init__(self, around: Surroundings, build: NodeFactory, meter: Meter) -> None:
        super().__init__(around)
        self.node = build(around._replace(step_ns=0))
        self._meter = meter

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        meter = self._meter
        batches = _batches(inbox)
        profile = meter.profile
        if profile is not None:
            profile.enable()
        began = time.thread_time_ns()
        wake = self._work(batches, budget)
        took = time.thread_time_ns() - began
        if profile is not None:
            profile.disable()
        if meter.on:
            meter.ns += max(0, took - clock_ns())
        self.steps = self.node.steps
        return wake

    def _work(self, batches: list[tuple[str, Any]], budget: int) -> int | None:
        inbox: list[tuple[str, Any]] = []
        for sender, data in batches:
            self._take(sender, data, inbox)
        wake = self.node.turn(inbox, budget)
        outbox = self.node.outbox
        if outbox:
            self.node.outbox = {}
            for peer, messages in outbox.items():
                self._send(peer, messages)
        return wake

    @staticmethod
    def _take(sender: str, data: Any, inbox: list[tuple[str, Any]]) -> None:
        """As ``bus.process`` does."""
        messages = decode_batch(data).messages if type(data) is bytes else data
        put = inbox.append
        for message in messages:
            put((sender, message))

    def _send(self, peer: str, messages: list[Any]) -> None:
        encode_batch(1, 1, messages)
        self.outbox[peer] = messages

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        self.node.undelivered(peer, messages, dead)


def _batches(inbox: Inbox) -> list[tuple[str, Any]]:
    """What the sockets would hold: bytes for each run of messages of one sender; the runtime's own
    messages (a link is up) as they are."""
    runs: list[tuple[str, bool, list[Any]]] = []
    for sender, message in inbox:
        coded = hasattr(message, "CODE")
        if not runs or runs[-1][:2] != (sender, coded):
            runs.append((sender, coded, []))
        runs[-1][2].append(message)
    return [(name, encode_batch(1, 1, said) if coded else said) for name, coded, said in runs]


def kind_of(name: str) -> str:
    """Kind of process of a node."""
    if name in (APIC, LAN):
        return name
    return "cpu" if name.startswith("cpu") else "nic"


class Bench:
    """The bonded pair with two CPUs, metered."""

    def __init__(self, seed: int = SEED) -> None:
        settings = machine_settings("layers", 2)
        self.meters = {kind: Meter() for kind in ORDER}

        def metered(name: str, place: Place) -> Place:
            meter = self.meters[kind_of(name)]
            return Place(lambda around: Metered(around, place.build, meter), place.peers)

        places = {n: metered(n, p) for n, p in known_places.places(settings).items()}
        self.machine = SimulatedMachine(settings, places, seed=seed)
        self.run(("ping", "-q", "-c", "2", "-i", "0.01", "gateway"))
        self.addresses = tuple(self._address(other) for other in (False, True))

    def run(self, *commands: tuple[str, ...]) -> None:
        """Programs, each on a CPU of its own, to their end."""
        jobs = [self.machine.spawn(f"cpu{n}", argv, 1 << n) for n, argv in enumerate(commands)]
        if not self.machine.wait(lambda: all(job.done for job in jobs), _GUARD_MS):
            raise RuntimeError(f"no end: {jobs}")
        self.machine.pump(self.machine.now_ns() + _SETTLE_NS)  # what is still on its way

    def _address(self, other: bool) -> str:
        """A gateway address whose replies RSS gives to the boot CPU, or to the other one."""
        page = self.machine.ram.page("cpu1", CPU_SCHEMA)
        for address in self.machine.settings.gateway.addresses:
            before = page.run("handover_out")[2]
            self.run(("ping", "-q", "-c", "2", "-i", "0.01", address))
            if (page.run("handover_out")[2] > before) == other:
                return address
        raise LookupError(f"RSS with seed {SEED} gives all replies to one CPU")

    def meter(self, commands: Commands, profiled: bool) -> dict[str, int]:
        """Run programs; ns of each kind of process."""
        for meter in self.meters.values():
            meter.ns, meter.on = 0, True
            meter.profile = cProfile.Profile(subcalls=True, builtins=False) if profiled else None
        try:
            self.run(*commands)
        finally:
            for meter in self.meters.values():
                meter.on = False
        return {kind: meter.ns for kind, meter in self.meters.items()}


#: What is measured: a title, and what runs on the first CPUs for so many packets each; ``near``:
#: the reply comes to the first CPU, ``far``: to the second.
WORKLOADS: Mapping[str, tuple[str, Callable[[str, str, int], Commands]]] = {
    "ping": (
        "one ping after the other",
        lambda near, far, n: (("ping", "-q", "-f", "-c", f"{n}", near),),
    ),
    "flood": (
        f"{OUTSTANDING} pings outstanding",
        lambda near, far, n: (flooding(near, n),),
    ),
    "flood_handed_over": (
        f"{OUTSTANDING} pings outstanding, replies to the other CPU's queue",
        lambda near, far, n: (flooding(far, n),),
    ),
    "two_cpus": (
        f"two CPUs, {OUTSTANDING} pings outstanding each, replies to their own queues",
        lambda near, far, n: (flooding(near, n // 2), flooding(far, n // 2)),
    ),
    "udp_out": (
        "UDP frames to the gateway's discard port",
        lambda near, far, n: (("udp_send", "-q", "-i", "0", "-w", "0", "-c", f"{n}", near, "9"),),
    ),
}


def flooding(host: str, pings: int) -> tuple[str, ...]:
    return ("ping", "-q", "-f", "-l", f"{OUTSTANDING}", "-c", f"{pings}", host)


# ---------------------------------------------------------------- measuring


@contextmanager
def _collector() -> Iterator[None]:
    """The garbage collector as a node's process has it."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def measure(
    blocks: int = BLOCKS, packets: int = PACKETS, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Workload -> kind -> ``us``, ``raw_us``, ``calls`` a packet, ``layers`` and ``functions``."""
    bench = Bench()
    charge = calibration()
    near, far = bench.addresses
    result: dict[str, Any] = {}
    with _collector():
        for name, (title, command) in WORKLOADS.items():
            programs = command(near, far, packets)
            bench.meter(programs, False)  # warm
            runs: dict[str, list[tuple[float, list[Function]]]] = {kind: [] for kind in ORDER}
            for _ in range(blocks):
                plain = bench.meter(programs, False)
                bench.meter(programs, True)
                for kind, meter in bench.meters.items():
                    assert meter.profile is not None
                    runs[kind].append((plain[kind] / 1e9, functions_of(meter.profile)))
                    meter.profile = None
            result[name] = {
                kind: _figures(kind, run, packets, charge) for kind, run in runs.items()
            }
            us = {kind: figures["us"] for kind, figures in result[name].items()}
            say(f"layers, {title}: " + ", ".join(f"{k} {v:.1f} us" for k, v in us.items()))
    return result


def _figures(
    kind: str,
    runs: Sequence[tuple[float, list[Function]]],
    packets: int,
    charge: tuple[float, float],
) -> dict[str, Any]:
    """Of all blocks together, a packet."""
    functions = combined([block for _, block in runs])
    total_s = statistics.median(total for total, _ in runs)
    raw_s = sum(f.self_s for f in functions)
    net = net_seconds(functions, total_s, charge)
    rows = by_layer(kind, functions, net)
    return {
        "us": total_s / packets * 1e6,
        "raw_us": raw_s / packets * 1e6,
        "calls": sum(calls for _, _, calls in rows.values()) / packets,
        "layers": {
            layer: {
                "us": own / packets * 1e6,
                "share": own / (total_s or 1.0),
                "raw_share": raw / (raw_s or 1.0),
                "calls": calls / packets,
            }
            for layer, (own, raw, calls) in rows.items()
        },
        "functions": {
            f.name: {"us": net[f.name] / packets * 1e6, "calls": f.calls / packets}
            for f in sorted(functions, key=lambda f: -net[f.name])
        },
    }


# ---------------------------------------------------------------- showing


def table(figures: Mapping[str, Any], top: int = 0) -> str:
    """All workloads, as text of at most 80 columns."""
    lines = ["a packet: us, share (with the profiler's own cost), Python calls"]
    for name, (title, _) in WORKLOADS.items():
        lines += ["", title]
        for kind, found in figures[name].items():
            lines.append(
                f"  {kind:<33}{found['us']:8.2f} us{'':17}{found['calls']:8.1f}"
                f"  ({found['raw_us']:.0f})"
            )
            for layer, row in found["layers"].items():
                if layer != REST or row["share"] >= 0.005:
                    lines.append(
                        f"    {layer:<31}{row['us']:8.2f} us {row['share']:5.0%}"
                        f" ({row['raw_share']:4.0%})    {row['calls']:8.1f}"
                    )
            for function, row in list(found["functions"].items())[:top]:
                lines.append(f"      {row['us']:8.3f} us {row['calls']:7.2f} {function}")
    return "\n".join(lines)


def without_functions(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The same without single functions: what a report has room for."""
    return {
        name: {
            kind: {key: value for key, value in found.items() if key != "functions"}
            for kind, found in kinds.items()
        }
        for name, kinds in figures.items()
    }


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layers", description="What a packet costs, by layer."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--top", type=int, default=0, help="this many functions of each process")
    parser.add_argument("--quick", action="store_true", help="fewer blocks")
    options = parser.parse_args(argv)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    figures = measure(QUICK_BLOCKS if options.quick else BLOCKS, say=say)
    if options.json:
        print(json.dumps(figures if options.top else without_functions(figures), indent=2))
    else:
        print(table(figures, options.top))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
