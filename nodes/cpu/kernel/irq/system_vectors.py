"""What each vector number means, by era: exceptions, system vectors, where devices may go.

Models asm/irq_vectors.h (asm/hw_irq.h in 2.6.18) as tables; behaviour ``system_vectors`` names the
row. Every number from 0x20 up that no system vector owns leads to the device entry, taken or not,
so that a stray vector is still acknowledged. Left out: vectors of hypervisors that are not there
(Xen's callback keeps its number, nothing sends it).
"""

from __future__ import annotations

from typing import NamedTuple

NR_VECTORS = 256
FIRST_EXTERNAL_VECTOR = 0x20
IA32_SYSCALL_VECTOR = 0x80
IRQ_MOVE_CLEANUP_VECTOR = FIRST_EXTERNAL_VECTOR
#: ISA pin n of an I/O APIC has this plus n since 2.6.19.
ISA_IRQ_VECTOR = 0x30
NR_IRQS_LEGACY = 16

#: The processor's own, the same in all eras; what has no name is reserved.
EXCEPTIONS = {
    0: "DE", 1: "DB", 2: "NMI", 3: "BP", 4: "OF", 5: "BR", 6: "UD", 7: "NM", 8: "DF", 9: "OLD_MF",
    10: "TS", 11: "NP", 12: "SS", 13: "GP", 14: "PF", 15: "SPURIOUS", 16: "MF", 17: "AC", 18: "MC",
    19: "XF", 20: "VE", 21: "CP", 29: "VC",
}  # fmt: skip


class SystemVectors(NamedTuple):
    """One era's layout. ``vectors`` are gates of their own; devices end before ``devices_end``."""

    first_device: int
    devices_end: int
    vectors: dict[str, int]


def _block(name: str, first: int, count: int) -> dict[str, int]:
    return {f"{name}{n}": first + n for n in range(count)}


_TOP = {"SPURIOUS_APIC": 0xFF, "ERROR_APIC": 0xFE}
_COMMON_26 = {
    **_TOP,
    "RESCHEDULE": 0xFD,
    "CALL_FUNCTION": 0xFC,
    "CALL_FUNCTION_SINGLE": 0xFB,
    "THERMAL_APIC": 0xFA,
    "THRESHOLD_APIC": 0xF9,
    "REBOOT": 0xF8,
    "X86_PLATFORM_IPI": 0xF7,
    "IRQ_WORK": 0xF6,
    "IRQ_MOVE_CLEANUP": 0x20,
}
#: 2.6.39 sizes its block of TLB vectors by the CPUs, up to 32; this is the largest.
_TLB_BLOCK_26 = 32

SYSTEM_VECTORS: dict[str, SystemVectors] = {
    "2.6.18-i386": SystemVectors(
        0x31,
        0xEF,
        {
            **_TOP, "INVALIDATE_TLB": 0xFD, "RESCHEDULE": 0xFC, "CALL_FUNCTION": 0xFB,
            "THERMAL_APIC": 0xF0, "LOCAL_TIMER": 0xEF,
        },
    ),
    "2.6.18": SystemVectors(
        0x31,
        0xEF,
        {
            **_TOP, "RESCHEDULE": 0xFD, "CALL_FUNCTION": 0xFC, "THERMAL_APIC": 0xFA,
            "THRESHOLD_APIC": 0xF9, **_block("INVALIDATE_TLB", 0xF0, 8), "LOCAL_TIMER": 0xEF,
        },
    ),
    "2.6.39": SystemVectors(
        0x21,
        0xEF - _TLB_BLOCK_26,
        {
            **_COMMON_26, "UV_BAU_MESSAGE": 0xF5, "MCE_SELF": 0xF4, "XEN_HVM_EVTCHN": 0xF3,
            "LOCAL_TIMER": 0xEF,
            **_block("INVALIDATE_TLB", 0xEF - _TLB_BLOCK_26, _TLB_BLOCK_26),
        },
    ),
    "3.10": SystemVectors(
        0x21,
        0xEF,
        {
            **_COMMON_26, "UV_BAU_MESSAGE": 0xF5, "HYPERVISOR_CALLBACK": 0xF3, "POSTED_INTR": 0xF2,
            "LOCAL_TIMER": 0xEF,
        },
    ),
    "6.1": SystemVectors(
        0x21,
        0xEC,
        {
            **_COMMON_26, "DEFERRED_ERROR": 0xF4, "HYPERVISOR_CALLBACK": 0xF3, "POSTED_INTR": 0xF2,
            "POSTED_INTR_WAKEUP": 0xF1, "POSTED_INTR_NESTED": 0xF0, "MANAGED_IRQ_SHUTDOWN": 0xEF,
            "HYPERV_REENLIGHTENMENT": 0xEE, "HYPERV_STIMER0": 0xED, "LOCAL_TIMER": 0xEC,
        },
    ),
}  # fmt: skip


def kind(vector: int, layout: str) -> str:
    """What a vector is in this layout: exception, system, syscall or device."""
    if vector < FIRST_EXTERNAL_VECTOR:
        return "exception"
    if vector == IA32_SYSCALL_VECTOR:
        return "syscall"
    return "system" if vector in SYSTEM_VECTORS[layout].vectors.values() else "device"
