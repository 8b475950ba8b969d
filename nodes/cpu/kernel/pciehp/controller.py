"""struct controller: what the boot CPU knows of a hot-plug slot, and how it speaks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.printk import KERN_ERR, KERN_INFO, printk
from nodes.machine import PORTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.sched import Task
    from nodes.cpu.kernel.workqueue import Work

# states of a slot; those in which a light blinks need a button
OFF_STATE, POWERON_STATE, ON_STATE, POWEROFF_STATE = "OFF", "POWERON", "ON", "POWEROFF"
INT_PRESENCE_ON, INT_PRESENCE_OFF = "INT_PRESENCE_ON", "INT_PRESENCE_OFF"


class Controller:
    """One slot: ``nic`` is the number of what is in it, ``cap`` where its port has its PCI Express
    capability, ``slot_cap`` the register SltCap."""

    def __init__(self, cpu: Cpu, nic: int, cap: int) -> None:
        self.nic = nic
        self.port = PORTS + nic
        self.port_name = cpu.machine.pci_function(self.port).pci_name
        self.cap = cap
        self.slot_cap = 0
        self.irq = 0
        self.state = OFF_STATE
        self.pending_events = 0
        self.power_fault_detected = False
        self.cmd_busy = False
        self.cmd_started_ns = 0
        self.slot_ctrl = 0
        self.waiting: Task | None = None  # for a command
        self.at_work = False  # somebody handles pending_events
        self.events: list[str] = []  # INT_*, where each is handled by itself
        self.work: Work

    @property
    def slot_number(self) -> int:
        return self.slot_cap >> 19

    def slot_name(self, cpu: Cpu) -> str:
        """Until 2.6.20 the bus stands before the number."""
        if cpu.params.log_format == "2.6.18":
            bus = cpu.machine.pci_function(self.nic).devid >> 8
            return f"{bus:04d}_{self.slot_number:04d}"
        return str(self.slot_number)

    def info(self, cpu: Cpu, text: str, level: int = KERN_INFO) -> None:
        """ctrl_info."""
        prefix = {
            "2.6.18": "pciehp",
            "3.10": f"pciehp {self.port_name}:pcie04",
            "6.1": f"pcieport {self.port_name}: pciehp",
        }[cpu.params.log_format]
        printk(cpu, f"{prefix}: {text}", level)

    def err(self, cpu: Cpu, text: str) -> None:
        self.info(cpu, text, KERN_ERR)


class Pciehp:
    """All slots, on the boot CPU."""

    def __init__(self) -> None:
        self.slots: dict[int, Controller] = {}  # by NIC
        self.event_thread: Task | None = None  # pciehpd_event
