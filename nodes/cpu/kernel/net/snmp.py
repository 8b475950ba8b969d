"""The counters of /proc/net/snmp, after include/net/snmp.h: each CPU has its own, in its page.

What the page counts anyway is not counted twice: requests sent are the ledger's ``icmp_sent`` and
``icmp_generated``, ICMP messages received the sum over their types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.page import CPU_SCHEMA, SNMP

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_SNMP = CPU_SCHEMA.index("snmp")

#: Place of a counter in the page, by "Protocol Name".
PLACE = {name: _SNMP + n for n, name in enumerate(SNMP)}


def snmp_inc(cpu: Cpu, name: str, amount: int = 1) -> None:
    """IP_INC_STATS and the like, away from the hot path."""
    cpu.words[PLACE[name]] += amount
