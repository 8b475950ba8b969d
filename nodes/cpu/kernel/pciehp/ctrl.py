"""What is done about an event of a slot (pciehp_ctrl.c).

6.1 (``pciehp_events = "presence+link"``) takes all pending events together:

=========  =======================================================================================
state      on PDC or DLLSC
=========  =======================================================================================
ON         POWEROFF: the device is removed, the slot has no power for a second; changes of link and
           presence that come of that are forgotten; OFF
then OFF   if a card is there or the link is up: POWERON: power, link, device; ON, or OFF again
=========  =======================================================================================

Older kernels take each change of presence by itself: gone, and what is there is removed; there, and
the slot is switched on; if SltCap allows surprises at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.pciehp import hpc
from nodes.cpu.kernel.pciehp.controller import (
    INT_PRESENCE_OFF,
    INT_PRESENCE_ON,
    OFF_STATE,
    ON_STATE,
    POWEROFF_STATE,
    POWERON_STATE,
    Controller,
)
from nodes.cpu.kernel.pciehp.pci import pciehp_configure_device, pciehp_unconfigure_device
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import (
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    kthread_run,
    wake_up_process,
)
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import schedule_work

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: What a slot needs until power is really gone.
POWER_OFF_MS = 1000
_CHANGES = hpc.PCI_EXP_SLTSTA_PDC | hpc.PCI_EXP_SLTSTA_DLLSC


# ---------------------------------------------------------------- power


def board_added(cpu: Cpu, ctrl: Controller) -> Context:
    """A card is there: power, link, device. False, and no power, if it does not work."""
    if ctrl.slot_cap & hpc.PCI_EXP_SLTCAP_PCP:
        yield from hpc.set_power(cpu, ctrl, on=True)
    yield from hpc.set_indicators(cpu, ctrl, hpc.PCI_EXP_SLTCTL_PWR_IND_BLINK)
    error = yield from hpc.check_link_status(cpu, ctrl)
    name = ctrl.slot_name(cpu)
    if error:
        if cpu.params.pciehp_events == "presence+link":
            ctrl.info(cpu, f"Slot({name}): {error}")
        else:
            ctrl.err(cpu, "Failed to check link status")
    elif ctrl.power_fault_detected:
        ctrl.err(cpu, f"Power fault on slot {name}")
    else:
        yield from pciehp_configure_device(cpu, ctrl)
        yield from hpc.set_indicators(
            cpu, ctrl, hpc.PCI_EXP_SLTCTL_PWR_IND_ON, hpc.PCI_EXP_SLTCTL_ATTN_IND_OFF
        )
        return True
    yield from hpc.set_power(cpu, ctrl, on=False)
    yield from msleep(cpu, POWER_OFF_MS)
    ctrl.pending_events &= ~_CHANGES
    yield from hpc.set_indicators(cpu, ctrl, hpc.PCI_EXP_SLTCTL_PWR_IND_OFF)
    return False


def remove_board(cpu: Cpu, ctrl: Controller) -> Context:
    """The device leaves the kernel, then the slot has no power."""
    yield from pciehp_unconfigure_device(cpu, ctrl)
    if ctrl.slot_cap & hpc.PCI_EXP_SLTCAP_PCP:
        yield from hpc.set_power(cpu, ctrl, on=False)
        yield from msleep(cpu, POWER_OFF_MS)
        ctrl.pending_events &= ~_CHANGES
    yield from hpc.set_indicators(cpu, ctrl, hpc.PCI_EXP_SLTCTL_PWR_IND_OFF)


# ---------------------------------------------------------------- all events together


def pciehp_ist(cpu: Cpu, ctrl: Controller) -> Context:
    """The line's thread."""
    if ctrl.at_work:
        return IRQ_HANDLED
    ctrl.at_work = True
    while ctrl.pending_events:
        events, ctrl.pending_events = ctrl.pending_events, 0
        if events & hpc.PCI_EXP_SLTSTA_PFD:
            ctrl.err(cpu, f"Slot({ctrl.slot_name(cpu)}): Power fault")
        if events & _CHANGES:
            yield from handle_presence_or_link_change(cpu, ctrl, events)
    ctrl.at_work = False
    return IRQ_HANDLED


def start_elsewhere(cpu: Cpu, ctrl: Controller) -> None:
    """The line has been moved to another CPU, and its thread with it; the work stays here."""
    kthread_run(cpu, f"irq/{ctrl.irq}-pciehp", pciehp_ist(cpu, ctrl))


def handle_presence_or_link_change(cpu: Cpu, ctrl: Controller, events: int) -> Context:
    """Even if the slot is occupied again: nobody says that it is the same card."""
    slot = f"Slot({ctrl.slot_name(cpu)})"
    if ctrl.state == ON_STATE:
        ctrl.state = POWEROFF_STATE
        if events & hpc.PCI_EXP_SLTSTA_DLLSC:
            ctrl.info(cpu, f"{slot}: Link Down")
        if events & hpc.PCI_EXP_SLTSTA_PDC:
            ctrl.info(cpu, f"{slot}: Card not present")
        yield from remove_board(cpu, ctrl)
        ctrl.state = OFF_STATE
    present = yield from hpc.card_present(cpu, ctrl)
    link_active = yield from hpc.check_link_active(cpu, ctrl)
    if ctrl.state != OFF_STATE or not (present or link_active):
        return
    ctrl.state = POWERON_STATE
    if present:
        ctrl.info(cpu, f"{slot}: Card present")
    if link_active:
        ctrl.info(cpu, f"{slot}: Link Up")
    works = yield from board_added(cpu, ctrl)
    ctrl.state = ON_STATE if works else OFF_STATE


# ---------------------------------------------------------------- one event after the other


def queue_events(cpu: Cpu, ctrl: Controller, events: int) -> Context:
    """In the interrupt: say what changed, and leave it to a task."""
    name = ctrl.slot_name(cpu)
    if events & hpc.PCI_EXP_SLTSTA_PFD:
        ctrl.err(cpu, f"Power fault on slot {name}")
    if not events & hpc.PCI_EXP_SLTSTA_PDC:
        return
    present = yield from hpc.card_present(cpu, ctrl)
    ctrl.info(cpu, f"Card {'' if present else 'not '}present on Slot({name})")
    ctrl.events.append(INT_PRESENCE_ON if present else INT_PRESENCE_OFF)
    thread = cpu.pciehp.event_thread
    if thread is not None:
        wake_up_process(cpu, thread)
    else:
        yield from schedule_work(cpu, ctrl.work)


def interrupt_event_handler(cpu: Cpu, ctrl: Controller) -> Context:
    """A work of the slot, or a round of pciehpd_event."""
    while ctrl.events:
        ctrl.events.pop(0)
        if ctrl.slot_cap & hpc.PCI_EXP_SLTCAP_HPS:
            yield from _handle_surprise_event(cpu, ctrl)


def _handle_surprise_event(cpu: Cpu, ctrl: Controller) -> Context:
    """The event only said that presence changed; what counts is how it stands now."""
    name = ctrl.slot_name(cpu)
    powered = yield from hpc.power_is_on(cpu, ctrl)
    if (yield from hpc.card_present(cpu, ctrl)):
        if powered:
            ctrl.info(cpu, f"Already enabled on slot({name})")
            return
        ctrl.state = POWERON_STATE
        works = yield from board_added(cpu, ctrl)
        ctrl.state = ON_STATE if works else OFF_STATE
        return
    if not powered:
        ctrl.info(cpu, f"Already disabled on slot({name})")
        return
    ctrl.state = POWEROFF_STATE
    yield from remove_board(cpu, ctrl)
    ctrl.state = OFF_STATE


def event_thread(cpu: Cpu) -> Context:
    """pciehpd_event: one thread for all slots."""
    task = cpu.current
    while True:
        task.state = TASK_INTERRUPTIBLE
        waiting = [ctrl for ctrl in cpu.pciehp.slots.values() if ctrl.events]
        if not waiting:
            yield SCHEDULE
            continue
        task.state = TASK_RUNNING
        for ctrl in waiting:
            yield from interrupt_event_handler(cpu, ctrl)
