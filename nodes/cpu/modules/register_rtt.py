"""Times a driver's ways to a register: reads, which wait for the answer, and writes pushed by one.

A read is non-posted: the CPU stands until the completion is there. A write is posted; what it
costs shows only when a read of the same device pushes it there (IXGBE_WRITE_FLUSH), so a write's
round trip is both. STATUS is read, and the throttle of a vector that no queue of a small machine
has is written as it was: neither changes anything. ``make bench`` holds both against the bus.
"""

from __future__ import annotations

from errno import EINVAL, ENODEV
from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import hw, regs
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "register_rtt"
ROUNDS_MAX = 100_000
SPARE_VECTOR = 23


@module(NAME, params={"nic": ("eth0", "whose registers"), "rounds": (1000, "of each kind")})
def init(cpu: Cpu, params: Values) -> Context:
    """Report ns a read and ns a write with its flush, each the mean over all rounds."""
    adapter, rounds = cpu.net.adapters.get(params["nic"]), params["rounds"]
    if adapter is None:
        return -ENODEV
    if not 0 < rounds <= ROUNDS_MAX:
        return -EINVAL
    unused = regs.eitr(SPARE_VECTOR)
    value = yield from hw.read_reg(cpu, adapter, unused)
    began = cpu.now()
    for _ in range(rounds):
        yield from hw.read_reg(cpu, adapter, regs.STATUS)
    read = cpu.now()
    for _ in range(rounds):
        adapter.write_reg(unused, value)
        yield from hw.read_reg(cpu, adapter, regs.STATUS)
    wrote = cpu.now()
    report(
        cpu,
        NAME,
        nic=params["nic"],
        rounds=rounds,
        read_ns=(read - began) // rounds,
        write_ns=(wrote - read) // rounds,
    )
    return 0
