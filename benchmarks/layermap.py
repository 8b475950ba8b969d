"""Which layer of the emulated machine a Python function belongs to.

Rows of (start of ``path:qualified name``, layer), by kind of process; the first that fits counts.
``CALLER`` is for what is used everywhere: its time goes to the layer of whoever called it. Paths
are relative to the project. What no row knows is in the layer ``rest``, so that nothing is lost.
"""

from __future__ import annotations

from pathlib import Path
from types import CodeType

REST = "rest"
CALLER = ""
Rules = tuple[tuple[str, str], ...]

BUS_IN = "bus: receive, decode"
BUS_OUT = "bus: encode, send"
LEDGER = "tracepoints, ledger"

_BOUNDARY = "instruction boundaries"
_IRQ = "interrupt entry, irq flow"
_NAPI = "softirq, NAPI, ixgbe clean"
_RECEIVE = "netif_receive, bond, taps"
_IP = "IP, ICMP, UDP in"
_WAKE = "socket, wake-up, scheduler"
_XMIT = "IP out, neighbour, bond, xmit"
_PROGRAM = "the program"

_EVERYWHERE: Rules = (
    ("nodes/checksum.py", CALLER),
    ("<string>", CALLER),  # making a named tuple
    ("bus/simulation.py", CALLER),  # the clock
    ("bus/ram/atomics.py", CALLER),
    ("bus/ram/file.py", CALLER),
    ("<validation", BUS_IN),
    ("bus/codec.py:decode", BUS_IN),
    ("benchmarks/layers.py:Metered._take", BUS_IN),
    ("bus/codec.py:encode", BUS_OUT),
    ("bus/node.py", BUS_OUT),
    ("benchmarks/layers.py:Metered._send", BUS_OUT),
    ("bus/recorder.py", LEDGER),
    ("nodes/ledger.py", LEDGER),
)

_NET = "nodes/cpu/kernel/net"
_IXGBE = "nodes/cpu/kernel/drivers/ixgbe"

RULES: dict[str, Rules] = {
    "cpu": (
        *_EVERYWHERE,
        ("nodes/cpu/kernel/percpu.py:Cpu.trace", LEDGER),
        (f"{_NET}/skbuff.py:packet_key", LEDGER),
        ("nodes/cpu/kernel/percpu.py", CALLER),
        ("nodes/cpu/kernel/params/", CALLER),
        ("nodes/machine.py", CALLER),
        (f"{_NET}/netfilter.py", CALLER),
        (f"{_NET}/skbuff.py:SkBuff", CALLER),
        (f"{_NET}/snmp.py", CALLER),
        ("nodes/cpu/kernel/softirq.py:local_bh", CALLER),
        ("nodes/cpu/node.py:CpuNode._on_", BUS_IN),
        ("nodes/cpu/core.py:Core._iret", _IRQ),
        ("nodes/cpu/core.py", _BOUNDARY),
        ("nodes/cpu/node.py", _BOUNDARY),
        ("nodes/cpu/nonposted.py", _BOUNDARY),
        ("nodes/cpu/invariants.py", _BOUNDARY),
        ("nodes/cpu/lapic.py", _IRQ),
        ("nodes/cpu/kernel/irq/", _IRQ),
        ("nodes/cpu/kernel/softirq.py", _NAPI),
        ("nodes/cpu/kernel/ksoftirqd.py", _NAPI),
        (f"{_NET}/napi.py", _NAPI),
        (f"{_NET}/dql.py", _NAPI),
        (f"{_IXGBE}/txrx.py", _NAPI),
        (f"{_IXGBE}/main.py", _IRQ),
        (f"{_IXGBE}/adapter.py:Adapter.clean", _NAPI),
        (f"{_IXGBE}/adapter.py:Adapter.irq_enable", _NAPI),
        (f"{_IXGBE}/adapter.py:Adapter.write_reg", CALLER),
        (f"{_IXGBE}/regs.py", CALLER),
        (_IXGBE, _XMIT),
        (f"{_NET}/receive.py", _RECEIVE),
        (f"{_NET}/skbuff.py", _RECEIVE),
        (f"{_NET}/taps.py", CALLER),
        (f"{_NET}/af_packet.py", CALLER),
        (f"{_NET}/rps.py", _RECEIVE),
        (f"{_NET}/ip_input.py", _IP),
        (f"{_NET}/ip_fragment.py", _IP),
        (f"{_NET}/icmp.py", _IP),
        (f"{_NET}/udp.py:udp_datagram", _XMIT),
        (f"{_NET}/udp.py:udp_sendmsg", _XMIT),
        (f"{_NET}/udp.py:udp_recvmsg", _WAKE),
        (f"{_NET}/udp", _IP),
        (f"{_NET}/socket.py", _WAKE),
        (f"{_NET}/handover.py", _WAKE),
        (f"{_NET}/", _XMIT),
        ("nodes/cpu/programs/", _PROGRAM),
        ("bus/ram/between.py", _WAKE),
        ("nodes/cpu/kernel/smp", _WAKE),
        ("nodes/cpu/kernel/ipi.py", _WAKE),
        ("nodes/cpu/kernel/csd.py", _WAKE),
        ("nodes/cpu/kernel/sched.py", _WAKE),
        ("nodes/cpu/kernel/", "timers, RCU, workqueues"),
    ),
    "nic": (
        *_EVERYWHERE,
        ("nodes/nic/turn.py", CALLER),
        ("nodes/nic/receive.py", "receive"),
        ("nodes/nic/rx", "receive"),
        ("nodes/nic/rss.py", "receive"),
        ("nodes/nic/filters.py", "receive"),
        ("nodes/nic/headers.py", "receive"),
        ("nodes/nic/device.py:Device.frame", "receive"),
        ("nodes/nic/transmit.py", "transmit"),
        ("nodes/nic/tx", "transmit"),
        ("nodes/nic/device.py:Device._send", "transmit"),
        ("nodes/nic/node.py:NicNode._wire", "transmit"),
        ("nodes/nic/checksum.py", CALLER),
        ("nodes/nic/dma.py", "DMA, IOMMU"),
        ("bus/ram/iommu.py", "DMA, IOMMU"),
        ("nodes/nic/interrupts.py", "interrupts, moderation"),
        ("nodes/nic/causes.py", "interrupts, moderation"),
        ("nodes/nic/moderation.py", "interrupts, moderation"),
        ("nodes/nic/ms", "interrupts, moderation"),
        ("nodes/nic/pending.py", "interrupts, moderation"),
        ("nodes/nic/node.py:NicNode._msi", "interrupts, moderation"),
        ("nodes/nic/", "the turn, registers"),
    ),
    "lan": (
        *_EVERYWHERE,
        ("nodes/lan/gateway.py", "gateway"),
        ("nodes/lan/host", "gateway"),
        ("nodes/lan/fragments.py", "gateway"),
        ("bus/ram/tap.py", "switch"),
        ("nodes/lan/", "switch"),
    ),
    "apic": (
        *_EVERYWHERE,
        ("nodes/apic/node.py:ApicNode.turn", "the turn"),
        ("nodes/faults.py", "the turn"),
        ("nodes/apic/", "routing of MSIs and IPIs"),
    ),
}  # fmt: skip

#: Layers in the order in which a packet meets them, as tables show them.
ORDER: dict[str, tuple[str, ...]] = {
    "cpu": (
        BUS_IN, _BOUNDARY, _IRQ, _NAPI, _RECEIVE, _IP, _WAKE, _PROGRAM, _XMIT, LEDGER,
        "timers, RCU, workqueues", BUS_OUT, REST,
    ),
    "nic": (
        BUS_IN, "the turn, registers", "receive", "transmit", "DMA, IOMMU",
        "interrupts, moderation", LEDGER, BUS_OUT, REST,
    ),
    "lan": (BUS_IN, "switch", "gateway", LEDGER, BUS_OUT, REST),
    "apic": (BUS_IN, "the turn", "routing of MSIs and IPIs", LEDGER, BUS_OUT, REST),
}  # fmt: skip

_ROOT = f"{Path(__file__).parent.parent}/"


def name_of(code: CodeType) -> str:
    """``nodes/cpu/core.py:Core.run``."""
    return f"{code.co_filename.removeprefix(_ROOT)}:{code.co_qualname}"


def layer_of(kind: str, name: str) -> str:
    """The layer of a function of a process of this kind; ``CALLER`` as above."""
    for start, layer in RULES[kind]:
        if name.startswith(start):
            return layer
    return REST
