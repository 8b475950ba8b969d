"""``chcpu -e|-d LIST``: util-linux's tool over /sys/devices/system/cpu, with its texts.

It writes ``cpuN/online`` of each CPU of the list. Exit code 64 says that some failed; the manual
promises 1 when all did, but the tool compares with the number of CPUs that the kernel could have,
so a single CPU that cannot be changed gives 64 too (2.38.1). Nothing here can be configured,
rescanned or dispatched, and it says so as it does on other machines without that.
"""

from __future__ import annotations

import re
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING

from nodes.cpu.kernel import files, procfs
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.procfs.cpus import ROOT
from nodes.cpu.kernel.snapshot import snapshot
from nodes.cpu.kernel.words import CPUS_MAX
from nodes.cpu.programs.libc import strerror
from nodes.cpu.programs.run import STDERR, Process, program
from nodes.getopt import glibc_text

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

EXIT_FAILURE, EXIT_SOME_FAILED = 1, 64
_LIST = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_LONG = ["configure=", "deconfigure=", "disable=", "dispatch=", "enable=", "help", "rescan"]
_EXCLUSIVE = "--configure --disable --enable --deconfigure --dispatch"
_TRY = "Try 'chcpu --help' for more information.\n"
HELP = """
Usage:
 chcpu [options]

Configure CPUs in a multi-processor system.

Options:
 -e, --enable <cpu-list>       enable cpus
 -d, --disable <cpu-list>      disable cpus
 -c, --configure <cpu-list>    configure cpus
 -g, --deconfigure <cpu-list>  deconfigure cpus
 -p, --dispatch <mode>         set dispatching mode
 -r, --rescan                  trigger rescan of cpus
 -h, --help                    display this help

For more details see chcpu(8).
"""


class ChcpuError(Exception):
    """A command line that is refused, with what stands on stderr."""


def parse(argv: tuple[str, ...]) -> tuple[str, str]:
    """(option letter, its argument); ("h", "") for help."""
    try:
        options, words = gnu_getopt(list(argv), "c:d:e:g:hp:r", _LONG)
    except GetoptError as error:
        raise ChcpuError(f"chcpu: {glibc_text(error)}\n{_TRY}") from None
    found: dict[str, str] = {}
    for option, value in options:
        letter = "p" if option == "--dispatch" else "g" if option == "--deconfigure" else ""
        letter = letter or option.lstrip("-")[0]
        if letter == "h":
            return "h", ""
        found[letter] = value
        if len(found) > 1:
            raise ChcpuError(f"chcpu: mutually exclusive arguments: {_EXCLUSIVE}\n")
    if words or not found:
        raise ChcpuError(f"chcpu: bad usage\n{_TRY}")
    return next(iter(found.items()))


def cpulist_parse(text: str) -> list[int]:
    """``0,2-5,8-20:4`` in order, each once; ChcpuError if it is no list."""
    found: dict[int, None] = {}
    for piece in text.split(","):
        match = _LIST.fullmatch(piece)
        if match is None or len(piece) > 3 * len(str(CPUS_MAX)) + 8:
            raise ChcpuError(f"chcpu: failed to parse CPU list: {text}\n")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if first > last or step == 0:
            raise ChcpuError(f"chcpu: failed to parse CPU list: {text}\n")
        if last >= CPUS_MAX:
            raise ChcpuError(f"chcpu: invalid CPU number in CPU list: {text}\n")
        found |= dict.fromkeys(range(first, last + 1, step))
    return sorted(found)


@program("chcpu")
def chcpu(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """On the boot CPU, which owns the tables."""
    if not cpu.boot:
        process.write("chcpu: on the boot CPU only\n", STDERR)
        return EXIT_FAILURE
    try:
        letter, value = parse(argv[1:])
        numbers = cpulist_parse(value) if letter in "cdeg" else []
    except ChcpuError as error:
        process.write(str(error), STDERR)
        return EXIT_FAILURE
    if letter == "h":
        process.write(HELP)
        return 0
    if letter in "pr":
        what = "rescanning of CPUs" if letter == "r" else "setting the dispatching mode of CPUs"
        process.write(f"chcpu: This system does not support {what}\n", STDERR)
        return EXIT_FAILURE
    fails = 0
    for number in numbers:
        done = yield from _change(cpu, process, letter, number)
        fails += not done
    return 0 if not fails else EXIT_FAILURE if fails == CPUS_MAX else EXIT_SOME_FAILED


def _change(cpu: Cpu, process: Process, letter: str, number: int) -> Context:
    """One CPU; True if it is as it was wanted."""
    tables = {"cpu0": snapshot(cpu, "kernel")}
    yield
    paths = procfs.paths(tables)
    folder = f"{ROOT}cpu{number}/"
    path = folder + "online"
    if not any(name.startswith(folder) for name in paths):
        process.write(f"chcpu: CPU {number} does not exist\n", STDERR)
        return False
    if letter in "cg":
        process.write(f"chcpu: CPU {number} is not configurable\n", STDERR)
        return False
    if path not in paths:
        process.write(f"chcpu: CPU {number} is not hot pluggable\n", STDERR)
        return False
    wanted, verb = (1, "enable") if letter == "e" else (0, "disable")
    if int(procfs.render(path, tables, {})) == wanted:
        process.write(f"CPU {number} is already {verb}d\n")
        return True
    error = yield from files.write(cpu, path, str(wanted))
    if error:
        process.write(f"chcpu: CPU {number} {verb} failed: {strerror(error)}\n", STDERR)
        return False
    process.write(f"CPU {number} {verb}d\n")
    return True
