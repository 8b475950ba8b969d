"""Finding the ports: pcieport (portdrv) hands each hot-plug slot to pciehp (pciehp_core.c).

The port is told to send its one MSI, the handler is known on every CPU (replica "pciehp"), and the
line begins on the boot CPU, which does the work. Other services of a port (PME, AER) are not
built, and a port without any has no interrupt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel import words
from nodes.cpu.kernel.irq.desc import IRQF_SHARED
from nodes.cpu.kernel.irq.manage import request_threaded_irq
from nodes.cpu.kernel.pci import (
    PCI_CAP_ID_EXP,
    enable_device,
    pci_find_capability,
    read_config,
    write_config,
)
from nodes.cpu.kernel.pciehp import ctrl as pciehp_ctrl
from nodes.cpu.kernel.pciehp import hpc
from nodes.cpu.kernel.pciehp.controller import ON_STATE, Controller
from nodes.cpu.kernel.pcimsi import MsiDesc, msi_setup_irq, pci_enable_msi
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_INFO, printk
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.kernel.workqueue import INIT_WORK
from nodes.machine import PORTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_BOOT_CPU = 1 << 0


def pcie_portdrv_init(cpu: Cpu) -> Context:
    """Every port that says its slot is capable of hot-plug."""
    slots = cpu.machine.hotplug_slots
    if not slots:
        return
    if cpu.params.pciehp_thread == "event-thread":
        cpu.pciehp.event_thread = kthread_run(cpu, "pciehpd_event", pciehp_ctrl.event_thread(cpu))
    for nic in slots:
        yield from _pciehp_probe(cpu, nic)
    if cpu.params.log_format != "6.1":
        text = "pciehp: PCI Express Hot Plug Controller Driver version: 0.4"
        printk(cpu, text, KERN_INFO)


def _pciehp_probe(cpu: Cpu, nic: int) -> Context:
    port = PORTS + nic
    cap = yield from pci_find_capability(cpu, port, PCI_CAP_ID_EXP)
    if not cap:
        return
    slot_cap = yield from read_config(cpu, port, cap + hpc.PCI_EXP_SLTCAP, 4)
    if not slot_cap & hpc.PCI_EXP_SLTCAP_HPC:
        return
    ctrl = Controller(cpu, nic, cap)
    ctrl.slot_cap = slot_cap
    yield from enable_device(cpu, port)
    entry = yield from pci_enable_msi(cpu, port, _BOOT_CPU)
    if not isinstance(entry, MsiDesc):
        ctrl.err(cpu, "Notification initialization failed (-1)")
        return
    yield from _say_found(cpu, ctrl)
    status = hpc.PCI_EXP_SLTSTA
    pending = yield from read_config(cpu, port, cap + status, 2)
    yield from write_config(cpu, port, cap + status, 2, pending)
    ctrl.irq = entry.irq
    ctrl.work = INIT_WORK(
        cpu,
        words.PCIEHP_WORK + nic,
        "interrupt_event_handler",
        lambda cpu: pciehp_ctrl.interrupt_event_handler(cpu, ctrl),
    )
    cpu.pciehp.slots[nic] = ctrl
    yield from publish(cpu, "pciehp", entry.irq, (*entry, cap))
    ctrl.state = ON_STATE
    yield from hpc.pcie_enable_notification(cpu, ctrl)
    if not (yield from hpc.card_present(cpu, ctrl)):  # it went before anybody listened
        ctrl.pending_events |= hpc.PCI_EXP_SLTSTA_PDC
        yield from pciehp_ctrl.pciehp_ist(cpu, ctrl)


def _say_found(cpu: Cpu, ctrl: Controller) -> Context:
    if cpu.params.log_format != "6.1":
        ids = yield from read_config(cpu, ctrl.port, 0, 4)
        numbers = f"vendor_id {ids & 0xFFFF:x} device_id {ids >> 16:x} ss_vid 0 ss_did 0"
        ctrl.info(cpu, f"HPC {numbers}")
        if cpu.params.log_format != "2.6.18":
            ctrl.info(cpu, "service driver pciehp loaded")
        return
    link = yield from read_config(cpu, ctrl.port, ctrl.cap + hpc.PCI_EXP_LNKCAP, 4)
    bits = " ".join(
        name + ("+" if ctrl.slot_cap >> bit & 1 else "-") for name, bit in _CAPABILITIES
    )
    reports = "+" if link & hpc.PCI_EXP_LNKCAP_DLLLARC else "-"
    ctrl.info(cpu, f"Slot #{ctrl.slot_number} {bits} IbPresDis- LLActRep{reports}")


_CAPABILITIES = (
    ("AttnBtn", 0), ("PwrCtrl", 1), ("MRL", 2), ("AttnInd", 3), ("PwrInd", 4), ("HotPlug", 6),
    ("Surprise", 5), ("Interlock", 17), ("NoCompl", 18),
)  # fmt: skip


@replica("pciehp")
def apply_pciehp(cpu: Cpu, irq: int, value: tuple[Any, ...]) -> None:
    """The line of a port: its ``MsiDesc``, and where its PCI Express capability is."""
    entry, cap = MsiDesc(*value[:-1]), value[-1]
    nic = entry.nic - PORTS
    msi_setup_irq(cpu, entry)

    def isr(_irq: int, _dev: object) -> Context:
        return hpc.pciehp_isr(cpu, nic, cap)

    def ist(_irq: int, _dev: object) -> Context:
        return pciehp_ctrl.pciehp_ist(cpu, cpu.pciehp.slots[nic])

    thread = ist if cpu.params.pciehp_thread == "irq-thread" else None
    request_threaded_irq(cpu, irq, isr, thread, IRQF_SHARED, "pciehp", entry)
