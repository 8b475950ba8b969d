"""``sleep NUMBER...`` of coreutils: seconds, with their suffixes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.programs.run import STDERR, Process, program

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@program("sleep")
def sleep(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """main() of sleep."""
    if len(argv) < 2:
        process.write("sleep: missing operand\n", STDERR)
        return 1
    total_ns = 0
    for word in argv[1:]:
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([smhd]?)", word)
        if match is None:
            process.write(f"sleep: invalid time interval '{word}'\n", STDERR)
            return 1
        total_ns += round(float(match[1]) * _SECONDS[match[2]] * 1e9)
    yield USER
    end_ns = cpu.now() + total_ns
    while not process.task.signals and (left_ns := end_ns - cpu.now()) > 0:
        yield from nanosleep(cpu, left_ns)
    return 130 if process.task.signals else 0
