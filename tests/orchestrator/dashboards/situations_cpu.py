"""The situations of the overview and of a CPU."""

from __future__ import annotations

from dashboard_bench import MS, SECOND, Bench
from situations import case

from bus.recorder import ALL_EVENTS, Recorder
from nodes.cpu.page import CONTEXTS
from nodes.cpu.trace import TRACEPOINTS


def silence(bench: Bench, ms: int) -> None:
    """A ping ran well; then nothing came for so long."""
    bench.pings(100, 100)
    bench.now += ms * MS
    bench.pings(100 + ms // 10, 100)
    bench.set("cpu0", ping_last_reply_ns=bench.now - ms * MS, ping_window=0)


# ---------------------------------------------------------------- overview


@case("OVERVIEW", "cpu0's process is dead and the kernel with it; NICs and LAN go on without one.")
def boot_cpu_dead(bench):
    bench.kill("cpu0")


@case("OVERVIEW", "cpu0's process is frozen and the kernel with it; it goes on after a thaw.")
def boot_cpu_frozen(bench):
    bench.state("cpu0", frozen=True)


@case("OVERVIEW", "The LAN's process is dead, so no NIC sees light: no reply for 200 ms.")
def lan_dead(bench):
    bench.kill("lan")
    silence(bench, 200)


@case("OVERVIEW", "The interrupt controller is dead, so no interrupt arrives: no ping runs.")
def apic_dead(bench):
    bench.kill("apic")


@case("OVERVIEW", "The interrupt controller is frozen, so no interrupt arrives: no ping runs.")
def apic_stopped(bench):
    bench.state("apic", frozen=True)


@case("OVERVIEW", "The LAN's process is frozen, so frames wait for it: no reply for 90 ms.")
def lan_stopped(bench):
    bench.state("lan", frozen=True)
    silence(bench, 90)


@case("OVERVIEW", "cpu0 boots the kernel: no CPU is online yet.")
def booting(bench):
    bench.set("cpu0", online=0)


@case("OVERVIEW", "eth0's process is dead and bond0 still sends to it: no reply for 64 ms.")
def active_dead(bench):
    bench.kill("eth0")
    silence(bench, 64)


@case("OVERVIEW", "eth0's process is frozen and bond0 still sends to it: no reply for 64 ms.")
def active_frozen(bench):
    bench.state("eth0", frozen=True)
    silence(bench, 64)


@case("OVERVIEW", "eth0's cable is out and bond0 still sends to it: replies still come.")
def active_cable_out_just_now(bench):
    bench.plug("eth0", inserted=False)
    bench.pings(100, 100)


@case("OVERVIEW", "eth0's cable is out and bond0 still sends to it: no reply yet.")
def active_cable_out_before_the_first_reply(bench):
    bench.plug("eth0", inserted=False)
    bench.set("cpu0", ping_running=1, ping_sent=1, ping_interval_ns=SECOND)


@case(
    "OVERVIEW",
    "bond0 has no active slave, so nothing can be sent: eth0 is down, eth1 is down.",
)
def no_active(bench):
    bench.set("cpu0", bond_active=0, bond_slave_link={0: 3, 1: 3})


@case("OVERVIEW", "Replies are back over eth1, after 87 ms without one.")
def gap_over(bench):
    bench.pings(100, 100)
    bench.kill("eth0")
    bench.advance(1)
    bench.set("cpu0", bond_active=2)
    bench.now += 86 * MS
    bench.pings(109, 101, window="!!........!")


@case("OVERVIEW", "eth0's process is dead; bond0 sends over eth1 and does not need it now.")
def spare_dead(bench):
    bench.set("cpu0", bond_active=2)
    bench.kill("eth0")


@case("OVERVIEW", "eth1's cable is out: what is sent over it is lost.")
def nic_broken_without_a_bond(bench):
    bench.set("cpu0", bond_present=0)
    bench.plug("eth1", inserted=False)


@case("OVERVIEW", "cpu1's process is dead: interrupts of queue 1 wait for it in vain.")
def second_cpu_dead(bench):
    bench.kill("cpu1")


@case("OVERVIEW", "Nothing is broken, yet a ping runs and has no reply for 300 ms.")
def unexplained(bench):
    silence(bench, 300)


@case("OVERVIEW", "Replies come over eth0; eth1 stands by.")
def replies(bench):
    bench.pings(100, 100)


@case("OVERVIEW", "Replies come over eth0; there is no backup.")
def replies_without_backup(bench):
    bench.set("cpu0", bond_slave_link={1: 3})
    bench.pings(100, 100)


@case("OVERVIEW", "A ping runs on cpu0: 1 sent, 0 answered.")
def first_ping(bench):
    bench.set("cpu0", ping_running=1, ping_sent=1, ping_interval_ns=SECOND)
    bench.set("cpu0", ping_last_sent_ns=bench.now)


@case("OVERVIEW", "Nobody pings; bond0 would send over eth0.")
def nobody_pings(bench):
    pass


@case("OVERVIEW", "The kernel is up and nobody pings.")
def no_bond(bench):
    bench.set("cpu0", bond_present=0)


# ---------------------------------------------------------------- CPU


def context(bench: Bench, name: str, **fields: object) -> None:
    bench.set("cpu1", context=CONTEXTS.index(name), **fields)  # type: ignore[arg-type]


@case("CPU", "cpu1's process is dead (SIGSEGV 1.5 s ago); this is the last page it wrote.")
def cpu_dead(bench):
    bench.kill("cpu1", signal=11)
    bench.now += 1500 * MS


@case("CPU", "cpu1's process is frozen (SIGSTOP): what is sent to it waits or is lost.")
def cpu_frozen(bench):
    bench.state("cpu1", frozen=True)


@case("CPU", "Offline: it waits for INIT and STARTUP from cpu0.")
def cpu_offline(bench):
    bench.set("cpu1", online=0)


@case("CPU", "Stalled: a register read from eth1 has no answer yet.")
def cpu_stalled(bench):
    context(bench, "stalled", stalled_on=2)


@case("CPU", "Stalled for 30 ms: a register read from eth1 has no answer yet.")
def cpu_stalled_and_traced(bench):
    context(bench, "stalled", stalled_on=2)
    trace(bench, "mmio_read", 1, 0x42A4)
    bench.now += 30 * MS


@case("CPU", "cpu1's process does not answer heartbeats; its page may be old.")
def cpu_silent(bench):
    bench.state("cpu1", silent=True)


@case("CPU", "Handling interrupt 34, over ping/312.")
def cpu_hardirq(bench):
    context(bench, "hardirq", hardirq_now=35, current_pid=312, current_comm="ping")


@case("CPU", "Handling interrupt 34, over softirq NET_RX.")
def cpu_hardirq_over_softirq(bench):
    context(bench, "hardirq", hardirq_now=35, softirq_now=4)


@case("CPU", "Polling eth0 queue 1 (12 of 64) in NET_RX, on the way out of interrupt 34.")
def cpu_polling(bench):
    poll = 2 | 1 << 16 | 12 << 32 | 64 << 48
    trace(bench, "irq_handler_entry", 34, 0x22)
    context(bench, "softirq", softirq_now=4, preempt_count=0x100, napi_now=poll)


@case("CPU", "Polling eth1 queue 0 (3 of 64) in NET_RX, in ksoftirqd/1/21.")
def cpu_polling_in_ksoftirqd(bench):
    poll = 3 | 3 << 32 | 64 << 48
    context(bench, "softirq", softirq_now=4, preempt_count=0x100, napi_now=poll)
    bench.set("cpu1", current_pid=21, current_comm="ksoftirqd/1")


@case("CPU", "Running softirq TIMER, on the way out of an interrupt.")
def cpu_softirq(bench):
    context(bench, "softirq", softirq_now=2, preempt_count=0x100)


@case("CPU", "Running softirq NET_TX, where ping/312 enabled bottom halves.")
def cpu_softirq_from_bh_enable(bench):
    context(bench, "softirq", softirq_now=3, preempt_count=0x101)
    bench.set("cpu1", current_pid=312, current_comm="ping")


@case("CPU", "Running ping/312 (nice 0); nobody waits.")
def cpu_task(bench):
    context(bench, "task", current_pid=312, current_comm="ping", current_nice=20, nr_running=1)


@case("CPU", "Running ksoftirqd/1/21 (nice 19); 2 other tasks waiting.")
def cpu_task_with_others(bench):
    context(bench, "task", current_pid=21, current_comm="ksoftirqd/1", current_nice=39)
    bench.set("cpu1", nr_running=3)


@case("CPU", "Idle, but softirqs are pending: TIMER NET_RX.")
def cpu_pending(bench):
    bench.set("cpu1", softirq_pending=0b1010)


@case("CPU", "Idle now; in a second 50 interrupts, 40 softirqs, 12 % busy.")
def cpu_busy_lately(bench):
    bench.add("cpu1", "vectors_taken", 50)
    bench.add("cpu1", "softirqs", 40, 3)
    bench.add("cpu1", "softirq_ns", 120 * MS)
    bench.now += SECOND


@case("CPU", "Idle: no task can run and no interrupt came for a second.")
def cpu_idle(bench):
    pass


def trace(bench: Bench, event: str, a: int, b: int) -> None:
    recorder = Recorder(bench.ram.recorder_words("cpu1"))
    recorder.mask = ALL_EVENTS
    recorder.record(bench.now, TRACEPOINTS[event].number, 0, a, b)
