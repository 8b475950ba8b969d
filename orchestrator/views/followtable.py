"""What a trace record means for the way of a packet: one row an event, text and reason.

A row's text may name parts of the record (see ``fields``). ``opens`` says whether it begins a line
of its own or continues the line of the same process and context. Rows with an empty text only
mark that something happened. Names of functions are Linux's, of registers the 82599's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bus.recorder import Record, Tracepoint
from nodes.apic.trace import TRACEPOINTS as APIC_EVENTS
from nodes.cpu.kernel.net.netdevice import LOOPBACK_IFINDEX
from nodes.cpu.kernel.params import PRESETS, Params
from nodes.cpu.page import CONTEXTS, DROP_REASONS
from nodes.cpu.trace import TRACEPOINTS as CPU_EVENTS
from nodes.cpu.trace import unpack_context
from nodes.lan.page import GATEWAY_PORT, GW_DROPS, IN_DROPS
from nodes.lan.trace import TRACEPOINTS as LAN_EVENTS
from nodes.nic.page import RX_DROPS, TX_DROPS
from nodes.nic.trace import TRACEPOINTS as NIC_EVENTS

NET_RX = 3


class World(NamedTuple):
    """Names that records refer to by number."""

    params: Params
    devices: Mapping[int, str]  # by ifindex
    irqs: Mapping[int, str]
    bond: str
    era: str


class Row(NamedTuple):
    """What one event adds to the listing."""

    text: str
    why: str = ""
    opens: bool = True
    context: str = ""  # of hardware; a CPU's own is in the record
    packet: bool = True  # its record carries the packet's key
    after: str = ""  # means something only as the continuation of a line that says this


#: Why the taps of a bonded slave see what they see, by behaviour ``packet_tap``.
TAP_RULES = {
    "skb_bond": "skb->dev was bond0 before any tap ran",
    "orig_dev": "skb->dev was bond0; taps match the original device too",
    "rx_handler": "taps run before the bond's handler",
}
#: What handles a line of MSI-X, by behaviour ``irq_flow``.
FLOWS = {"do_irq": "__do_IRQ", "handlers": "handle_edge_irq"}

CPU_ROWS = {
    "sys_sendmsg": Row("ping: sendmsg"),
    "ip_output": Row("ip_output", opens=False),
    "neigh_queue": Row("waits for ARP", "the gateway's address is not known yet"),
    "tap_transmit": Row("tap {device} sees it", opens=False),
    "bond_xmit": Row("{bond} hands it to {device}", "{device} is the active slave"),
    "qdisc_enqueue": Row("waits in {device}'s queue", "its ring is full or over its byte limit"),
    "net_dev_xmit": Row("{driver}"),
    "doorbell": Row("TDT = {tail}", opens=False, packet=False, after="ixgbe writes"),
    "irq_handler_entry": Row(
        "irq {irq}: {flow}, ixgbe_msix_clean_rings", "IF was set", packet=False
    ),
    "softirq_entry": Row("NET_RX", "{softirq_from}: it was raised", packet=False),
    "rx_clean": Row("ixgbe_poll: descriptor {entry} of queue {queue}", opens=False),
    "tap_receive": Row("tap {device}", opens=False),
    "bond_receive": Row("{bond} takes it", "{tap_rule}", opens=False),
    "netif_rx": Row("loopback_xmit: netif_rx to its own backlog", opens=False),
    "ip_rcv": Row("ip_rcv", opens=False),
    "icmp_rcv": Row("icmp_rcv", opens=False),
    "sock_queue_rcv": Row("queued on ping's socket", opens=False),
    "sock_handover": Row("socket is on cpu{b}", opens=False),
    "ipi_send": Row("ICR: {ipi} to cpu{b}", "{ipi_why}", packet=False),
    "reschedule_entry": Row("reschedule interrupt", "wakes ping", packet=False),
    "recvmsg": Row("ping: recvmsg", "NET_RX stamped it {trip} us after sendmsg"),
    "kfree_skb": Row("dropped: {reason}"),
}
NIC_ROWS = {
    "tx_dma": Row("reads descriptor {ring_entry} and the frame", context="DMA"),
    "tx_wire": Row("sends it on the wire", opens=False, context="DMA"),
    "tx_drop": Row("dropped: {tx_reason}", context="DMA"),
    "rx_dma": Row(
        "writes frame to descriptor {ring_entry} of queue {ring_queue}",
        "RSS hash {context:#010x} -> queue {ring_queue}",
        context="DMA",
    ),
    "rx_drop": Row("dropped: {rx_reason}", context="DMA"),
    "msi": Row("writes {b:#06x} to {a:#x}", "EITR allows it", context="MSI-X", packet=False),
    "msi_pending": Row("vector {a} becomes pending", "it is masked", context="MSI-X", packet=False),
}
LAN_ROWS = {
    "forward": Row("{from_port} -> {to_port}", context="switch"),
    "flood": Row("{from_port} -> all ports", "its address is not learned yet", context="switch"),
    "gateway": Row("which answers", opens=False, context="switch"),
    "drop": Row("dropped: {lan_reason}", context="switch"),
    "gateway_drop": Row("dropped at the gateway: {gw_reason}", context="switch"),
}
APIC_ROWS = {
    "route": Row("vector {vector:#04x} to cpu{b}", context="-", packet=False),
}

Table = Mapping[int, Row]


def _by_number(events: Mapping[str, Tracepoint], rows: Mapping[str, Row]) -> dict[int, Row]:
    return {events[name].number: row for name, row in rows.items()}


ROWS: dict[str, Table] = {
    "cpu": _by_number(CPU_EVENTS, CPU_ROWS),
    "nic": _by_number(NIC_EVENTS, NIC_ROWS),
    "lan": _by_number(LAN_EVENTS, LAN_ROWS),
    "apic": _by_number(APIC_EVENTS, APIC_ROWS),
}
SOFTIRQ_ENTRY = CPU_EVENTS["softirq_entry"].number
SENDMSG = CPU_EVENTS["sys_sendmsg"].number


def mask(kind: str) -> int:
    """Recorder mask of the events that the listing needs."""
    return sum(1 << number for number in ROWS[kind])


def is_table_update(kind: str, record: Record, world: World) -> bool:
    """Is it the controller's part of a call-function interrupt?"""
    vector = record.a & 0xFF
    routed = kind == "apic" and record.event == APIC_EVENTS["route"].number
    return routed and vector == world.params.call_function_single_vector


def context(kind: str, row: Row, record: Record) -> str:
    """In which context of its process it happened."""
    if kind != "cpu":
        return row.context
    return CONTEXTS[record.context & 0xFF] if record.context & 0xFF < len(CONTEXTS) else "?"


def render(text: str, kind: str, record: Record, world: World) -> str:
    """A row's text or reason with the record's parts filled in."""
    if "{" not in text:
        return text
    named = set(re.findall(r"{(\w+)", text))
    parts = {name: part(record, world) for name, part in _PARTS.items() if name in named}
    parts["context"] = record.context
    return text.format(a=record.a, b=record.b, **parts)


def _ipi(vector: int, params: Params) -> tuple[str, str]:
    if vector == params.reschedule_vector:
        return "reschedule", "ping sleeps there"
    if vector == params.call_function_single_vector:
        return "call function", "that CPU must know"
    return f"vector {vector:#04x}", ""


def _name(names: tuple[str, ...], index: int) -> str:
    return names[index] if index < len(names) else str(index)


def _port(number: int) -> str:
    if number > GATEWAY_PORT:
        return f"channel {number - GATEWAY_PORT}"
    return "gateway" if number == GATEWAY_PORT else f"port {number + 1}"


def _device(record: Record, world: World) -> str:
    return world.devices.get(record.b & 0xFFFF, f"if{record.b & 0xFFFF}")


def _driver(record: Record, _world: World) -> str:
    """ndo_start_xmit of the device."""
    if record.b >> 32 & 0xFFFF == LOOPBACK_IFINDEX:
        return ""  # ``netif_rx`` has said it
    return f"ixgbe writes descriptor {record.b & 0xFFFF}"


def _softirq_from(record: Record, _world: World) -> str:
    """Who runs softirqs; local_bh_enable keeps preemption off meanwhile."""
    task = unpack_context(record.context).preempt_depth
    return "local_bh_enable" if task else "irq_exit"


def _whose_rule(world: World) -> str:
    """The era's, unless the machine was told another one."""
    preset = PRESETS.get(world.era)
    own = preset is not None and preset.packet_tap == world.params.packet_tap
    return world.era if own else f"packet_tap={world.params.packet_tap}"


_PARTS: dict[str, Callable[[Record, World], object]] = {
    "device": _device,
    "driver": _driver,
    "softirq_from": _softirq_from,
    "entry": lambda r, w: r.b & 0xFFFF,
    "queue": lambda r, w: r.b >> 16 & 0xFFFF,
    "tail": lambda r, w: r.b >> 16,
    "irq": lambda r, w: f"{r.a} ({w.irqs[r.a]})" if r.a in w.irqs else str(r.a),
    "bond": lambda r, w: w.bond,
    "ipi_why": lambda r, w: _ipi(r.a, w.params)[1],
    "ipi": lambda r, w: _ipi(r.a, w.params)[0],
    "trip": lambda r, w: r.b // 1000,
    "reason": lambda r, w: _name(DROP_REASONS, r.b & 0xFFFF),
    "tap_rule": lambda r, w: f"{_whose_rule(w)}: {TAP_RULES[w.params.packet_tap]}",
    "flow": lambda r, w: FLOWS[w.params.irq_flow],
    "ring_entry": lambda r, w: r.b & 0xFFFF_FFFF,
    "ring_queue": lambda r, w: r.b >> 32,
    "tx_reason": lambda r, w: _name(TX_DROPS, r.b),
    "rx_reason": lambda r, w: _name(RX_DROPS, r.b),
    "from_port": lambda r, w: _port(r.b >> 16),
    "to_port": lambda r, w: _port(r.b & 0xFFFF),
    "lan_reason": lambda r, w: _name(IN_DROPS, r.context),
    "gw_reason": lambda r, w: _name(GW_DROPS, r.context),
    "vector": lambda r, w: r.a & 0xFF,
}
