"""Statistics of the hardware: clearing them, and adding up what they held (ixgbe_update_stats).

All registers clear on read. The order of a pass is the real driver's, as its log shows it; the
names are its ``struct ixgbe_hw_stats``. Registers that come in pairs are read low first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.hw import known, read_reg
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PRIORITIES, COUNTERS = 8, 16


def _run(name: str, offset: int, step: int = 4, count: int = PRIORITIES) -> list[tuple[str, int]]:
    return [(f"{name}[{i}]", offset + i * step) for i in range(count)]


def _rows(*runs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Several runs read side by side."""
    return [row for together in zip(*runs, strict=True) for row in together]


_SIZES = (64, 127, 255, 511, 1023, 1522)
_PRC = [(f"prc{size}", 0x0405C + 4 * i) for i, size in enumerate(_SIZES)]
_PTC = [(f"ptc{size}", 0x040D8 + 4 * i) for i, size in enumerate(_SIZES)]
_MPC = _run("mpc", 0x03FA0)
_PXONTXC, _PXOFFTXC = _run("pxontxc", 0x03F00), _run("pxofftxc", 0x03F20)
_PXONRXC, _PXOFFRXC = _run("pxonrxc", 0x04140), _run("pxoffrxc", 0x04160)
_QPTC, _QPRC = _run("qptc", 0x06030, 0x40, COUNTERS), _run("qprc", 0x01030, 0x40, COUNTERS)
_QBTC = _run("qbtc", 0x08700, 8, COUNTERS)
_QBTC_H = _run("qbtc_high", 0x08704, 8, COUNTERS)
_QBRC = _run("qbrc", 0x01034, 0x40, COUNTERS)
_QBRC_H = _run("qbrc_high", 0x01038, 0x40, COUNTERS)
_QPRDC = _run("qprdc", 0x01430, 0x40, COUNTERS)
_GORC, _GOTC = (
    [("gorc", 0x04088), ("gorc_high", 0x0408C)],
    [("gotc", 0x04090), ("gotc_high", 0x04094)],
)

#: One pass of ixgbe_update_stats.
UPDATE: tuple[tuple[str, int], ...] = (
    ("crcerrs", 0x04000),
    *_rows(_MPC, _PXONTXC, _PXOFFTXC, _PXONRXC),
    *_rows(_QPTC, _QPRC, _QBTC, _QBTC_H, _QBRC, _QBRC_H),
    ("gprc", 0x04074), ("lxoffrxc", 0x041A8), *_QPRDC, *_GORC, *_GOTC,
    ("tor", 0x040C0), ("tor_high", 0x040C4), ("lxonrxc", 0x041A4),
    ("fdirmatch", 0x0EE58), ("fdirmiss", 0x0EE5C),
    ("fccrc", 0x05118), ("fcoerpdc", 0x0241C), ("fcoeprc", 0x02428), ("fcoeptc", 0x08784),
    ("fcoedwrc", 0x0242C), ("fcoedwtc", 0x08788),
    ("bprc", 0x04078), ("mprc", 0x0407C), ("roc", 0x040AC), *_PRC,
    ("rlec", 0x04040), ("lxontxc", 0x03F60), ("lxofftxc", 0x03F68), ("gptc", 0x04080),
    ("mptc", 0x040F0), ("ruc", 0x040A4), ("rfc", 0x040A8), ("rjc", 0x040B0), ("tpr", 0x040D0),
    *_PTC, ("bptc", 0x040F4),
)  # fmt: skip
#: What ixgbe_clear_hw_cntrs_generic reads.
CLEAR: tuple[int, ...] = (
    0x04000, 0x04004, 0x04008, 0x04010, *(at for _, at in _MPC),
    0x04034, 0x04038, 0x04040, 0x03F60, 0x03F68, 0x041A4, 0x041A8,
    *(at for _, at in _rows(_PXONTXC, _PXOFFTXC, _PXONRXC, _PXOFFRXC)),
    *(0x03240 + 4 * i for i in range(8)),
    *(at for _, at in _PRC), 0x04074, 0x04078, 0x0407C, 0x04080,
    *(at for _, at in _GORC + _GOTC),
    0x040A4, 0x040A8, 0x040AC, 0x040B0, 0x040B4, 0x040B8, 0x0CF90, 0x040C0, 0x040C4,
    0x040D0, 0x040D4, *(at for _, at in _PTC), 0x040F0, 0x040F4,
    *(at for _, at in _rows(_QPRC, _QPTC, _QBRC, _QBRC_H, _QBTC, _QBTC_H, _QPRDC)),
)  # fmt: skip
NAMES = tuple(name for name, _ in UPDATE)
TXDGPC = 0x087A0


def clear_hw_cntrs(cpu: Cpu, adapter: Adapter) -> Context:
    """Forget what was counted before; a reset has done it already."""
    for register in CLEAR:
        yield from known(cpu, adapter, register, 0)


def update_stats(cpu: Cpu, adapter: Adapter, *, all_of_them: bool = False) -> Context:
    """Add what the registers hold. With ``fast_probe`` the service task reads only some of them;
    the rest wait in the hardware until ethtool asks for all."""
    held = adapter.hw.stats
    rows = _SHORT if adapter.fast and not all_of_them else UPDATE
    for name, register in rows:
        value = yield from read_reg(cpu, adapter, register)
        if adapter.removed:
            return
        held[name] += value


_WANTED = (
    "crcerrs", "mpc[0]", "qprdc[0]", "gprc", "gorc", "gorc_high", "gotc", "gotc_high", "bprc",
    "mprc", "rlec", "gptc", "tpr",
)  # fmt: skip
_SHORT = tuple((name, register) for name, register in UPDATE if name in _WANTED)
