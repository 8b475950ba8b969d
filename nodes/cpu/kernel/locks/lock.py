"""What every lock is: a word in RAM that all CPUs may change, a name, and a class for lockdep.

A lock's *number* is its address: every CPU process makes its own object for it and must use the
same number. Locks of one *class* (``key``; by default each lock is its own) follow the same rules,
as the lock of each queue of a device does. Numbers below 32 are for the kernel's own locks, 32 to
63 for modules and tests, further ones for locks that share a class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import words

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

LOCKS, CLASSES = words.LOCKS, words.LOCK_CLASSES

#: Where the kernel maps all of memory: x86-64, so that a lock has an address to print.
PAGE_OFFSET = 0xFFFF_8880_0000_0000


class Lock:
    """Base of spinlock, rwlock and mutex. ``wait_type``: 2 spins, 3 sleeps, as lockdep prints."""

    __slots__ = ("key", "name", "number", "validated", "word")
    wait_type = 2

    def __init__(self, number: int, name: str, key: int | None = None) -> None:
        self.number = number
        self.name = name
        self.key = number if key is None else key
        self.word = words.LOCK + number
        self.validated = True  # False: lockdep_set_novalidate_class
        if not (0 <= number < LOCKS and 0 <= self.key < CLASSES):
            raise ValueError(f"lock {name}: no such number or class")

    def address(self, cpu: Cpu) -> int:
        """Virtual address of the word."""
        return PAGE_OFFSET + cpu.ram.layout.atomics + self.word * 8
