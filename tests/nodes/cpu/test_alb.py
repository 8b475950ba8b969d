"""balance-tlb and balance-alb: who sends, who receives, and what a failover does to addresses."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from scapy.layers.l2 import Ether

from bus.messages import EthFrame
from nodes.cpu.kernel.net.arp import ARPOP_REPLY, ARPOP_REQUEST, arp_frame
from nodes.cpu.kernel.net.bonding.bond import BOND_LINK_UP, Slave
from nodes.cpu.kernel.net.bonding.rlb import Rlb
from nodes.cpu.kernel.net.bonding.tlb import TABLE_ENTRIES, TlbPort
from nodes.cpu.kernel.net.netdevice import IFF_UP, NetDevice
from orchestrator import ledger
from tests.nodes.cpu.captures import bonding_lines, captured
from tests.nodes.cpu.harness import ERAS, Box, gaps_ms

CAPTURES = "e1000e-msi-smp2/mode-balance-tlb"
MODES = ("balance-tlb", "balance-alb")
MAC = [bytes((0, 0x1B, 0x21, 0, 0, n)) for n in range(4)]  # eth0 has number 1
BOND = MAC[1]
CLIENT = bytes.fromhex("020000000099")


def _addresses(box: Box) -> list[bytes]:
    cpu: Any = box.machine.simulation.node("cpu0")
    return [cpu.cpu.net.device(f"eth{n}").dev_addr for n in (0, 1)]


def _frames(box: Box) -> list[tuple[str, bytes]]:
    """What the NICs send from now on."""
    seen: list[tuple[str, bytes]] = []

    def watch(_now: int, sender: str, receiver: str, message: Any) -> None:
        if receiver == "lan" and isinstance(message, EthFrame):
            seen.append((sender, message.frame))

    box.machine.simulation.watch = watch
    return seen


# ---------------------------------------------------------------- both modes


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("mode", MODES)
def test_fails_over_and_back_with_the_ledger_balanced(mode: str, era: str) -> None:
    box = Box(era, mode=mode)
    box.live(2_000)
    ping = box.start("ping", "-q", "-i", "0.01", "192.168.1.1")
    box.live(1_000)
    for nic in ("eth0", "eth1"):
        for inserted in (False, True):
            box.cable(nic, inserted=inserted)
            box.live(5_000)
    box.interrupt(ping)
    gaps = gaps_ms(box.sent_times(), 150)
    # clients that were dealt to a slave hear of its new address 2 s after the last update
    assert (not gaps) if mode == "balance-tlb" else max(gaps) < 2_300
    assert ledger.settled(box.machine).balanced
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth0"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("mode", MODES)
def test_the_active_slave_has_the_bonds_address_and_the_other_its_own(mode: str, era: str) -> None:
    box = Box(era, mode=mode)
    box.live(1_000)
    assert _addresses(box) == [MAC[1], MAC[2]]
    box.cable("eth0", inserted=False)
    box.live(500)
    assert _addresses(box) == [MAC[2], MAC[1]]
    box.cable("eth0", inserted=True)
    box.live(500)
    assert _addresses(box) == [MAC[2], MAC[1]]  # no failback without a primary
    slaves = box.kernel()["bonds"]["bond0"]["slaves"]
    assert [bytes(slave["perm_hwaddr"]) for slave in slaves] == [MAC[1], MAC[2]]


@pytest.mark.parametrize(
    ("era", "ethertype", "burst"), [("2.6.18", 0x60, 3), ("3.10", 0x60, 1), ("6.1", 0x9000, 1)]
)
@pytest.mark.parametrize("mode", MODES)
def test_learning_packets_once_a_second_for_each_slave(
    mode: str, era: str, ethertype: int, burst: int
) -> None:
    box = Box(era, mode=mode)
    box.live(2_000)
    seen = _frames(box)
    box.live(5_300)
    packets = [(nic, Ether(frame)) for nic, frame in seen if frame[:6] == frame[6:12]]
    assert Counter(nic for nic, _ in packets) == {"eth0": 5 * burst, "eth1": 5 * burst}
    for nic, packet in packets:
        frame = bytes(packet)
        assert len(frame) == 60
        assert frame[12:14] == ethertype.to_bytes(2, "big")
        assert frame[6:12] == MAC[int(nic[3]) + 1]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("mode", MODES)
def test_a_slave_whose_own_address_is_the_bonds_gets_a_free_one(mode: str, era: str) -> None:
    box = Box(era, mode=mode)
    box.live(1_000)
    slaves = "/sys/class/net/bond0/bonding/slaves"
    assert box.run("write", slaves, "-eth0\n").code == 0
    box.live(1_000)
    assert _addresses(box) == [MAC[1], MAC[1]]  # eth1 has the bond's, eth0 is nobody's
    began = box.now_s
    assert box.run("write", slaves, "+eth0\n").code == 0
    box.live(3_000)
    assert _addresses(box) == [MAC[2], MAC[1]]
    box.when("is in use by the bond; giving it the hw address of eth1", began)
    assert ledger.settled(box.machine).balanced


def test_lp_interval() -> None:
    box = Box("6.1", mode="balance-tlb", lp_interval=3)
    box.live(3_000)
    seen = _frames(box)
    box.live(9_500)  # a tick is a jiffy longer than 100 ms where HZ is 250
    assert Counter(nic for nic, f in seen if f[:6] == f[6:12]) == {"eth0": 3, "eth1": 3}


def test_tlb_proc_and_log_are_what_a_real_6_1_printed() -> None:
    box = Box("6.1", mode="balance-tlb")
    box.live(1_000)
    theirs = captured(f"{CAPTURES}/1-proc-net-bonding-bond0.txt")
    for old, new in (
        ("52:54:00:00:00:10", "00:1b:21:00:00:01"),
        ("52:54:00:00:00:11", "00:1b:21:00:00:02"),
        ("Speed: 1000 Mbps", "Speed: 10000 Mbps"),
        ("v6.1.0-56-amd64", "v6.1.0"),
    ):
        theirs = theirs.replace(old, new)
    assert box.proc("/proc/net/bonding/bond0") == theirs
    log = captured(f"{CAPTURES}/1-dmesg.txt").splitlines()
    lines = [line.split("] ")[1].replace("1000 M", "10000 M") for line in log if "bond0: " in line]
    # links come up at the same look here
    assert sorted(line for line in box.said() if "bond0: " in line) == sorted(lines)
    began = box.now_s
    box.cable("eth0", inserted=False)
    box.live(1_000)
    ours = [line for line in box.said(began) if line.startswith("bond0: ")]
    assert ours == bonding_lines(f"{CAPTURES}/3-link-loss-eth0.txt")


@pytest.mark.parametrize("dynamic", [0, 1])
def test_proc_names_the_hash_policy_only_where_it_chooses(dynamic: int) -> None:
    box = Box("6.1", mode="balance-tlb", tlb_dynamic_lb=dynamic)
    text = box.proc("/proc/net/bonding/bond0")
    assert ("Transmit Hash Policy: layer2 (0)\n" in text) == (not dynamic)


def test_flows_to_many_addresses_use_both_slaves_and_each_slaves_own_source() -> None:
    for era in ("2.6.18", "3.10"):
        box = Box(era, mode="balance-tlb")
        box.live(1_000)
        seen = _frames(box)
        for _ in range(2):  # all have the first slave until a rebalance knows their load
            for bit in range(8):
                box.ping("-c", "1", to=f"192.168.1.{1 << bit}")
            box.live(11_000)
        sources = {(nic, f[6:12]) for nic, f in seen if f[12:14] == b"\x08\x00"}
        assert sources == {("eth0", MAC[1]), ("eth1", MAC[2])}


# ---------------------------------------------------------------- TLB's table


def _port(*speeds: int, **settings: Any) -> tuple[TlbPort, list[NetDevice]]:
    port = TlbPort(NetDevice(9, "bond0", BOND, None))
    port.settings = port.settings._replace(**settings)
    devices = []
    for n, speed in enumerate(speeds):
        dev = NetDevice(n + 2, f"eth{n}", MAC[n + 1], n)
        dev.carrier, dev.flags = True, dev.flags | IFF_UP
        devices.append(dev)
        port._speed[dev.ifindex] = speed
    port.slaves = list(devices)
    port.usable = list(devices)
    port.active = devices[0]
    return port, devices


def test_an_entry_goes_to_the_slave_with_most_room_and_stays_until_it_is_cleared() -> None:
    port, (one, two) = _port(10000, 10000)
    assert port.choose_channel(1, 1000) is one  # equal: the first
    assert port.choose_channel(2, 100) is one  # what is sent counts at the rebalance only
    port._rebalance()
    assert port.table[1].load_history == 101
    assert port.choose_channel(1, 100) is one
    assert port.load[one.ifindex] == 101
    assert port.choose_channel(2, 100) is two
    assert port.choose_channel(1, 100) is one
    port.usable = [two]
    port.clear_slave(one.ifindex, save_load=False)
    assert port.choose_channel(1, 100) is two


def test_a_faster_slave_takes_more() -> None:
    port, (_, fast) = _port(1000, 10000)
    assert all(port.choose_channel(n, 100) is fast for n in range(TABLE_ENTRIES))


def test_what_is_not_balanced_is_the_active_slaves_load() -> None:
    port, (one, two) = _port(10000, 10000)
    port.unbalanced_load = 50_000
    port._rebalance()
    assert port.load == {one.ifindex: 5_000, two.ifindex: 0}
    assert port.choose_channel(7, 60) is two


# ---------------------------------------------------------------- RLB's table


class FakeMode:
    """As much of balance-alb as the table asks for."""

    def __init__(self) -> None:
        self.bond: Any = type("B", (), {})()
        self.bond.dev = NetDevice(9, "bond0", BOND, None)
        self.bond.slaves = []
        for n in (0, 1):
            dev = NetDevice(n + 2, f"eth{n}", MAC[n + 1], n)
            dev.carrier, dev.flags = True, dev.flags | IFF_UP
            slave = Slave(dev)
            slave.link, slave.speed = BOND_LINK_UP, 10000
            self.bond.slaves.append(slave)
        self.bond.curr_active = self.bond.slaves[0]

    def can_tx(self, slave: Slave) -> bool:
        return slave.link == BOND_LINK_UP


def _ip(last: int) -> bytes:
    return bytes((192, 168, 1, last))


def _rlb() -> tuple[Rlb, list[Slave]]:
    mode = FakeMode()
    return Rlb(mode), mode.bond.slaves  # type: ignore[arg-type]


def _reply(last: int, mac: bytes = CLIENT) -> bytes:
    return arp_frame(ARPOP_REPLY, (BOND, _ip(10)), (mac, _ip(last)), mac)


def test_replies_deal_clients_out_in_turn() -> None:
    rlb, slaves = _rlb()
    said = []
    for last in range(1, 7):
        slave, frame = rlb.arp_xmit(_reply(last))
        assert slave is not None
        assert frame[22:28] == slave.dev.dev_addr
        said.append(slave)
    assert said == slaves * 3
    again, _ = rlb.arp_xmit(_reply(1))
    assert again is said[0]


def test_a_clients_address_is_learned_from_its_reply_and_it_is_told() -> None:
    rlb, slaves = _rlb()
    request = arp_frame(ARPOP_REQUEST, (BOND, _ip(10)), (bytes(6), _ip(1)), b"\xff" * 6)
    slave, frame = rlb.arp_xmit(request)
    assert slave is slaves[0]
    assert frame == request
    assert not rlb.rx_ntt  # nobody is known yet
    assert rlb.update_delay == 20
    rlb.arp_recv(arp_frame(ARPOP_REPLY, (CLIENT, _ip(1)), (BOND, _ip(10)), BOND))
    assert rlb.rx_ntt
    assert [client.mac_dst for client in rlb.table.values()] == [CLIENT]


def test_a_slave_that_goes_gives_its_clients_away() -> None:
    rlb, (one, two) = _rlb()
    for last in (1, 2):
        rlb.arp_xmit(_reply(last))
    assert [client.slave for client in rlb.table.values()] == [one, two]
    rlb.rx_ntt = False
    two.link = 2
    rlb.clear_slave(two)
    assert [client.slave for client in rlb.table.values()] == [one, one]
    assert rlb.rx_ntt
    assert rlb.update_retry == 3


def test_somebody_else_with_our_address_is_not_told_any_more() -> None:
    rlb, _ = _rlb()
    rlb.arp_xmit(_reply(1))
    assert len(rlb.table) == 1
    rlb.arp_recv(arp_frame(ARPOP_REQUEST, (CLIENT, _ip(10)), (bytes(6), _ip(1)), b"\xff" * 6))
    assert not rlb.table


def test_a_client_with_the_same_entry_moves_to_the_active_slave() -> None:
    rlb, (one, two) = _rlb()
    rlb.rx_slave = one
    rlb.arp_xmit(_reply(1))
    first = rlb.table[next(iter(rlb.table))]
    assert first.slave is two
    other = arp_frame(ARPOP_REPLY, (BOND, _ip(10)), (CLIENT, bytes((192, 168, 0, 0))), CLIENT)
    rlb.arp_xmit(other)
    assert first.slave is one
    assert rlb._evicted == [first]


@pytest.mark.parametrize("era", ERAS)
def test_clients_are_told_which_address_is_theirs(era: str) -> None:
    """Pings to the gateway's addresses make clients; ARP replies that nobody asked for follow."""
    box = Box(era, mode="balance-alb")
    box.live(12_000)
    seen = _frames(box)
    for last in (1, 2, 4):
        box.ping("-c", "1", to=f"192.168.1.{last}")
    box.live(6_000)
    told = [(nic, Ether(f)["ARP"]) for nic, f in seen if f[12:14] == b"\x08\x06" and f[21] == 2]
    assert {arp.hwsrc for _, arp in told} == {"00:1b:21:00:00:01", "00:1b:21:00:00:02"}
    for nic, arp in told:
        assert arp.hwsrc == f"00:1b:21:00:00:0{int(nic[3]) + 1}"
        assert (arp.psrc, arp.hwdst) == ("192.168.1.10", "02:00:00:00:00:01")


@pytest.mark.parametrize("era", ERAS)
def test_the_active_slave_listens_for_a_dead_one_for_ten_seconds(era: str) -> None:
    box = Box(era, mode="balance-alb")
    box.live(2_000)
    box.ping("-c", "1")
    box.cable("eth1", inserted=False)
    box.live(1_000)
    entered = box.when("device eth0 entered promiscuous mode")
    box.live(11_000)
    assert box.when("device eth0 left promiscuous mode") - entered == pytest.approx(10, abs=0.5)
