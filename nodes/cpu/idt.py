"""The vector table in memory: where ``int n`` finds its handler (Intel SDM volume 3, chapter 6).

In real mode the table lies at address 0 and has four bytes an entry: offset, then segment. In long
mode its base and limit are those that ``lidt`` loaded, and an entry is a gate of 16 bytes: offset
in three pieces, code selector, IST, type and attributes. An interrupt gate clears IF, a trap gate
leaves it; ``int n`` from user mode needs a gate whose DPL allows it. A software interrupt reads
this table and nothing else: no interrupt controller, no priority, no EOI, and IF does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

IVT_ENTRY_BYTES, GATE_BYTES = 4, 16
VECTORS = 256
INTERRUPT_GATE, TRAP_GATE = 0xE, 0xF
KERNEL_CS = 0x10
#: Handlers get addresses in the kernel's text, this far apart.
TEXT_BASE, TEXT_STEP = 0xFFFF_FFFF_8100_0000, 0x40

GENERAL_PROTECTION = 13

Handler = Callable[["Cpu", int], Context]


class GeneralProtectionError(Exception):
    """#GP: no gate there, or the caller may not use it. ``error_code`` is n * 8 + 2."""

    def __init__(self, n: int) -> None:
        super().__init__(f"int {n:#x}")
        self.error_code = n << 3 | 2


class Gate(NamedTuple):
    """One gate of long mode."""

    offset: int
    selector: int = KERNEL_CS
    ist: int = 0
    type: int = INTERRUPT_GATE
    dpl: int = 0
    present: bool = True

    def encode(self) -> bytes:
        """Its 16 bytes."""
        attributes = self.present << 7 | self.dpl << 5 | self.type
        return (
            self.offset & 0xFFFF
            | self.selector << 16
            | self.ist << 32
            | attributes << 40
            | self.offset >> 16 << 48
        ).to_bytes(GATE_BYTES, "little")


def decode_gate(raw: bytes) -> Gate:
    """A gate from its 16 bytes."""
    offset = int.from_bytes(raw[0:2], "little") | int.from_bytes(raw[6:8], "little") << 16
    offset |= int.from_bytes(raw[8:12], "little") << 32
    attributes = raw[5]
    return Gate(
        offset,
        int.from_bytes(raw[2:4], "little"),
        raw[4] & 7,
        attributes & 0xF,
        attributes >> 5 & 3,
        bool(attributes & 0x80),
    )


class RealModeTable:
    """The interrupt vector table at address 0: 256 far pointers."""

    def __init__(self) -> None:
        self.memory = bytearray(VECTORS * IVT_ENTRY_BYTES)

    def set(self, n: int, segment: int, offset: int) -> None:
        at = n * IVT_ENTRY_BYTES
        self.memory[at : at + 2] = offset.to_bytes(2, "little")
        self.memory[at + 2 : at + 4] = segment.to_bytes(2, "little")

    def entry_address(self, n: int) -> int:
        """Where the pointer of vector ``n`` lies: 4 n."""
        return n * IVT_ENTRY_BYTES

    def handler_address(self, n: int) -> int:
        """Physical address that ``int n`` goes to: segment * 16 + offset."""
        at = self.entry_address(n)
        offset = int.from_bytes(self.memory[at : at + 2], "little")
        return (int.from_bytes(self.memory[at + 2 : at + 4], "little") << 4) + offset


class Idt:
    """The table of long mode with the handlers that its addresses stand for."""

    def __init__(self) -> None:
        self.memory = bytearray(VECTORS * GATE_BYTES)
        self.limit = VECTORS * GATE_BYTES - 1
        self._handlers: dict[int, Handler] = {}

    def entry_offset(self, n: int) -> int:
        """Where gate ``n`` lies, from the base: 16 n."""
        return n * GATE_BYTES

    def set_gate(
        self, n: int, handler: Handler, *, type: int = INTERRUPT_GATE, dpl: int = 0
    ) -> Gate:
        """Write a gate that leads to ``handler``."""
        gate = Gate(TEXT_BASE + len(self._handlers) * TEXT_STEP, type=type, dpl=dpl)
        self._handlers[gate.offset] = handler
        at = self.entry_offset(n)
        self.memory[at : at + GATE_BYTES] = gate.encode()
        return gate

    def gate(self, n: int) -> Gate:
        at = self.entry_offset(n)
        return decode_gate(bytes(self.memory[at : at + GATE_BYTES]))

    def look_up(self, n: int, cpl: int) -> tuple[Gate, Handler]:
        """What ``int n`` at privilege ``cpl`` runs; GeneralProtectionError if it may not."""
        if self.entry_offset(n) + GATE_BYTES - 1 > self.limit:
            raise GeneralProtectionError(n)
        gate = self.gate(n)
        handler = self._handlers.get(gate.offset)
        if not gate.present or gate.dpl < cpl or handler is None:
            raise GeneralProtectionError(n)
        return gate, handler
