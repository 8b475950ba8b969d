"""The situations of NICs, the interrupt controller and the LAN."""

from __future__ import annotations

from dashboard_bench import MS, SECOND, Bench
from situations import case

from bus.faults import KINDS

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
