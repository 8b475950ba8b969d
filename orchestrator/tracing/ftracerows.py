"""What each trace record prints: one row an event, the fields as Linux's tracepoint has them.

After include/trace/events/{irq,sched,timer,workqueue,napi,net,skb,ipi}.h and x86's irq_vectors.h.
``{parts}`` of a text are filled in from the record (``ftraceparts``). ``eras`` are the behaviours
``ftrace_format`` whose kernel has the tracepoint; a row that no kernel has (or not on x86) prints a
fact of ours in the same columns and says ``anyway``.

Long because the events are many: all of it is data, and one table for each kind of node.
"""

from __future__ import annotations

from typing import NamedTuple

LINUX = ("2.6.39", "3.10", "6.1")
MODERN = ("6.1",)
NOWHERE = ()

#: Groups of ``-e`` in the order of the help; the first ones are what is traced without ``-e``.
DEFAULT_GROUPS = (
    "irq", "softirq", "tasklet", "timer", "sched", "ipi", "workqueue", "napi", "net",
)  # fmt: skip
GROUPS = (*DEFAULT_GROUPS, "cpuhp", "pool", "packet", "mmio", "dma", "msi", "wire", "lan", "fault")


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
    "netif_rx": Row("net", _SKB),
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
