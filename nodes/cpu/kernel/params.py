"""Kernel eras as named behaviours; a kernel release is a preset, one row of one table.

Code never asks "which release is this?", it asks for one behaviour. Sources: Linux 2.6.18, 3.10 and
6.1 (``Documentation`` and the subsystems named beside each field). A machine may set any single
behaviour on top of its era (``--set packet_tap=rx_handler``).
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_type_hints

#: What may be chosen for the behaviours that are words.
CHOICES: dict[str, tuple[str, ...]] = {
    "packet_tap": ("skb_bond", "orig_dev", "rx_handler"),
    "softirq_restart": ("count", "count+time"),
    "ksoftirqd_gate": ("never", "unless-tasklet"),
    "timer_wheel": ("cascading", "hierarchical"),
    "timer_softirq": ("every-tick", "when-due"),
    "workqueue": ("keventd", "cmwq"),
    "removed_device": ("not-recognised", "all-ones"),
    "peer_notification": ("reply-on-slave", "request-on-bond", "request-with-carrier"),
    "failure_count": ("at-fail", "at-commit"),
    "link_commit": ("one-pass", "final", "every-change"),
    "release_role": ("as-it-was", "inactive-first"),
    "vector_allocator": ("step-8", "step-16", "matrix"),
    "msi_destination": ("physical", "logical"),
    "neigh_first_probe": ("timer", "at-once"),
    "time_squeeze": ("loop-head", "after-poll"),
    "napi_missed": ("forgotten", "remembered"),
    "poll_return": ("zero-when-done", "work"),
    "carrier_loss": ("once-a-second", "at-once-for-slaves"),
    "inactive_slave_counter": ("rx_dropped", "rx_nohandler"),
    "bond_stats": ("sum", "since-enslaved"),
    "reta_order": ("reversed", "straight"),
    "receive_batching": ("one-by-one", "list"),
    "bond_mac_before_slaves": ("zero", "random"),
    "slave_priority": ("one", "kept"),
    "ip_id": ("zero", "generated"),
    "warning_text": ("bug", "at", "cpu-pid"),
    "softlockup": ("each-second", "once", "again"),
    "call_function": ("call_data", "call_queue", "llist"),
    "scheduler_ipi": ("nothing", "wake-list", "no-exit"),
    "csdlock_debug": ("off", "on"),
    "cpu_callin": ("callout-first", "initialized-first"),
    "rcu": ("classic", "tree"),
    "proc_format": ("2.6.18", "3.10", "6.1"),
    "log_format": ("2.6.18", "3.10", "6.1"),
    "ftrace_format": ("none", "2.6.39", "3.10", "6.1"),
}


class Params(NamedTuple):
    """The behaviours of one kernel; times in the unit that the name says."""

    release: str
    hz: int
    # interrupts and bottom halves
    packet_tap: str  # where a bonded slave's frame meets the taps: net/core/dev.c
    softirq_restart: str  # when __do_softirq goes round again: kernel/softirq.c
    ksoftirqd_nice: int
    ksoftirqd_gate: str  # do inline softirqs wait for a runnable ksoftirqd?
    softirq_disable_offset: int  # what local_bh_disable adds to preempt_count
    hardirq_mask: int  # bits of preempt_count: include/linux/preempt.h, hardirq.h
    nmi_mask: int
    nmi_offset: int  # what an NMI adds beside HARDIRQ_OFFSET
    softirq_names: tuple[str, ...]  # in vector order
    local_timer_vector: int
    reschedule_vector: int
    call_function_single_vector: int
    first_device_vector: int
    vector_allocator: str
    msi_destination: str
    timer_wheel: str
    timer_softirq: str
    workqueue: str
    # other CPUs: kernel/smp.c, arch/x86/kernel/smpboot.c, kernel/rcu, kernel/watchdog.c
    call_function_vector: int  # several targets at once
    call_function: str  # how a call reaches another CPU
    scheduler_ipi: str  # what the reschedule interrupt does besides being one
    csdlock_debug: str  # does a sender that waits for long say so?
    csd_lock_timeout: int  # ms until it does
    cpu_callin: str  # who waits for whom first when a CPU comes up
    cpu_callin_timeout_ms: int
    init_udelay: int  # us between INIT assert and deassert
    rcu: str
    rcu_name: str  # the flavour that the log names; empty: no stall detector
    rcu_cpu_stall_timeout: int  # s, 3 to 300
    softlockup: str
    watchdog_thresh: int  # s; the limit is twice as long
    # network
    neigh_first_probe: str
    neigh_queue_bytes: int  # 0: limited to three packets
    time_squeeze: str
    napi_missed: str  # an interrupt while its NAPI is scheduled already
    poll_return: str  # what a driver's poll charges when it is done
    carrier_loss: str  # how soon linkwatch looks
    inactive_slave_counter: str
    receive_batching: str
    slave_priority: str
    ip_id: str
    softnet_columns: int
    # ixgbe and bonding
    removed_device: str
    bond_stats: str  # of its slaves: /proc/net/dev
    reta_order: str  # within each group of four entries
    peer_notification: str
    failure_count: str
    link_commit: str  # is a slave that recovers on its way committed (and logged) again?
    release_role: str  # what a leaving active slave is called in the log
    bond_mac_before_slaves: str
    bonding_version: str
    ixgbe_version: str
    other_vector_suffix: str  # name of a NIC's last vector: eth0 or eth0:lsc
    rss_key: str  # hex; empty: drawn at boot
    # text
    warning_text: str
    proc_format: str
    log_format: str
    ftrace_format: str  # text of the trace file: kernel/trace; none: no ftrace in this kernel


_SOFTIRQS_18 = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "TASKLET")
_SOFTIRQS_310 = (
    "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "BLOCK_IOPOLL", "TASKLET", "SCHED", "HRTIMER",
    "RCU",
)  # fmt: skip
_SOFTIRQS_61 = tuple(name.replace("BLOCK_IOPOLL", "IRQ_POLL") for name in _SOFTIRQS_310)
_FIXED_RSS_KEY = "3dd791e26cec05180db3942aec2b4fa57caf49ea3dad14e2beaa55b8ea673e6a174d36140d20ed3b"

PRESETS: dict[str, Params] = {
    "2.6.18": Params(
        release="2.6.18",
        hz=1000,
        packet_tap="skb_bond",
        softirq_restart="count",
        ksoftirqd_nice=19,
        ksoftirqd_gate="never",
        softirq_disable_offset=0x100,
        hardirq_mask=0x0FFF0000,
        nmi_mask=0,
        nmi_offset=0,
        softirq_names=_SOFTIRQS_18,
        local_timer_vector=0xEF,
        reschedule_vector=0xFD,
        call_function_single_vector=0xFC,
        first_device_vector=0x31,
        vector_allocator="step-8",
        msi_destination="physical",
        timer_wheel="cascading",
        timer_softirq="every-tick",
        workqueue="keventd",
        call_function_vector=0xFC,
        call_function="call_data",
        scheduler_ipi="nothing",
        csdlock_debug="off",
        csd_lock_timeout=5000,
        cpu_callin="callout-first",
        cpu_callin_timeout_ms=5000,
        init_udelay=10000,
        rcu="classic",
        rcu_name="",
        rcu_cpu_stall_timeout=21,
        softlockup="each-second",
        watchdog_thresh=10,
        neigh_first_probe="timer",
        neigh_queue_bytes=0,
        time_squeeze="loop-head",
        napi_missed="forgotten",
        poll_return="zero-when-done",
        carrier_loss="once-a-second",
        inactive_slave_counter="rx_dropped",
        receive_batching="one-by-one",
        slave_priority="one",
        ip_id="zero",
        softnet_columns=9,
        removed_device="not-recognised",
        bond_stats="sum",
        reta_order="reversed",
        peer_notification="reply-on-slave",
        failure_count="at-fail",
        link_commit="one-pass",
        release_role="as-it-was",
        bond_mac_before_slaves="zero",
        bonding_version="v3.0.3 (March 23, 2006)",
        ixgbe_version="3.2.9-k2",
        other_vector_suffix=":lsc",
        rss_key=_FIXED_RSS_KEY,
        warning_text="bug",
        proc_format="2.6.18",
        log_format="2.6.18",
        ftrace_format="none",
    ),
    "3.10": Params(
        release="3.10.0",
        hz=1000,
        packet_tap="rx_handler",
        softirq_restart="count+time",
        ksoftirqd_nice=0,
        ksoftirqd_gate="never",
        softirq_disable_offset=0x200,
        hardirq_mask=0x03FF0000,
        nmi_mask=0x04000000,
        nmi_offset=0x04000000,
        softirq_names=_SOFTIRQS_310,
        local_timer_vector=0xEF,
        reschedule_vector=0xFD,
        call_function_single_vector=0xFB,
        first_device_vector=0x41,
        vector_allocator="step-16",
        msi_destination="logical",
        timer_wheel="cascading",
        timer_softirq="every-tick",
        workqueue="cmwq",
        call_function_vector=0xFC,
        call_function="call_queue",
        scheduler_ipi="wake-list",
        csdlock_debug="off",
        csd_lock_timeout=5000,
        cpu_callin="callout-first",
        cpu_callin_timeout_ms=5000,
        init_udelay=10000,
        rcu="tree",
        rcu_name="rcu_sched",
        rcu_cpu_stall_timeout=21,
        softlockup="once",
        watchdog_thresh=10,
        neigh_first_probe="at-once",
        neigh_queue_bytes=65536,
        time_squeeze="loop-head",
        napi_missed="forgotten",
        poll_return="zero-when-done",
        carrier_loss="once-a-second",
        inactive_slave_counter="rx_dropped",
        receive_batching="one-by-one",
        slave_priority="kept",
        ip_id="generated",
        softnet_columns=10,
        removed_device="not-recognised",
        bond_stats="sum",
        reta_order="reversed",
        peer_notification="request-on-bond",
        failure_count="at-commit",
        link_commit="final",
        release_role="as-it-was",
        bond_mac_before_slaves="random",
        bonding_version="v3.7.1 (April 27, 2011)",
        ixgbe_version="3.13.10-k",
        other_vector_suffix="",
        rss_key=_FIXED_RSS_KEY,
        warning_text="at",
        proc_format="3.10",
        log_format="3.10",
        ftrace_format="3.10",
    ),
    "6.1": Params(
        release="6.1.0",
        hz=250,
        packet_tap="rx_handler",
        softirq_restart="count+time",
        ksoftirqd_nice=0,
        ksoftirqd_gate="unless-tasklet",
        softirq_disable_offset=0x200,
        hardirq_mask=0x000F0000,
        nmi_mask=0x00F00000,
        nmi_offset=0x00100000,
        softirq_names=_SOFTIRQS_61,
        local_timer_vector=0xEC,
        reschedule_vector=0xFD,
        call_function_single_vector=0xFB,
        first_device_vector=0x21,
        vector_allocator="matrix",
        msi_destination="logical",
        timer_wheel="hierarchical",
        timer_softirq="when-due",
        workqueue="cmwq",
        call_function_vector=0xFC,
        call_function="llist",
        scheduler_ipi="no-exit",
        csdlock_debug="on",
        csd_lock_timeout=5000,
        cpu_callin="initialized-first",
        cpu_callin_timeout_ms=10000,
        init_udelay=0,
        rcu="tree",
        rcu_name="rcu_sched",
        rcu_cpu_stall_timeout=21,
        softlockup="again",
        watchdog_thresh=10,
        neigh_first_probe="at-once",
        neigh_queue_bytes=212992,
        time_squeeze="after-poll",
        napi_missed="remembered",
        poll_return="work",
        carrier_loss="at-once-for-slaves",
        inactive_slave_counter="rx_nohandler",
        receive_batching="list",
        slave_priority="kept",
        ip_id="generated",
        softnet_columns=13,
        removed_device="all-ones",
        bond_stats="since-enslaved",
        reta_order="straight",
        peer_notification="request-with-carrier",
        failure_count="at-commit",
        link_commit="every-change",
        release_role="inactive-first",
        bond_mac_before_slaves="random",
        bonding_version="v6.1.0",
        ixgbe_version="6.1.0",
        other_vector_suffix="",
        rss_key="",
        warning_text="cpu-pid",
        proc_format="6.1",
        log_format="6.1",
        ftrace_format="6.1",
    ),
}


def with_overrides(params: Params, overrides: tuple[tuple[str, str], ...]) -> Params:
    """``params`` with single behaviours replaced; ValueError says what is allowed."""
    hints = get_type_hints(Params)
    changes: dict[str, Any] = {}
    for name, text in overrides:
        if name not in hints:
            raise ValueError(f"there is no behaviour {name}")
        allowed = CHOICES.get(name)
        if allowed is not None and text not in allowed:
            raise ValueError(f"{name} is one of {', '.join(allowed)}")
        if hints[name] is int:
            try:
                changes[name] = int(text, 0)
            except ValueError:
                raise ValueError(f"{name} is a whole number") from None
        elif hints[name] is str:
            changes[name] = text
        else:
            raise ValueError(f"{name} cannot be set by itself")
    return params._replace(**changes)
