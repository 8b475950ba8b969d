"""iptables: rules into the kernel's tables, and the listing of ``-L [-v] [-n]``.

Names are never looked up, so a listing is always as with ``-n``."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.ip_tables import (
    Chain,
    Rule,
    Table,
    counters,
    replace_table,
    table,
    zero_counters,
)
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.programs.iptablesargs import PROTOCOLS, Command, IptablesError, parse
from nodes.cpu.programs.run import STDERR, Process, program

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_NAMES = {number: name for name, number in PROTOCOLS.items()}


@program("iptables")
def iptables(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """main() of iptables."""
    if not cpu.boot:
        process.write("iptables: only the boot CPU writes the tables\n", STDERR)
        return 4
    try:
        command = parse(list(argv[1:]))
        yield USER
        if command.verb == "-L":
            process.write(listing(cpu, command))
        elif command.verb == "-Z":
            yield from zero_counters(cpu, command.table, command.chain)
        else:
            yield from change(cpu, command)
    except IptablesError as error:
        process.write(f"{error.text}\n", STDERR)
        return error.code
    return 0


def nf_add_rule(cpu: Cpu, text: str) -> Context:
    """What ``iptables TEXT`` does, for code that has no terminal; IptablesError if it cannot."""
    yield from change(cpu, parse(text.split()))


def change(cpu: Cpu, command: Command) -> Context:
    """Read the table, change it, hand it back: as iptables does."""
    old = table(cpu, command.table)
    chains, rules = old.chains, list(old.rules)
    mine = [rule for rule in rules if rule.chain == command.chain]
    number = command.number
    if command.verb == "-A":
        rules.append(command.rule)
    elif command.verb == "-I":
        at = max(number, 1) - 1
        if at > len(mine):
            raise IptablesError("iptables: Index of insertion too big.", 1)
        rules.insert(rules.index(mine[at]) if at < len(mine) else len(rules), command.rule)
    elif command.verb == "-D":
        rules.remove(_to_delete(command, mine))
    elif command.verb == "-F":
        rules = [rule for rule in rules if command.chain and rule.chain != command.chain]
    else:
        chains = tuple(
            c._replace(policy=command.policy) if c.name == command.chain else c for c in chains
        )
    if not (yield from replace_table(cpu, command.table, chains, tuple(rules))):
        raise IptablesError("iptables: Memory allocation problem.", 4)


def _to_delete(command: Command, mine: list[Rule]) -> Rule:
    if command.number:
        if command.number > len(mine):
            raise IptablesError("iptables: Index of deletion too big.", 1)
        return mine[command.number - 1]
    for rule in mine:
        if rule._replace(slot=-1) == command.rule:
            return rule
    raise IptablesError("iptables: Bad rule (does a matching rule exist in that chain?).", 1)


# ---------------------------------------------------------------- -L


def listing(cpu: Cpu, command: Command) -> str:
    """Chains with a header each, an empty line between them."""
    shown = table(cpu, command.table)
    chains = [c for c in shown.chains if command.chain in ("", c.name)]
    return "\n".join(_chain(cpu, shown, chain, command) for chain in chains)


def _chain(cpu: Cpu, shown: Table, chain: Chain, command: Command) -> str:
    counts = ""
    if command.verbose:
        packets, size = counters(cpu, chain.slot)
        counts = f" {_short(packets)} packets, {_short(size)} bytes"
    lines = [f"Chain {chain.name} (policy {chain.policy}{counts})"]
    number = "num  " if command.line_numbers else ""
    head = " pkts bytes " if command.verbose else ""
    via = " in     out    " if command.verbose else ""
    lines.append(
        f"{number}{head}target     prot opt{via} source               destination         "
    )
    for at, rule in enumerate((r for r in shown.rules if r.chain == chain.name), 1):
        number = f"{at:<4} " if command.line_numbers else ""
        head = ""
        if command.verbose:
            packets, size = counters(cpu, rule.slot)
            head = f"{_short(packets):>5} {_short(size):>5} "
        via = " *      *      " if command.verbose else ""
        protocol = _NAMES.get(rule.protocol, str(rule.protocol))
        source = _network(rule.source, rule.source_mask)
        destination = _network(rule.destination, rule.destination_mask)
        lines.append(
            f"{number}{head}{rule.target:<9}  {protocol:<5}-- {via} "
            f"{source:<19}  {destination:<19} "
        )
    return "".join(f"{line}\n" for line in lines)


def _short(value: int) -> str:
    """xtables_print_num: five digits at most, then K, M, G."""
    if value <= 99999:
        return str(value)
    for unit in "KMG":
        value = (value + 500) // 1000
        if value <= 9999:
            return f"{value}{unit}"
    return f"{(value + 500) // 1000}T"


def _network(address: int, mask: int) -> str:
    network = ipaddress.ip_network((address, mask.bit_count()))
    return str(network.network_address) if mask == 0xFFFF_FFFF else str(network)
