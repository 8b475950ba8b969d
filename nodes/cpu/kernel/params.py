"""Kernel eras as named behaviours; a kernel release is a preset, one row of one table.

Code never asks "which release is this?", it asks for one behaviour. Sources: Linux 2.6.18, 3.10 and
6.1 (``Documentation`` and the subsystems named beside each field). A machine may set any single
behaviour on top of its era (``--set packet_tap=rx_handler``).
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_type_hints

from nodes.cpu.kernel.absent import ABSENT_18, ABSENT_310, ABSENT_VALUES
from nodes.cpu.kernel.irq.system_vectors import SYSTEM_VECTORS

#: What may be chosen for the behaviours that are words.
CHOICES: dict[str, tuple[str, ...]] = {
    "packet_tap": ("skb_bond", "orig_dev", "rx_handler"),
    "softirq_restart": ("count", "count+time"),
    "softirq_leak": ("unseen", "repaired"),
    "ksoftirqd_gate": ("never", "always", "unless-tasklet"),
    "ksoftirqd_thread": ("kthread", "smpboot"),
    "tasklet_order": ("lifo", "fifo"),
    "tasklet_wait": ("spin", "sleep"),
    "tasklet_not_sched": ("bug", "warn"),
    "timer_wheel": ("cascading", "hierarchical"),
    "timer_softirq": ("every-tick", "when-due"),
    "timer_slack": ("none", "256th"),
    "timer_leak": ("bug", "warn"),
    "deferrable_timers": ("none", "same-wheel", "own-base"),
    "workqueue": ("keventd", "cmwq"),
    "worker_hook": ("waking-up", "running"),
    "wake_next_worker": ("if-unbound", "always"),
    "idle_workers_end": ("managed", "by-timer"),
    "kworker_idle": ("interruptible", "idle"),
    "wq_implicit_ordered": ("no", "yes"),
    "wq_power_efficient": ("off", "on"),
    "wq_unbind": ("work", "direct"),
    "cancel_wait": ("flush", "waitqueue"),
    "flush_dependency": ("unchecked", "checked"),
    "freezing_flag": ("pool", "all"),
    "rescuer": ("once", "again"),
    "worker_comm": ("plain", "with-workqueue"),
    "removed_device": ("not-recognised", "all-ones"),
    "pciehp_thread": ("event-thread", "workqueue", "irq-thread"),
    "pciehp_events": ("presence", "presence+link"),
    "removed_config": ("asked", "marked"),
    "peer_notification": ("reply-on-slave", "request-on-bond", "request-with-carrier"),
    "failure_count": ("at-fail", "at-commit"),
    "link_commit": ("one-pass", "final", "every-change"),
    "enslave_order": ("at-once", "select-first", "carrier-first"),
    "best_slave": ("running-primary", "reselect", "list-order"),
    "rr_start": ("curr-active", "counter", "per-cpu"),
    "hash_over": ("slaves", "usable"),
    "slave_mtu": ("own", "forced"),
    "arp_first_link": ("up", "carrier"),
    "enslave_bond_down": ("refused", "allowed"),
    "bond_close": ("releases", "keeps"),
    "commit_failover": ("at-once", "after-all"),
    "arp_monitor": ("one-pass", "committed"),
    "arp_half_interval": ("active-backup", "always"),
    "arp_probe_failed": ("kept", "committed"),
    "arp_last_tx": ("trans_start", "probe"),
    "arp_no_route": ("always", "validated"),
    "arp_validate_reply": ("active-only", "any-slave"),
    "new_active_time": ("kept", "now"),
    "release_role": ("as-it-was", "inactive-first"),
    "xmit_hash": ("bond-mac", "source-mac", "flow"),
    "ad_speed_key": ("bitmask", "number"),
    "ad_expired_partner": ("timeout", "timeout+activity"),
    "ad_attached_sync": ("always", "if-active"),
    "ad_candidates": ("any-port", "enabled-port"),
    "ad_link_change": ("begin", "reselect"),
    "ad_carrier": ("partner", "active", "attached-ports", "enabled-ports"),
    "ad_selection_wait": ("timer", "none"),
    "ad_matched_again": ("yes", "no"),
    "ad_churn": ("none", "60s"),
    "ad_num_ports": ("attached", "enabled"),
    "ad_open": ("nothing", "one-tick"),
    "ad_set_carrier": ("tells-change", "tells-always"),
    "tlb_hash": ("dest-ip", "policy"),
    "rlb_request": ("on-active", "on-assigned"),
    "lp_frame": ("burst", "once", "loopback"),
    "irq_flow": ("do_irq", "handlers"),
    "handlers_irqs_on": ("unless-IRQF_DISABLED", "never"),
    "irq_count_position": ("before-check", "after-check"),
    "disabled_sets_pending": ("level+fasteoi", "never", "always"),
    "fasteoi_masks_disabled": ("no", "yes"),
    "level_unmask": ("not-disabled", "not-oneshot", "conditional"),
    "fasteoi_oneshot": ("thread", "unmask-then-eoi", "eoi-then-unmask"),
    "redundant_mask": ("issued", "skipped"),
    "lazy_disable": ("if-marked", "always", "unless-unlazy"),
    "irq_resend": ("any-pending", "edge", "edge-if-sent"),
    "sw_resend": ("no", "yes"),
    "request_checks": ("shared", "all"),
    "irq_sharing": ("trigger", "flags", "line-trigger"),
    "free_irq_log": ("line", "warning"),
    "freed_depth": ("kept", "one"),
    "enable_irq_starts": ("enable", "startup"),
    "startup_resend": ("no", "yes"),
    "irq_threads": ("none", "yes"),
    "forced_secondary": ("no", "yes"),
    "forced_thread_irqs": ("on", "off"),
    "threadirqs": ("off", "on"),
    "noirqdebug": ("off", "on"),
    "debug_shirq": ("off", "on"),
    "irqfixup": ("off", "irqfixup", "irqpoll"),
    "spurious_decay": ("no", "yes"),
    "spurious_reset": ("never", "on-request"),
    "spurious_bogus": ("unhandled", "reported-only"),
    "spurious_count": ("every", "from-first-unhandled"),
    "spurious_disable": ("for-good", "revivable"),
    "spurious_poll": ("never", "shared-with-second", "shared"),
    "spurious_threads": ("handled", "thread-result", "deferred"),
    "softirq_time": ("bh-off-too", "serving"),
    "system_vectors": ("2.6.18-i386", "2.6.18", "2.6.39", "3.10", "6.1"),
    "vector_allocator": ("step-8", "step-16", "matrix"),
    "affinity_write": ("result-ignored", "result-returned"),
    "affinity_shown": ("moved", "pending"),
    "affinity_empty_set": ("refused", "default"),
    "affinity_default": ("all", "settable"),
    "affinity_broken_log": ("none", "breaking", "broke"),
    "offline_vectors": ("unchecked", "checked"),
    "offline_drain": ("irqs-on", "irr"),
    "affinity_busy": ("dropped", "kept-pending"),
    "msi_destination": ("physical", "logical"),
    "ioapic_delivery": ("lowest", "fixed"),
    "msix_setup": ("table-first", "used-masked", "all-masked"),
    "pci_msi": ("on", "off"),
    "route_cache": ("hash", "nexthop"),
    "dst_gc": ("timer", "work", "rcu"),
    "dst_without_device": ("loopback", "blackhole_netdev"),
    "xmit_dst_release": ("sent", "hard-start", "queue"),
    "neigh_first_probe": ("timer", "at-once"),
    "pfifo_fast_limit": ("each-band", "together"),
    "output_queue": ("lifo", "fifo"),
    "qdisc_run": ("until-empty", "quota"),
    "bond_xmit_code": ("success", "slave"),
    "conntrack_lock": ("rwlock", "spinlock", "buckets"),
    "conntrack_proc": ("ip_conntrack", "nf_conntrack"),
    "conntrack_version": ("2.4", "0.5.0", "unsaid"),
    "conntrack_icmp": ("until-answered", "kept"),
    "conntrack_stream": ("any-reply", "after-two-seconds"),
    "bql": ("none", "dql"),
    "ipfrag_limit": ("evict", "refuse"),
    "frag_overlap": ("trim", "discard"),
    "icmp_global_limit": ("no", "yes"),
    "time_squeeze": ("loop-head", "after-poll"),
    "napi_missed": ("forgotten", "remembered"),
    "offline_poll_list": ("left", "moved"),
    "poll_return": ("zero-when-done", "work"),
    "carrier_loss": ("no-urgency", "once-a-second", "at-once-for-slaves"),
    "inactive_slave_counter": ("rx_dropped", "rx_nohandler"),
    "bond_stats": ("sum", "since-enslaved"),
    "reta_order": ("reversed", "straight"),
    "master_disable": ("if-enabled", "always", "with-readback"),
    "ixgbe_reset": ("mac", "link-if-down"),
    "autoc_write": ("plain", "pipeline"),
    "msix_other": ("whole", "cause-bits"),
    "service_event": ("queued", "lost-while-running"),
    "ixgbe_health_checks": ("off", "on"),
    "tx_watchdog_text": ("device", "queue"),
    "tx_timeout_text": ("none", "warning"),
    "adaptive_itr": ("rate-class", "delay-class", "packet-count"),
    "coalesce_params": ("ignored", "checked"),
    "nvm_version": ("word-29", "etrack-id"),
    "ixgbe_stats": ("3.2.9", "3.13.10", "6.1"),
    "mtu_check": ("errno", "extack"),
    "receive_batching": ("one-by-one", "list"),
    "bond_mac_before_slaves": ("zero", "random"),
    "slave_priority": ("one", "kept"),
    "ip_id": ("zero", "generated"),
    "preempt_count": ("off", "on"),
    "prove_locking": ("off", "on"),
    "bh_enable_irqs_off": ("warn", "prove-locking"),
    "warning_text": ("bug", "at", "cpu-pid"),
    "softlockup": ("each-second", "once", "again"),
    "call_function": ("call_data", "call_queue", "llist"),
    "scheduler_ipi": ("nothing", "wake-list", "no-exit"),
    "csdlock_debug": ("off", "on"),
    "cpu_callin": ("callout-first", "initialized-first"),
    "cpu_hotplug": ("kstopmachine", "notifiers", "states"),
    "hotplug_unchanged": ("refused", "nothing"),
    "rcu": ("classic", "tree"),
    "proc_without_write": ("EINVAL", "EIO"),
    "cpu_online_store": ("first-digit", "boolean"),
    "bond_options": ("each-its-own", "table"),
    "unknown_module_parameter": ("refused", "ignored"),
    "proc_format": ("2.6.18", "3.10", "6.1"),
    "log_format": ("2.6.18", "3.10", "6.1"),
    "ethtool_text": ("6", "3.8", "6.1"),
    "sysstat_text": ("7", "10", "12"),
    "ftrace_format": ("none", "2.6.39", "3.10", "6.1"),
}


#: What may be chosen for the behaviours that are numbers, where it is not any that is not negative.
_RANGES = {
    "hz": (100, 1000),
    "ksoftirqd_nice": (-20, 19),
    "softnet_columns": (9, 13),
    "spurious_window": (1, 1_000_000),
    "watchdog_thresh": (0, 60),
    "nr_irqs_base": (16, 4096),
    "work_nr_colors": (2, 16),
    "cpumask_bits": (0, 8192),
    "ad_partner_default": (0, 255),
}


class Params(NamedTuple):
    """The behaviours of one kernel; times in the unit that the name says."""

    release: str
    hz: int
    # interrupts and bottom halves
    packet_tap: str  # where a bonded slave's frame meets the taps: net/core/dev.c
    softirq_restart: str  # when __do_softirq goes round again: kernel/softirq.c
    softirq_leak: str  # an action that comes back with another preempt count
    ksoftirqd_nice: int
    ksoftirqd_gate: str  # do inline softirqs wait for a runnable ksoftirqd?
    ksoftirqd_thread: str  # stopped when its CPU is dead, or parked
    tasklet_order: str  # of those scheduled before the softirq runs
    tasklet_wait: str  # how tasklet_disable and tasklet_kill wait
    tasklet_not_sched: str  # a tasklet on the list without SCHED
    softirq_disable_offset: int  # what local_bh_disable adds to preempt_count
    hardirq_mask: int  # bits of preempt_count: include/linux/preempt.h, hardirq.h
    nmi_mask: int
    nmi_offset: int  # what an NMI adds beside HARDIRQ_OFFSET
    preempt_count: str  # on: CONFIG_DEBUG_ATOMIC_SLEEP, spinlocks count and might_sleep looks
    prove_locking: str  # CONFIG_PROVE_LOCKING: nodes.cpu.kernel.locks.lockdep
    bh_enable_irqs_off: str  # who is told of local_bh_enable with interrupts off: kernel/softirq.c
    softirq_names: tuple[str, ...]  # in vector order
    softirq_time: str  # what a tick charges to softirqs: kernel/sched/cputime.c
    irq_time_accounting: int  # 1: CONFIG_IRQ_TIME_ACCOUNTING
    nr_irqs_base: int  # nr_irqs without the CPUs' share; at most 256 a CPU
    nr_irqs_per_cpu: int
    system_vectors: str  # which numbers the system keeps: asm/irq_vectors.h
    vector_allocator: str
    affinity_write: str  # what a write to /proc/irq/N/smp_affinity is told
    affinity_shown: str  # the mask in force, or the one that waits for the next interrupt
    affinity_empty_set: str  # a mask without an online CPU
    affinity_default: str  # of a new irq: CPU_MASK_ALL, or default_smp_affinity
    affinity_broken_log: str  # what is said when a CPU's end breaks an affinity
    affinity_busy: str  # a move that meets the last one's cleanup
    offline_vectors: str  # may a CPU go whose lines find no room? it also names broken affinities
    offline_drain: str  # how a dying CPU gets rid of what is latched: fixup_irqs
    cpumask_bits: int  # printed of a CPU mask: NR_CPUS; 0: as many as there are CPUs
    msi_destination: str
    ioapic_delivery: str  # of a pin to its CPUs
    msix_setup: str  # what is masked while the table is written
    pci_msi: str  # off: the kernel was booted with pci=nomsi
    timer_wheel: str
    timer_softirq: str
    timer_slack: str  # how late mod_timer may make a timer of its own accord
    timer_leak: str  # a callback that comes back with another preempt count
    deferrable_timers: str
    # kernel/workqueue.c
    workqueue: str
    worker_hook: str  # when a worker that slept counts as running again
    wake_next_worker: str  # who begins a work wakes another worker if it does not count itself
    idle_workers_end: str  # who ends those that idle for 300 s
    kworker_idle: str  # state of an idle kworker: TASK_IDLE counts for no load
    work_nr_colors: int  # of flush_workqueue
    work_no_color: int  # of what no flush waits for; -1: there is no such colour
    system_workqueues: int  # how many of workqueue.alloc.SYSTEM_WORKQUEUES there are
    wq_implicit_ordered: str  # unbound with max_active 1 is ordered
    wq_unbind: str  # who takes the binding off the workers of a dying CPU
    cancel_wait: str  # how the second of two cancellers waits for the first
    flush_dependency: str  # a WQ_MEM_RECLAIM work that flushes one of another kind
    freezing_flag: str  # what freezable workqueues look at: POOL_FREEZING
    rescuer: str  # does it come again for what its works queued?
    wq_power_efficient: str  # boot option: WQ_POWER_EFFICIENT workqueues are unbound
    worker_comm: str  # a kworker's name in /proc/PID/comm: wq_worker_comm
    # other CPUs: kernel/smp.c, arch/x86/kernel/smpboot.c, kernel/rcu, kernel/watchdog.c
    call_function: str  # how a call reaches another CPU
    scheduler_ipi: str  # what the reschedule interrupt does besides being one
    csdlock_debug: str  # does a sender that waits for long say so?
    csd_lock_timeout: int  # ms until it does
    cpu_callin: str  # who waits for whom first when a CPU comes up
    cpu_callin_timeout_ms: int
    init_udelay: int  # us between INIT assert and deassert
    cpu_hotplug: str  # what a CPU goes through on its way up and down: kernel/cpu.c
    hotplug_unchanged: str  # to be brought up when it is online, down when it is not
    cpu_die_timeout_ms: int  # until a CPU that does not go is given up
    hung_task_timeout_secs: int  # until a task in D state is reported; 0: no khungtaskd
    rcu: str
    rcu_name: str  # the flavour that the log names; empty: no stall detector
    rcu_cpu_stall_timeout: int  # s, 3 to 300
    softlockup: str
    watchdog_thresh: int  # s; the limit is twice as long
    # interrupt lines: kernel/irq
    irq_flow: str  # x86 lines: __do_IRQ with the typename chips, or flow handlers
    handlers_irqs_on: str  # kernel/irq/handle.c, until 2.6.35
    irq_count_position: str  # is a disabled arrival counted? (edge: never)
    disabled_sets_pending: str  # flows other than edge; never: 2.6.39
    fasteoi_masks_disabled: str
    level_unmask: str  # after the chain; not-oneshot: 2.6.39
    fasteoi_oneshot: str  # thread: 2.6.39, only the thread unmasks
    redundant_mask: str  # masking a masked line calls the chip?
    lazy_disable: str  # chips without irq_disable
    irq_resend: str  # edge: REPLAY is set even if nothing was sent
    sw_resend: str  # CONFIG_HARDIRQS_SW_RESEND
    request_checks: str  # flags that contradict each other: since 4.x
    irq_sharing: str  # what two users of a line must agree on
    free_irq_log: str  # of an unknown dev_id
    freed_depth: str  # depth of a line that lost its last action
    enable_irq_starts: str  # startup: an irq asked for with NO_AUTOEN starts here
    startup_resend: str  # does a line's first user get what came before it?
    irq_threads: str  # request_threaded_irq: 2.6.30
    forced_secondary: str  # a forced handler keeps its own thread_fn in a second thread
    forced_thread_irqs: str  # hard interrupts while a forced thread's handler runs
    threadirqs: str  # boot option: every handler that allows it is threaded
    noirqdebug: str  # boot option: no spurious detection
    debug_shirq: str  # CONFIG_DEBUG_SHIRQ: free_irq of a shared handler calls it once more
    irqfixup: str  # boot option: look for misrouted interrupts
    spurious_decay: str  # a pause of HZ/10 restarts the count of unhandled: 2.6.23
    spurious_reset: str  # of the counts by a new handler: 2.6.20
    spurious_bogus: str
    spurious_count: str
    spurious_disable: str  # by a new shared handler: 2.6.26
    spurious_poll: str  # which killed lines the HZ/10 timer runs: 2.6.28
    spurious_threads: str  # how IRQ_WAKE_THREAD counts
    spurious_window: int  # interrupts of a line between two verdicts; Linux: 100000, always
    # network
    route_cache: str  # one entry a (destination, source, tos, device), or one a nexthop: 3.6
    dst_gc: str  # what frees an entry that was in use: net/core/dst.c
    dst_without_device: str  # what it holds when its device is gone: 5.3
    xmit_dst_release: str  # when a packet on its way out lets go of its dst
    dev_refcnt_base: int  # what dev_refcnt shows of a device that nobody uses: 5.13
    neigh_first_probe: str
    neigh_queue_bytes: int  # 0: limited to three packets
    pfifo_fast_limit: str  # of tx_queue_len: net/sched/sch_generic.c
    output_queue: str  # devices whose queue NET_TX is to run
    qdisc_run: str
    bond_xmit_code: str  # what dev_queue_xmit returns for a bond
    conntrack_lock: str  # what guards the connection table, see nf_conntrack
    conntrack_proc: str  # name of the file in /proc/net, and its format; before the version
    conntrack_version: str  # what the module says when it is loaded
    conntrack_icmp: str  # does an echo's connection outlive its last reply?
    conntrack_stream: str  # when a UDP connection is a stream, and ASSURED
    conntrack_stream_s: int  # how long it is kept then
    bql: str  # byte queue limits: lib/dynamic_queue_limits.c
    ipfrag_high_thresh: int  # bytes of all fragments that wait: net/ipv4/ip_fragment.c
    ipfrag_low_thresh: int
    ipfrag_limit: str
    frag_overlap: str
    icmp_global_limit: str  # of error messages in all: net/ipv4/icmp.c
    time_squeeze: str
    napi_missed: str  # an interrupt while its NAPI is scheduled already
    offline_poll_list: str  # of a CPU that goes offline; left: its queues stall (until 3.0)
    poll_return: str  # what a driver's poll charges when it is done
    carrier_loss: str  # how soon linkwatch looks
    inactive_slave_counter: str
    receive_batching: str
    slave_priority: str
    ip_id: str
    softnet_columns: int
    # ixgbe and bonding
    removed_device: str
    pciehp_thread: str  # who removes and adds the device of a hot-plug slot
    pciehp_events: str  # what makes it do so: presence if SltCap has surprise; since 3.15 the link
    removed_config: str  # is a device that was pulled still asked for its configuration: 4.12
    bond_stats: str  # of its slaves: /proc/net/dev
    reta_order: str  # within each group of four entries
    master_disable: str  # before a reset
    ixgbe_reset: str  # what a reset resets
    autoc_write: str
    msix_other: str  # what the handler of other causes clears and enables again
    service_event: str  # what becomes of one that comes while ixgbe's service task runs: 3.0
    ixgbe_health_checks: str  # firmware's state, fuses, an empty cage that hears a neighbour
    tx_watchdog_text: str  # what dev_watchdog says of a queue that timed out
    tx_timeout_text: str  # does ixgbe say that it resets itself for that
    coalesce_params: str  # of ethtool -C, that a driver does not know: 5.7
    adaptive_itr: str  # how ixgbe chooses the interval of a queue's vector
    nvm_version: str  # where ethtool -i's firmware-version is read
    mtu_check: str  # how an MTU out of range is refused
    ixgbe_stats: str  # which statistics the driver has: since which of its versions
    phy_sfp_passive: int  # number of enum ixgbe_phy_sfp_passive_unknown
    peer_notification: str
    failure_count: str
    link_commit: str  # is a slave that recovers on its way committed (and logged) again?
    enslave_order: str  # when a new slave may become the active one, and the carrier is set
    best_slave: str  # bond_find_best_slave: who is preferred, and where the search begins
    rr_start: str  # balance-rr: the slave of the first packet
    hash_over: str  # what a hash chooses from: all slaves, or those that can send
    enslave_bond_down: str  # to a bond that is down
    bond_close: str  # what it does with its slaves
    commit_failover: str  # when a monitor's commit chooses another slave: in its midst, or after it
    arp_monitor: str  # of active-backup
    arp_half_interval: str  # who has half an interval of grace (not 2.6.18's active-backup)
    arp_probe_failed: str  # is a slave that was tried in vain set to FAIL and inactive?
    arp_last_tx: str  # what counts as sending: anything, or a probe
    arp_no_route: str  # when a target without a route is worth a line
    arp_validate_reply: str  # on which slaves an answer to the one that is tried counts
    arp_first_link: str  # link of a new slave when only the ARP monitor runs
    new_active_time: str  # does a new active slave's time of coming up begin anew?
    slave_mtu: str  # does enslaving give it the bond's MTU?
    release_role: str  # what a leaving active slave is called in the log
    xmit_hash: str  # the formulas of xmit_hash_policy
    ad_speed_key: str  # 802.3ad: how a port's key says its speed
    ad_partner_default: int  # port state that a partner has until it speaks
    ad_expired_partner: str  # bits of the partner that EXPIRED sets
    ad_attached_sync: str  # is a port of an aggregator that is not active in sync?
    ad_candidates: str  # what may become the active aggregator
    ad_link_change: str  # the machines begin anew, or the aggregator is chosen again
    ad_carrier: str  # when the bond has its carrier
    ad_selection_wait: str  # must agg_select_timer run out before an aggregator becomes active?
    ad_matched_again: str  # CURRENT looks twice whether the port is matched
    ad_churn: str
    ad_num_ports: str  # ports that /proc and /sys count in the active aggregator
    ad_open: str  # what bond_open does to agg_select_timer
    ad_set_carrier: str  # bond_3ad_set_carrier says that the carrier changed
    tlb_hash: str  # balance-tlb: what picks an entry of the hash table
    rlb_request: str  # balance-alb: the slave that sends an ARP request
    lp_frame: str  # learning packets: three of type 0x60, one, one of type 0x9000
    bond_mac_before_slaves: str
    bonding_version: str
    ixgbe_version: str
    other_vector_suffix: str  # name of a NIC's last vector: eth0 or eth0:lsc
    rss_key: str  # hex; empty: drawn at boot
    # text
    warning_text: str
    absent_files: tuple[str, ...]  # of /proc and /sys: names as in kernel.procfs.tree
    absent_values: tuple[str, ...]  # of bonding's options: NAME=WORD
    proc_without_write: str  # what a write to a /proc file without a store function returns
    cpu_online_store: str  # how cpuN/online of /sys reads what is written
    bond_options: str  # who checks what is written to a bond's options, and says what
    unknown_module_parameter: str
    proc_format: str
    log_format: str
    sysstat_text: str  # release of the sar that is typed
    ethtool_text: str  # release of the ethtool that is typed
    ftrace_format: str  # text of the trace file: kernel/trace; none: no ftrace in this kernel

    def system_vector(self, name: str) -> int:
        """Number of a system vector (``irq.system_vectors``)."""
        return SYSTEM_VECTORS[self.system_vectors].vectors[name]

    @property
    def local_timer_vector(self) -> int:
        return self.system_vector("LOCAL_TIMER")

    @property
    def reschedule_vector(self) -> int:
        return self.system_vector("RESCHEDULE")

    @property
    def call_function_vector(self) -> int:
        """For several targets at once."""
        return self.system_vector("CALL_FUNCTION")

    @property
    def call_function_single_vector(self) -> int:
        """2.6.18 has one vector for both."""
        vectors = SYSTEM_VECTORS[self.system_vectors].vectors
        return vectors.get("CALL_FUNCTION_SINGLE", vectors["CALL_FUNCTION"])


_SOFTIRQS_18 = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "TASKLET")
_SOFTIRQS_310 = (
    "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "BLOCK_IOPOLL", "TASKLET", "SCHED", "HRTIMER",
    "RCU",
)  # fmt: skip
_SOFTIRQS_61 = tuple(name.replace("BLOCK_IOPOLL", "IRQ_POLL") for name in _SOFTIRQS_310)
_FIXED_RSS_KEY = "3dd791e26cec05180db3942aec2b4fa57caf49ea3dad14e2beaa55b8ea673e6a174d36140d20ed3b"

ERAS = ("2.6.18", "3.10", "6.1")

#: Each behaviour in each era: the columns are those of ``ERAS``, the rows those of ``Params``.
_TABLE: dict[str, tuple[Any, Any, Any]] = {
    "release": ("2.6.18", "3.10.0", "6.1.0"),
    "hz": (1000, 1000, 250),
    # interrupts and bottom halves
    "packet_tap": ("skb_bond", "rx_handler", "rx_handler"),
    "softirq_restart": ("count", "count+time", "count+time"),
    "softirq_leak": ("unseen", "repaired", "repaired"),
    "ksoftirqd_nice": (19, 0, 0),
    "ksoftirqd_gate": ("never", "never", "unless-tasklet"),
    "ksoftirqd_thread": ("kthread", "smpboot", "smpboot"),
    "tasklet_order": ("lifo", "fifo", "fifo"),
    "tasklet_wait": ("spin", "spin", "sleep"),
    "tasklet_not_sched": ("bug", "bug", "warn"),
    "softirq_disable_offset": (0x100, 0x200, 0x200),
    "hardirq_mask": (0x0FFF0000, 0x03FF0000, 0x000F0000),
    "nmi_mask": (0, 0x04000000, 0x00F00000),
    "nmi_offset": (0, 0x04000000, 0x00100000),
    "preempt_count": ("off", "off", "off"),
    "prove_locking": ("off", "off", "off"),
    "bh_enable_irqs_off": ("warn", "warn", "prove-locking"),
    "softirq_names": (_SOFTIRQS_18, _SOFTIRQS_310, _SOFTIRQS_61),
    "softirq_time": ("bh-off-too", "serving", "serving"),
    "irq_time_accounting": (0, 0, 0),
    "nr_irqs_base": (239, 680, 424),
    "nr_irqs_per_cpu": (0, 8, 8),
    "system_vectors": ("2.6.18", "3.10", "6.1"),
    "vector_allocator": ("step-8", "step-16", "matrix"),
    "affinity_write": ("result-returned", "result-ignored", "result-returned"),
    "affinity_shown": ("moved", "pending", "pending"),
    "affinity_empty_set": ("refused", "default", "refused"),
    "affinity_default": ("all", "settable", "settable"),
    "affinity_broken_log": ("breaking", "broke", "none"),
    "affinity_busy": ("dropped", "dropped", "kept-pending"),
    "offline_vectors": ("unchecked", "unchecked", "checked"),
    "offline_drain": ("irqs-on", "irr", "irr"),
    "cpumask_bits": (255, 0, 0),
    "msi_destination": ("physical", "logical", "logical"),
    "ioapic_delivery": ("lowest", "lowest", "fixed"),
    "msix_setup": ("table-first", "used-masked", "all-masked"),
    "pci_msi": ("on", "on", "on"),
    "timer_wheel": ("cascading", "cascading", "hierarchical"),
    "timer_softirq": ("every-tick", "every-tick", "when-due"),
    "timer_slack": ("none", "256th", "none"),
    "timer_leak": ("bug", "warn", "warn"),
    "deferrable_timers": ("none", "same-wheel", "own-base"),
    # kernel/workqueue.c
    "workqueue": ("keventd", "cmwq", "cmwq"),
    "worker_hook": ("waking-up", "waking-up", "running"),
    "wake_next_worker": ("if-unbound", "if-unbound", "always"),
    "idle_workers_end": ("managed", "managed", "by-timer"),
    "kworker_idle": ("interruptible", "interruptible", "idle"),
    "work_nr_colors": (15, 15, 16),
    "work_no_color": (15, 15, -1),
    "system_workqueues": (1, 5, 7),
    "wq_implicit_ordered": ("no", "no", "yes"),
    "wq_unbind": ("work", "work", "direct"),
    "cancel_wait": ("flush", "flush", "waitqueue"),
    "flush_dependency": ("unchecked", "unchecked", "checked"),
    "freezing_flag": ("pool", "pool", "all"),
    "rescuer": ("once", "once", "again"),
    "wq_power_efficient": ("off", "off", "off"),
    "worker_comm": ("plain", "plain", "with-workqueue"),
    # other CPUs: kernel/smp.c, arch/x86/kernel/smpboot.c, kernel/rcu, kernel/watchdog.c
    "call_function": ("call_data", "call_queue", "llist"),
    "scheduler_ipi": ("nothing", "wake-list", "no-exit"),
    "csdlock_debug": ("off", "off", "on"),
    "csd_lock_timeout": (5000, 5000, 5000),
    "cpu_callin": ("callout-first", "callout-first", "initialized-first"),
    "cpu_callin_timeout_ms": (5000, 5000, 10000),
    "init_udelay": (10000, 10000, 0),
    "cpu_hotplug": ("kstopmachine", "notifiers", "states"),
    "hotplug_unchanged": ("refused", "refused", "nothing"),
    "cpu_die_timeout_ms": (1000, 1000, 5000),
    "hung_task_timeout_secs": (0, 120, 120),
    "rcu": ("classic", "tree", "tree"),
    "rcu_name": ("", "rcu_sched", "rcu_sched"),
    "rcu_cpu_stall_timeout": (21, 21, 21),
    "softlockup": ("each-second", "once", "again"),
    "watchdog_thresh": (10, 10, 10),
    # interrupt lines: kernel/irq
    "irq_flow": ("do_irq", "handlers", "handlers"),
    "handlers_irqs_on": ("unless-IRQF_DISABLED", "never", "never"),
    "irq_count_position": ("before-check", "before-check", "after-check"),
    "disabled_sets_pending": ("level+fasteoi", "always", "always"),
    "fasteoi_masks_disabled": ("no", "yes", "yes"),
    "level_unmask": ("not-disabled", "conditional", "conditional"),
    "fasteoi_oneshot": ("thread", "unmask-then-eoi", "eoi-then-unmask"),
    "redundant_mask": ("issued", "issued", "skipped"),
    "lazy_disable": ("if-marked", "always", "unless-unlazy"),
    "irq_resend": ("any-pending", "edge", "edge-if-sent"),
    "sw_resend": ("no", "no", "yes"),
    "request_checks": ("shared", "shared", "all"),
    "irq_sharing": ("trigger", "flags", "line-trigger"),
    "free_irq_log": ("line", "warning", "warning"),
    "freed_depth": ("kept", "one", "one"),
    "enable_irq_starts": ("enable", "enable", "startup"),
    "startup_resend": ("no", "yes", "yes"),
    "irq_threads": ("none", "yes", "yes"),
    "forced_secondary": ("no", "no", "yes"),
    "forced_thread_irqs": ("on", "on", "off"),
    "threadirqs": ("off", "off", "off"),
    "noirqdebug": ("off", "off", "off"),
    "debug_shirq": ("off", "off", "off"),
    "irqfixup": ("off", "off", "off"),
    "spurious_decay": ("no", "yes", "yes"),
    "spurious_reset": ("never", "on-request", "on-request"),
    "spurious_bogus": ("unhandled", "reported-only", "reported-only"),
    "spurious_count": ("every", "every", "from-first-unhandled"),
    "spurious_disable": ("for-good", "revivable", "revivable"),
    "spurious_poll": ("never", "shared", "shared"),
    "spurious_threads": ("handled", "thread-result", "deferred"),
    "spurious_window": (100_000, 100_000, 100_000),
    # network
    "route_cache": ("hash", "nexthop", "nexthop"),
    "dst_gc": ("timer", "work", "rcu"),
    "dst_without_device": ("loopback", "loopback", "blackhole_netdev"),
    "xmit_dst_release": ("sent", "hard-start", "queue"),
    "dev_refcnt_base": (0, 0, 1),
    "neigh_first_probe": ("timer", "at-once", "at-once"),
    "neigh_queue_bytes": (0, 65536, 212992),
    "pfifo_fast_limit": ("each-band", "together", "each-band"),
    "output_queue": ("lifo", "fifo", "fifo"),
    "qdisc_run": ("until-empty", "quota", "quota"),
    "bond_xmit_code": ("success", "success", "slave"),
    "conntrack_lock": ("rwlock", "spinlock", "buckets"),
    "conntrack_proc": ("ip_conntrack", "nf_conntrack", "nf_conntrack"),
    "conntrack_version": ("2.4", "0.5.0", "unsaid"),
    "conntrack_icmp": ("until-answered", "kept", "kept"),
    "conntrack_stream": ("any-reply", "any-reply", "after-two-seconds"),
    "conntrack_stream_s": (180, 180, 120),
    "bql": ("none", "dql", "dql"),
    "ipfrag_high_thresh": (256 << 10, 4 << 20, 4 << 20),
    "ipfrag_low_thresh": (192 << 10, 3 << 20, 3 << 20),
    "ipfrag_limit": ("evict", "evict", "refuse"),
    "frag_overlap": ("trim", "trim", "discard"),
    "icmp_global_limit": ("no", "no", "yes"),
    "time_squeeze": ("loop-head", "loop-head", "after-poll"),
    "napi_missed": ("forgotten", "forgotten", "remembered"),
    "offline_poll_list": ("left", "moved", "moved"),
    "poll_return": ("zero-when-done", "zero-when-done", "work"),
    "carrier_loss": ("no-urgency", "once-a-second", "at-once-for-slaves"),
    "inactive_slave_counter": ("rx_dropped", "rx_dropped", "rx_nohandler"),
    "receive_batching": ("one-by-one", "one-by-one", "list"),
    "slave_priority": ("one", "kept", "kept"),
    "ip_id": ("zero", "generated", "generated"),
    "softnet_columns": (9, 10, 13),
    # ixgbe and bonding
    "removed_device": ("not-recognised", "not-recognised", "all-ones"),
    "pciehp_thread": ("event-thread", "workqueue", "irq-thread"),
    "pciehp_events": ("presence", "presence", "presence+link"),
    "removed_config": ("asked", "asked", "marked"),
    "bond_stats": ("sum", "sum", "since-enslaved"),
    "reta_order": ("reversed", "reversed", "straight"),
    "master_disable": ("if-enabled", "always", "with-readback"),
    "ixgbe_reset": ("mac", "link-if-down", "link-if-down"),
    "autoc_write": ("plain", "pipeline", "pipeline"),
    "msix_other": ("whole", "cause-bits", "cause-bits"),
    "service_event": ("queued", "lost-while-running", "lost-while-running"),
    "ixgbe_health_checks": ("off", "off", "on"),
    "tx_watchdog_text": ("device", "queue", "queue"),
    "tx_timeout_text": ("none", "warning", "warning"),
    "coalesce_params": ("ignored", "ignored", "checked"),
    "adaptive_itr": ("rate-class", "delay-class", "packet-count"),
    "nvm_version": ("word-29", "etrack-id", "etrack-id"),
    "mtu_check": ("errno", "errno", "extack"),
    "ixgbe_stats": ("3.2.9", "3.13.10", "6.1"),
    "phy_sfp_passive": (9, 9, 14),
    "peer_notification": ("reply-on-slave", "request-on-bond", "request-with-carrier"),
    "failure_count": ("at-fail", "at-commit", "at-commit"),
    "enslave_order": ("at-once", "select-first", "carrier-first"),
    "best_slave": ("running-primary", "reselect", "list-order"),
    "rr_start": ("curr-active", "counter", "per-cpu"),
    "hash_over": ("slaves", "slaves", "usable"),
    "enslave_bond_down": ("refused", "allowed", "allowed"),
    "bond_close": ("releases", "keeps", "keeps"),
    "commit_failover": ("after-all", "at-once", "after-all"),
    "arp_monitor": ("one-pass", "committed", "committed"),
    "arp_half_interval": ("active-backup", "active-backup", "always"),
    "arp_probe_failed": ("kept", "kept", "committed"),
    "arp_last_tx": ("trans_start", "trans_start", "probe"),
    "arp_no_route": ("always", "validated", "validated"),
    "arp_validate_reply": ("active-only", "active-only", "any-slave"),
    "arp_first_link": ("up", "carrier", "carrier"),
    "new_active_time": ("kept", "now", "now"),
    "slave_mtu": ("own", "forced", "forced"),
    "link_commit": ("one-pass", "final", "every-change"),
    "release_role": ("as-it-was", "as-it-was", "inactive-first"),
    "xmit_hash": ("bond-mac", "source-mac", "flow"),
    "ad_speed_key": ("bitmask", "bitmask", "number"),
    "ad_partner_default": (1, 1, 0),
    "ad_expired_partner": ("timeout", "timeout", "timeout+activity"),
    "ad_attached_sync": ("always", "always", "if-active"),
    "ad_candidates": ("any-port", "enabled-port", "enabled-port"),
    "ad_link_change": ("begin", "begin", "reselect"),
    "ad_carrier": ("partner", "attached-ports", "enabled-ports"),
    "ad_selection_wait": ("timer", "none", "none"),
    "ad_matched_again": ("yes", "no", "no"),
    "ad_churn": ("none", "none", "60s"),
    "ad_num_ports": ("attached", "attached", "enabled"),
    "ad_open": ("nothing", "one-tick", "one-tick"),
    "ad_set_carrier": ("tells-change", "tells-change", "tells-always"),
    "tlb_hash": ("dest-ip", "dest-ip", "policy"),
    "rlb_request": ("on-active", "on-active", "on-assigned"),
    "lp_frame": ("burst", "once", "loopback"),
    "bond_mac_before_slaves": ("zero", "random", "random"),
    "bonding_version": ("v3.0.3 (March 23, 2006)", "v3.7.1 (April 27, 2011)", "v6.1.0"),
    "ixgbe_version": ("3.2.9-k2", "3.13.10-k", "6.1.0"),
    "other_vector_suffix": (":lsc", "", ""),
    "rss_key": (_FIXED_RSS_KEY, _FIXED_RSS_KEY, ""),
    # text
    "warning_text": ("bug", "at", "cpu-pid"),
    "absent_files": (ABSENT_18, ABSENT_310, ()),
    "absent_values": (ABSENT_VALUES, ABSENT_VALUES, ()),
    "proc_without_write": ("EINVAL", "EIO", "EIO"),
    "cpu_online_store": ("first-digit", "first-digit", "boolean"),
    "bond_options": ("each-its-own", "each-its-own", "table"),
    "unknown_module_parameter": ("refused", "refused", "ignored"),
    "proc_format": ("2.6.18", "3.10", "6.1"),
    "log_format": ("2.6.18", "3.10", "6.1"),
    "ethtool_text": ("6", "3.8", "6.1"),
    "sysstat_text": ("7", "10", "12"),
    "ftrace_format": ("none", "3.10", "6.1"),
}

PRESETS: dict[str, Params] = {
    era: Params(**{name: row[column] for name, row in _TABLE.items()})
    for column, era in enumerate(ERAS)
}


_HINTS = get_type_hints(Params)


def with_overrides(params: Params, overrides: tuple[tuple[str, str], ...]) -> Params:
    """``params`` with single behaviours replaced; ValueError says what is allowed."""
    changes: dict[str, Any] = {}
    for name, text in overrides:
        if name not in _HINTS:
            raise ValueError(f"there is no behaviour {name}")
        allowed = CHOICES.get(name)
        if allowed is not None and text not in allowed:
            raise ValueError(f"{name} is one of {', '.join(allowed)}")
        if _HINTS[name] is int:
            low, high = _RANGES.get(name, (0, 0x7FFF_FFFF))
            try:
                changes[name] = int(text, 0)
            except ValueError:
                raise ValueError(f"{name} is a whole number") from None
            if not low <= changes[name] <= high:
                raise ValueError(f"{name} is {low} to {high}")
        elif _HINTS[name] is str:
            changes[name] = text
        else:
            raise ValueError(f"{name} cannot be set by itself")
    return params._replace(**changes)
