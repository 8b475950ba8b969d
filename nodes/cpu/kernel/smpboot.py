"""Bringing CPUs up, after arch/x86/kernel/smpboot.c: both sides of it.

The boot CPU wakes one CPU after the other: INIT asserted and deasserted, two STARTUP IPIs with the
page of the trampoline, each with its delay, then a handshake through words in RAM, each written by
its one owner::

    boot CPU                      callout-first (to 3.10)          initialized-first (6.1)
    sets cpu_callout              after the STARTUPs               when the CPU is initialized
    waits for the new CPU         5 s for callin                   10 s for initialized
    new CPU                       waits 2 s for callout            waits for callout

then the new CPU sets up its local APIC, calls in, and at the boot CPU's go marks itself online. A
process that is dead or frozen never answers; the boot CPU gives it up and goes on. One that thaws
later finds that nobody waits for it any more.

Left out: trampoline code, MTRRs, calibration; the send and accept errors of the APIC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.apic import setup_local_apic
from nodes.cpu.kernel.bug import panic
from nodes.cpu.kernel.ipi import (
    DELIVER_INIT,
    DELIVER_STARTUP,
    ICR_ASSERT,
    ICR_LEVEL,
    write_icr,
)
from nodes.cpu.kernel.percpu import CONTEXT_TASK, Context, Pause
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Where the new CPU starts: the trampoline, below 1 MiB. STARTUP carries its page number.
START_EIP = 0x9A000

CALLIN_POLL_NS = 100_000
CALLOUT_TIMEOUT_NS = 2_000_000_000

#: ``cpu_state`` of a CPU that comes up: its trampoline has run, it has called in.
CPU_INITIALIZED, CPU_CALLIN = 1, 2

_ONLINE = CPU_SCHEMA.index("online")
_STATE = CPU_SCHEMA.index("cpu_state")
_CALLOUT = CPU_SCHEMA.index("cpu_callout")
_COMMENCED = CPU_SCHEMA.index("cpu_commenced")


# -- the boot CPU


def smp_init(cpu: Cpu) -> Context:
    """Wake every other CPU; returns those that are online then."""
    online = [0]
    log = _Announcer(cpu)
    log.begin()
    for number in range(1, cpu.machine.cpus):
        log.announce(number)
        up = yield from native_cpu_up(cpu, number)
        if up:
            online.append(number)
        else:
            log.failed(number)
    log.end(len(online))
    return online


def native_cpu_up(cpu: Cpu, target: int) -> Context:
    """Wake one CPU; True when it is online."""
    words, theirs = cpu.words, cpu.ram.page(f"cpu{target}", CPU_SCHEMA).words
    bit = 1 << target
    timeout_ns = cpu.params.cpu_callin_timeout_ms * 1_000_000
    yield from wakeup_secondary_cpu_via_init(cpu, target)
    if cpu.params.cpu_callin == "callout-first":
        words[_CALLOUT] |= bit
        called = yield from _wait(cpu, lambda: theirs[_STATE] >= CPU_CALLIN, timeout_ns)
        if not called:
            words[_CALLOUT] &= ~bit
            return False
    else:
        there = yield from _wait(cpu, lambda: theirs[_STATE] >= CPU_INITIALIZED, timeout_ns)
        if not there:
            return False
        words[_CALLOUT] |= bit
        yield from _wait(cpu, lambda: theirs[_STATE] >= CPU_CALLIN)
    words[_COMMENCED] |= bit
    yield from _wait(cpu, lambda: theirs[_ONLINE] != 0)
    return True


def announce_cpu(cpu: Cpu, number: int) -> None:
    """At run time each CPU has a line of its own."""
    if cpu.params.log_format == "2.6.18":
        printk(cpu, f"Booting processor {number}/{cpu.machine.cpus} APIC {number:#x}")
        return
    if cpu.params.log_format == "6.1" and number == 1:
        printk(cpu, "x86: Booting SMP configuration:")
    printk(cpu, f"smpboot: Booting Node 0 Processor {number} APIC {number:#x}")


def not_responding(cpu: Cpu, number: int) -> None:
    """It did not come up."""
    started = cpu.ram.page(f"cpu{number}", CPU_SCHEMA)["cpu_state"]
    why = "Stuck ??" if started else "Not responding"
    if cpu.params.log_format == "6.1":
        text = f"smpboot: do_boot_cpu failed(-1) to wakeup CPU#{number}"
    elif cpu.params.log_format == "3.10":
        text = f"smpboot: CPU{number}: {why}"
    else:
        text = why if started else f"{why}."
    printk(cpu, text, KERN_ERR)


def wakeup_secondary_cpu_via_init(cpu: Cpu, target: int) -> Context:
    """INIT asserted and deasserted, then two STARTUPs (a CPU that runs ignores the second)."""
    init_udelay = cpu.params.init_udelay
    after_startup, after_accept = (300, 200) if init_udelay else (10, 10)
    where = target << 56
    write_icr(cpu, where | ICR_LEVEL | ICR_ASSERT | DELIVER_INIT)
    yield from udelay(cpu, init_udelay)
    write_icr(cpu, where | ICR_LEVEL | DELIVER_INIT)
    for _ in range(2):
        write_icr(cpu, where | ICR_ASSERT | DELIVER_STARTUP | START_EIP >> 12)
        yield from udelay(cpu, after_startup)
        yield from udelay(cpu, after_accept)


def udelay(cpu: Cpu, us: int) -> Context:
    """Spin."""
    end = cpu.now() + us * 1000
    while cpu.now() < end:
        yield Pause(end)


def _wait(cpu: Cpu, done: Callable[[], bool], timeout_ns: int | None = None) -> Context:
    """Look again and again; False if the time is over."""
    end = None if timeout_ns is None else cpu.now() + timeout_ns
    while not done():
        now = cpu.now()
        if end is not None and now >= end:
            return False
        yield Pause(now + CALLIN_POLL_NS)
    return True


class _Announcer:
    """What the boot CPU says, by ``log_format``."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._format = cpu.params.log_format
        self._line = ""  # begun and not ended: pr_cont

    def begin(self) -> None:
        if self._format == "6.1":
            printk(self._cpu, "smp: Bringing up secondary CPUs ...")

    def announce(self, number: int) -> None:
        """announce_cpu."""
        cpus = self._cpu.machine.cpus
        if self._format == "2.6.18":
            printk(self._cpu, f"Booting processor {number}/{cpus} APIC {number:#x}")
            return
        if self._format == "3.10":
            if number == 1:
                self._line = "smpboot: Booting Node   0, Processors "
            self._line += f" #{number}"
            if number == cpus - 1:
                self._line += " OK"
                self._flush()
            return
        width = len(str(cpus)) + 1
        if number == 1:
            printk(self._cpu, "x86: Booting SMP configuration:")
            self._line = ".... node  #0, CPUs:  " + " " * (width + 1)
        self._line += f"#{number}".rjust(width + 1)

    def failed(self, number: int) -> None:
        self._flush()
        not_responding(self._cpu, number)

    def end(self, online: int) -> None:
        """smp_cpus_done."""
        self._flush()
        if self._format == "6.1":
            many = "s" if online > 1 else ""
            printk(self._cpu, f"smp: Brought up 1 node, {online} CPU{many}")
        else:
            printk(self._cpu, f"Brought up {online} CPUs")

    def _flush(self) -> None:
        if self._line:
            printk(self._cpu, self._line)
        self._line = ""


# -- the new CPU


def start_secondary(cpu: Cpu, online: Callable[[Cpu], Context]) -> Context:
    """What a CPU does after each STARTUP, interrupts off, as its idle task; then it idles.

    ``online`` starts what every CPU has once it is in cpu_online_mask."""
    cpu.enter_context(CONTEXT_TASK)
    yield from _smp_callin(cpu)
    bit = 1 << cpu.number
    boot = cpu.ram.page("cpu0", CPU_SCHEMA).words
    yield from _wait(cpu, lambda: bool(boot[_COMMENCED] & bit))
    yield from online(cpu)
    cpu.words[_ONLINE] = 1
    cpu.irqs_on = True


def _smp_callin(cpu: Cpu) -> Context:
    boot = cpu.ram.page("cpu0", CPU_SCHEMA).words
    bit = 1 << cpu.number
    limit = CALLOUT_TIMEOUT_NS if cpu.params.cpu_callin == "callout-first" else None
    cpu.words[_STATE] = CPU_INITIALIZED
    called_out = yield from _wait(cpu, lambda: bool(boot[_CALLOUT] & bit), limit)
    if not called_out:
        panic(cpu, f"smp_callin: CPU{cpu.number} started up but did not get a callout!")
        while True:
            yield Pause(cpu.now() + CALLOUT_TIMEOUT_NS)  # interrupts are off: it is gone
    if cpu.params.log_format == "2.6.18":
        printk(cpu, f"Initializing CPU#{cpu.number}")
    setup_local_apic(cpu)
    yield
    cpu.words[_STATE] = CPU_CALLIN
