"""Sets how often a NIC's queues may interrupt, as ``ethtool -C eth0 rx-usecs N`` does.

Source: ixgbe_set_coalesce and ixgbe_write_eitr: microseconds become bits 11:2 of EITR, the hardware
takes 11:3 in units of 2.048 us; CNT_WDIS leaves the counter that runs alone. 0 means no limit.
Left out: the adaptive algorithm (rx-usecs 1), as this driver has none.
"""

from __future__ import annotations

from errno import EINVAL, ENODEV
from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import regs
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "interrupt_throttle"
IXGBE_MAX_EITR = 0xFF8
UNIT_NS = 2048


@module(NAME, params={"nic": ("eth0", "whose queues"), "usecs": (50, "0 (no limit) to 1022")})
def init(cpu: Cpu, params: Values) -> Context:
    """Write EITR of every queue's vector."""
    adapter = cpu.net.adapters.get(params["nic"])
    if adapter is None:
        return -ENODEV
    if not 0 <= params["usecs"] <= IXGBE_MAX_EITR >> 2:
        return -EINVAL
    value = params["usecs"] << 2 & IXGBE_MAX_EITR
    for ring in adapter.rings:
        adapter.write_reg(regs.eitr(ring.queue), value | regs.EITR_CNT_WDIS)
        yield
    interval_ns = (value >> 3) * UNIT_NS
    most = 1_000_000_000 // interval_ns if interval_ns else 0
    report(cpu, NAME, usecs=params["usecs"], eitr=f"{value:#x}", irqs_per_s_max=most)
    return 0
