"""Netfilter's five hooks. No rules yet: a hook counts who came by, in process context or in a
softirq (LOCAL_OUT and POST_ROUTING see both, PRE_ROUTING only softirqs)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PRE_ROUTING, LOCAL_IN, FORWARD, LOCAL_OUT, POST_ROUTING = range(5)


def nf_hook(cpu: Cpu, hook: int) -> None:
    """Pass one hook."""
    cpu.net.hook_counts[hook][1 if cpu.in_serving_softirq() else 0] += 1
