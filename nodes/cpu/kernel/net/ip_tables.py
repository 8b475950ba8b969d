"""ip_tables: chains of rules at the hooks, after net/ipv4/netfilter/ip_tables.c.

Three tables with their kernel's chains and priorities: raw, mangle, filter. A table is known to
netfilter from its first change on; until then no packet looks at it. It is replaced as a whole, by
the boot CPU, and published. Each rule and each policy has a slot of two words (packets, bytes) in
the page of every CPU; who lists them adds up the pages. A rule matches by protocol, source and
destination; its target is ACCEPT, DROP, or none: then it only counts. Not built: user chains,
interfaces, match extensions, other targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.cpu.kernel.net.netfilter import (
    HOOKS,
    NF_ACCEPT,
    NF_DROP,
    NF_IP_PRI_FILTER,
    NF_IP_PRI_MANGLE,
    NF_IP_PRI_RAW,
    nf_register_hook,
    nf_unregister_hook,
)
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.page import CPU_SCHEMA, NF_SLOTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: name -> (priority, chains)
TABLES = {
    "raw": (NF_IP_PRI_RAW, ("PREROUTING", "OUTPUT")),
    "mangle": (NF_IP_PRI_MANGLE, HOOKS),
    "filter": (NF_IP_PRI_FILTER, ("INPUT", "FORWARD", "OUTPUT")),
}
_COUNTERS = CPU_SCHEMA.index("nf_counters")


class Rule(NamedTuple):
    """One rule; addresses as numbers. ``target`` "": count and look further."""

    slot: int
    chain: str
    target: str
    protocol: int  # 0: all
    source: int
    source_mask: int
    destination: int
    destination_mask: int

    def matches(self, protocol: int, source: int, destination: int) -> bool:
        return (
            (not self.protocol or self.protocol == protocol)
            and source & self.source_mask == self.source
            and destination & self.destination_mask == self.destination
        )


class Chain(NamedTuple):
    """A built-in chain: what happens to a packet that no rule decided."""

    slot: int
    name: str
    policy: str


class Table:
    """One table as every CPU has it."""

    def __init__(self, name: str, chains: tuple[Chain, ...], rules: tuple[Rule, ...]) -> None:
        self.name = name
        self.chains = chains
        self.rules = rules
        self._by_hook = {
            HOOKS.index(chain.name): (chain, [r for r in rules if r.chain == chain.name])
            for chain in chains
        }

    def slots(self) -> list[int]:
        return [chain.slot for chain in self.chains] + [rule.slot for rule in self.rules]

    def do_table(self, cpu: Cpu, hook: int, skb: SkBuff) -> int:
        """ipt_do_table: the first rule with a target decides, else the policy."""
        frame, words = skb.frame, cpu.words
        size = frame[16] << 8 | frame[17]
        protocol = frame[23]
        source = int.from_bytes(frame[26:30], "big")
        destination = int.from_bytes(frame[30:34], "big")
        chain, rules = self._by_hook[hook]
        slot, target = chain.slot, chain.policy
        for rule in rules:
            if rule.matches(protocol, source, destination):
                if rule.target:
                    slot, target = rule.slot, rule.target
                    break
                words[_COUNTERS + 2 * rule.slot] += 1
                words[_COUNTERS + 2 * rule.slot + 1] += size
        words[_COUNTERS + 2 * slot] += 1
        words[_COUNTERS + 2 * slot + 1] += size
        return NF_DROP if target == "DROP" else NF_ACCEPT


def table(cpu: Cpu, name: str) -> Table:
    """The table as it is, or as it would come up: empty, with policy ACCEPT."""
    found = cpu.net.ip_tables.get(name)
    if found is not None:
        return found
    chains = tuple(Chain(-1, chain, "ACCEPT") for chain in TABLES[name][1])
    return Table(name, chains, ())


def replace_table(
    cpu: Cpu, name: str, chains: tuple[Chain, ...], rules: tuple[Rule, ...]
) -> Context:
    """do_replace: new content for a table, on all CPUs. Slots below 0 are still to be given out;
    returns False if there are too few. Boot CPU only."""
    taken = {slot for other in cpu.net.ip_tables.values() for slot in other.slots()}
    free = iter([slot for slot in range(NF_SLOTS) if slot not in taken])
    try:
        chains = tuple(c if c.slot >= 0 else c._replace(slot=next(free)) for c in chains)
        rules = tuple(r if r.slot >= 0 else r._replace(slot=next(free)) for r in rules)
    except (StopIteration, RuntimeError):
        return False
    yield from publish(cpu, "ip_tables", name, (chains, rules))
    return True


@replica("ip_tables")
def apply_table(cpu: Cpu, name: str, value: Any) -> None:
    """A table of this CPU gets new content; what was not counted before starts at 0."""
    chains, rules = value
    new = Table(name, tuple(Chain(*c) for c in chains), tuple(Rule(*r) for r in rules))
    old = cpu.net.ip_tables.get(name)
    used = old.slots() if old is not None else []
    for slot in new.slots():
        if slot not in used:
            cpu.words[_COUNTERS + 2 * slot] = cpu.words[_COUNTERS + 2 * slot + 1] = 0
    cpu.net.ip_tables[name] = new
    priority, names = TABLES[name]
    for hook in (HOOKS.index(chain) for chain in names):
        if old is not None:
            nf_unregister_hook(cpu, hook, old.do_table)
        nf_register_hook(cpu, hook, priority, new.do_table)


def zero_counters(cpu: Cpu, name: str, chain: str) -> Context:
    """Each CPU puts its own counts of a chain (or, with "", of all chains) to 0, when the IPI
    reaches it: nobody waits for that."""
    yield from publish(cpu, "ip_tables_zero", name, chain)


@replica("ip_tables_zero")
def apply_zero(cpu: Cpu, name: str, chain: str) -> None:
    found = cpu.net.ip_tables.get(name)
    if found is None:
        return
    slots = [c.slot for c in found.chains if chain in ("", c.name)]
    slots += [rule.slot for rule in found.rules if chain in ("", rule.chain)]
    for slot in slots:
        cpu.words[_COUNTERS + 2 * slot] = cpu.words[_COUNTERS + 2 * slot + 1] = 0


def counters(cpu: Cpu, slot: int) -> tuple[int, int]:
    """(packets, bytes) of a rule or policy, over the pages of all CPUs."""
    if slot < 0:
        return 0, 0
    pages = [cpu.ram.page(name, CPU_SCHEMA).words for name in cpu.machine.cpu_names]
    at = _COUNTERS + 2 * slot
    return sum(words[at] for words in pages), sum(words[at + 1] for words in pages)
