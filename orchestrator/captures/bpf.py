"""The classic BPF machine: runs a filter's bytecode over one captured packet.

Source: McCanne and Jacobson, "The BSD Packet Filter" (1993), and Linux's extensions to it
(include/uapi/linux/filter.h): loads from offsets at ``SKF_AD_OFF`` give what the kernel knows of a
packet beside its bytes. A load past the end of what was captured rejects the packet.

Left out: the kernel's verifier (the bytecode is libpcap's own) and extensions that libpcap's
language cannot ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_MASK = 0xFFFF_FFFF
#: Instruction classes, in the low three bits.
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}  # BPF_W, BPF_H, BPF_B
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_X = 0x08
_TXA = 0x80

SKF_AD_OFF = -0x1000
_AD_PROTOCOL, _AD_PKTTYPE, _AD_IFINDEX = 0, 4, 8
_AD_VLAN_TAG, _AD_VLAN_TAG_PRESENT = 44, 48


class Insn(NamedTuple):
    """``struct bpf_insn``."""

    code: int
    jt: int
    jf: int
    k: int


class Ancillary(NamedTuple):
    """What the kernel knows of a packet: a tag taken off by hardware is never there here."""

    protocol: int = 0
    pkttype: int = 0
    ifindex: int = 0


Program = Sequence[Insn]


NOTHING = Ancillary()


def run(program: Program, data: bytes, length: int, known: Ancillary = NOTHING) -> int:
    """Bytes of the packet to keep; 0: it is not wanted. ``length`` is the one on the wire."""
    a = x = 0
    memory = [0] * 16
    pc = 0
    while True:
        code, jt, jf, k = program[pc]
        pc += 1
        kind = code & 7
        if kind == _JMP:
            operation = code & 0xF0
            if operation == 0:
                pc += k
                continue
            other = x if code & _X else k
            pc += jt if _true(operation, a, other) else jf
        elif kind in (_LD, _LDX):
            value = _load(code, k, x, memory, data, length, known)
            if value is None:
                return 0
            if kind == _LD:
                a = value
            else:
                x = value
        elif kind == _RET:
            return a if code & 0x18 == 0x10 else k
        elif kind == _ALU:
            result = _alu(code & 0xF0, a, x if code & _X else k)
            if result is None:
                return 0
            a = result
        elif kind == _ST:
            memory[k] = a
        elif kind == _STX:
            memory[k] = x
        elif code & _TXA:
            a = x
        else:
            x = a


def _load(
    code: int,
    k: int,
    x: int,
    memory: Sequence[int],
    data: bytes,
    length: int,
    known: Ancillary,
) -> int | None:
    mode = code & 0xE0
    if mode == _IMM:
        return k
    if mode == _MEM:
        return memory[k]
    if mode == _LEN:
        return length
    if mode == _MSH:
        return 4 * (data[k] & 15) if k < len(data) else None
    signed = k - (1 << 32) if k >> 31 else k
    if mode == _ABS and signed < 0:
        return _ancillary(signed - SKF_AD_OFF, known)
    at = signed + (x if mode == _IND else 0)
    size = _SIZES[code & 0x18]
    if at < 0 or at + size > len(data):
        return None
    return int.from_bytes(data[at : at + size], "big")


def _ancillary(offset: int, known: Ancillary) -> int | None:
    return {
        _AD_PROTOCOL: known.protocol,
        _AD_PKTTYPE: known.pkttype,
        _AD_IFINDEX: known.ifindex,
        _AD_VLAN_TAG: 0,
        _AD_VLAN_TAG_PRESENT: 0,
    }.get(offset)


def _true(operation: int, a: int, other: int) -> bool:
    if operation == 0x10:
        return a == other
    if operation == 0x20:
        return a > other
    if operation == 0x30:
        return a >= other
    return bool(a & other)


def _alu(operation: int, a: int, other: int) -> int | None:
    if operation == 0x00:
        return a + other & _MASK
    if operation == 0x10:
        return a - other & _MASK
    if operation == 0x20:
        return a * other & _MASK
    if operation in (0x30, 0x90):
        if not other:
            return None
        return a // other if operation == 0x30 else a % other
    if operation == 0x40:
        return a | other
    if operation == 0x50:
        return a & other
    if operation == 0x60:
        return a << other & _MASK if other < 32 else 0
    if operation == 0x70:
        return a >> other if other < 32 else 0
    if operation == 0x80:
        return -a & _MASK
    return a ^ other
