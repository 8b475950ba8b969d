"""From profiles to layers: whose time it was, and without what the profiler took for itself.

``cProfile`` charges each call, partly to who is called, partly to who calls (``calibration``), and
slows all Python down. ``net_seconds`` takes the charge away and scales the rest to the time that
the same work took without a profiler. ``by_layer`` sums functions up by ``benchmarks.layermap``.
"""

from __future__ import annotations

import cProfile
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import cache
from types import CodeType
from typing import NamedTuple

from benchmarks.layermap import CALLER, ORDER, REST, layer_of, name_of

_CALIBRATION = 50_000


class Function(NamedTuple):
    """One function of a profile: what it was charged itself, in seconds."""

    name: str
    self_s: float
    calls: int
    made: int  # calls of Python functions made by it
    callers: Mapping[str, int]  # calls by caller

    def plus(self, other: Function) -> Function:
        """Both, under one name."""
        by = dict(self.callers)
        for caller, calls in other.callers.items():
            by[caller] = by.get(caller, 0) + calls
        return Function(
            self.name,
            self.self_s + other.self_s,
            self.calls + other.calls,
            self.made + other.made,
            by,
        )


def functions_of(profile: cProfile.Profile) -> list[Function]:
    """The Python functions of a profile."""
    callers: dict[str, dict[str, int]] = {}
    found = []
    for entry in profile.getstats():
        code = entry.code
        if not isinstance(code, CodeType):
            continue
        made = 0
        for callee in entry.calls or ():
            if isinstance(callee.code, CodeType):
                made += callee.callcount
                by = callers.setdefault(name_of(callee.code), {})
                by[name_of(code)] = by.get(name_of(code), 0) + callee.callcount
        found.append((name_of(code), entry.inlinetime, entry.callcount, made))
    return [Function(*figures, callers.get(figures[0], {})) for figures in found]


@cache
def clock_ns() -> int:
    """What looking at the CPU clock twice takes of the time between; it is a system call."""
    looks = []
    for _ in range(2000):
        began = time.thread_time_ns()
        looks.append(time.thread_time_ns() - began)
    return int(statistics.median(looks))


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
    net = {f.name: max(0.0, f.self_s - called * f.calls - caller * f.made) for f in functions}
    if not any(net.values()):  # hardly any work: there is nothing to tell charge and work apart
        net = {f.name: f.self_s for f in functions}
    fit = total_s / (sum(net.values()) or 1.0)
    return {name: own * fit for name, own in net.items()}


def shares_of_callers(kind: str, functions: Sequence[Function]) -> dict[str, dict[str, float]]:
    """For each function, the layers it works for, with weights that sum to 1: its own, or those of
    its callers by number of calls."""
    callers = {f.name: f.callers for f in functions}
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


def combined(blocks: Sequence[Sequence[Function]]) -> list[Function]:
    """One function a name: of its times in all blocks the lower quartile, the rest as last seen."""
    times: dict[str, list[float]] = {}
    last: dict[str, Function] = {}
    for functions in blocks:
        here: dict[str, Function] = {}
        for f in functions:  # two code objects may have one name
            known = here.get(f.name)
            here[f.name] = f if known is None else known.plus(f)
        for name, f in here.items():
            times.setdefault(name, []).append(f.self_s)
            last[name] = f
    return [f._replace(self_s=_low(times[name], len(blocks))) for name, f in last.items()]


def _low(times: Sequence[float], blocks: int) -> float:
    """Lower quartile; the mean of what is not in every block (a timer's work, say)."""
    if len(times) < blocks:
        return sum(times) / blocks
    return sorted(times)[(blocks - 1) // 4]


def by_layer(
    kind: str, functions: Sequence[Function], net: Mapping[str, float]
) -> dict[str, tuple[float, float, float]]:
    """Layer -> (net seconds, raw seconds, calls); all of them, in the order of the packet."""
    weights = shares_of_callers(kind, functions)
    rows = {layer: [0.0, 0.0, 0.0] for layer in ORDER[kind]}
    for f in functions:
        for layer, weight in weights[f.name].items():
            row = rows[layer]
            row[0] += net[f.name] * weight
            row[1] += f.self_s * weight
            row[2] += f.calls * weight
    return {layer: (row[0], row[1], row[2]) for layer, row in rows.items()}
