"""Child of the terminal tests: a machine that is only RAM, shown by ``run_top`` on this terminal.

``top_child.py tick [MS]``: the machine lives in this process, one ping reply a tick, and ends after
so many ms if told so. ``top_child.py attach FILE``: the RAM file of another process.
At the end it prints how the screen was left and what was asked for.
"""

from __future__ import annotations

import fcntl
import sys
import termios
import time

from dashboard_bench import MS, Bench, settings

from orchestrator.dashboards.live import run_top
from orchestrator.dashboards.model import MachineView, open_readonly

asked: list[str] = []


def tick_mode(end_ms: int | None) -> str:
    bench = Bench()
    bench.network()
    end = None if end_ms is None else bench.now + end_ms * MS

    def tick(until_ns: int) -> None:
        bench.now = until_ns
        bench.pings(sent=100, received=100)
        bench.add("eth0", "rx_frames_in", 1, 2)

    def act(line: str) -> str:
        asked.append(line)
        verb, node = line.split()[:2]
        if verb == "kill":
            bench.kill(node)
        elif verb in ("freeze", "thaw"):
            bench.state(node, frozen=verb == "freeze")
        elif verb == "cable":
            bench.plug(node, inserted=line.endswith("in"))
        return f"done: {line}"

    return run_top(
        bench.view,
        act=act,
        tick=tick,
        caption=lambda: f"caption at {(bench.now - bench.ram.boot_ns) // 1_000_000_000} s",
        done=None if end is None else lambda: bench.now >= end,
    )


def attach_mode(path: str) -> str:
    machine = settings()
    ram = open_readonly(path, machine.layout())
    states = Bench().states
    return run_top(MachineView(ram, machine, lambda: states, time.monotonic_ns))


if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    arguments = sys.argv[2:]
    if sys.argv[1] == "attach":
        outcome = attach_mode(arguments[0])
    else:
        outcome = tick_mode(int(arguments[0]) if arguments else None)
    print(f"left: {outcome}; asked: {asked}")
