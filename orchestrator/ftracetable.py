"""What each trace record prints: one row an event, the fields as Linux's tracepoint has them.

After include/trace/events/{irq,sched,timer,workqueue,napi,net,skb,ipi}.h and x86's irq_vectors.h.
``{parts}`` of a text are filled in from the record (``_PARTS``). ``eras`` are the behaviours
``ftrace_format`` whose kernel has the tracepoint; a row that no kernel has (or not on x86) prints a
fact of ours in the same columns and says ``anyway``.

Objects have no addresses here: what stands for ``%p`` is made up from the object's number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bus.faults import BY_NUMBER as FAULTS
from bus.recorder import Record, Tracepoint
from nodes.apic.msi import MODE_NAMES
from nodes.apic.page import DROP_NUMBERS
from nodes.apic.trace import TRACEPOINTS as APIC_EVENTS
from nodes.cpu.kernel.params import Params
from nodes.cpu.page import DROP_REASONS
from nodes.cpu.trace import CPUHP_WAYS
from nodes.cpu.trace import TRACEPOINTS as CPU_EVENTS
from nodes.lan.trace import TRACEPOINTS as LAN_EVENTS
from nodes.nic.page import RX_DROPS, TX_DROPS
from nodes.nic.registers import decode, name_of
from nodes.nic.trace import TRACEPOINTS as NIC_EVENTS
from orchestrator.ftrace import UNKNOWN_COMM, Layout, pointer

LINUX = ("2.6.39", "3.10", "6.1")
MODERN = ("6.1",)
NOWHERE = ()

#: Groups of ``-e`` in the order of the help; the first ones are what is traced without ``-e``.
DEFAULT_GROUPS = (
    "irq", "softirq", "tasklet", "timer", "sched", "ipi", "workqueue", "napi", "net",
)  # fmt: skip
GROUPS = (*DEFAULT_GROUPS, "cpuhp", "pool", "packet", "mmio", "dma", "msi", "wire", "lan", "fault")

ETH_P_IP = 0x0800
#: Modules whose functions print with their name behind them.
_MODULES = {"bond_": "bonding", "ixgbe_": "ixgbe", "ad_": "bonding"}
_STATES_310 = {0: "R", 1: "S", 2: "D", 4: "T", 8: "t", 0x20: "x", 0x80: "x", 0x402: "S"}
_STATES_61 = {0: "R", 1: "S", 2: "D", 4: "T", 8: "t", 0x20: "Z", 0x80: "X", 0x402: "I"}
#: Classes of ``nodes.ledger`` in a packet's key.
_ECHO = {1: "request", 2: "reply"}
_APIC_DROPS = {number: reason for reason, number in DROP_NUMBERS.items()}


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


class Row(NamedTuple):
    """How one event prints."""

    group: str
    text: str
    new: str = ""  # the fields as 6.1 has them, where they differ
    name: str = ""  # of the tracepoint, where ours is called otherwise
    eras: tuple[str, ...] = LINUX
    anyway: bool = False  # printed in eras that lack it too
    irqs_off: bool = False  # Linux has interrupts off at this point
    held: int = 0  # levels of preemption that Linux's locks hold there
    idle_held: int | None = None  # the same where the idle task is current


def _ours(group: str, text: str, name: str = "") -> Row:
    return Row(group, text, name=name, eras=NOWHERE, anyway=True)


_TASK = "comm={comm} pid={pid} prio={prio}"
_WAKE = Row(
    "sched",
    _TASK + " success=1 target_cpu={target_cpu}",
    _TASK + " target_cpu={target_cpu}",
    irqs_off=True,
    held=3,
)
_ACTION = "vec={vec} [action={action}]"
_VECTOR = Row("ipi", "vector={a}", eras=MODERN, anyway=True, irqs_off=True)
_TASKLET = _ours("tasklet", "tasklet={tasklet} function={function}")
_SKB = "dev={device} skbaddr={skb} len={length}"

CPU_ROWS: dict[str, Row] = {
    "irq_handler_entry": Row("irq", "irq={a} name={irq_name}"),
    "irq_handler_exit": Row("irq", "irq={a} ret={ret}"),
    "softirq_raise": Row("softirq", _ACTION, irqs_off=True),
    "softirq_entry": Row("softirq", _ACTION),
    "softirq_exit": Row("softirq", _ACTION),
    "sched_switch": Row(
        "sched",
        "prev_comm={comm} prev_pid={pid} prev_prio={prio} prev_state={state} ==> "
        "next_comm={next_comm} next_pid={next_pid} next_prio={next_prio}",
        irqs_off=True,
        held=2,
        idle_held=1,  # schedule_idle does not disable preemption once more
    ),
    "sched_wakeup": _WAKE,
    "sched_wakeup_new": _WAKE,
    "sched_waking": _WAKE._replace(eras=MODERN, held=2),
    "sched_process_exit": Row("sched", _TASK),
    "sched_migrate_task": Row(
        "sched", _TASK + " orig_cpu={orig_cpu} dest_cpu={dest_cpu}", irqs_off=True, held=2
    ),
    "cpuhp_enter": _ours("cpuhp", "cpu={hp_cpu} {hp_way}: {function}"),
    "local_timer_entry": _VECTOR,
    "local_timer_exit": _VECTOR,
    "reschedule_entry": _VECTOR,
    "reschedule_exit": _VECTOR,
    "call_function_entry": _VECTOR._replace(name="call_function_single_entry"),
    "call_function_exit": _VECTOR._replace(name="call_function_single_exit"),
    "spurious_apic_entry": _VECTOR,
    "spurious_apic_exit": _VECTOR,
    "error_apic_entry": _VECTOR,
    "error_apic_exit": _VECTOR,
    "ipi_send": _ours("ipi", "target_mask={target_mask} ({ipi})", name="ipi_raise"),
    "tasklet_entry": _TASKLET,
    "tasklet_exit": _TASKLET,
    "tasklet_hi_entry": _TASKLET,
    "tasklet_hi_exit": _TASKLET,
    "timer_init": Row("timer", "timer={timer}"),
    "timer_start": Row(
        "timer",
        "timer={timer} function={timer_function} expires={b} [timeout={timeout}]",
        "timer={timer} function={timer_function} expires={b} [timeout={timeout}] "
        "cpu={timer_cpu} idx={index} flags={timer_flags}",
        irqs_off=True,
        held=1,
    ),
    "timer_cancel": Row("timer", "timer={timer}", irqs_off=True, held=1),
    "timer_expire_entry": Row(
        "timer",
        "timer={timer} function={timer_function} now={jiffies}",
        "timer={timer} function={timer_function} now={jiffies} baseclk={b}",
    ),
    "timer_expire_exit": Row("timer", "timer={timer}"),
    "hrtimer_init": Row(
        "timer",
        "hrtimer={hrtimer} clockid=CLOCK_MONOTONIC mode=HRTIMER_MODE_ABS",
        "hrtimer={hrtimer} clockid=CLOCK_MONOTONIC mode=ABS",
    ),
    "hrtimer_start": Row(
        "timer",
        "hrtimer={hrtimer} function={timer_function} expires={expiry} softexpires={expiry}",
        "hrtimer={hrtimer} function={timer_function} expires={expiry} softexpires={expiry} "
        "mode=ABS",
        irqs_off=True,
        held=1,
    ),
    "hrtimer_cancel": Row("timer", "hrtimer={hrtimer}", irqs_off=True, held=1),
    "hrtimer_expire_entry": Row(
        "timer", "hrtimer={hrtimer} function={timer_function} now={now}", irqs_off=True
    ),
    "hrtimer_expire_exit": Row("timer", "hrtimer={hrtimer}", irqs_off=True),
    "workqueue_queue_work": Row(
        "workqueue",
        "work struct={work} function={function} workqueue={workqueue} req_cpu={req_cpu} "
        "cpu={pool_cpu}",
        "work struct={work} function={function} workqueue={workqueue_name} req_cpu={req_cpu} "
        "cpu={pool_cpu}",
        irqs_off=True,
        held=1,
    ),
    "workqueue_activate_work": Row("workqueue", "work struct {work}", irqs_off=True, held=1),
    "workqueue_execute_start": Row("workqueue", "work struct {work}: function {function}"),
    "workqueue_execute_end": Row(
        "workqueue", "work struct {work}", "work struct {work}: function {function}"
    ),
    "worker_pool_nr_running": _ours("pool", "pool={pool} cpu={host} nr_running={b}"),
    "napi_poll": Row(
        "napi",
        "napi poll on napi struct {napi} for device {napi_device}",
        "napi poll on napi struct {napi} for device {napi_device} work {work_done} budget {budget}",
    ),
    "net_dev_queue": Row("net", _SKB),
    "net_dev_xmit": Row("net", "dev={tx_device} skbaddr={skb} len={tx_length} rc=0", held=1),
    "netif_receive_skb": Row("net", _SKB),
    "kfree_skb": Row(
        "net",
        "skbaddr={skb} protocol={protocol} location={location}",
        "skbaddr={skb} protocol={protocol} location={location} reason: {reason}",
    ),
    "dst_gc_task": _ours("net", "freed={gc_freed} busy={gc_busy} expires={b}"),
    "dst_free": _ours("net", "dst={dst} refcnt={b}"),
    "sys_sendmsg": _ours("packet", "{echo} socket={b}"),
    "ip_output": _ours("packet", "{echo} dev={device}"),
    "qdisc_enqueue": _ours("packet", "{echo} dev={device}"),
    "neigh_queue": _ours("packet", "{echo} waiting={b}"),
    "tap_transmit": _ours("packet", "{echo} dev={device}"),
    "bond_xmit": _ours("packet", "{echo} slave={device}"),
    "rx_clean": _ours("packet", "{echo} dev={tx_device} queue={queue} descriptor={entry}"),
    "tap_receive": _ours("packet", "{echo} dev={device}"),
    "bond_receive": _ours("packet", "{echo} slave={device}"),
    "ip_rcv": _ours("packet", "{echo} dev={device}"),
    "icmp_rcv": _ours("packet", "{echo} type={b}"),
    "sock_queue_rcv": _ours("packet", "{echo} socket={b}"),
    "sock_handover": _ours("packet", "{echo} target_cpu={b:03d}"),
    "recvmsg": _ours("packet", "{echo} rtt_ns={b}"),
    "doorbell": _ours("mmio", "dev={nic} TDT[{doorbell_queue}]={tail}"),
    "mmio_read": _ours("mmio", "dev={nic} {register}"),
    "mmio_write": _ours("mmio", "dev={nic} {written_register}={value}{written_fields}"),
}
NIC_ROWS: dict[str, Row] = {
    "reset": _ours("mmio", "CTRL={a:#010x}"),
    "link": _ours("wire", "up={a}"),
    "laser": _ours("wire", "on={a}"),
    "doorbell": _ours("mmio", "TDT[{b}]={a}"),
    "tx_dma": _ours("dma", "{echo} queue={ring_queue} descriptor={ring_entry}"),
    "tx_wire": _ours("wire", "{echo} queue={ring_queue} descriptor={ring_entry}"),
    "tx_writeback": _ours("dma", "queue={b} descriptors={a}"),
    "rx_wire": _ours("wire", "{echo}"),
    "rx_drop": _ours("wire", "{echo} reason={rx_reason}"),
    "rx_dma": _ours(
        "dma", "{echo} queue={ring_queue} descriptor={ring_entry} rss_hash={context:#010x}"
    ),
    "msi": _ours("msi", "vector={context} address={a:#010x} data={b:#06x} {message}"),
    "msi_pending": _ours("msi", "vector={a} masked"),
    "mmio_write": _ours("mmio", "{own_register}={b:#010x}{own_fields}"),
    "mmio_read": _ours("mmio", "{own_register}={b:#010x}{own_fields}"),
    "tx_drop": _ours("wire", "{echo} reason={tx_reason}"),
    "fault": _ours("fault", "{fault} {broken}"),
    "msi_fault": _ours("msi", "{met_fault} address={a:#010x} data={b:#06x} {message}"),
}
APIC_ROWS: dict[str, Row] = {
    "msi": _ours("msi", "source={source} address={a:#010x} data={b:#06x} {message}"),
    "route": _ours("msi", "vector={routed:#04x} mode={routed_mode} cpu={b:03d}"),
    "ipi": _ours("msi", "cpu={context:03d} ICR={a:#018x}", name="icr"),
    "drop": _ours("msi", "reason={apic_reason}"),
    "intx": _ours("msi", "source={source} pin=INT{intx} asserted={b}"),
    "eoi": _ours("msi", "cpu={context:03d} vector={a:#04x}"),
    "ioapic_write": _ours("mmio", "cpu={context:03d} offset={a:#04x} value={b:#010x}"),
    "ioapic_read": _ours("mmio", "cpu={context:03d} offset={a:#04x} value={b:#010x}"),
    "slot": _ours("mmio", "slot={slot} {slot_state} SltSta={b:#06x}"),
    "fault": _ours("fault", "{fault} {broken}"),
}
LAN_ROWS: dict[str, Row] = {
    name: _ours("lan", text)
    for name, text in {
        "in": "{echo} port={b}",
        "forward": "{echo} from={from_port} to={to_port}",
        "flood": "{echo} from={from_port} copies={to_port}",
        "drop": "{echo} port={b} reason={context}",
        "gateway": "{echo} answered={b}",
        "gateway_drop": "{echo} reason={context}",
        "link": "port={b} up={a}",
        "cable": "port={b} in={a}",
        "learn": "address={a:012x} port={b}",
    }.items()
} | {"fault": _ours("fault", "{fault} {broken} port={context}")}


class Shown(NamedTuple):
    """A tracepoint of one kind of node and its row."""

    name: str  # as it is printed
    row: Row


def _by_number(events: Mapping[str, Tracepoint], rows: Mapping[str, Row]) -> dict[int, Shown]:
    return {
        point.number: Shown(rows[name].name or name, rows[name])
        for name, point in events.items()
        if name in rows
    }


TABLES: dict[str, Mapping[int, Shown]] = {
    "cpu": _by_number(CPU_EVENTS, CPU_ROWS),
    "nic": _by_number(NIC_EVENTS, NIC_ROWS),
    "apic": _by_number(APIC_EVENTS, APIC_ROWS),
    "lan": _by_number(LAN_EVENTS, LAN_ROWS),
}
#: Recorded with any of a CPU's events, shown only if asked for: it names new tasks.
NAMES_TASKS = CPU_EVENTS["sched_wakeup_new"].number


def event_names() -> list[str]:
    """Every name that ``-e`` takes beside the groups."""
    return sorted({shown.name for table in TABLES.values() for shown in table.values()})


def select(kind: str, wanted: Sequence[str], ftrace_format: str) -> int:
    """Recorder mask of the events of one kind of node that ``-e`` means; groups leave out what
    another era prints instead."""
    mask = 0
    for number, (name, row) in TABLES[kind].items():
        by_group = row.group in wanted and (row.anyway or ftrace_format in row.eras)
        if by_group or (name in wanted and name not in GROUPS):
            mask |= 1 << number
    return mask


def text(row: Row, record: Record, names: Names) -> str:
    """The fields of one record."""
    form = row.new if row.new and names.layout.new_texts else row.text
    parts: dict[str, object] = {
        part: _PARTS[part](record, names) for part in re.findall(r"{(\w+)", form) if part in _PARTS
    }
    return form.format(a=record.a, b=record.b, context=record.context, cpu=names.cpu, **parts)


# ---------------------------------------------------------------- parts


def _low(word: int) -> int:
    return word & 0xFFFF_FFFF


def _comm(word: int, names: Names) -> str:
    """Name of a task inside an event's text."""
    pid = _low(word)
    return names.comms.get(pid, UNKNOWN_COMM) if pid else f"swapper/{names.cpu}"


def _index(texts: Sequence[str], index: int) -> str:
    return texts[index] if index < len(texts) else str(index)


def symbol_of(row: Row, record: Record) -> int | None:
    """Number of the name that a record of this row means, if it means one; the larger of two."""
    if "{workqueue_name}" in row.new:
        return max(_low(record.b), record.b >> 32)
    if "{function}" in row.text + row.new:
        return _low(record.b)
    return record.a >> 32 & 0xFFFF if "{timer_function}" in row.text else None


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


_GUEST = {1: "MSI", 2: "MSI-X"}


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


_PARTS: dict[str, Callable[[Record, Names], object]] = {
    "irq_name": lambda r, n: n.irqs.get(r.a, "?"),
    "ret": lambda r, n: "handled" if r.b else "unhandled",
    "vec": lambda r, n: r.a,
    "action": lambda r, n: _index(n.params.softirq_names, r.a),
    "comm": lambda r, n: _comm(r.a, n),
    "pid": lambda r, n: _low(r.a),
    "prio": lambda r, n: r.a >> 32 & 0xFFFF,
    "state": lambda r, n: (_STATES_61 if n.layout.new_texts else _STATES_310).get(r.a >> 48, "?"),
    "orig_cpu": lambda r, _: str(_low(r.b)),
    "dest_cpu": lambda r, _: str(r.b >> 32),
    "target_cpu": lambda r, n: f"{r.a >> 48:03d}",
    "host": lambda r, n: f"{r.a >> 32}",
    "pool": lambda r, n: f"{r.a & 0xFFFF_FFFF}",
    "next_comm": lambda r, n: _comm(r.b, n),
    "next_pid": lambda r, n: _low(r.b),
    "next_prio": lambda r, n: r.b >> 32 & 0xFFFF,
    "target_mask": lambda r, n: _mask(r.b),
    "ipi": _ipi,
    "tasklet": _at("tasklet", lambda r: r.a),
    "timer": _at("timer", lambda r: _low(r.a)),
    "hrtimer": _at("hrtimer", lambda r: _low(r.a)),
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
    "work": _at("work", lambda r: _low(r.a)),
    "workqueue": _at("workqueue", lambda r: r.b >> 32),
    "workqueue_name": lambda r, n: _index(n.symbols, r.b >> 32),
    "req_cpu": lambda r, n: (r.a >> 32 & 0xFFFF) - 1 if r.a >> 32 & 0xFFFF else _nr_cpus(n),
    "pool_cpu": _pool_cpu,
    "function": lambda r, n: _function(_low(r.b), n),
    "napi": _at("napi", lambda r: r.a),
    "napi_device": lambda r, n: _device(r.a & 0xFFFF, n),
    "work_done": lambda r, n: _low(r.b),
    "budget": lambda r, n: r.b >> 32,
    "skb": _at("skb", lambda r: r.a),
    "dst": lambda r, n: f"{r.a >> 24}:{r.a & 0xFF_FFFF}",
    "hp_cpu": lambda r, n: r.a & 0xFF,
    "hp_way": lambda r, n: _index(CPUHP_WAYS, r.a >> 8 & 0xFF),
    "gc_freed": lambda r, n: _low(r.a),
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
    "own_fields": lambda r, n: _fields(r.a, _low(r.b)),
    "written_fields": lambda r, n: _fields(r.b >> 32, _low(r.b)),
    "message": lambda r, n: _message(r.a, r.b),
    "fault": lambda r, n: _fault(r.a),
    "met_fault": lambda r, n: _fault(r.context),
    "broken": lambda r, n: "broken" if r.b else "mended",
    "intx": lambda r, n: "ABCD"[r.a - 1 & 3],
    "slot": lambda r, n: (r.context & 0xFF) + 1,
    "slot_state": lambda r, n: f"card={r.a & 1} link={r.a >> 1 & 1} power={r.a >> 2 & 1}",
    "apic_reason": lambda r, n: _APIC_DROPS.get(r.a, r.a),
    "written_register": lambda r, n: name_of(r.b >> 32),
    "value": lambda r, n: f"{_low(r.b):#010x}",
    "own_register": lambda r, n: name_of(r.a),
    "ring_entry": lambda r, n: _low(r.b),
    "ring_queue": lambda r, n: r.b >> 32,
    "rx_reason": lambda r, n: _index(RX_DROPS, r.b),
    "tx_reason": lambda r, n: _index(TX_DROPS, r.b),
    "source": lambda r, n: _index(n.nics, r.context),
    "routed": lambda r, n: r.a & 0xFF,
    "routed_mode": lambda r, n: r.a >> 8,
    "from_port": lambda r, n: r.b >> 16,
    "to_port": lambda r, n: r.b & 0xFFFF,
}
