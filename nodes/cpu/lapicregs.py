"""Registers of the local APIC: the page at 0xFEE00000, and the same as MSRs in x2APIC mode.

Source: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller". The table names
each register with its offset and how software may use it; ``LocalApicRegisters`` attaches
behaviour: software enable (SVR bit 8), the local vector table, the timer's modes, the error
register, the interrupt command register, and the change to x2APIC mode. IRR, ISR and priorities
are ``nodes.cpu.lapic``. What decides which messages find this APIC (id, LDR, DFR, mode, software
enable) is told to the interrupt controller when software has written it; what a reset makes of it
is not, since nobody may count on it. Left out: remote read, focus processor, CMCI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bus.messages import LocalApicId
from nodes.cpu.lapic import LocalApic

RO, RW, WO = "RO", "RW", "WO"


class Register(NamedTuple):
    """One register: offset in the page; in x2APIC mode it is MSR 0x800 + offset / 16."""

    name: str
    offset: int
    access: str
    writable: int = 0xFFFF_FFFF


REGISTERS = (
    Register("ID", 0x020, RW, 0xFF00_0000),
    Register("VERSION", 0x030, RO),
    Register("TPR", 0x080, RW, 0xFF),
    Register("APR", 0x090, RO),
    Register("PPR", 0x0A0, RO),
    Register("EOI", 0x0B0, WO),
    Register("RRD", 0x0C0, RO),
    Register("LDR", 0x0D0, RW, 0xFF00_0000),
    Register("DFR", 0x0E0, RW, 0xF000_0000),
    Register("SVR", 0x0F0, RW, 0x13FF),
    *(Register(f"ISR{n}", 0x100 + 16 * n, RO) for n in range(8)),
    *(Register(f"TMR{n}", 0x180 + 16 * n, RO) for n in range(8)),
    *(Register(f"IRR{n}", 0x200 + 16 * n, RO) for n in range(8)),
    Register("ESR", 0x280, RW),
    Register("ICR_LOW", 0x300, RW, 0x000C_CFFF),
    Register("ICR_HIGH", 0x310, RW, 0xFF00_0000),
    Register("LVT_TIMER", 0x320, RW, 0x0007_00FF),
    Register("LVT_THERMAL", 0x330, RW, 0x0001_07FF),
    Register("LVT_PERFMON", 0x340, RW, 0x0001_07FF),
    Register("LVT_LINT0", 0x350, RW, 0x0001_A7FF),
    Register("LVT_LINT1", 0x360, RW, 0x0001_A7FF),
    Register("LVT_ERROR", 0x370, RW, 0x0001_00FF),
    Register("TIMER_INITIAL", 0x380, RW),
    Register("TIMER_CURRENT", 0x390, RO),
    Register("TIMER_DIVIDE", 0x3E0, RW, 0xB),
)
BY_OFFSET = {register.offset: register for register in REGISTERS}
OFFSET = {register.name: register.offset for register in REGISTERS}

#: Integrated, version 0x14, six entries in the local vector table, EOI broadcast may be suppressed.
VERSION = 1 << 24 | 5 << 16 | 0x14
LVT = tuple(name for name in OFFSET if name.startswith("LVT_"))
MASKED = 0x1_0000
SVR_ENABLE, SVR_SUPPRESS_EOI = 0x100, 0x1000
ONE_SHOT, PERIODIC, DEADLINE = 0x0_0000, 0x2_0000, 0x4_0000
TIMER_MODE = 0x6_0000
DELIVERY_STATUS, REMOTE_IRR = 0x1000, 0x4000

ESR_SEND_ILLEGAL, ESR_RECEIVE_ILLEGAL, ESR_ILLEGAL_REGISTER = 0x20, 0x40, 0x80

MSR_APIC_BASE, MSR_TSC_DEADLINE, MSR_X2APIC = 0x1B, 0x6E0, 0x800
APIC_BASE_BSP, APIC_BASE_EXTD, APIC_BASE_EN = 1 << 8, 1 << 10, 1 << 11
SELF_IPI = 0x83F
_NO_MSR = ("APR", "RRD", "DFR", "ICR_HIGH")

BUS_NS = 10  # one bus clock
_DIVIDE = {0b000: 2, 0b001: 4, 0b010: 8, 0b011: 16, 0b100: 32, 0b101: 64, 0b110: 128, 0b111: 1}


class MsrError(Exception):
    """#GP: the MSR does not exist, cannot be used that way, or the value is reserved."""


class LocalApicRegisters:
    """What software reads and writes of one local APIC.

    ``send`` gets the 64-bit ICR value of each IPI, ``tell`` what finds this APIC, ``clock`` is in
    ns."""

    def __init__(
        self,
        lapic: LocalApic,
        apic_id: int,
        send: Callable[[int], None],
        clock: Callable[[], int],
        tell: Callable[[LocalApicId], None] = lambda told: None,
    ) -> None:
        self.lapic = lapic
        self._tell = tell
        self._told: LocalApicId | None = None
        self.apic_id = apic_id
        self._send = send
        self._clock = clock
        self.base = 0xFEE0_0000 | APIC_BASE_EN | (APIC_BASE_BSP if apic_id == 0 else 0)
        self.reset()

    def reset(self) -> None:
        """Power-up and INIT: everything but the id and the base."""
        self._value = dict.fromkeys(OFFSET, 0)
        self._value |= {"DFR": 0xFFFF_FFFF, "SVR": 0xFF} | dict.fromkeys(LVT, MASKED)
        self._value["ID"] = self.apic_id << 24
        self._value["VERSION"] = VERSION
        self._latched_errors = 0
        self.lapic.timer_masked = True

    @property
    def x2apic(self) -> bool:
        return bool(self.base & APIC_BASE_EXTD)

    # -- the page

    def read(self, offset: int) -> int:
        """32-bit read of the page; reserved offsets read 0 and set ESR bit 7."""
        register = BY_OFFSET.get(offset)
        if register is None:
            self._error(ESR_ILLEGAL_REGISTER)
            return 0
        return self._read(register.name)

    def write(self, offset: int, value: int) -> None:
        """32-bit write of the page; read-only registers stay as they are."""
        register = BY_OFFSET.get(offset)
        if register is None:
            self._error(ESR_ILLEGAL_REGISTER)
        elif register.access != RO:
            self._write(register, value & 0xFFFF_FFFF)

    def _read(self, name: str) -> int:
        lapic = self.lapic
        if name[:-1] in ("ISR", "TMR", "IRR"):
            bits = {"ISR": lapic.isr, "TMR": lapic.tmr, "IRR": lapic.irr}[name[:-1]]
            return bits >> 32 * int(name[-1]) & 0xFFFF_FFFF
        if name == "TPR":
            return lapic.tpr
        if name == "PPR":
            return lapic.ppr
        if name == "TIMER_CURRENT":
            return self._current()
        if name == "EOI":
            return 0
        return self._value[name]

    def _write(self, register: Register, value: int) -> None:
        name = register.name
        value &= register.writable
        if name == "EOI":
            self.lapic.eoi()
        elif name == "TPR":
            self.lapic.tpr = value
        elif name == "DFR":
            self._value["DFR"] = value | 0x0FFF_FFFF
            self._announce()
        elif name in ("ID", "LDR"):
            self._value[name] = value
            self._announce()
        elif name == "SVR":
            self._write_svr(value)
        elif name == "ESR":
            self._value["ESR"], self._latched_errors = self._latched_errors, 0
        elif name in LVT:
            self._write_lvt(name, value)
        elif name == "ICR_LOW":
            self._value[name] = value
            self._command(self._value["ICR_HIGH"] << 32 | value)
        elif name == "TIMER_INITIAL":
            if self._mode != DEADLINE:
                self._value[name] = value
                self._start()
        elif name == "TIMER_DIVIDE":
            left = self._current()
            self._value[name] = value
            self._rescale(left)
        else:
            self._value[name] = value

    # -- enabling

    def _write_svr(self, value: int) -> None:
        self._value["SVR"] = value
        self.lapic.spurious_vector = value & 0xFF
        self.lapic.suppress_eoi = bool(value & SVR_SUPPRESS_EOI)
        self.lapic.enable(bool(value & SVR_ENABLE))
        self._announce()
        if not self.lapic.enabled:  # all entries are masked, and stay so until they are written
            for name in LVT:
                self._value[name] |= MASKED
            self.lapic.timer_masked = True

    def _announce(self) -> None:
        """Tell the interrupt controller how messages find this APIC, if that is news."""
        flat = self._value["DFR"] >> 28 == 0xF
        apic_id, ldr = self._value["ID"] >> 24, self._value["LDR"]
        if self.x2apic:
            apic_id, ldr, flat = self.apic_id, self._x2_ldr, False
        told = LocalApicId(apic_id, ldr, int(flat), int(self.x2apic), int(self.lapic.enabled))
        if told != self._told:
            self._told = told
            self._tell(told)

    @property
    def _x2_ldr(self) -> int:
        return self.apic_id >> 4 << 16 | 1 << (self.apic_id & 15)

    def _write_lvt(self, name: str, value: int) -> None:
        if not self.lapic.enabled:
            value |= MASKED
        if value & 0xFF < 16 and not value & (MASKED | 0x700):
            self._error(ESR_RECEIVE_ILLEGAL)
        before, self._value[name] = self._value[name], value
        if name == "LVT_TIMER":
            self.lapic.timer_vector = value & 0xFF
            self.lapic.timer_masked = bool(value & MASKED)
            changed = before ^ value
            if changed & DEADLINE:
                self.lapic.deadline_ns = None  # from or to deadline mode: disarmed
            elif changed & TIMER_MODE:
                self.lapic.timer_period_ns = self._period() if self._mode == PERIODIC else 0

    # -- errors

    def _error(self, bit: int) -> None:
        """Remember it; the first of its kind raises the error interrupt."""
        if not self._latched_errors & bit:
            self._latched_errors |= bit
            entry = self._value["LVT_ERROR"]
            if not entry & MASKED:
                self.lapic.accept(entry & 0xFF)

    def received_illegal(self) -> None:
        """A fixed message with a vector below 16 arrived."""
        self._error(ESR_RECEIVE_ILLEGAL)

    # -- interrupt command

    def _command(self, icr: int) -> None:
        if icr >> 8 & 7 in (0, 1) and icr & 0xFF < 16:
            self._error(ESR_SEND_ILLEGAL)
            return
        self._send(icr)

    # -- timer

    @property
    def _mode(self) -> int:
        return self._value["LVT_TIMER"] & TIMER_MODE

    def _tick_ns(self) -> int:
        divide = self._value["TIMER_DIVIDE"]
        return BUS_NS * _DIVIDE[divide & 3 | divide >> 1 & 4]

    def _period(self) -> int:
        return self._value["TIMER_INITIAL"] * self._tick_ns()

    def _start(self) -> None:
        """Writing the initial count starts it at once; 0 stops it."""
        lapic, period = self.lapic, self._period()
        lapic.deadline_ns = self._clock() + period if period else None
        lapic.timer_period_ns = period if self._mode == PERIODIC else 0

    def _current(self) -> int:
        if self._mode == DEADLINE or self.lapic.deadline_ns is None:
            return 0
        return -(-max(self.lapic.deadline_ns - self._clock(), 0) // self._tick_ns())

    def _rescale(self, left: int) -> None:
        lapic = self.lapic
        if self._mode != DEADLINE and lapic.deadline_ns is not None:
            lapic.deadline_ns = self._clock() + left * self._tick_ns()
            lapic.timer_period_ns = self._period() if self._mode == PERIODIC else 0

    # -- MSRs

    def rdmsr(self, msr: int) -> int:
        """Read one of this APIC's MSRs; MsrError is #GP."""
        if msr == MSR_APIC_BASE:
            return self.base
        if msr == MSR_TSC_DEADLINE:
            at = self.lapic.deadline_ns
            return at if at is not None and self._mode == DEADLINE else 0
        register = self._x2_register(msr)
        if register.access == WO:
            raise MsrError(f"{msr:#x} is write-only")
        if register.name == "ID":
            return self.apic_id
        if register.name == "LDR":
            return self._x2_ldr
        if register.name == "ICR_LOW":
            return self._value["ICR_HIGH"] << 32 | self._value["ICR_LOW"]
        return self._read(register.name)

    def wrmsr(self, msr: int, value: int) -> None:
        """Write one of this APIC's MSRs; MsrError is #GP."""
        if msr == MSR_APIC_BASE:
            self._write_base(value)
        elif msr == MSR_TSC_DEADLINE:
            if self._mode == DEADLINE:
                self.lapic.deadline_ns = value or None
        elif msr == SELF_IPI and self.x2apic:
            if value > 0xFF:
                raise MsrError("self IPI takes a vector")
            self._command(1 << 18 | value)
        else:
            self._write_x2(self._x2_register(msr), value)

    def _x2_register(self, msr: int) -> Register:
        register = BY_OFFSET.get((msr - MSR_X2APIC) * 16)
        if not self.x2apic or register is None or register.name in _NO_MSR:
            raise MsrError(f"{msr:#x}")
        return register

    def _write_x2(self, register: Register, value: int) -> None:
        name = register.name
        if register.access == RO or name in ("ID", "LDR"):
            raise MsrError(f"{name} is read-only")
        if name in ("EOI", "ESR") and value:
            raise MsrError(f"{name} takes 0 only")
        if name == "ICR_LOW":
            if value & 0xFFF3_2000:
                raise MsrError("reserved bits of the ICR")
            self._value["ICR_HIGH"] = value >> 32
        self._write(register, value & 0xFFFF_FFFF)

    def _write_base(self, value: int) -> None:
        enabled, extended = value & APIC_BASE_EN, value & APIC_BASE_EXTD
        was_enabled = self.base & APIC_BASE_EN
        if extended and not enabled:
            raise MsrError("EXTD without EN")
        if extended and not was_enabled:
            raise MsrError("from disabled straight to x2APIC")
        if self.x2apic and enabled and not extended:
            raise MsrError("from x2APIC back to xAPIC")
        self.base = value
        if not enabled:
            self.lapic.reset()
            self.reset()
        self._announce()
