"""The kernel log: each CPU writes its own ring in RAM, ``dmesg`` merges them by time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

KERN_EMERG, KERN_ALERT, KERN_CRIT, KERN_ERR = 0, 1, 2, 3
KERN_WARNING, KERN_NOTICE, KERN_INFO, KERN_DEBUG = 4, 5, 6, 7


def printk(cpu: Cpu, text: str, level: int = KERN_INFO) -> None:
    """One line of the log, stamped with the kernel's time."""
    cpu.log.append(cpu.uptime_ns(), level, text)
