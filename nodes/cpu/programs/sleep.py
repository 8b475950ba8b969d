"""``sleep NUMBER...`` of coreutils: seconds, with their suffixes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.programs.run import STDERR, Process, program, resumable

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
    code: int = yield from _until(cpu, process, cpu.now() + total_ns)
    return code


def _until(cpu: Cpu, process: Process, end_ns: int) -> Context:
    """The rest of it."""
    while (left_ns := end_ns - cpu.now()) > 0:
        process.may_move(lambda: end_ns)
        if process.task.signals:
            return 130
        yield from nanosleep(cpu, left_ns)
    return 0


resumable("sleep")(_until)
