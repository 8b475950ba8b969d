"""Makes the NIC driver trust nothing: adapters that are probed from now on read all there is.

With the machine's ``fast_probe`` ixgbe takes words of the EEPROM, bytes of the module and reset
values of registers as known (``drivers/ixgbe/hw.py``). This module takes that away, and rmmod gives
it back; adapters that are there stay as they are.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import Context
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "full_probe"


def _back(cpu: Cpu) -> Context:
    cpu.machine = cpu.machine._replace(fast_probe=True)
    yield


@module(NAME, exit=_back)
def init(cpu: Cpu, params: Values) -> Context:
    """Probing is the boot CPU's; a machine that probes fully already has nothing to change."""
    if not cpu.boot or not cpu.machine.fast_probe:
        return -EINVAL
    cpu.machine = cpu.machine._replace(fast_probe=False)
    yield
    report(cpu, NAME, known="nothing")
    return 0
