"""What a packet costs, layer by layer, in each kind of process: microseconds and Python calls.

A machine runs in the simulation: one seed, so the same packets meet the same code each time, and
the calls are exact. Its nodes are told that time passes by itself (``step_ns`` 0), as in a process,
and what a process would get from and give to ZeroMQ is really encoded, decoded and validated. What
is not in it: ZeroMQ, epoll and waking up; ``benchmarks.run`` has these, as what the CPU processes
of a real flood use beyond this table.

Time is taken twice, by turns: without a profiler, for the total of each kind of process, and under
``cProfile``, for how it divides. A profiler charges each call (measured on an empty function: to
who is called, to who calls) and makes all of Python slower, by a factor that follows from the two
totals. ``share`` is after both are taken away, ``raw_share`` before. Layers are those of
``benchmarks.layermap``; a generator that is resumed counts as a call.

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
from functools import cache
from types import CodeType
from typing import Any, NamedTuple

from benchmarks.layermap import CALLER, ORDER, REST, layer_of, name_of
from benchmarks.machines import machine_settings
from bus.codec import decode_batch, encode_batch
from bus.node import Inbox, Node, Surroundings
from bus.simulation import NodeFactory, Place
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import APIC, LAN
from orchestrator import places as known_places
from orchestrator.simulated import SimulatedMachine

SEED = 1
OUTSTANDING = 64
BLOCKS, PACKETS = 5, 500
#: Messages of the runtime itself have no code on the wire.
_GUARD_MS = 60_000
_CALIBRATION = 50_000


class Meter:
    """Time of one kind of process while ``on``; with a profiler or without."""

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
        began = time.perf_counter_ns()
        wake = self._work(batches, budget)
        took = time.perf_counter_ns() - began
        if profile is not None:
            profile.disable()
        if meter.on:
            meter.ns += took
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
        self.run("ping", "-q", "-c", "2", "-i", "0.01", "gateway")
        self.addresses = tuple(self._address(other) for other in (False, True))

    def run(self, *argv: str) -> str:
        """A program on the boot CPU, to its end."""
        job = self.machine.spawn("cpu0", argv)
        if not self.machine.wait(lambda: job.done, _GUARD_MS):
            raise RuntimeError(f"{' '.join(argv)}: no end")
        return "".join(text for _, text in job.take())

    def _address(self, other: bool) -> str:
        """A gateway address whose replies RSS gives to the boot CPU, or to the other one."""
        page = self.machine.ram.page("cpu1", CPU_SCHEMA)
        for address in self.machine.settings.gateway.addresses:
            before = page.run("handover_out")[2]
            self.run("ping", "-q", "-c", "2", "-i", "0.01", address)
            if (page.run("handover_out")[2] > before) == other:
                return address
        raise LookupError(f"RSS with seed {SEED} gives all replies to one CPU")

    def meter(self, argv: tuple[str, ...], profiled: bool) -> dict[str, int]:
        """Run a program; ns of each kind of process."""
        for meter in self.meters.values():
            meter.ns, meter.on = 0, True
            meter.profile = cProfile.Profile(subcalls=True, builtins=False) if profiled else None
        try:
            self.run(*argv)
        finally:
            for meter in self.meters.values():
                meter.on = False
        return {kind: meter.ns for kind, meter in self.meters.items()}


#: What is measured: a title, and the command for so many packets; ``near``: the reply comes to the
#: CPU of the program, ``far``: to the other one, which hands it over.
Command = Callable[[str, str, int], tuple[str, ...]]
WORKLOADS: Mapping[str, tuple[str, Command]] = {
    "ping": (
        "one ping after the other",
        lambda near, far, n: ("ping", "-q", "-f", "-c", f"{n}", near),
    ),
    "flood": (
        f"{OUTSTANDING} pings outstanding",
        lambda near, far, n: ("ping", "-q", "-f", "-l", f"{OUTSTANDING}", "-c", f"{n}", near),
    ),
    "flood_handed_over": (
        f"{OUTSTANDING} pings outstanding, replies to the other CPU's queue",
        lambda near, far, n: ("ping", "-q", "-f", "-l", f"{OUTSTANDING}", "-c", f"{n}", far),
    ),
    "udp_out": (
        "UDP frames to the gateway's discard port",
        lambda near, far, n: ("udp_send", "-q", "-i", "0", "-w", "0", "-c", f"{n}", near, "9"),
    ),
}


# ---------------------------------------------------------------- from profile to layers


class Function(NamedTuple):
    """One function of a profile: what it was charged itself, in seconds."""

    name: str
    self_s: float
    calls: int
    made: int  # calls of Python functions made by it
    callers: Mapping[str, int]  # calls by caller


def functions_of(profile: cProfile.Profile) -> list[Function]:
    """The Python functions of a profile."""
    entries = [e for e in profile.getstats() if isinstance(e.code, CodeType)]
    callers: dict[str, dict[str, int]] = {}
    for entry in entries:
        for callee in entry.calls or ():
            by = callers.setdefault(name_of(callee.code), {})
            caller = name_of(entry.code)
            by[caller] = by.get(caller, 0) + callee.callcount
    return [
        Function(
            name_of(e.code),
            e.inlinetime,
            e.callcount,
            sum(callee.callcount for callee in e.calls or ()),
            callers.get(name_of(e.code), {}),
        )
        for e in entries
    ]


@cache
def calibration() -> tuple[float, float]:
    """Seconds that the profiler charges a call: to who is called, to who calls."""

    def leaf() -> None:
        pass

    def root() -> None:
        for _ in range(_CALIBRATION):
            leaf()

    charges = []
    for _ in range(5):
        began = time.perf_counter()
        root()
        plain = (time.perf_counter() - began) / _CALIBRATION  # most of it is the call's, not leaf's
        profile = cProfile.Profile(subcalls=True, builtins=False)
        profile.enable()
        root()
        profile.disable()
        by_name = {f.name.rpartition(".")[2]: f.self_s for f in functions_of(profile)}
        called, caller = by_name["leaf"] / _CALIBRATION, by_name["root"] / _CALIBRATION
        charges.append((called, max(0.0, caller - plain)))
    return min(charges)


def net_seconds(
    functions: Sequence[Function], total_s: float, charge: tuple[float, float]
) -> dict[str, float]:
    """Seconds of each function without what the profiler charged for calls, scaled so that all of
    them together are ``total_s``, the time without a profiler."""
    called, caller = charge
    net: dict[str, float] = {}
    for f in functions:
        own = max(0.0, f.self_s - called * f.calls - caller * f.made)
        net[f.name] = net.get(f.name, 0.0) + own
    fit = total_s / (sum(net.values()) or 1.0)
    return {name: own * fit for name, own in net.items()}


def shares_of_callers(kind: str, functions: Sequence[Function]) -> dict[str, dict[str, float]]:
    """For each function, the layers it works for, with weights that sum to 1: its own, or those of
    its callers by number of calls."""
    callers: dict[str, dict[str, int]] = {}
    for f in functions:
        by = callers.setdefault(f.name, {})
        for caller, calls in f.callers.items():
            by[caller] = by.get(caller, 0) + calls
    known: dict[str, dict[str, float]] = {}

    def resolve(name: str, above: tuple[str, ...]) -> dict[str, float]:
        if name in known:
            return known[name]
        layer = layer_of(kind, name)
        if layer != CALLER:
            return known.setdefault(name, {layer: 1.0})
        by = {c: n for c, n in callers.get(name, {}).items() if c not in (*above, name)}
        if not by:
            return {REST: 1.0}
        out: dict[str, float] = {}
        for caller, calls in by.items():
            for layer, weight in resolve(caller, (*above, name)).items():
                out[layer] = out.get(layer, 0.0) + weight * calls / sum(by.values())
        if not above:
            known[name] = out
        return out

    return {name: resolve(name, ()) for name in callers}


def by_layer(
    kind: str, functions: Sequence[Function], total_s: float, charge: tuple[float, float]
) -> dict[str, tuple[float, float, float]]:
    """Layer -> (net seconds, raw seconds, calls); all of them, in the order of the packet."""
    net = net_seconds(functions, total_s, charge)
    weights = shares_of_callers(kind, functions)
    table = {layer: [0.0, 0.0, 0.0] for layer in ORDER[kind]}
    raw: dict[str, float] = {}
    calls: dict[str, int] = {}
    for f in functions:
        raw[f.name] = raw.get(f.name, 0.0) + f.self_s
        calls[f.name] = calls.get(f.name, 0) + f.calls
    for name, own in net.items():
        for layer, weight in weights[name].items():
            row = table[layer]
            row[0] += own * weight
            row[1] += raw[name] * weight
            row[2] += calls[name] * weight
    return {layer: (row[0], row[1], row[2]) for layer, row in table.items()}


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
            argv = command(near, far, packets)
            bench.meter(argv, False)  # warm
            runs: dict[str, list[tuple[float, list[Function]]]] = {kind: [] for kind in ORDER}
            for _ in range(blocks):
                plain = bench.meter(argv, False)
                bench.meter(argv, True)
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
    """Medians over the blocks, a packet."""
    total_us = statistics.median(total for total, _ in runs) / packets * 1e6
    raw_us = statistics.median(sum(f.self_s for f in fs) for _, fs in runs) / packets * 1e6
    tables = [by_layer(kind, functions, total, charge) for total, functions in runs]
    layers: dict[str, dict[str, float]] = {}
    for layer in ORDER[kind]:
        nets_s = [t[layer][0] / (run[0] or 1) for t, run in zip(tables, runs, strict=True)]
        share = statistics.median(nets_s)
        raw = [t[layer][1] / (sum(row[1] for row in t.values()) or 1) for t in tables]
        layers[layer] = {
            "us": share * total_us,
            "share": share,
            "raw_share": statistics.median(raw),
            "calls": statistics.median(t[layer][2] for t in tables) / packets,
        }
    nets = [net_seconds(functions, total, charge) for total, functions in runs]
    names = {f.name: f.calls for f in runs[-1][1]}
    functions = {
        name: {
            "us": statistics.median(net.get(name, 0.0) for net in nets) / packets * 1e6,
            "calls": calls / packets,
        }
        for name, calls in names.items()
    }
    return {
        "us": total_us,
        "raw_us": raw_us,
        "calls": sum(row["calls"] for row in layers.values()),
        "layers": layers,
        "functions": dict(sorted(functions.items(), key=lambda item: -item[1]["us"])),
    }


# ---------------------------------------------------------------- showing


def table(figures: Mapping[str, Any], top: int = 0) -> str:
    """All workloads, as text of at most 80 columns."""
    lines = []
    for name, (title, _) in WORKLOADS.items():
        lines.append(f"{title}: us, share and Python calls a packet")
        for kind, found in figures[name].items():
            lines.append(
                f"  {kind:<33} {found['us']:8.2f} us {'':15} {found['calls']:8.1f} calls"
                f"   (profiled: {found['raw_us']:.1f} us)"
            )
            for layer, row in found["layers"].items():
                if layer != REST or row["share"] >= 0.005:
                    lines.append(
                        f"    {layer:<31} {row['us']:8.2f} us {row['share']:5.0%}"
                        f" (raw {row['raw_share']:3.0%}) {row['calls']:8.1f}"
                    )
            for function, row in list(found["functions"].items())[:top]:
                lines.append(f"      {row['us']:8.3f} us {row['calls']:7.2f} {function}")
        lines.append("")
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
    parser.add_argument("--quick", action="store_true", help="one block of each")
    options = parser.parse_args(argv)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    figures = measure(1 if options.quick else BLOCKS, say=say)
    if options.json:
        print(json.dumps(figures if options.top else without_functions(figures), indent=2))
    else:
        print(table(figures, options.top))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
