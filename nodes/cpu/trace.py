"""Tracepoints of a CPU: names are ftrace's where the kernel has the event.

The context word of a record: bits 0-7 index into ``CONTEXTS``, 8-15 interrupt frames on the stack,
16 interrupts off, 17 need_resched, 18 in a hard interrupt, 19 in an NMI, 20-23 preempt depth,
24-31 the softirq field of preempt_count, 32-55 pid of the current task (``unpack_context``).
Packet events carry in ``a`` the packet key (class << 32 | icmp id << 16 | icmp sequence) and in
``b`` what the doc says. Names (of functions, of tasks) are numbers of ``Cpu.symbol``.

Timer events carry in ``a``: bits 0-31 the timer (CPU << 24 | number), 32-47 the symbol of its
function, 48-50 DEFERRABLE, PINNED, IRQSAFE, 52-61 slot or bucket. ``jiffies`` at a record (``now``
of ftrace) follow from its time: INITIAL_JIFFIES + uptime * HZ.

Works are known by their number. ``workqueue_queue_work`` has in ``a`` beside it: bits 32-47 1 + the
CPU that was asked for (0: WORK_CPU_UNBOUND), 48-63 1 + the CPU of the pool (0: unbound); in ``b``
the symbols of its function and, from bit 32 on, of the workqueue.
"""

from __future__ import annotations

from typing import NamedTuple

from bus.recorder import Tracepoint, table

TRACEPOINTS = table(
    Tracepoint(0, "irq_handler_entry", "a irq, b vector", always=True),
    Tracepoint(1, "irq_handler_exit", "a irq, b returned irqreturn"),
    Tracepoint(2, "softirq_raise", "a vector number"),
    Tracepoint(3, "softirq_entry", "a vector number"),
    Tracepoint(4, "softirq_exit", "a vector number"),
    Tracepoint(5, "sched_switch", "a previous pid | prio << 32 | state << 48, b next pid | prio"),
    Tracepoint(6, "sched_wakeup", "a pid | prio << 32 | target CPU << 48"),
    Tracepoint(7, "local_timer_entry", "a vector"),
    Tracepoint(8, "reschedule_entry", "a vector", always=True),
    Tracepoint(9, "call_function_entry", "a vector"),
    Tracepoint(10, "ipi_send", "a vector, b target CPU", always=True),
    Tracepoint(11, "timer_expire_entry", "timer; b clock of the base (baseclk)"),
    Tracepoint(12, "hrtimer_expire_entry", "hrtimer; b expiry ns"),
    Tracepoint(13, "workqueue_execute_start", "a work number, b function"),
    Tracepoint(14, "workqueue_execute_end", "a work number, b function"),
    Tracepoint(15, "napi_poll", "a ifindex | queue << 16, b work | budget << 32"),
    Tracepoint(16, "local_timer_exit", "a vector"),
    Tracepoint(17, "reschedule_exit", "a vector, b records taken"),
    Tracepoint(18, "call_function_exit", "a vector, b records taken"),
    Tracepoint(19, "sched_wakeup_new", "a as sched_wakeup, b comm: its first wake-up"),
    Tracepoint(20, "sys_sendmsg", "packet; b socket number"),
    Tracepoint(21, "ip_output", "packet; b ifindex of the route"),
    Tracepoint(22, "net_dev_queue", "packet; b ifindex | length << 32: dev_queue_xmit"),
    Tracepoint(23, "tap_transmit", "packet; b ifindex: a tap saw it leave"),
    Tracepoint(24, "bond_xmit", "packet; b ifindex of the chosen slave"),
    Tracepoint(
        25, "net_dev_xmit", "packet; b descriptor | queue << 16 | ifindex << 32 | length << 48"
    ),
    Tracepoint(26, "doorbell", "a NIC number, b queue | tail << 16: TDT posted"),
    Tracepoint(27, "rx_clean", "packet; b descriptor | queue << 16 | ifindex << 32"),
    Tracepoint(28, "tap_receive", "packet; b ifindex: a tap saw it arrive"),
    Tracepoint(29, "bond_receive", "packet; b ifindex of the slave: the frame is now bond0's"),
    Tracepoint(30, "ip_rcv", "packet; b ifindex"),
    Tracepoint(31, "icmp_rcv", "packet; b ICMP type"),
    Tracepoint(32, "sock_queue_rcv", "packet; b socket number"),
    Tracepoint(33, "sock_handover", "packet; b target CPU: its socket lives there"),
    Tracepoint(34, "recvmsg", "packet; b round trip in ns"),
    Tracepoint(35, "kfree_skb", "packet; b DROP_REASONS index | ifindex << 16 | protocol << 32"),
    Tracepoint(36, "neigh_queue", "packet; b entries waiting for the neighbour"),
    Tracepoint(37, "mmio_read", "a NIC number, b offset"),
    Tracepoint(38, "mmio_write", "a NIC number, b offset << 32 | value"),
    Tracepoint(39, "tasklet_entry", "a tasklet number, b symbol of its function"),
    Tracepoint(40, "tasklet_exit", "as tasklet_entry"),
    Tracepoint(41, "tasklet_hi_entry", "as tasklet_entry"),
    Tracepoint(42, "tasklet_hi_exit", "as tasklet_entry"),
    Tracepoint(43, "timer_init", "timer"),
    Tracepoint(44, "timer_start", "timer; b expires; its timeout is b less the record's jiffies"),
    Tracepoint(45, "timer_cancel", "timer"),
    Tracepoint(46, "timer_expire_exit", "timer"),
    Tracepoint(47, "hrtimer_start", "hrtimer; b expiry ns, soft and hard; mode is ABS"),
    Tracepoint(48, "hrtimer_cancel", "hrtimer"),
    Tracepoint(49, "hrtimer_expire_exit", "hrtimer"),
    Tracepoint(50, "hrtimer_init", "hrtimer; CLOCK_MONOTONIC"),
    Tracepoint(51, "sched_waking", "a as sched_wakeup: before it is made runnable"),
    Tracepoint(52, "sched_process_exit", "a pid | prio << 32, b comm"),
    Tracepoint(53, "workqueue_queue_work", "work; b function | workqueue << 32"),
    Tracepoint(54, "workqueue_activate_work", "a work number, b function"),
    Tracepoint(55, "netif_receive_skb", "packet; b ifindex | length << 32"),
    Tracepoint(56, "spurious_apic_entry", "a vector"),
    Tracepoint(57, "spurious_apic_exit", "a vector"),
    Tracepoint(58, "error_apic_entry", "a vector"),
    Tracepoint(59, "error_apic_exit", "a vector"),
    # ours: Linux has no event where nr_running moves
    Tracepoint(60, "worker_pool_nr_running", "a pool id | CPU << 32, b nr_running"),
    Tracepoint(61, "dst_gc_task", "a freed | busy << 32, b jiffies until the next run; 0 none"),
    Tracepoint(62, "dst_free", "a dst entry (CPU << 24 | number), b who holds it: 0 destroyed"),
    Tracepoint(63, "sched_migrate_task", "a pid | prio << 32, b from | to << 32"),
    Tracepoint(65, "qdisc_enqueue", "packet; b ifindex | packets that wait << 32"),
    Tracepoint(66, "netif_rx", "packet; b ifindex | length << 32"),
    Tracepoint(64, "cpuhp_enter", "a CPU that goes or comes | way << 8 | index << 16, b its name"),
)


#: What ``way`` is in ``cpuhp_enter``: the last one undoes what was done.
CPUHP_WAYS = ("down", "up", "back")


class TraceContext(NamedTuple):
    """What a record says about the moment it was made in."""

    context: int  # index into nodes.cpu.page.CONTEXTS
    depth: int
    irqs_off: bool
    need_resched: bool
    hardirq: bool
    nmi: bool
    preempt_depth: int
    softirq_field: int  # bit 0: serving a softirq, where the era's bh_disable adds 0x200
    pid: int


def unpack_context(word: int) -> TraceContext:
    """The fields of a record's context word."""
    return TraceContext(
        word & 0xFF,
        word >> 8 & 0xFF,
        bool(word >> 16 & 1),
        bool(word >> 17 & 1),
        bool(word >> 18 & 1),
        bool(word >> 19 & 1),
        word >> 20 & 0xF,
        word >> 24 & 0xFF,
        word >> 32 & 0xFF_FFFF,
    )
