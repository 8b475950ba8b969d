"""``make bench``: the figures the design is judged by, as ratios measured in one run.

Pings through a machine of processes alternate with rings of five processes over the same ZeroMQ
pattern, ROUNDS times: all on one core, the machine as it is launched, and the machine left to the
scheduler of the host; medians are reported. The ring's lap is what five hops cost on this computer;
the ratio is what the emulation adds. The round trip is held against one bare token, the flood
against 64 of them, which travel as one list (and, in the raw figures, against 64 that are messages
of the bus); so are UDP frames, each way alone (``benchmarks.udp``). Two CPUs that flood at once are
held against one (``benchmarks.floods``). Also: frames through the device alone,
each way, short and long, held against a bare ring in memory (``benchmarks.frames``); a register
read, and a write with the read that pushes it, held against two hops of the ring; what a packet
costs layer by layer (``benchmarks.layers``); how long a failover lasts, against its bound
(``benchmarks.failover``); launch, with and without the driver's full probe, idle, memory.

Progress, tables and, last, whether each target is met (``benchmarks.targets``) go to stderr, one
JSON object to stdout; ``docs/benchmarks.md`` explains each figure.

    python -m benchmarks.run [--quick]
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import psutil

from benchmarks import failover, layers, targets
from benchmarks.floods import (
    NoSuchAddressError,
    addresses_by_queue,
    cpu_times_s,
    two_cpus,
)
from benchmarks.frames import measure as measure_frames
from benchmarks.machines import machine_settings
from benchmarks.ring import MEMBERS, PLACEMENTS, run_ring
from benchmarks.udp import frames_in_per_s, frames_out_per_s
from nodes.cpu.kernel.params import PRESETS
from orchestrator.machines import kernellog
from orchestrator.machines.processes import ProcessMachine

ROUNDS = 5
BOOTS = 5  # at most, for a round
RTT_PINGS = 1000
FLOOD_PINGS, OUTSTANDING = 10_000, 64
#: A ring's laps hang on how its threads happen to take turns, for as long as it lives, on one core
#: above all (115 or 170 us): one round takes the median of several rings.
RINGS, FLOOD_RINGS = 5, 3
RING_LAPS, RING_FLOOD_LAPS = 1000, 20_000
QUICK_SEEDS = 20
IDLE_SETTLE_S, IDLE_S = 30, 60
BIG_MACHINE_CPUS = 32
REGISTER_ROUNDS = 5000
PINNED_TO = 0
GUARD_MS = 120_000


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def run(machine: ProcessMachine, *argv: str) -> str:
    """Run a program on the boot CPU to its end; what it printed. RuntimeError if it failed."""
    job = machine.spawn("cpu0", argv)
    if not machine.wait(lambda: job.done, GUARD_MS) or job.exit_code != 0:
        raise RuntimeError(f"{' '.join(argv)}: {job}")
    return "".join(text for _, text in job.take())


def ping(machine: ProcessMachine, *options: str, host: str = "192.168.1.1") -> float:
    """Run one ping to its end; wall seconds. RuntimeError if not every packet came back."""
    began = time.monotonic()
    text = run(machine, "ping", "-q", *options, host)
    took = time.monotonic() - began
    if " 0% packet loss" not in text:
        raise RuntimeError(text)
    return took


def snapshot(machine: ProcessMachine, what: str) -> Mapping[str, Any]:
    """Ask the boot CPU."""
    asked = machine.ask("cpu0", what)
    if not machine.wait(lambda: asked.done, GUARD_MS) or not asked.ok:
        raise RuntimeError(f"cpu0 did not answer {what}: {asked}")
    value: Mapping[str, Any] = asked.value
    return value


def ping_times_us(machine: ProcessMachine) -> list[float]:
    """Round trips of the last ping, from the CPU's own record."""
    trips: list[float] = []
    first = 1
    while True:
        value = snapshot(machine, f"ping:{first}")
        pairs = zip(value["sent"], value["received"], strict=True)
        trips += [(received - sent) / 1000 for sent, received in pairs if received]
        first += len(value["sent"])
        if first > value["total"]:
            return trips


def messages(machine: ProcessMachine) -> tuple[int, int]:
    """(messages, wake-ups) of all nodes so far."""
    pages = [machine.ram.page(name) for name in machine.settings.node_names]
    return sum(p["msgs_in"] for p in pages), sum(p["wakeups"] for p in pages)


def io_thread_s(machine: ProcessMachine) -> float:
    """CPU time that ZeroMQ's own threads of the CPU processes used, in ticks of 10 ms."""
    total = 0.0
    for name in machine.settings.cpu_names:
        process = psutil.Process(machine.state(name).pid)
        threads = [t for t in process.threads() if t.id != process.pid]
        total += sum(t.user_time + t.system_time for t in threads)
    return total


def lap_us(placement: str) -> float:
    """Median lap of one bare token, of several rings."""
    return statistics.median(run_ring(1, RING_LAPS, placement).lap_us_p50 for _ in range(RINGS))


def laps_per_s(placement: str, wire: str) -> float:
    """Laps a second of a flood's tokens, the median of several rings."""
    rings = [run_ring(OUTSTANDING, RING_FLOOD_LAPS, placement, wire) for _ in range(FLOOD_RINGS)]
    return statistics.median(ring.laps_per_s for ring in rings)


def launched(placement: str, number: int) -> ProcessMachine:
    """All on one core ("pinned"), as machines are launched ("free"), or wherever the scheduler of
    the host puts each process at each moment ("scheduler")."""
    settings = machine_settings(f"bench-{placement}-{number}", 2)
    if placement == "scheduler":
        settings = settings._replace(placement="free")
    return ProcessMachine(settings, cpu=PINNED_TO if placement == "pinned" else None)


def one_round(placement: str, number: int) -> dict[str, float]:
    """Rings and machine, one after the other, in one placement."""
    ring_placement = "pinned" if placement == "pinned" else "free"
    lap = lap_us(ring_placement)
    laps = laps_per_s(ring_placement, "bare")
    message_laps = laps_per_s(ring_placement, "messages")
    machine = launched(placement, number)
    try:
        host, other = addresses_by_queue(machine)
        before = messages(machine)
        ping(machine, "-f", "-c", str(RTT_PINGS), host=host)  # one outstanding, back to back
        after = messages(machine)
        trips = ping_times_us(machine)
        used = cpu_times_s(machine)
        io_used = io_thread_s(machine)
        half = ("-f", "-l", str(OUTSTANDING), "-c", str(FLOOD_PINGS // 2))
        took = ping(machine, *half, host=host) + ping(machine, *half, host=other)
        spent, io_spent = cpu_times_s(machine), io_thread_s(machine)
        both = two_cpus(machine, host, other) if placement != "pinned" else {}
        out, lost = frames_out_per_s(machine, host)
        into = frames_in_per_s(machine, host, lambda what: snapshot(machine, what))
    finally:
        machine.close()
    cpus = machine.settings.cpu_names
    rtt_us = statistics.median(trips)
    return {
        "lap_us": lap,
        "rtt_us_p50": rtt_us,
        "rtt_us_p99": statistics.quantiles(trips, n=100)[98],
        "rtt_ratio": rtt_us / lap,
        "messages_per_ping": (after[0] - before[0]) / RTT_PINGS,
        "wakeups_per_ping": (after[1] - before[1]) / RTT_PINGS,
        "ring_laps_per_s": laps,
        "pings_per_s": FLOOD_PINGS / took,
        "flood_ratio": FLOOD_PINGS / took / laps,
        "message_ring_laps_per_s": message_laps,
        "flood_ratio_to_message_ring": FLOOD_PINGS / took / message_laps,
        "cpu_us_per_ping": sum(spent[n] - used[n] for n in cpus) / FLOOD_PINGS * 1e6,
        "all_us_per_ping": sum(spent[n] - used[n] for n in spent) / FLOOD_PINGS * 1e6,
        "cpu_io_thread_us_per_ping": (io_spent - io_used) / FLOOD_PINGS * 1e6,
        **both,
        "udp_out_frames_per_s": out,
        "udp_out_lost": lost,
        "udp_out_ratio": out / laps,
        "udp_in_frames_per_s": into,
        "udp_in_ratio": into / laps,
    }


def registers(placement: str, count: int) -> dict[str, float]:
    """Microseconds a register access takes, as the driver sees it, and their ratio to two hops of
    the ring: one to the NIC, one back."""
    results = []
    for number in range(count):
        hop_us = lap_us(placement) / MEMBERS
        machine = launched(placement, number)
        try:
            run(machine, "insmod", "register_rtt", f"rounds={REGISTER_ROUNDS}")
            said = "".join(line.text + "\n" for line in kernellog.lines(machine.ram))
        finally:
            machine.close()
        found = re.search(r"register_rtt: .* read_ns=(\d+) write_ns=(\d+)", said)
        if found is None:
            raise RuntimeError(said)
        read_us, write_us = (int(ns) / 1000 for ns in found.groups())
        results.append(
            {
                "read_us": read_us,
                "write_us": write_us,
                "read_ratio": read_us / (2 * hop_us),
                "write_ratio": write_us / (2 * hop_us),
            }
        )
    figures = {key: statistics.median(r[key] for r in results) for key in results[0]}
    say(
        f"{placement} registers: read {figures['read_us']:.0f} us = {figures['read_ratio']:.2f} "
        f"of two hops; write and flush {figures['write_us']:.0f} us = {figures['write_ratio']:.2f}"
    )
    return figures


def _one_round(placement: str, number: int) -> dict[str, float]:
    """A round on a boot whose RSS key deals the gateway's addresses to both queues."""
    for _ in range(BOOTS - 1):
        try:
            return one_round(placement, number)
        except NoSuchAddressError:  # one key in 128 deals all eight addresses to one queue
            say(f"{placement} {number + 1}: one queue has all addresses; booting again")
    return one_round(placement, number)


def rounds(placement: str, count: int) -> dict[str, float]:
    """Medians over all rounds."""
    results = []
    for number in range(count):
        result = _one_round(placement, number)
        say(
            f"{placement} {number + 1}/{count}: rtt {result['rtt_us_p50']:.0f} us = "
            f"{result['rtt_ratio']:.2f} laps; flood {result['pings_per_s']:.0f}/s = "
            f"{result['flood_ratio']:.3f} of the ring, {result['cpu_us_per_ping']:.0f} us of CPU "
            f"processes a ping; UDP out {result['udp_out_frames_per_s']:.0f}/s, in "
            f"{result['udp_in_frames_per_s']:.0f}/s"
            + (
                f"; two CPUs {result['two_cpus_ratio']:.2f} of one"
                f" (this computer's bound {result['two_cpus_bound']:.2f})"
                if "two_cpus_ratio" in result
                else ""
            )
        )
        results.append(result)
    return {key: statistics.median(r[key] for r in results) for key in results[0]}


def launch(cpus: int, count: int, *, fast_probe: bool = True) -> tuple[float, float, float]:
    """(ms to the first echo reply, median; MB of PSS a node, mean and largest) of a machine."""
    times, means, largest = [], [], []
    for number in range(count):
        began = time.monotonic()
        settings = machine_settings(f"bench-launch-{cpus}-{number}", cpus)
        machine = ProcessMachine(settings._replace(fast_probe=fast_probe))
        try:
            ping(machine, "-c", "1")
            times.append((time.monotonic() - began) * 1000)
            pss = [
                psutil.Process(machine.state(name).pid).memory_full_info().pss / 1e6
                for name in machine.settings.node_names
            ]
        finally:
            machine.close()
        means.append(statistics.mean(pss))
        largest.append(max(pss))
    say(
        f"{cpus} CPUs{'' if fast_probe else ', full probe'}: first reply after "
        f"{statistics.median(times):.0f} ms, {means[-1]:.1f} MB of PSS a node"
    )
    return statistics.median(times), statistics.median(means), statistics.median(largest)


def idle(settle_s: int, seconds: int) -> float:
    """Percent of one core that all processes of an idle machine use."""
    machine = ProcessMachine(machine_settings("bench-idle", 2))
    try:
        ping(machine, "-c", "3", "-i", "0.1")
        say(f"idle: waiting {settle_s} s, then measuring {seconds} s")
        # only heartbeats meanwhile, as a detached machine has them
        machine.pump(machine.now_ns() + settle_s * 1_000_000_000)
        before = sum(cpu_times_s(machine).values())
        machine.pump(machine.now_ns() + seconds * 1_000_000_000)
        used = sum(cpu_times_s(machine).values()) - before
    finally:
        machine.close()
    return used / seconds * 100


def device(count: int) -> dict[str, dict[str, float]]:
    """Frames a second through one NIC without a bus, and their ratio to a bare ring."""
    figures = measure_frames(count)
    for name, rate in figures["frames_per_s"].items():
        say(f"device {name}: {rate:.0f} frames/s = {figures['ratio'][name]:.3f} of a bare ring")
    return figures


def main(argv: list[str]) -> int:
    """Measure everything and print it."""
    quick = "--quick" in argv
    count = 1 if quick else ROUNDS
    frames = device(count)
    by_layer = layers.measure(layers.QUICK_BLOCKS if quick else layers.BLOCKS, say=say)
    say(layers.table(by_layer))
    cases = failover.cases_of(failover.MIIMON_MS, list(PRESETS))
    gaps = failover.distribution(cases, QUICK_SEEDS if quick else failover.SEEDS)
    say(failover.draw(gaps))
    pinned = rounds("pinned", count)
    free = rounds("free", count)
    scheduler = rounds("scheduler", count)
    access = {placement: registers(placement, count) for placement in PLACEMENTS}
    launch_ms, pss_mb, pss_mb_max = launch(2, count)
    full_probe_ms, _, _ = launch(2, count, fast_probe=False)
    big_ms, big_pss_mb, big_pss_mb_max = launch(BIG_MACHINE_CPUS, 1 if quick else 3)
    idle_percent = idle(3, 6) if quick else idle(IDLE_SETTLE_S, IDLE_S)
    figures: dict[str, Any] = {
        "rtt_ratio_pinned": pinned["rtt_ratio"],
        "rtt_ratio_free": free["rtt_ratio"],
        "flood_ratio": free["flood_ratio"],
        "pings_per_s": free["pings_per_s"],
        "cpu_us_per_ping": free["cpu_us_per_ping"],
        "two_cpus_ratio": free["two_cpus_ratio"],
        "two_cpus_bound": free["two_cpus_bound"],
        "two_cpus_single_ratio": free["two_cpus_single_ratio"],
        "rtt_ratio_scheduler": scheduler["rtt_ratio"],
        "flood_ratio_scheduler": scheduler["flood_ratio"],
        "udp_out_ratio": free["udp_out_ratio"],
        "udp_in_ratio": free["udp_in_ratio"],
        "udp_out_frames_per_s": free["udp_out_frames_per_s"],
        "udp_in_frames_per_s": free["udp_in_frames_per_s"],
        "failover": [{k: row[k] for k in row if k != "gaps_ms"} for row in gaps],
        "device_frame_ratio": frames["ratio"],
        "register_read_ratio": access["free"]["read_ratio"],
        "register_write_ratio": access["free"]["write_ratio"],
        "launch_ms": launch_ms,
        "launch_full_probe_ms": full_probe_ms,
        "idle_cpu_percent": idle_percent,
        "pss_mb_per_node": pss_mb,
        "raw": {
            "pinned": pinned,
            "free": free,
            "scheduler": scheduler,
            "registers": access,
            "layers": layers.without_functions(by_layer),
            "device_frames_per_s": frames["frames_per_s"],
            "pss_mb_per_node_max": pss_mb_max,
            "cpus_32": {
                "launch_ms": big_ms,
                "pss_mb_per_node": big_pss_mb,
                "pss_mb_per_node_max": big_pss_mb_max,
            },
            "rounds": count,
        },
    }
    figures["targets"] = targets.verdicts(figures)
    beyond = free["one_cpu_us_per_ping"] - by_layer["flood"]["cpu"]["us"]
    say(
        f"CPU processes, a ping of a flood: {free['one_cpu_us_per_ping']:.0f} us, of them "
        f"{beyond:.0f} beyond the layers: ZeroMQ (its thread: "
        f"{free['cpu_io_thread_us_per_ping']:.0f}), epoll, waking up"
    )
    print(json.dumps(figures, indent=2), flush=True)
    say(targets.table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
