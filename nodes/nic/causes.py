"""EICR, EICS, EIMS, EIMC, EIAC, EIAM, their _EX forms, GPIE and PBACL: what each access does.

Source: 82599 datasheet 8.2.3.5, and where it is silent what Linux saw the hardware do:

* EICR reads clear: everything, or with GPIE.OCD in MSI-X mode only what is no queue's; a read, and
  without MSI-X a write too, masks whatever EIAM names. EICS reads as EICR and clears nothing;
* without MSI-X a write of EICS also unmasks the bits that EIAM names;
* in MSI-X mode a cause made by software also unmasks what auto-mask had masked: the driver counts
  on it to bring a vector back whose message was lost (it calls this kick "rearm");
* with GPIE.PBA_SUPPORT masking a vector takes its pending bit away; else PBACL does.

Bit 31 (OTHER) is only stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.nic.regfile import RegisterFile

if TYPE_CHECKING:
    from nodes.nic.interrupts import Interrupts

#: Bits of EICR: the queues' own, those of all else, the TCP timer's, and what is no queue's.
EICR_QUEUES, EICR_OTHER, EICR_TCP_TIMER, EICR_UPPER = 0xFFFF, 0x3FFF_0000, 1 << 30, 0xFFFF_0000

_MSIX_MODE, _OCD, _EIMEN, _EIAME, _PBA_SUPPORT = 1 << 4, 1 << 5, 1 << 6, 1 << 30, 1 << 31
_ALL = 0xFFFF_FFFF


class CauseRegisters:
    """The registers' side of ``Interrupts``."""

    def __init__(self, interrupts: Interrupts, regs: RegisterFile) -> None:
        self._interrupts = interrupts
        self._regs = regs
        self.reset()
        attach = regs.attach
        attach(
            "EICR",
            read=self._read_eicr,
            write=self._write_eicr,
            peek=lambda i: interrupts.eicr,
        )
        attach("EICS", read=lambda i: interrupts.eicr, write=self._write_eics)
        attach("EIMS", read=lambda i: interrupts.eims, write=self._write_eims)
        attach("EIMC", read=lambda i: interrupts.eims, write=self._write_eimc)
        attach("EICR_EX", read=self._causes, write=self._write_eicr_ex)
        attach("EICS_EX", read=self._causes, write=self._write_eics_ex)
        attach("EIMS_EX", read=self._mask, write=self._write_eims_ex)
        attach("EIMC_EX", read=self._mask, write=self._write_eimc_ex)
        for name in ("EIAC", "EIAM", "EIAM_EX"):
            attach(name, after=lambda i, value: self._automatic())
        attach("GPIE", after=self._after_gpie)
        attach("PBACL", write=lambda i, value: interrupts.unpend(value << 32 * i))

    def reset(self) -> None:
        self._gpie = 0
        self._eiam = 0

    def _causes(self, index: int) -> int:
        return self._interrupts.pending >> 32 * index & _ALL

    def _mask(self, index: int) -> int:
        return self._interrupts.enabled >> 32 * index & _ALL

    # -- EICR

    def _read_eicr(self, _index: int) -> int:
        interrupts = self._interrupts
        value = interrupts.eicr
        keeps_queues = interrupts.msix_mode and self._gpie & _OCD
        self._mask_by_access()
        interrupts.clear(0 if keeps_queues else EICR_QUEUES, EICR_UPPER)
        return value

    def _write_eicr(self, _index: int, value: int) -> None:
        if not self._interrupts.msix_mode:
            self._mask_by_access()
        self._interrupts.clear(value & EICR_QUEUES, value & EICR_UPPER)

    def _write_eicr_ex(self, index: int, value: int) -> None:
        self._interrupts.clear(value << 32 * index)

    def _mask_by_access(self) -> None:
        self._interrupts.disable(self._eiam & EICR_QUEUES, self._eiam & EICR_UPPER)

    # -- EICS

    def _write_eics(self, _index: int, value: int) -> None:
        interrupts = self._interrupts
        vectors, other = value & EICR_QUEUES, value & EICR_UPPER
        if not interrupts.msix_mode:
            both = value & self._eiam
            interrupts.enable(both & EICR_QUEUES, both & EICR_UPPER)
        if vectors:
            self._set(vectors)
        interrupts.cause_other(other)

    def _write_eics_ex(self, index: int, value: int) -> None:
        self._set(value << 32 * index)

    def _set(self, vectors: int) -> None:
        interrupts = self._interrupts
        if interrupts.msix_mode:
            interrupts.enabled |= vectors & self._rearmed
        interrupts.set_vectors(vectors, bypass=bool(self._gpie & _EIMEN))

    # -- EIMS and EIMC

    def _write_eims(self, _index: int, value: int) -> None:
        self._interrupts.enable(value & EICR_QUEUES, value & EICR_UPPER)

    def _write_eims_ex(self, index: int, value: int) -> None:
        self._interrupts.enable(value << 32 * index)

    def _write_eimc(self, _index: int, value: int) -> None:
        self._disable(value & EICR_QUEUES, value & EICR_UPPER)

    def _write_eimc_ex(self, index: int, value: int) -> None:
        self._disable(value << 32 * index, 0)

    def _disable(self, vectors: int, other: int) -> None:
        if self._gpie & _PBA_SUPPORT:
            self._interrupts.unpend(vectors)
        self._interrupts.disable(vectors, other)

    # -- what happens by itself

    @property
    def _rearmed(self) -> int:
        return self._regs.get("EIAM_EX", 0) | self._regs.get("EIAM_EX", 1) << 32

    def _automatic(self) -> None:
        get, interrupts = self._regs.get, self._interrupts
        self._eiam = get("EIAM")
        by_message = bool(self._gpie & _EIAME)
        interrupts.auto_clear = get("EIAC")
        interrupts.auto_mask = self._rearmed if by_message else 0
        interrupts.auto_mask_other = self._eiam & EICR_UPPER if by_message else 0

    def _after_gpie(self, _index: int, value: int) -> None:
        self._gpie = value
        self._automatic()
        self._interrupts.set_mode(bool(value & _MSIX_MODE))
