"""Connection tracking (``net.nf_conntrack``) as the module that it is in Linux.

/proc/net/nf_conntrack is there while it is loaded; in 2.6.18 the module and the file are called
ip_conntrack, here the module has one name in all eras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.net.nf_conntrack import BUCKETS, ENTRY_WORDS, MAX
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.tables import publish
from nodes.cpu.modules import Values, module

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def nf_conntrack_exit(cpu: Cpu) -> Context:
    """Nobody looks at packets any more; the table is forgotten."""
    yield from publish(cpu, "nf_conntrack", 0, False)


@module("nf_conntrack", exit=nf_conntrack_exit)
def init(cpu: Cpu, _params: Values) -> Context:
    """Connections in /proc/net/nf_conntrack (2.6.18: ip_conntrack), guarded by the era's lock."""
    for word in range(MAX * ENTRY_WORDS):
        cpu.ram.atomics.store(words.CONNTRACK + word, 0)
    if cpu.params.conntrack_version != "unsaid":
        name, version = cpu.params.conntrack_proc, cpu.params.conntrack_version
        printk(cpu, f"{name} version {version} ({BUCKETS} buckets, {MAX} max)")
    yield from publish(cpu, "nf_conntrack", 0, True)
    return 0
