"""What behaviours there are: one field each, and whom it concerns.

Sources: the subsystems named beside each field, in Linux 2.6.18, 3.10 and 6.1. What a word means is
told where it is asked for (``grep params.NAME``).
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.cpu.kernel.irq.system_vectors import SYSTEM_VECTORS


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
    loopback_mtu: int  # of lo: 3.6
    loopback_stats: str  # does lo count what its backlog had no room for?
    netif_rx_total: str  # of softnet_stat: a second time, for what comes by netif_rx
    backlog_drop: str  # a full backlog: is it the device's drop too? 2.6.37
    local_iif: str  # where a packet to ourselves is said to come from: net/ipv4/route.c, 4.8
    raw_iif: str  # does a bound raw socket ask for that? 4.14
    udp_iif: str  # and a bound UDP socket?
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
