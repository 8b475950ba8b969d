"""Line 2 of each screen: every row of every table is reached by a machine in that situation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dashboard_bench import MS, SECOND, Bench

from bus.faults import KINDS
from bus.recorder import ALL_EVENTS, Recorder
from nodes.cpu.page import CONTEXTS
from nodes.cpu.trace import TRACEPOINTS
from orchestrator.dashboards.apicsentences import APIC
from orchestrator.dashboards.cpusentences import CPU
from orchestrator.dashboards.lansentences import LAN
from orchestrator.dashboards.nicsentences import NIC
from orchestrator.dashboards.overviewsentences import OVERVIEW
from orchestrator.dashboards.poolsentences import POOLS
from orchestrator.dashboards.sentences import sentence

NODE = {
    "OVERVIEW": "cpu0", "CPU": "cpu1", "NIC": "eth0", "APIC": "apic", "LAN": "lan", "POOLS": "cpu1",
}  # fmt: skip
TABLES = {"OVERVIEW": OVERVIEW, "CPU": CPU, "NIC": NIC, "APIC": APIC, "LAN": LAN, "POOLS": POOLS}
Case = tuple[str, str, Callable[[Bench], None]]
CASES: list[Case] = []


def case(table: str, text: str) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """The decorated function makes the situation in which ``table`` says ``text``."""

    def register(situation: Callable[[Bench], None]) -> Callable[[Bench], None]:
        CASES.append((table, text, situation))
        return situation

    return register


def bench_with(situation: Callable[[Bench], None]) -> Bench:
    bench = Bench()
    bench.network()
    bench.look()
    situation(bench)
    bench.look()
    return bench


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


# ---------------------------------------------------------------- NIC


@case("NIC", "eth0's process is dead (SIGKILL 64 ms ago); this is the last page it wrote.")
def nic_dead(bench):
    bench.kill("eth0")
    bench.now += 64 * MS


@case("NIC", "eth0's process is dead (exit 3 64 ms ago); this is the last page it wrote.")
def nic_ended(bench):
    bench.state("eth0", alive=False, exit_code=3, since_ns=bench.now)
    bench.now += 64 * MS


@case("NIC", "eth0's process is frozen (SIGSTOP): what is sent to it waits or is lost.")
def nic_frozen(bench):
    bench.state("eth0", frozen=True)


@case("NIC", "eth0's process does not answer heartbeats; its page may be old.")
def nic_silent(bench):
    bench.state("eth0", silent=True)


@case("NIC", "No driver has this port open (CTRL_EXT.DRV_LOAD is 0).")
def nic_no_driver(bench):
    bench.set("eth0", drv_load=0)


@case("NIC", "The driver has not let it be bus master: it can read no descriptor.")
def nic_no_bus_master(bench):
    bench.set("eth0", pci_command=2)


@case("NIC", "No light: eth0's cable is out, so the link is down.")
def nic_cable_out(bench):
    bench.plug("eth0", inserted=False)
    bench.set("eth0", light=0, link_up=0)


@case("NIC", "Its laser is off (ESDP.SDP3), so the far end sees no link.")
def nic_laser_off(bench):
    bench.set("eth0", laser=0)


@case("NIC", "No light from the switch (its process is dead), so the link is down.")
def nic_lan_dead(bench):
    bench.kill("lan")
    bench.set("eth0", light=0, link_up=0)


@case("NIC", "No light from the switch (its port is dark), so the link is down.")
def nic_dark(bench):
    bench.set("eth0", light=0, link_up=0)


@case("NIC", "Light comes in, but the link is not up yet (LINKS.UP is 0).")
def nic_link_down(bench):
    bench.set("eth0", link_up=0)


@case("NIC", "Starved: the driver gives receive queue 1 no descriptors, 8 frames/s lost.")
def nic_starved(bench):
    bench.add("eth0", "rx_no_descriptor", 4, 1)
    bench.now += SECOND // 2


@case("NIC", "eth0 hangs (fault hang): descriptors stay where they are.")
def nic_hangs(bench):
    bench.set("eth0", faults={0: 4, 1: 1, 2: bench.now})


@case("NIC", "Its interrupt messages suffer lose-msi=1/100: 3 lost, 0 doubled.")
def nic_loses_messages(bench):
    bench.set("eth0", faults={0: 1, 1: 1 << 32 | 100, 2: bench.now}, msi_lost_fault=3)


@case("NIC", "Overrun: its packet buffer is full, 6 frames/s lost (MPC).")
def nic_overrun(bench):
    bench.add("eth0", "rx_drop_missed", 6, 2)
    bench.now += SECOND


@case("NIC", "DMA refused: 2 accesses outside of what the driver mapped in the last second.")
def nic_dma_refused(bench):
    bench.add("eth0", "dma_refused", 2)
    bench.now += SECOND


@case("NIC", "The interrupt controller is dead: 7 of its MSIs reached nobody.")
def nic_apic_dead(bench):
    bench.kill("apic")
    bench.set("eth0", msi_lost_peer_dead=7)


@case("NIC", "Link up; 3 frames in its packet buffer for want of descriptors.")
def nic_buffered(bench):
    bench.set("eth0", rx_buffered={2: 3})


@case("NIC", "Link up at 10G as bond0's active slave: in 100 frames/s, out 90, 80 MSIs/s.")
def nic_flowing(bench):
    bench.add("eth0", "rx_frames_in", 100, 2)
    bench.add("eth0", "tx_frames_out", 90, 1)
    bench.add("eth0", "msi_out", 80)
    bench.now += SECOND


@case("NIC", "Link up at 10G, and no frame passed for a second.")
def nic_quiet(bench):
    pass


# ---------------------------------------------------------------- interrupt controller


@case("APIC", "apic's process is dead (SIGKILL 64 ms ago); this is the last page it wrote.")
def apic_is_dead(bench):
    bench.kill("apic")
    bench.now += 64 * MS


@case("APIC", "apic's process is frozen (SIGSTOP): what is sent to it waits or is lost.")
def apic_frozen(bench):
    bench.state("apic", frozen=True)


@case("APIC", "apic's process does not answer heartbeats; its page may be old.")
def apic_silent(bench):
    bench.state("apic", silent=True)


@case("APIC", "3 in the last second reached nobody: MSI to a CPU that does not exist.")
def apic_no_target(bench):
    bench.add("apic", "msi_drop_no_target", 3)
    bench.add("apic", "ipi_drop_deassert", 9)
    bench.now += SECOND


@case("APIC", "cpu1's process is dead: 1 interrupt for it lost in the last second.")
def apic_cpu_dead(bench):
    bench.add("apic", "lost_dead", 1, 1)
    bench.now += SECOND


@case("APIC", "cpu1 takes nothing: 5 interrupts for it lost in the last second.")
def apic_cpu_full(bench):
    bench.add("apic", "lost_full", 5, 1)
    bench.now += SECOND


@case("APIC", "eth1 holds back 2 vectors: masked, so no message is sent.")
def apic_masked(bench):
    bench.set("eth1", msi_pending=2)


@case("APIC", "0x22 (eth0-TxRx-1) went from eth0 to cpu1; in a second 10 MSIs, 20 IPIs.")
def apic_routes(bench):
    bench.msix("eth0", (0, 0x21), (1, 0x22), (0, 0x23))
    bench.add("apic", "msi_in", 10, 0)
    bench.add("apic", "ipi_in", 20, 1)
    bench.now += SECOND
    bench.route(64 + 1, 0, 0xFD)
    bench.now += 1
    bench.route(0, 1, 0x22)


@case("APIC", "0xfd (reschedule) went from cpu1 to cpu0; in a second 0 MSIs, 1 IPIs.")
def apic_routes_an_ipi(bench):
    bench.add("apic", "ipi_in", 1, 1)
    bench.now += SECOND
    bench.route(64 + 1, 0, 0xFD)


@case("APIC", "Quiet: the last was 0x9a (STARTUP) from cpu0 to cpu1, 12.0 s ago.")
def apic_quiet(bench):
    bench.route(64, 1, 0x9A, delivery_mode=6)
    bench.look()
    bench.now += 12 * SECOND


@case("APIC", "Quiet: it has not routed a vector yet.")
def apic_never(bench):
    pass


# ---------------------------------------------------------------- LAN


def frames(bench: Bench, field: str, port: int, number: int) -> None:
    bench.add("lan", field, number, 3 * port + 1)


@case("LAN", "lan's process is dead (SIGKILL 64 ms ago); this is the last page it wrote.")
def lan_is_dead(bench):
    bench.kill("lan")
    bench.now += 64 * MS


@case("LAN", "lan's process is frozen (SIGSTOP): what is sent to it waits or is lost.")
def lan_frozen(bench):
    bench.state("lan", frozen=True)


@case("LAN", "lan's process does not answer heartbeats; its page may be old.")
def lan_silent(bench):
    bench.state("lan", silent=True)


@case("LAN", "eth0's cable is out, 7 frames lost there in 1 s; eth1 talks to the gateway.")
def lan_cable_out(bench):
    bench.plug("eth0", inserted=False)
    frames(bench, "in_drop_cable_out", 0, 7)
    frames(bench, "frames_in", 1, 90)
    frames(bench, "frames_out", 8, 90)
    bench.now += SECOND


@case("LAN", "No light from eth1 (its process is dead): its port is down; eth0 talks.")
def lan_nic_dead(bench):
    bench.kill("eth1")
    bench.set("lan", light={1: 0})
    frames(bench, "frames_in", 0, 1)
    bench.now += SECOND


@case("LAN", "No light from eth1 (its laser is off): its port is down; nobody talks.")
def lan_laser_off(bench):
    bench.set("lan", light={1: 0})


@case("LAN", "eth0 has fault loss=1/5: 3 frames lost by it in 1 s; eth1 talks.")
def lan_port_fault(bench):
    bench.set("lan", faults={0: KINDS["loss"].number + 1, 1: 1 << 32 | 5, 2: 1})
    frames(bench, "fault_loss", 0, 3)
    frames(bench, "frames_in", 1, 90)
    bench.now += SECOND


@case("LAN", "4 frames from or to eth1 ended here in the last second: the NIC takes nothing.")
def lan_nic_full(bench):
    frames(bench, "lost_full", 1, 4)
    bench.now += SECOND


@case("LAN", "2 frames from or to gateway ended here in the last second: wrong checksum.")
def lan_gateway_drops(bench):
    bench.add("lan", "gw_drop_checksum", 2, 1)
    bench.now += SECOND


@case("LAN", "eth0 and eth1 talk to the gateway; the switch takes 30 frames/s.")
def lan_talk(bench):
    frames(bench, "frames_in", 0, 10)
    frames(bench, "frames_in", 1, 20)
    frames(bench, "frames_out", 8, 30)
    bench.now += SECOND


@case("LAN", "Quiet: 3 ports up, and no frame came for a second.")
def lan_quiet(bench):
    pass


# ---------------------------------------------------------------- worker pools


@case("POOLS", "cpu1's process is dead (SIGKILL 0 us ago); this is the last page it wrote.")
def pools_dead(bench):
    bench.kill("cpu1")


@case("POOLS", "cpu1's process is frozen (SIGSTOP): what is sent to it waits or is lost.")
def pools_frozen(bench):
    bench.state("cpu1", frozen=True)


@case("POOLS", "Offline: another CPU runs the works of cpu1 until it is back.")
def pools_offline(bench):
    bench.set("cpu1", online=0)


@case("POOLS", "cpu1's process does not answer heartbeats; its page may be old.")
def pools_silent(bench):
    bench.state("cpu1", silent=True)


@case("POOLS", "Stalled 2.0 s: 1 work waits in workqueue events behind reader, which sleeps.")
def keventd_sleeps(bench):
    bench.pool("cpu1", 0, 1, nice=-5, workers=1, idle=0, worklist=1, stuck_ms=2000, thread="events")
    bench.works("cpu1", 0, "events/1", "reader", "events", 2000, asleep=True)


@case(
    "POOLS",
    "Stalled 300 ms: 3 works wait in the normal pool while hog runs, for 400 ms.",
)
def pool_hogged(bench):
    bench.pool("cpu1", 0, 1, running=1, workers=3, idle=1, worklist=3, stuck_ms=300)
    bench.works("cpu1", 0, "kworker/1:0", "sleeper", "events", 500, asleep=True)
    bench.works("cpu1", 1, "kworker/1:1", "hog", "events", 400)


@case("POOLS", "Stalled 1.0 s: 2 works wait in the highpri pool for a worker; 1 worker busy.")
def pool_without_a_worker(bench):
    bench.pool("cpu1", 0, 1)
    bench.pool("cpu1", 1, 1, nice=-20, workers=1, idle=0, worklist=2, stuck_ms=1000)
    bench.works("cpu1", 0, "kworker/1:0H", "sleeper", "events_highpri", 1000, pool=1, asleep=True)


@case(
    "POOLS",
    "Stalled 150 ms: 1 work waits in the unbound pool; a woken worker cannot run.",
)
def pool_whose_worker_cannot_run(bench):
    bench.pool("cpu1", 2, None, worklist=1, stuck_ms=150)


@case("POOLS", "2 works of the normal pool are held back by max_active.")
def pool_held_back(bench):
    bench.pool("cpu1", 0, 1, inactive=2)


@case("POOLS", "Nothing is stalled; longest: reader, for 3.0 s (sleeps in it).")
def pool_with_a_long_work(bench):
    bench.pool("cpu1", 0, 1, workers=3, idle=2)
    bench.works("cpu1", 3, "kworker/1:0", "reader", "events", 3000, asleep=True)


@case("POOLS", "Nothing is stalled: 1 work runs, none waits.")
def pool_runs(bench):
    bench.pool("cpu1", 0, 1, workers=3, idle=2, running=1)
    bench.works("cpu1", 0, "kworker/1:0", "quick", "events", 1)


@case("POOLS", "Nothing to do; the next is bond_mii_monitor, in 43 ms.")
def pool_waits_for_a_timer(bench):
    bench.pool("cpu1", 0, 1)
    bench.delays("cpu1", 0, "ixgbe_service_task", 900)
    bench.delays("cpu1", 4, "bond_mii_monitor", 43)


@case("POOLS", "Nothing to do; the last was ixgbe_service_task, 200 ms ago.")
def pool_did_something(bench):
    bench.set("cpu1", wq_last_work="ixgbe_service_task", wq_last_ns=bench.now - 200 * MS)


@case("POOLS", "Nothing to do: no work has run here yet.")
def pool_new(bench):
    pass


# ---------------------------------------------------------------- the tests


@pytest.mark.parametrize(
    ("table", "text", "situation"), CASES, ids=[f"{c[0]}-{c[2].__name__}" for c in CASES]
)
def test_the_first_row_that_applies_is_the_sentence(table, text, situation):
    bench = bench_with(situation)
    assert sentence(TABLES[table], bench.view, bench.view[NODE[table]]) == text
    assert len(text) < 79


@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_the_table_has_its_situation(table):
    reached = []
    for name, _, situation in CASES:
        if name == table:
            bench = bench_with(situation)
            node = bench.view[NODE[table]]
            reached.append(next(r for r in TABLES[table] if r.words(bench.view, node) is not None))
    assert [row.text for row in TABLES[table] if row not in reached] == []
