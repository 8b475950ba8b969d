"""What a lab prints of a trace record: one row an event, grouped by what a lab wants to show.

Rows of the packet's way are those of ``follow``. A row may have several lines: the group ``flow``
names every function on an interrupt's way. An event without a row (a new tracepoint) is printed
with its plain arguments, so that a lab can show it without a change here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bus.faults import BY_NUMBER as FAULTS
from bus.recorder import Record, Tracepoint
from nodes.apic.msi import MODE_NAMES
from nodes.apic.trace import TRACEPOINTS as APIC_EVENTS
from nodes.cpu.kernel.params import Params
from nodes.cpu.page import CONTEXTS
from nodes.cpu.trace import CPUHP_WAYS, unpack_context
from nodes.cpu.trace import TRACEPOINTS as CPU_EVENTS
from nodes.lan.trace import TRACEPOINTS as LAN_EVENTS
from nodes.nic.trace import TRACEPOINTS as NIC_EVENTS
from orchestrator.labs.contexts import PID_MASK
from orchestrator.views import followtable
from orchestrator.views.followtable import World

EVENTS: dict[str, dict[str, Tracepoint]] = {
    "cpu": CPU_EVENTS,
    "nic": NIC_EVENTS,
    "lan": LAN_EVENTS,
    "apic": APIC_EVENTS,
}
NAMES = {kind: {t.number: t.name for t in table.values()} for kind, table in EVENTS.items()}

#: Groups for ``show``: events of each kind of node. Names that no node knows yet are left out.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "irq": {
        "cpu": (
            "irq_handler_entry", "irq_handler_exit", "local_timer_entry", "reschedule_entry",
            "call_function_entry", "call_function_single_entry", "nmi_handler",
        )
    },
    "softirq": {"cpu": ("softirq_raise", "softirq_entry", "softirq_exit")},
    "tasklet": {
        "cpu": ("tasklet_entry", "tasklet_exit", "tasklet_hi_entry", "tasklet_hi_exit")
    },
    "timer": {"cpu": ("timer_expire_entry", "hrtimer_expire_entry")},
    "sched": {"cpu": ("sched_switch", "sched_wakeup", "sched_wakeup_new")},
    "workqueue": {
        "cpu": ("workqueue_queue_work", "workqueue_activate_work", "workqueue_execute_start",
                "workqueue_execute_end")
    },
    "dst": {"cpu": ("dst_free", "dst_gc_task")},
    "cpuhp": {"cpu": ("cpuhp_enter", "sched_migrate_task")},
    "ipi": {
        "cpu": ("ipi_send", "reschedule_entry", "reschedule_exit", "call_function_entry",
                "call_function_exit"),
        "apic": ("ipi",),
    },
    "slot": {"apic": ("slot",)},
    "msi": {"nic": ("msi", "msi_pending"), "apic": ("msi", "route", "drop")},
    "fault": {"nic": ("fault", "msi_fault"), "apic": ("fault",)},
    "flow": {
        "nic": ("msi", "msi_pending"),
        "apic": ("msi", "route"),
        "cpu": ("irq_handler_entry", "irq_handler_exit", "softirq_raise", "softirq_entry",
                "napi_poll", "softirq_exit"),
    },
    "preempt": {
        "cpu": (
            "sys_sendmsg", "ip_output", "net_dev_queue", "net_dev_xmit", "irq_handler_entry",
            "softirq_raise", "softirq_entry", "ip_rcv", "icmp_rcv", "sock_queue_rcv",
            "softirq_exit", "local_timer_entry", "reschedule_entry", "recvmsg", "nmi_handler",
        )
    },
    "packet": {
        kind: tuple(NAMES[kind][number] for number in rows)
        for kind, rows in followtable.ROWS.items()
    },
}  # fmt: skip


class LabWorld(NamedTuple):
    """Names that records refer to by number."""

    follow: World
    params: Params
    irqs: Mapping[int, str]
    comms: Mapping[int, str]  # by pid
    nics: tuple[str, ...]


def check_show(word: str) -> bool:
    """Is it a group, or an event of some node?"""
    return word in GROUPS or any(word in table for table in EVENTS.values())


def chosen(show: tuple[str, ...]) -> dict[str, set[int]]:
    """Events to print, by kind of node."""
    found: dict[str, set[int]] = {kind: set() for kind in EVENTS}
    for word in show:
        for kind, table in EVENTS.items():
            names = GROUPS[word].get(kind, ()) if word in GROUPS else (word,)
            found[kind].update(table[name].number for name in names if name in table)
    return found


# ---------------------------------------------------------------- texts

_IRQ_RETURN = {0: "IRQ_NONE", 1: "IRQ_HANDLED", 2: "IRQ_WAKE_THREAD"}

#: event -> the lines; ``{parts}`` are below
CPU_TEXTS: dict[str, tuple[str, ...]] = {
    "irq_handler_entry": ("irq {irq}: vector {b:#04x}, handler begins",),
    "irq_handler_exit": ("irq {irq}: {returned}",),
    "softirq_raise": ("{softirq} raised",),
    "softirq_entry": ("{softirq} runs",),
    "softirq_exit": ("{softirq} done",),
    "sched_switch": ("switch: {prev} -> {next}",),
    "sched_wakeup": ("wakes {woken}",),
    "local_timer_entry": ("local timer: vector {a:#04x}",),
    "sched_wakeup_new": ("new task {woken}",),
    "reschedule_entry": ("reschedule IPI",),
    "reschedule_exit": ("reschedule IPI done: {b} records taken",),
    "call_function_entry": ("call function IPI",),
    "call_function_exit": ("call function IPI done: {b} records taken",),
    "ipi_send": ("ICR write: vector {a:#04x} to cpu{b}",),
    "napi_poll": ("{device} queue {napi_queue} polled: {work} of {budget}",),
    "tasklet_entry": ("tasklet {function} runs",),
    "tasklet_exit": ("tasklet {function} done",),
    "tasklet_hi_entry": ("tasklet {function} runs (HI)",),
    "tasklet_hi_exit": ("tasklet {function} done (HI)",),
    "timer_expire_entry": ("timer expires: {function}",),
    "workqueue_queue_work": ("work {function} queued on {workqueue}{asked}",),
    "workqueue_activate_work": ("work {function} is active: on the worklist",),
    "workqueue_execute_start": ("work {function} begins",),
    "workqueue_execute_end": ("work {function} ends",),
    "cpuhp_enter": ("cpu{hp_cpu} {hp_way}: {function}",),
    "sched_migrate_task": ("{woken} moves to cpu{to_cpu}",),
    "dst_gc_task": ("collector: {gc_freed} freed, {gc_busy} busy{gc_next}",),
    "dst_free": ("dst {dst} {dst_end}",),
}
#: Where a record holds ``{function}`` and ``{workqueue}``, symbols of its CPU (0: it has none).
SYMBOLS: dict[str, Callable[[Record], tuple[int, int]]] = {
    "timer_expire_entry": lambda r: (r.a >> 32 & 0xFFFF, 0),
    **dict.fromkeys(
        ("tasklet_entry", "tasklet_exit", "tasklet_hi_entry", "tasklet_hi_exit",
         "workqueue_queue_work", "workqueue_activate_work", "workqueue_execute_start",
         "workqueue_execute_end", "cpuhp_enter"),
        lambda r: (r.b & 0xFFFF_FFFF, r.b >> 32),
    ),
}  # fmt: skip
_SYMBOLS = {CPU_EVENTS[name].number: where for name, where in SYMBOLS.items()}
APIC_TEXTS: dict[str, tuple[str, ...]] = {
    "msi": ("takes the write {a:#x} = {b:#06x}: {msi_fields}",),
    "route": ("vector {vector:#04x} to cpu{b}",),
    "fault": ("fault {fault} {broken}",),
    "slot": ("slot {slot_number}: {slot_state}; SltSta {b:#06x}",),
}
NIC_TEXTS: dict[str, tuple[str, ...]] = {
    "msi": ("MSI-X vector {context}: writes {b:#06x} to {a:#x}",),
    "msi_pending": ("MSI-X vector {a} is masked: its pending bit is set",),
    "fault": ("fault {fault} {broken}",),
    "msi_fault": ("message {b:#06x} to {a:#x} met fault {met_fault}",),
}
#: The group ``flow``: every step by name.
FLOW_TEXTS: dict[str, dict[str, tuple[str, ...]]] = {
    "nic": {
        "msi": (
            "EIMS allows it, EITR has run out: MSI-X entry {context}",
            "posted write {a:#x} = {b:#06x}: the interrupt",
        ),
    },
    "apic": {
        "msi": ("decodes the write: {msi_fields}",),
        "route": ("interrupt message to cpu{b}: vector {vector:#04x}, {delivery}",),
    },
    "cpu": {
        "irq_handler_entry": (
            "IRR bit {b:#04x} and IF were set: taken at a boundary",
            "IF = 0, IRR -> ISR; gate {b:#04x}: common_interrupt",
            "irq_enter: preempt_count {preempt:#x}",
            "vector_irq[{b:#04x}] -> irq_desc of irq {irq}",
            "handle_irq = handle_edge_irq; irq_ack: EOI, ISR clear",
            "handle_irq_event: IRQD_IRQ_INPROGRESS set",
            "action->handler = {handler}",
        ),
        "softirq_raise": ("napi_schedule: on poll_list; {softirq} raised",),
        "irq_handler_exit": ("handler: {returned}; INPROGRESS clear",),
        "softirq_entry": (
            "irq_exit: HARDIRQ gone, {softirq} pending: __do_softirq",
            "IF = 1, preempt_count {preempt:#x}: {action}",
        ),
        "napi_poll": (
            "ixgbe_poll of {device} queue {napi_queue}: {work} of {budget}",
            "napi_complete; EIMS: the NIC may interrupt again",
        ),
        "softirq_exit": ("nothing pending any more; iret: back to {task}",),
    },
}


#: The same with ``irq_flow = do_irq``: one __do_IRQ for all lines, and handlers with IF = 1.
FLOW_TEXTS_DO_IRQ: dict[str, tuple[str, ...]] = {
    "irq_handler_entry": (
        "IRR bit {b:#04x} and IF were set: taken at a boundary",
        "IF = 0, IRR -> ISR; gate {b:#04x}: common_interrupt",
        "do_IRQ, irq_enter: preempt_count {preempt:#x}",
        "irq_desc of irq {irq}: __do_IRQ",
        "chip->ack masks the MSI-X entry; INPROGRESS set",
        "handle_IRQ_event: IF = {if_flag}",
        "action->handler = {handler}",
    ),
    "irq_handler_exit": (
        "handler: {returned}; IF = 0, INPROGRESS clear",
        "chip->end unmasks the entry; EOI, ISR clear",
    ),
}


def _flow_texts(kind: str, name: str, record: Record, world: LabWorld) -> tuple[str, ...] | None:
    """The lines of the group ``flow``; none for what is not on a NIC interrupt's way."""
    if name == "route" and record.a & 0xFF in (
        world.params.reschedule_vector,
        world.params.call_function_single_vector,
    ):
        return ()
    if name.startswith("softirq_") and _softirq(record.a, world.params) != "NET_RX":
        return ()
    if kind == "cpu" and name in FLOW_TEXTS_DO_IRQ and world.params.irq_flow == "do_irq":
        return FLOW_TEXTS_DO_IRQ[name]
    return FLOW_TEXTS.get(kind, {}).get(name)


def lines_of(
    kind: str,
    record: Record,
    world: LabWorld,
    show: tuple[str, ...],
    symbols: Sequence[str] = (),
) -> tuple[str, ...]:
    """The texts for one record; ``symbols`` are those of its CPU."""
    name = NAMES[kind].get(record.event, str(record.event))
    if "preempt" in show and kind == "cpu":
        return (f"{name:<18}{_set_fields(preempt_count(record, world.params), world.params)}",)
    texts = _flow_texts(kind, name, record, world) if "flow" in show else None
    texts = _OWN[kind].get(name) if texts is None else texts
    if texts is None:
        row = followtable.ROWS[kind].get(record.event)
        if row is not None and row.text:
            return (followtable.render(row.text, kind, record, world.follow),)
        return (f"{name} {record.a:#x} {record.b:#x}",)
    function, workqueue = (symbols[n] if n < len(symbols) else f"#{n}" for n in symbols_of(record))
    return tuple(_render(text, record, world, function, workqueue) for text in texts)


def symbols_of(record: Record) -> tuple[int, int]:
    """Numbers of the names in a CPU's record: a function's, a workqueue's; 0: it holds none."""
    where = _SYMBOLS.get(record.event)
    return where(record) if where is not None else (0, 0)


_OWN: dict[str, dict[str, tuple[str, ...]]] = {
    "cpu": CPU_TEXTS,
    "apic": APIC_TEXTS,
    "nic": NIC_TEXTS,
    "lan": {},
}


def _render(text: str, record: Record, world: LabWorld, function: str, workqueue: str) -> str:
    parts = {name: part(record, world) for name, part in _PARTS.items() if f"{{{name}" in text}
    parts |= {"a": record.a, "b": record.b, "context": record.context & 0xFF}
    return text.format(function=function, workqueue=workqueue, **parts)


def context_of(kind: str, record: Record) -> str:
    """In which context of its process it happened."""
    if kind != "cpu":
        return {"nic": "NIC", "apic": "APIC", "lan": "switch"}[kind]
    index = record.context & 0xFF
    return CONTEXTS[index] if index < len(CONTEXTS) else "?"


def preempt_count(record: Record, params: Params) -> int:
    """preempt_count when the record was made. Hard interrupts that nest show as one: a record
    has no room for more."""
    context = unpack_context(record.context)
    return (
        context.preempt_depth
        | context.softirq_field << 8
        | (0x10000 if context.hardirq else 0)
        | (params.nmi_offset if context.nmi else 0)
    )


def decoded(count: int, params: Params) -> str:
    """``0x00010200 NMI 0 HARDIRQ 1 SOFTIRQ 0x2 PREEMPT 0``, each field as a number of its own."""
    nmi = (count & params.nmi_mask) // params.nmi_offset if params.nmi_offset else 0
    hard = (count & params.hardirq_mask) >> 16
    softirq, preempt = count >> 8 & 0xFF, count & 0xFF
    return f"{count:#010x} NMI {nmi} HARDIRQ {hard} SOFTIRQ {softirq:#x} PREEMPT {preempt}"


def _set_fields(count: int, params: Params) -> str:
    """The count and the fields of it that are not zero."""
    fields = (
        ("NMI", (count & params.nmi_mask) // (params.nmi_offset or 1)),
        ("HARDIRQ", (count & params.hardirq_mask) >> 16),
        ("SOFTIRQ", count >> 8 & 0xFF),
        ("PREEMPT", count & 0xFF),
    )
    shown = " ".join(f"{name} {value}" for name, value in fields if value)
    return f"{count:#010x} {shown}".rstrip()


def _softirq(number: int, params: Params) -> str:
    names = params.softirq_names
    return names[number] if number < len(names) else f"softirq {number}"


def _comm(task: int, world: LabWorld) -> str:
    pid = task & PID_MASK
    if pid == 0:
        return "idle"
    return world.comms.get(pid, f"pid {pid}")


def _msi_fields(record: Record, world: LabWorld) -> str:
    destination = record.a >> 12 & 0xFF
    mode = "logical" if record.a & 4 else "physical"
    kind = MODE_NAMES.get(record.b >> 8 & 7, "reserved")
    trigger = "level" if record.b & 0x8000 else "edge"
    return f"{mode} {destination:#04x}, vector {record.b & 0xFF:#04x}, {kind}, {trigger}"


_PARTS: dict[str, Callable[[Record, LabWorld], object]] = {
    "irq": lambda r, w: f"{r.a} ({w.irqs[r.a]})" if r.a in w.irqs else str(r.a),
    "asked": lambda r, w: f", CPU {(r.a >> 32 & 0xFFFF) - 1} asked for" if r.a >> 32 & 0xFFFF
                          else "",
    "returned": lambda r, w: _IRQ_RETURN.get(r.b, str(r.b)),
    "softirq": lambda r, w: _softirq(r.a, w.params),
    "action": lambda r, w: {"NET_RX": "net_rx_action", "NET_TX": "net_tx_action",
                            "TIMER": "run_timer_softirq"}.get(_softirq(r.a, w.params), "action"),
    "prev": lambda r, w: _comm(r.a, w),
    "next": lambda r, w: _comm(r.b, w),
    "woken": lambda r, w: _comm(r.a, w),
    "task": lambda r, w: _comm(unpack_context(r.context).pid, w),
    "preempt": lambda r, w: preempt_count(r, w.params),
    "if_flag": lambda r, w: int(not unpack_context(r.context).irqs_off),
    "handler": lambda r, w: (
        "ixgbe_msix_clean_rings" if "TxRx" in w.irqs.get(r.a, "TxRx") else "ixgbe_msix_other"
    ),
    "device": lambda r, w: w.follow.devices.get(r.a & 0xFFFF, f"if{r.a & 0xFFFF}"),
    "napi_queue": lambda r, w: r.a >> 16 & 0xFFFF,
    "work": lambda r, w: r.b & 0xFFFF_FFFF,
    "budget": lambda r, w: r.b >> 32,
    "vector": lambda r, w: r.a & 0xFF,
    "delivery": lambda r, w: MODE_NAMES.get(r.a >> 8 & 7, "reserved"),
    "dst": lambda r, w: f"{r.a >> 24}:{r.a & 0xFF_FFFF}",
    "dst_end": lambda r, w: (
        f"dies, {r.b} hold it: dst_garbage.list" if r.b else "is destroyed"
    ),
    "hp_cpu": lambda r, w: r.a & 0xFF,
    "hp_way": lambda r, w: CPUHP_WAYS[r.a >> 8 & 0xFF],
    "to_cpu": lambda r, w: r.b >> 32,
    "gc_freed": lambda r, w: r.a & 0xFFFF_FFFF,
    "gc_busy": lambda r, w: r.a >> 32,
    "gc_next": lambda r, w: f"; again in {r.b / w.params.hz:.3g} s" if r.b else "",
    "msi_fields": _msi_fields,
    "fault": lambda r, w: FAULTS[r.a].name,
    "met_fault": lambda r, w: FAULTS[r.context].name,
    "broken": lambda r, w: "broken" if r.b else "mended",
    "slot_number": lambda r, w: (r.context & 0xFF) + 1,
    "slot_state": lambda r, w: ", ".join(
        there if r.a >> bit & 1 else not_there
        for bit, (there, not_there) in enumerate(
            (("card", "no card"), ("link up", "link down"), ("power", "no power"))
        )
    ),
}  # fmt: skip
