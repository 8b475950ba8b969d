"""The parts of a trace event's text: what the two words of a record mean, in the words of Linux.

A row's text (``ftracerows``) names parts in braces; here each is a function of the record and of
what numbers mean in this machine (``Names``). How a word is packed is told where the tracepoint is
defined (``nodes/*/trace.py``).

Objects have no addresses here: what stands for ``%p`` is made up from the object's number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bus.faults import BY_NUMBER as FAULTS
from bus.recorder import Record
from nodes.apic.msi import MODE_NAMES
from nodes.apic.page import DROP_NUMBERS
from nodes.cpu.kernel.params import Params
from nodes.cpu.page import DROP_REASONS
from nodes.cpu.trace import CPUHP_WAYS
from nodes.nic.page import RX_DROPS, TX_DROPS
from nodes.nic.registers import decode, name_of
from orchestrator.tracing.ftrace import UNKNOWN_COMM, Layout, pointer

ETH_P_IP = 0x0800
#: Modules whose functions print with their name behind them.
_MODULES = {"bond_": "bonding", "ixgbe_": "ixgbe", "ad_": "bonding"}
_STATES_310 = {0: "R", 1: "S", 2: "D", 4: "T", 8: "t", 0x20: "x", 0x80: "x", 0x402: "S"}
_STATES_61 = {0: "R", 1: "S", 2: "D", 4: "T", 8: "t", 0x20: "Z", 0x80: "X", 0x402: "I"}
#: Classes of ``nodes.ledger`` in a packet's key.
_ECHO = {1: "request", 2: "reply"}
_APIC_DROPS = {number: reason for reason, number in DROP_NUMBERS.items()}
_GUEST = {1: "MSI", 2: "MSI-X"}


class Names(NamedTuple):
    """What the numbers in a node's records mean."""

    params: Params
    layout: Layout
    nics: Sequence[str]
    devices: Mapping[int, str]  # by ifindex
    irqs: Mapping[int, str]
    comms: Mapping[int, str]  # of tasks, by pid
    symbols: Sequence[str]  # of this node
    cpu: int = 0
    boot_ns: int = 0


def low(word: int) -> int:
    return word & 0xFFFF_FFFF


def _comm(word: int, names: Names) -> str:
    """Name of a task inside an event's text."""
    pid = low(word)
    return names.comms.get(pid, UNKNOWN_COMM) if pid else f"swapper/{names.cpu}"


def _index(texts: Sequence[str], index: int) -> str:
    return texts[index] if index < len(texts) else str(index)


def _function(number: int, names: Names) -> str:
    """``%ps``: a module's function has the module behind it."""
    name = names.symbols[number] if number < len(names.symbols) else f"{number:#x}"
    module = next((m for prefix, m in _MODULES.items() if name.startswith(prefix)), "")
    return f"{name} [{module}]" if module else name


def _jiffies(record: Record, names: Names) -> int:
    """The jiffy of a record: they begin five minutes before 32 bits wrap."""
    hz = names.params.hz
    return (1 << 32) - 300 * hz + (record.time_ns - names.boot_ns) * hz // 1_000_000_000


def _nr_cpus(names: Names) -> int:
    """NR_CPUS of the distributions' kernels: what WORK_CPU_UNBOUND is."""
    return 8192 if names.layout.new_texts else 5120


def _pool_cpu(record: Record, names: Names) -> int:
    """-1 is an unbound pool's, printed without a sign by old kernels."""
    cpu = (record.a >> 48) - 1
    return cpu if cpu >= 0 or names.layout.new_texts else cpu & 0xFFFF_FFFF


def _ipi(record: Record, names: Names) -> str:
    """The reason as ``ipi_raise`` prints it."""
    if record.a == names.params.reschedule_vector:
        return "Rescheduling interrupts"
    if record.a == names.params.call_function_single_vector:
        return "Function call interrupts"
    return f"vector {record.a:#04x}"


def _mask(cpu: int) -> str:
    """``%*pb`` of a mask with one CPU, in words of 32 bits."""
    words = cpu // 32 + 1 + (cpu // 32 + 1) % 2
    value = 1 << cpu
    return ",".join(f"{value >> 32 * i & 0xFFFF_FFFF:08x}" for i in reversed(range(words)))


def _echo(record: Record, names: Names) -> str:
    """What is known of a packet: only echoes carry a key."""
    key = record.a
    if not key:
        return "packet=other"
    kind = _ECHO.get(key >> 32, "?")
    return f"echo={kind} id={key >> 16 & 0xFFFF} seq={key & 0xFFFF}"


def _fields(offset: int, value: int) -> str:
    """The fields of a register that are set, as the datasheet names them; nothing if it has but
    one."""
    fields = decode(offset, value)
    if len(fields) < 2:
        return ""
    shown = " ".join(f"{f.name}={text or f'{n:#x}'}" for f, n, text in fields if n)
    return f" ({shown})" if shown else ""


def _message(address: int, data: int) -> str:
    """An interrupt message as its receiver reads it (SDM volume 3, MSI). A guest's has no address
    here: the vector is an eventfd (``nodes.nic.guestmsi``)."""
    if address in _GUEST:
        return f"({_GUEST[address]} eventfd of the guest)"
    logical = "logical" if address & 4 else "physical"
    mode = MODE_NAMES.get(data >> 8 & 7, "reserved")
    return f"({mode} {data & 0xFF:#04x} to {logical} {address >> 12 & 0xFF:#04x})"


def _fault(number: int) -> str:
    return FAULTS[number].name if number in FAULTS else str(number)


def _device(index: int, names: Names) -> str:
    return names.devices.get(index, f"if{index}")


def _at(kind: str, value: Callable[[Record], int]) -> Callable[[Record, Names], str]:
    return lambda record, names: pointer(names.layout, kind, value(record))


PARTS: dict[str, Callable[[Record, Names], object]] = {
    "irq_name": lambda r, n: n.irqs.get(r.a, "?"),
    "ret": lambda r, n: "handled" if r.b else "unhandled",
    "vec": lambda r, n: r.a,
    "action": lambda r, n: _index(n.params.softirq_names, r.a),
    "comm": lambda r, n: _comm(r.a, n),
    "pid": lambda r, n: low(r.a),
    "prio": lambda r, n: r.a >> 32 & 0xFFFF,
    "state": lambda r, n: (_STATES_61 if n.layout.new_texts else _STATES_310).get(r.a >> 48, "?"),
    "orig_cpu": lambda r, _: str(low(r.b)),
    "dest_cpu": lambda r, _: str(r.b >> 32),
    "target_cpu": lambda r, n: f"{r.a >> 48:03d}",
    "host": lambda r, n: f"{r.a >> 32}",
    "pool": lambda r, n: f"{r.a & 0xFFFF_FFFF}",
    "next_comm": lambda r, n: _comm(r.b, n),
    "next_pid": lambda r, n: low(r.b),
    "next_prio": lambda r, n: r.b >> 32 & 0xFFFF,
    "target_mask": lambda r, n: _mask(r.b),
    "ipi": _ipi,
    "tasklet": _at("tasklet", lambda r: r.a),
    "timer": _at("timer", lambda r: low(r.a)),
    "hrtimer": _at("hrtimer", lambda r: low(r.a)),
    "timer_function": lambda r, n: _function(r.a >> 32 & 0xFFFF, n),
    "timer_cpu": lambda r, n: r.a >> 24 & 0xFF,
    "timer_flags": lambda r, n: "|".join(
        letter for bit, letter in enumerate("DPI") if r.a >> 48 + bit & 1
    ),
    "index": lambda r, n: r.a >> 52 & 0x3FF,
    "jiffies": _jiffies,
    "timeout": lambda r, n: r.b - _jiffies(r, n),
    "expiry": lambda r, n: r.b - n.boot_ns,
    "now": lambda r, n: r.time_ns - n.boot_ns,
    "work": _at("work", lambda r: low(r.a)),
    "workqueue": _at("workqueue", lambda r: r.b >> 32),
    "workqueue_name": lambda r, n: _index(n.symbols, r.b >> 32),
    "req_cpu": lambda r, n: (r.a >> 32 & 0xFFFF) - 1 if r.a >> 32 & 0xFFFF else _nr_cpus(n),
    "pool_cpu": _pool_cpu,
    "function": lambda r, n: _function(low(r.b), n),
    "napi": _at("napi", lambda r: r.a),
    "napi_device": lambda r, n: _device(r.a & 0xFFFF, n),
    "work_done": lambda r, n: low(r.b),
    "budget": lambda r, n: r.b >> 32,
    "skb": _at("skb", lambda r: r.a),
    "dst": lambda r, n: f"{r.a >> 24}:{r.a & 0xFF_FFFF}",
    "hp_cpu": lambda r, n: r.a & 0xFF,
    "hp_way": lambda r, n: _index(CPUHP_WAYS, r.a >> 8 & 0xFF),
    "gc_freed": lambda r, n: low(r.a),
    "gc_busy": lambda r, n: r.a >> 32,
    "device": lambda r, n: _device(r.b & 0xFFFF, n),
    "length": lambda r, n: r.b >> 32,
    "tx_device": lambda r, n: _device(r.b >> 32 & 0xFFFF, n),
    "tx_length": lambda r, n: r.b >> 48,
    "protocol": lambda r, n: r.b >> 32 or (ETH_P_IP if r.a else 0),
    "location": _at("location", lambda r: r.b & 0xFFFF),
    "reason": lambda r, n: _index(DROP_REASONS, r.b & 0xFFFF),
    "echo": _echo,
    "entry": lambda r, n: r.b & 0xFFFF,
    "queue": lambda r, n: r.b >> 16 & 0xFFFF,
    "nic": lambda r, n: _index(n.nics, r.a),
    "doorbell_queue": lambda r, n: r.b & 0xFFFF,
    "tail": lambda r, n: r.b >> 16,
    "register": lambda r, n: name_of(r.b),
    "own_fields": lambda r, n: _fields(r.a, low(r.b)),
    "written_fields": lambda r, n: _fields(r.b >> 32, low(r.b)),
    "message": lambda r, n: _message(r.a, r.b),
    "fault": lambda r, n: _fault(r.a),
    "met_fault": lambda r, n: _fault(r.context),
    "broken": lambda r, n: "broken" if r.b else "mended",
    "intx": lambda r, n: "ABCD"[r.a - 1 & 3],
    "slot": lambda r, n: (r.context & 0xFF) + 1,
    "slot_state": lambda r, n: f"card={r.a & 1} link={r.a >> 1 & 1} power={r.a >> 2 & 1}",
    "apic_reason": lambda r, n: _APIC_DROPS.get(r.a, r.a),
    "written_register": lambda r, n: name_of(r.b >> 32),
    "value": lambda r, n: f"{low(r.b):#010x}",
    "own_register": lambda r, n: name_of(r.a),
    "ring_entry": lambda r, n: low(r.b),
    "ring_queue": lambda r, n: r.b >> 32,
    "rx_reason": lambda r, n: _index(RX_DROPS, r.b),
    "tx_reason": lambda r, n: _index(TX_DROPS, r.b),
    "source": lambda r, n: _index(n.nics, r.context),
    "routed": lambda r, n: r.a & 0xFF,
    "routed_mode": lambda r, n: r.a >> 8,
    "from_port": lambda r, n: r.b >> 16,
    "to_port": lambda r, n: r.b & 0xFFFF,
}
