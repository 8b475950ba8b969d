"""The kernel's half of tcpdump: a packet socket on a device, for as long as somebody captures.

The capturing process outside reads the packet rings; this task only opens the tap on all CPUs (and
promiscuous mode, unless ``-p``) and closes it when it is signalled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.device import dev_set_promiscuity, move_promiscuity
from nodes.cpu.kernel.net.taps import SESSIONS_MAX
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import TASK_INTERRUPTIBLE
from nodes.cpu.kernel.tables import publish
from nodes.cpu.programs.run import STDERR, Process, program, resumable
from nodes.getopt import getopt

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

DEFAULT_SNAPLEN, MAXIMUM_SNAPLEN = 65535, 262144
NO_SUCH_DEVICE = 1


@program("tcpdump")
def tcpdump(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """tcpdump -i IF [-p] [-s SNAPLEN]"""
    name, promiscuous, snaplen = "any", True, DEFAULT_SNAPLEN
    try:
        for letter, text in getopt(argv[1:], "i:ps:"):
            if letter == "i":
                name = text
            elif letter == "p":
                promiscuous = False
            elif letter == "s":
                snaplen = _snaplen(text)
    except ValueError as error:
        process.write(f"tcpdump: {error}\n", STDERR)
        return 1
    dev = cpu.net.device(name)
    if dev is None and name != "any":
        process.write(f"tcpdump: {name}: No such device exists\n", STDERR)
        return NO_SUCH_DEVICE
    used = [tap.session for tap in cpu.net.taps]
    session = next((n for n in range(SESSIONS_MAX) if n not in used), None)
    if session is None:
        process.write(f"tcpdump: {SESSIONS_MAX} captures are running already\n", STDERR)
        return 1
    ifindex = 0 if dev is None else dev.ifindex
    if dev is not None and promiscuous:
        dev_set_promiscuity(cpu, dev, 1)
    yield from publish(cpu, "tap", session, (ifindex, snaplen))
    process.write(json.dumps({"session": session, "ifindex": ifindex}) + "\n")
    code: int = yield from _capture(cpu, process, (session, ifindex, promiscuous))
    return code


def _snaplen(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) > MAXIMUM_SNAPLEN:
        raise ValueError(f"invalid snaplen {text} (must be >= 0 and <= {MAXIMUM_SNAPLEN})")
    return int(text) or DEFAULT_SNAPLEN


def _capture(cpu: Cpu, process: Process, state: tuple[int, int, bool]) -> Context:
    """Wait for the signal, and close."""
    session, ifindex, promiscuous = state
    dev = cpu.net.devices.get(ifindex) if promiscuous else None

    def pack() -> tuple[int, int, bool]:
        move_promiscuity(dev, -1)
        return state

    while True:
        process.may_move(pack)
        if process.task.signals:
            break
        process.task.state = TASK_INTERRUPTIBLE
        yield SCHEDULE
    yield from publish(cpu, "tap", session, None)
    if dev is not None:
        dev_set_promiscuity(cpu, dev, -1)
    return 0


@resumable("tcpdump")
def resume(cpu: Cpu, process: Process, state: tuple[int, int, bool]) -> Context:
    """The tap is every CPU's; the wish for every frame is counted where the task is."""
    _, ifindex, promiscuous = state
    move_promiscuity(cpu.net.devices.get(ifindex) if promiscuous else None, 1)
    return _capture(cpu, process, state)
