"""The registers of a slot, its commands and its interrupt (pciehp_hpc.c).

Each write to SltCtl is a command; the next one waits until the port says that it is completed. The
handler clears the status bits it saw and looks again until there are none: with MSI the port sends
nothing new before all are zero. What it saw goes to whoever does the work on the boot CPU, by a
record if the line has been moved to another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.hrtimer import schedule_hrtimeout
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED, IRQ_NONE, IRQ_WAKE_THREAD
from nodes.cpu.kernel.pci import read_config, write_config
from nodes.cpu.kernel.pciehp import ctrl as pciehp_ctrl
from nodes.cpu.kernel.pciehp.controller import Controller
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.sched import TASK_UNINTERRUPTIBLE, wake_up_process
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.timer import msleep
from nodes.machine import PORTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PCI_EXP_LNKCAP, PCI_EXP_LNKSTA = 0x0C, 0x12
PCI_EXP_LNKCAP_DLLLARC = 1 << 20
PCI_EXP_LNKSTA_NLW, PCI_EXP_LNKSTA_LT, PCI_EXP_LNKSTA_DLLLA = 0x3F0, 1 << 11, 1 << 13
PCI_EXP_SLTCAP, PCI_EXP_SLTCTL, PCI_EXP_SLTSTA = 0x14, 0x18, 0x1A
PCI_EXP_SLTCAP_PCP, PCI_EXP_SLTCAP_HPS, PCI_EXP_SLTCAP_HPC = 0x2, 0x20, 0x40
PCI_EXP_SLTCTL_PDCE, PCI_EXP_SLTCTL_CCIE, PCI_EXP_SLTCTL_HPIE = 0x08, 0x10, 0x20
PCI_EXP_SLTCTL_AIC, PCI_EXP_SLTCTL_PIC, PCI_EXP_SLTCTL_PCC = 0x0C0, 0x300, 0x400
PCI_EXP_SLTCTL_ATTN_IND_OFF = 0x0C0
PCI_EXP_SLTCTL_PWR_IND_ON, PCI_EXP_SLTCTL_PWR_IND_BLINK = 0x100, 0x200
PCI_EXP_SLTCTL_PWR_IND_OFF, PCI_EXP_SLTCTL_DLLSCE = 0x300, 0x1000
PCI_EXP_SLTSTA_ABP, PCI_EXP_SLTSTA_PFD, PCI_EXP_SLTSTA_PDC = 0x01, 0x02, 0x08
PCI_EXP_SLTSTA_CC, PCI_EXP_SLTSTA_PDS, PCI_EXP_SLTSTA_DLLSC = 0x10, 0x40, 0x100
_EVENTS = PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PFD | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_CC
_GONE = 0xFFFF

PCIEHP_EVENTS = 150  # record: the interrupt came on another CPU
CMD_TIMEOUT_NS = 1_000_000_000
LINK_TIMEOUT_MS, LINK_POLL_MS, CONFIG_READY_MS = 1000, 10, 100
FOUND_TIMEOUT_MS, FOUND_STEP_MS = 1000, 20


# ---------------------------------------------------------------- commands


def read_slot(cpu: Cpu, ctrl: Controller, register: int) -> Context:
    """A 16-bit register of the port's PCI Express capability."""
    return read_config(cpu, ctrl.port, ctrl.cap + register, 2)


def pcie_wait_cmd(cpu: Cpu, ctrl: Controller) -> Context:
    """Sleep until the last command is completed; a missing completion only costs time."""
    if not ctrl.cmd_busy:
        return
    end = ctrl.cmd_started_ns + CMD_TIMEOUT_NS
    while ctrl.cmd_busy and cpu.now() < end:
        cpu.current.state = TASK_UNINTERRUPTIBLE
        ctrl.waiting = cpu.current
        yield from schedule_hrtimeout(cpu, end)
    ctrl.waiting = None
    if ctrl.cmd_busy:
        ago_ms = (cpu.now() - ctrl.cmd_started_ns) // 1_000_000
        text = f"Timeout on hotplug command {ctrl.slot_ctrl:#06x} (issued {ago_ms} msec ago)"
        ctrl.info(cpu, text)
        ctrl.cmd_busy = False


def pcie_write_cmd(cpu: Cpu, ctrl: Controller, cmd: int, mask: int, *, wait: bool) -> Context:
    """Change bits of SltCtl once the command before is completed; ``wait``: for this one too."""
    yield from pcie_wait_cmd(cpu, ctrl)
    value = yield from read_slot(cpu, ctrl, PCI_EXP_SLTCTL)
    if value == _GONE:
        return
    ctrl.slot_ctrl = value & ~mask | cmd & mask
    ctrl.cmd_busy = True
    ctrl.cmd_started_ns = cpu.now()
    yield from write_config(cpu, ctrl.port, ctrl.cap + PCI_EXP_SLTCTL, 2, ctrl.slot_ctrl)
    if wait:
        yield from pcie_wait_cmd(cpu, ctrl)


def pcie_enable_notification(cpu: Cpu, ctrl: Controller) -> Context:
    cmd = PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_CCIE
    if cpu.params.pciehp_events == "presence+link":
        cmd |= PCI_EXP_SLTCTL_DLLSCE
    yield from pcie_write_cmd(cpu, ctrl, cmd, cmd, wait=False)


def set_indicators(cpu: Cpu, ctrl: Controller, power: int, attention: int = 0) -> Context:
    """pciehp_set_indicators; ``attention`` 0: it stays as it is."""
    mask = PCI_EXP_SLTCTL_PIC | (PCI_EXP_SLTCTL_AIC if attention else 0)
    yield from pcie_write_cmd(cpu, ctrl, power | attention, mask, wait=False)


def set_power(cpu: Cpu, ctrl: Controller, *, on: bool) -> Context:
    """pciehp_power_on_slot, pciehp_power_off_slot."""
    if on:
        ctrl.power_fault_detected = False
    cmd = 0 if on else PCI_EXP_SLTCTL_PCC
    yield from pcie_write_cmd(cpu, ctrl, cmd, PCI_EXP_SLTCTL_PCC, wait=True)


# ---------------------------------------------------------------- looks


def card_present(cpu: Cpu, ctrl: Controller) -> Context:
    status = yield from read_slot(cpu, ctrl, PCI_EXP_SLTSTA)
    return status != _GONE and bool(status & PCI_EXP_SLTSTA_PDS)


def check_link_active(cpu: Cpu, ctrl: Controller) -> Context:
    status = yield from read_slot(cpu, ctrl, PCI_EXP_LNKSTA)
    return status != _GONE and bool(status & PCI_EXP_LNKSTA_DLLLA)


def power_is_on(cpu: Cpu, ctrl: Controller) -> Context:
    control = yield from read_slot(cpu, ctrl, PCI_EXP_SLTCTL)
    return not control & PCI_EXP_SLTCTL_PCC


def check_link_status(cpu: Cpu, ctrl: Controller) -> Context:
    """pciehp_check_link_status: wait for the link and until the card answers; an error text, or
    empty."""
    left_ms = LINK_TIMEOUT_MS
    while not (yield from check_link_active(cpu, ctrl)):
        if left_ms <= 0:
            return "No link"
        yield from msleep(cpu, LINK_POLL_MS)
        left_ms -= LINK_POLL_MS
    yield from msleep(cpu, CONFIG_READY_MS)
    found = yield from _pci_bus_check_dev(cpu, ctrl.nic)
    if found:  # link and presence changes up to here belong to this
        ctrl.pending_events &= ~(PCI_EXP_SLTSTA_DLLSC | PCI_EXP_SLTSTA_PDC)
    status = yield from read_slot(cpu, ctrl, PCI_EXP_LNKSTA)
    if status & PCI_EXP_LNKSTA_LT or not status & PCI_EXP_LNKSTA_NLW:
        return f"Cannot train link: status {status:#06x}"
    return "" if found else "No device found"


def _pci_bus_check_dev(cpu: Cpu, nic: int) -> Context:
    """Does function 0 of the card say who it is, within a second?"""
    for _ in range(FOUND_TIMEOUT_MS // FOUND_STEP_MS):
        vendor = yield from read_config(cpu, nic, 0, 4)
        if vendor not in (0, 0xFFFF_FFFF):
            return True
        yield from msleep(cpu, FOUND_STEP_MS)
    return False


# ---------------------------------------------------------------- the interrupt


def pciehp_isr(cpu: Cpu, nic: int, cap: int) -> Context:
    """The hard handler, on whatever CPU the line is routed to."""
    wanted = _EVENTS
    if cpu.params.pciehp_events == "presence+link":
        wanted |= PCI_EXP_SLTSTA_DLLSC
    ctrl = cpu.pciehp.slots.get(nic)
    if ctrl is not None and ctrl.power_fault_detected:
        wanted &= ~PCI_EXP_SLTSTA_PFD
    port, events = PORTS + nic, 0
    while True:
        status = yield from read_config(cpu, port, cap + PCI_EXP_SLTSTA, 2)
        if status == _GONE:
            return IRQ_NONE
        status &= wanted
        if not status:
            break
        events |= status
        wanted &= ~(status & PCI_EXP_SLTSTA_PFD)
        yield from write_config(cpu, port, cap + PCI_EXP_SLTSTA, 2, status)
    if not events:
        return IRQ_NONE
    if not cpu.boot:
        yield from call_function_single(cpu, 0, [PCIEHP_EVENTS, nic, events])
        return IRQ_HANDLED
    assert ctrl is not None
    return (yield from _take_events(cpu, ctrl, events))


def _take_events(cpu: Cpu, ctrl: Controller, events: int) -> Context:
    """On the boot CPU: wake who waits for a command, and pass the rest on."""
    if events & PCI_EXP_SLTSTA_CC:
        ctrl.cmd_busy = False
        if ctrl.waiting is not None:
            wake_up_process(cpu, ctrl.waiting)
        events &= ~PCI_EXP_SLTSTA_CC
    if not events:
        return IRQ_HANDLED
    if events & PCI_EXP_SLTSTA_PFD:
        ctrl.power_fault_detected = True
    if cpu.params.pciehp_thread == "irq-thread":
        ctrl.pending_events |= events
        return IRQ_WAKE_THREAD
    yield from pciehp_ctrl.queue_events(cpu, ctrl, events)
    return IRQ_HANDLED


@remote_function(PCIEHP_EVENTS)
def _remote_events(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    ctrl = cpu.pciehp.slots.get(record[1])
    return _remote(cpu, ctrl, record[2]) if ctrl is not None else None


def _remote(cpu: Cpu, ctrl: Controller, events: int) -> Context:
    returned = yield from _take_events(cpu, ctrl, events)
    if returned == IRQ_WAKE_THREAD:
        pciehp_ctrl.start_elsewhere(cpu, ctrl)
