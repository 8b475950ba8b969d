"""Netfilter's five IPv4 hooks, after net/netfilter/core.c: who came by, in which context, and may
the packet go on?

A hook counts the context it ran in: a process, a process with bottom halves off, a softirq, a
hard interrupt. LOCAL_OUT and POST_ROUTING see processes (ping) and softirqs (echo replies);
PRE_ROUTING and LOCAL_IN only softirqs. Hook functions (here the tables of ``net.ip_tables``) run in
the order of their priority; a DROP frees the packet by name and gives -EPERM to who sent it.
Verdicts beside ACCEPT and DROP and NAT are not built; nothing is forwarded, so FORWARD is idle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.percpu import SOFTIRQ_MASK, Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PRE_ROUTING, LOCAL_IN, FORWARD, LOCAL_OUT, POST_ROUTING = range(5)
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
NF_IP_PRI_CONNTRACK, NF_IP_PRI_CONNTRACK_CONFIRM = -200, 2**31 - 1
NF_IP_PRI_RAW, NF_IP_PRI_MANGLE, NF_IP_PRI_FILTER = -300, -150, 0
NF_DROP, NF_ACCEPT = 0, 1
EPERM = 1

#: What a hook counts, as indexes.
HOOK_CONTEXTS = ("process", "process, BH off", "softirq", "hardirq")

#: By what the CPU does (``nodes.cpu.page.CONTEXTS``); 0 may still be 1.
_AT = (0, 0, 2, 3, 3, 0, 0)

#: f(cpu, hook, skb): its verdict, or a context that returns it (one that takes a lock)
HookFunction = Callable[["Cpu", int, SkBuff], "int | Context"]


def nf_hook(cpu: Cpu, hook: int, skb: SkBuff) -> bool:
    """Come by one hook; False: somebody looks here, ``nf_hook_slow`` decides."""
    net, at = cpu.net, _AT[cpu.context]
    if not at and cpu.preempt_count & SOFTIRQ_MASK:
        at = 1
    net.hook_counts[hook][at] += 1
    return not net.nf_hooks[hook]


def nf_hook_slow(cpu: Cpu, hook: int, skb: SkBuff) -> Context:
    """Ask those who look, in their order; False: the packet ended here."""
    for _priority, function in tuple(cpu.net.nf_hooks[hook]):
        verdict = function(cpu, hook, skb)
        if not isinstance(verdict, int):
            verdict = yield from verdict
        if verdict == NF_DROP:
            kfree_skb_reason(cpu, skb, "NETFILTER_DROP")
            return False
    return True


def nf_register_hook(cpu: Cpu, hook: int, priority: int, function: HookFunction) -> None:
    """Put a function into its place: lower priorities run first."""
    entries = cpu.net.nf_hooks[hook]
    entries.append((priority, function))
    entries.sort(key=_priority)


def nf_unregister_hook(cpu: Cpu, hook: int, function: HookFunction) -> None:
    entries = cpu.net.nf_hooks[hook]
    entries[:] = [entry for entry in entries if entry[1] != function]


def _priority(entry: tuple[int, HookFunction]) -> int:
    return entry[0]
