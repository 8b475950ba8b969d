"""The page of counters of a CPU: everything a dashboard shows without asking the CPU."""

from __future__ import annotations

from bus.ram import Field, Schema

NR_IRQS = 256
NICS_MAX = 8
LATENCY_BUCKETS = 32
#: Rules and policies of ip_tables that can be counted.
NF_SLOTS = 40
RUN_QUEUE_ROWS = 6
#: bytes packets drops requeues, backlog in bytes and packets
QDISC_WORDS = 6
#: Rows of worker pools: normal, highpri, unbound, and those hosted for a CPU that is offline.
WQ_POOLS = 8
#: Rows of workers that run a work, and of delayed works on a timer.
WQ_BUSY_ROWS, WQ_BUSY_WORDS = 10, 11
WQ_DELAYED_ROWS, WQ_DELAYED_WORDS = 8, 6
WQ_WORK_WORDS, WQ_NAME_WORDS = 4, 3

#: Architecture rows of /proc/interrupts that are counted, in the order of ``arch_irqs``.
ARCH_IRQS = (
    "NMI", "LOC", "SPU", "PMI", "IWI", "RTR", "RES", "CAL", "TLB", "TRM", "THR", "DFR",
    "MCE", "MCP", "ERR", "MIS", "PIN", "NPI", "PIW",
)  # fmt: skip

#: What the CPU is doing (word ``context``).
CONTEXTS = ("idle", "task", "softirq", "hardirq", "nmi", "stalled", "offline")

#: Names follow enum skb_drop_reason where Linux has one; order is the order of words.
DROP_REASONS = (
    "NEIGH_FAILED", "NEIGH_QUEUEFULL", "DEV_READY", "BOND_NO_SLAVE", "BOND_INACTIVE",
    "QDISC_DROP", "TX_RING_RESET", "OTHERHOST", "UNHANDLED_PROTO", "IP_INHDR", "IP_CSUM",
    "PKT_TOO_SMALL", "IP_NOROUTE", "ICMP_CSUM", "NO_SOCKET", "SOCKET_RCVBUFF", "CPU_BACKLOG",
    "NETFILTER_DROP", "HANDOVER_FULL", "RX_RING_RESET", "NOT_SPECIFIED", "FRAG_REASM_TIMEOUT",
    "DUP_FRAG", "NOMEM", "IP_NOPROTO", "UDP_CSUM",
)  # fmt: skip

#: Counters of /proc/net/snmp that are kept: the protocol, then the name in its line. What other
#: words of the page know already (what was sent) is not counted a second time.
SNMP = (
    "Ip InReceives", "Ip InHdrErrors", "Ip InAddrErrors", "Ip InUnknownProtos", "Ip InDelivers",
    "Ip OutNoRoutes", "Ip ReasmTimeout", "Ip ReasmReqds", "Ip ReasmOKs", "Ip ReasmFails",
    "Ip FragOKs", "Ip FragFails", "Ip FragCreates",
    "Icmp InErrors", "Icmp InCsumErrors", "Icmp OutErrors", "Icmp OutRateLimitGlobal",
    "Icmp OutRateLimitHost",
    "Udp InDatagrams", "Udp NoPorts", "Udp InErrors", "Udp OutDatagrams", "Udp RcvbufErrors",
    "Udp InCsumErrors",
)  # fmt: skip
#: ICMP types that are counted one by one.
ICMP_TYPES = 19

CPU_SCHEMA = Schema(
    (
        # what it is doing now
        Field("context", "index into CONTEXTS"),
        Field("depth", "frames on the context stack"),
        Field("preempt_count", "as of the last boundary"),
        Field("irq_enabled", "IF"),
        Field("softirq_pending", "__softirq_pending, bit n = vector n"),
        Field("current_pid", "0 is the idle task"),
        Field("current_comm", "name of the current task", 2),
        Field("current_nice", "nice + 20 of the current task"),
        Field("hardirq_now", "1 + irq being handled; 0 none"),
        Field("softirq_now", "1 + softirq vector being run; 0 none"),
        Field("napi_now", "ifindex | queue << 16 | polled << 32 | weight << 48; 0 none"),
        Field("nr_running", "runnable tasks, the current one included, idle excluded"),
        Field("online", "1 from the moment it is in cpu_online_mask"),
        Field("cpu_state", "coming up: 1 the trampoline has run, 2 it has called in"),
        Field("cpu_callout", "by the boot CPU: bit n = CPU n may go on after its STARTUP"),
        Field("cpu_commenced", "by the boot CPU: bit n = CPU n may mark itself online"),
        Field("stalled_on", "1 + NIC number whose completion it waits for; 0 none"),
        # time in each context
        Field("boundaries", "instruction boundaries passed"),
        Field("hardirq_ns", "time in hard interrupts"),
        Field("softirq_ns", "time in softirqs"),
        Field("task_ns", "time in tasks"),
        Field("nmi_ns", "time in NMIs"),
        Field("cpustat", "ns: user nice system idle iowait irq softirq steal, charged by ticks", 8),
        Field("idle_since_ns", "1 + kernel time when the tick stopped; 0: it runs"),
        Field("warnings", "WARN lines in the log of this CPU"),
        Field("broken_invariants", "turns that ended with a rule of invariants.py broken"),
        # interrupts
        Field("irqs", "kstat_irqs of this CPU, by irq number", NR_IRQS),
        Field("arch_irqs", "by ARCH_IRQS", len(ARCH_IRQS)),
        Field("softirqs", "actions run, by vector", 10),
        Field("softirqs_raised", "raises, by vector", 10),
        Field("ksoftirqd_wakeups", ""),
        Field("ksoftirqd_runs", "__do_softirq calls made by ksoftirqd"),
        Field("irq_latency", "MSI received to handler: bucket n counts [2^n, 2^(n+1)) ns",
              LATENCY_BUCKETS),
        Field("softirq_restarts", "passes after the first in __do_softirq"),
        # local APIC
        Field("irr", "256 bits", 4),
        Field("isr", "256 bits", 4),
        Field("lapic_in", "Interrupt messages taken from the bus"),
        Field("lapic_accepted", "set a bit in IRR"),
        Field("lapic_merged", "IRR bit was set already"),
        Field("lapic_disabled", "dropped: APIC software-disabled"),
        Field("lapic_illegal", "dropped: vector below 16 or reserved delivery mode"),
        Field("lapic_other", "INIT, STARTUP, NMI, SMI, ExtINT: outside IRR"),
        Field("lapic_cleared", "requested in IRR and never taken: the CPU was offline, then INIT"),
        Field("lapic_timer", "local timer expiries (accepted or merged, not from the bus)"),
        Field("vectors_taken", "vectors acknowledged (IRR to ISR)"),
        Field("msi_no_handler", "vector without an irq: 'No irq handler for vector'"),
        Field("ipi_sent", "ICR writes"),
        Field("eoi_sent", "EOIs of level-triggered vectors, broadcast"),
        Field("ioapic_writes", "register writes to the I/O APIC"),
        Field("ioapic_reads", "register reads"),
        Field("port_accesses", "configuration requests of root ports"),
        Field("ioapic_timeouts", "reads of it and of root ports, answered with all ones after the "
              "completion timeout"),
        # scheduler, timers
        Field("ctxt", "context switches"),
        Field("forks", "tasks created"),
        Field("wakeups_remote", "wake-ups sent to another CPU by IPI"),
        Field("cur_csd", "call being run for another CPU: function | source << 32; 0 none"),
        Field("timers_run", "timer callbacks"),
        Field("run_queue", "rows of pid, nice + 20, runtime_ns, comm, comm",
              RUN_QUEUE_ROWS * 5),
        # RCU; the first four by the boot CPU
        Field("rcu_gp_seq", "grace periods, in steps of four; bit 0: one runs"),
        Field("rcu_gp_start", "jiffies when it began"),
        Field("rcu_qsmask", "bit n: it waits for CPU n"),
        Field("rcu_n_fqs", "looks at the CPUs in this grace period"),
        Field("rcu_dynticks", "odd while this CPU is not idle"),
        Field("rcu_qs_seq", "the grace period for which it reported a quiescent state"),
        Field("rcu_rdp_seq", "the last grace period it noticed"),
        Field("rcu_ticks", "ticks in it"),
        Field("rcu_softirq_snap", "RCU softirqs when it noticed"),
        Field("rcu_qlen", "callbacks that wait"),
        # worker pools, by row: 0 normal, 1 highpri, then the others in the order they came
        # (keventd: one row for each workqueue's thread)
        Field("wq_pool", "1 + id | (1 + CPU; 0 unbound) << 16 | nice + 20 << 32 | flags << 40",
              WQ_POOLS),
        Field("wq_pool_name", "of the workqueue, where a thread serves one",
              WQ_NAME_WORDS * WQ_POOLS),
        Field("wq_workers", "nr_workers", WQ_POOLS),
        Field("wq_idle", "nr_idle", WQ_POOLS),
        Field("wq_running", "nr_running", WQ_POOLS),
        Field("wq_worklist", "works that wait for a worker", WQ_POOLS),
        Field("wq_inactive", "works that max_active holds back", WQ_POOLS),
        Field("wq_executed", "works run", WQ_POOLS),
        Field("wq_watchdog_ts", "clock of the pool's last progress", WQ_POOLS),
        Field("wq_next", "the work at the head of the worklist", WQ_WORK_WORDS * WQ_POOLS),
        Field("wq_busy", "rows of pid | pool row << 32 | asleep << 40 | worker flags << 44, clock"
              " of its begin, comm (2 words), work (4), workqueue (3); pid 0: free",
              WQ_BUSY_ROWS * WQ_BUSY_WORDS),
        Field("wq_delayed", "delayed works on a timer of this CPU"),
        Field("wq_timers", "rows of 1 + the timer's atomic word (0: free), clock of its expiry,"
              " work (4 words); the word tells if the timer is another CPU's by now",
              WQ_DELAYED_ROWS * WQ_DELAYED_WORDS),
        Field("wq_last_ns", "clock when the last work began"),
        Field("wq_last_work", "its function", WQ_WORK_WORDS),
        # softnet_stat
        Field("softnet", "processed dropped time_squeeze cpu_collision received_rps flow_limit", 6),
        # ledger: [other, request, reply] each
        Field("icmp_sent", "given to the network stack by sockets of this CPU", 3),
        Field("icmp_generated", "made by the kernel itself", 3),
        Field("delivered", "queued on the socket that wanted it", 3),
        Field("bond_copies", "further copies for further slaves of a bond", 3),
        Field("handover_out", "skbs given to another CPU, further copies not counted", 3),
        Field("handover_in", "skbs taken from another CPU, likewise", 3),
        Field("tx_posted", "by NIC: descriptors handed to the NIC", 3 * NICS_MAX),
        Field("rx_polled", "by NIC: frames taken from its rings", 3 * NICS_MAX),
        Field("drops", "by device (0: none or the bond, else 1 + NIC), then by DROP_REASONS",
              3 * len(DROP_REASONS) * (NICS_MAX + 1)),
        Field("rx_nohandler", "by device, as for drops", NICS_MAX + 1),
        Field("rx_dropped", "by device, as for drops; the last: lo", NICS_MAX + 2),
        Field("lstats", "of lo: packets and bytes, sent and thereby received", 2),
        Field("sock_dups", "further copies for further sockets", 3),
        Field("nf_counters", "by slot of ip_tables: packets, bytes", 2 * NF_SLOTS),
        Field("snmp", "by SNMP", len(SNMP)),
        Field("icmp_in", "messages received, by type; the last: any above", ICMP_TYPES + 1),
        Field("icmp_errors_out", "error messages sent, by type", ICMP_TYPES),
        Field("qdisc", "by device, as for drops: sent bytes and packets, drops, requeues, backlog"
              " in bytes and packets", QDISC_WORDS * (NICS_MAX + 1)),
        Field("qdisc_waiting", "packets that wait in queueing disciplines, by class", 3),
        # routes and their dst entries
        Field("dev_refcnt", "references of dst entries, by device as for drops; the last: lo",
              NICS_MAX + 2),
        Field("rt_cache", "dst entries, then of rt_cache_stat: out_hit out_slow_tot", 3),
        # PCIe
        Field("mmio_writes", "by NIC: posted writes sent", NICS_MAX),
        Field("mmio_reads", "by NIC: reads sent", NICS_MAX),
        Field("mmio_all_ones", "by NIC: reads answered with all ones because the link is lost",
              NICS_MAX),
        Field("mmio_timeouts", "by NIC: reads answered with all ones after the completion timeout",
              NICS_MAX),
        Field("mmio_lost", "by NIC: posted writes that nobody took", NICS_MAX),
        # the boot CPU's view of the network, for the overview
        Field("nic_flags", "by NIC: 1 registered, 2 IFF_UP, 4 carrier, 8 slave, 16 removed",
              NICS_MAX),
        Field("bond_present", ""),
        Field("bond_mode", ""),
        Field("bond_active", "1 + NIC number of curr_active_slave; 0 none"),
        Field("bond_miimon_ms", ""),
        Field("bond_next_mii_ns", "clock of the next MII look"),
        Field("bond_slave_link", "by NIC: 1 + BOND_LINK_ value; 0 not a slave", NICS_MAX),
        Field("bond_failures", "by NIC: link_failure_count", NICS_MAX),
        # what each CPU saw of a slave, in jiffies; the ARP monitor takes the latest of all CPUs
        Field("slave_last_rx", "by NIC: last frame that counts for the ARP monitor", NICS_MAX),
        Field("slave_last_tx", "by NIC: trans_start", NICS_MAX),
        Field("slave_target_last_rx", "by NIC, then by ARP target", 16 * NICS_MAX),
        Field("slave_last_link_up", "by NIC: jiffies at which it came up or active", NICS_MAX),
        # the last ping started on this CPU
        Field("ping_running", ""),
        Field("ping_sent", ""),
        Field("ping_received", ""),
        Field("ping_duplicates", ""),
        Field("ping_interval_ns", ""),
        Field("ping_last_sent_ns", ""),
        Field("ping_last_reply_ns", ""),
        Field("ping_last_rtt_ns", ""),
        Field("ping_window", "bit n: the n-th last request was answered"),
    )
)  # fmt: skip
