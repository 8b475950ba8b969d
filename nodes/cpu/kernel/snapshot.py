"""Plain values that a CPU answers with between two turns; who asked renders the text.

``kernel``: what the /proc renderers need beside the pages. ``state``: for the dashboard.
``symbols``: the names that trace records give by number.
``dst``: the entries that wait to be freed and how the collector stands.
``iptables:TABLE``: its listing, with the counts of all CPUs.
``spurious:IRQ``: the detector's counts.
``workqueues``: pools, workers, works (``workqueue.show``).
``ping:N``: times of the last ping's packets from sequence N on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel import sysctl
from nodes.cpu.kernel.irq.affinity import cpumask_bits, nr_irqs, packed
from nodes.cpu.kernel.net import dql, nf_conntrack
from nodes.cpu.kernel.net.bonding.bond import Bonding
from nodes.cpu.kernel.net.dst import DstEntry
from nodes.cpu.kernel.net.neighbour import NUD_PERMANENT, NUD_VALID
from nodes.cpu.kernel.net.protocols import IPPROTO_ICMP
from nodes.cpu.kernel.net.socket import skb_truesize
from nodes.cpu.kernel.net.stats import device_stats
from nodes.cpu.kernel.workqueue import show
from nodes.cpu.programs.iptables import listing
from nodes.cpu.programs.iptablesargs import IptablesError, parse
from nodes.cpu.programs.ping import PingTimes

if TYPE_CHECKING:
    from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
    from nodes.cpu.kernel.percpu import Cpu

PING_CHUNK = 2000
DIGITS_MAX = 10


def snapshot(cpu: Cpu, what: str) -> Any:
    """The value for ``what``; LookupError if there is no such thing."""
    name, _, argument = what.partition(":")
    if name == "kernel":
        return _kernel(cpu)
    if name == "state":
        return _state(cpu)
    if name == "workqueues":
        return show.workqueues(cpu)
    if name == "symbols":
        return cpu.symbols
    if name == "dst":
        return _dst(cpu)
    if name == "iptables":
        return _iptables(cpu, argument or "filter")
    if name == "spurious":
        return _spurious(cpu, argument)
    if name == "ping":
        return _ping(cpu, max(1, _number(argument)))
    raise LookupError(f"a CPU has no snapshot {what}")


def _number(text: str) -> int:
    """What stands behind the colon; -1 if it is no number."""
    return int(text) if text.isdecimal() and len(text) <= DIGITS_MAX else -1


def _kernel(cpu: Cpu) -> dict[str, Any]:
    params = cpu.params
    return {
        "release": params.release,
        "proc_format": params.proc_format,
        "hz": params.hz,
        "uptime_ns": cpu.uptime_ns(),
        "online": cpu.online_cpus,
        "possible": cpu.machine.cpus,
        "nr_irqs": nr_irqs(cpu),
        "cpumask_bits": cpumask_bits(cpu),
        "default_affinity": packed(cpu.affinity.default),
        "irq_dirs": cpu.affinity.rows(cpu),
        "softirq_names": params.softirq_names,
        "softnet_columns": params.softnet_columns,
        "bonding_version": params.bonding_version,
        "irqs": [
            (desc.irq, desc.hwirq, desc.chip_name, [action.name for action in desc.actions])
            for _, desc in sorted(cpu.irq.desc.items())
        ],
        "irq_flows": {desc.irq: desc.name for _, desc in sorted(cpu.irq.desc.items())},
        "devices": [
            (dev.name, device_stats(cpu, dev)) for _, dev in sorted(cpu.net.devices.items())
        ],
        "netdevs": {
            dev.name: {
                "ifindex": dev.ifindex,
                "address": dev.dev_addr,
                "mtu": dev.mtu,
                "flags": dev.flags,
                "carrier": dev.carrier,
                "qdisc_active": dev.qdisc_active,
            }
            for _, dev in sorted(cpu.net.devices.items())
        },
        "udp_sockets": [
            {
                "number": entry.number,
                "address": entry.address,
                "port": entry.port,
                "peer": entry.peer,
                "peer_port": entry.peer_port,
                "pid": entry.pid,
                "name": entry.name,
                **_queue_of(cpu, entry.number),
            }
            for _, entries in sorted(cpu.net.udp_table.items())
            for entry in entries
        ],
        "raw_sockets": [
            {
                "number": number,
                "address": bytes(4),
                "port": IPPROTO_ICMP,
                "peer": bytes(4),
                "peer_port": 0,
                "pid": 0,
                "name": "",
                **_queue_of(cpu, number),
            }
            for number in cpu.net.raw_sockets
        ],
        "queues": {
            name: _queues(cpu, adapter) for name, adapter in sorted(cpu.net.adapters.items())
        },
        "pci": [nic.pci_name for nic in cpu.machine.nics if nic.name in cpu.net.adapters],
        "sysctl": sysctl.values(cpu),
        "modules": [(m.name, m.size, m.state) for m in cpu.modules.values()],
        "absent_files": params.absent_files,
        "bonds": {name: _bond(cpu, bond) for name, bond in cpu.net.bonds.items()},
        "conntrack": nf_conntrack.rows(cpu),
        "neighbours": [
            (
                ".".join(str(octet) for octet in neigh.address),
                (0x6 if neigh.state == NUD_PERMANENT else 0x2) if neigh.state & NUD_VALID else 0x0,
                neigh.mac if neigh.state & NUD_VALID else bytes(6),
                neigh.dev.name,
            )
            for neigh in cpu.net.neighbours.entries.values()
        ],
        "routes": [
            (cpu.net.devices[r.ifindex].name, r.network, r.mask, r.gateway, r.metric)
            for r in cpu.net.fib.routes()
            if r.ifindex in cpu.net.devices
        ],
    }


def _queue_of(cpu: Cpu, number: int) -> dict[str, int]:
    """What a socket of this CPU holds."""
    sock = cpu.net.sockets.get(number)
    if sock is None:
        return {"rmem": 0, "drops": 0}
    return {"rmem": sum(skb_truesize(skb) for skb in sock.receive_queue), "drops": sock.drops}


def _queues(cpu: Cpu, adapter: Adapter) -> list[dict[str, Any]]:
    """A row for each queue pair."""
    words = cpu.ram.words64
    return [
        {
            "limit": words[ring.state + dql.LIMIT],
            "limit_max": words[ring.state + dql.MAX_LIMIT],
            "limit_min": words[ring.state + dql.MIN_LIMIT],
            "hold_time": words[ring.state + dql.HOLD_TIME],
            "inflight": words[ring.state + dql.NUM_QUEUED] - words[ring.state + dql.NUM_COMPLETED],
            "tx_timeout": words[ring.state + dql.TRANS_TIMEOUT],
            "rps": adapter.netdev.rps.get(ring.queue, ()),
        }
        for ring in adapter.rings
    ]


def _bond(cpu: Cpu, bond: Bonding) -> dict[str, Any]:
    """The bond's options as they are now, its state, and what its mode adds (``info``)."""
    settings = bond.settings
    return {
        **settings._asdict(),
        "updelay": bond.updelay_ticks * settings.miimon,
        "downdelay": bond.downdelay_ticks * settings.miimon,
        "peer_notif_delay": bond.peer_notif_ticks * settings.miimon,
        "number": bond.mode.number,
        "long_name": bond.mode.long_name,
        "uses_primary": bond.mode.uses_primary,
        "hashes": bond.mode.hashes,
        "primary": settings.primary if bond.primary() is not None else "",
        "active": bond.curr_active.dev.name if bond.curr_active is not None else None,
        "carrier": bond.dev.carrier,
        "mac": bond.dev.dev_addr,
        "info": bond.mode.snapshot(cpu),
        "slaves": [
            {
                "name": slave.dev.name,
                "link": slave.link,
                "backup": slave.backup,
                "speed": slave.speed,
                "failures": slave.failure_count,
                "perm_hwaddr": slave.perm_hwaddr,
                "queue_id": slave.queue_id,
                "info": bond.mode.slave_snapshot(cpu, slave),
            }
            for slave in bond.slaves
        ],
    }


def _state(cpu: Cpu) -> dict[str, Any]:
    return {
        "tasks": [
            (task.pid, task.comm, task.nice, task.state, task.runtime_ns)
            for task in cpu.rq.all.values()
        ],
        "vectors": [
            (vector, desc.irq, [action.name for action in desc.actions])
            for vector, desc in enumerate(cpu.irq.vector_irq)
            if desc is not None
        ],
        "hooks": cpu.net.hook_counts,
        "ifindexes": {dev.name: dev.ifindex for dev in cpu.net.devices.values()},
    }


def _dst(cpu: Cpu) -> dict[str, Any]:
    garbage = cpu.net.dst_garbage

    def rows(entries: Iterable[DstEntry]) -> list[tuple[int, int, str]]:
        return [(d.number, d.refcnt, d.dev.name if d.dev is not None else "") for d in entries]

    return {
        "entries": cpu.net.route_cache.ops.entries,
        "genid": cpu.net.route_cache.genid,
        "garbage": rows(garbage.list),
        "busy": rows([*garbage.busy, *garbage.scan]),
        "timer_inc": garbage.backoff.timer_inc,
        "timer_expires": garbage.backoff.timer_expires,
        "runs": garbage.runs,
        "freed": garbage.freed,
    }


def _iptables(cpu: Cpu, table: str) -> str:
    """What ``iptables -t TABLE -L -v -n`` prints."""
    try:
        return listing(cpu, parse(["-t", table, "-L", "-v", "-n"]))
    except IptablesError:
        raise LookupError(f"there is no table {table}") from None


def _spurious(cpu: Cpu, irq: str) -> dict[str, Any]:
    desc = cpu.irq.desc.get(_number(irq))
    if desc is None:
        raise LookupError(f"no irq {irq}")
    return {"spurious": (desc.irq_count, desc.irqs_unhandled, desc.last_unhandled)}


def _ping(cpu: Cpu, first: int) -> dict[str, Any]:
    times = cpu.programs.last_ping
    if not isinstance(times, PingTimes):
        raise LookupError("no ping has run on this CPU")
    last = min(len(times.sent), first + PING_CHUNK - 1)
    return {
        "first": first,
        "total": len(times.sent),
        "ident": times.ident,
        "sent": times.sent[first - 1 : last],
        "received": [times.received.get(n, 0) for n in range(first, last + 1)],
        "duplicates": times.duplicates,
    }
