"""VLANs of the switch: who hears whom, tags on and off, a table for each VLAN."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from bus.messages import EthFrame, LinkState, PeerBack
from nodes.lan.node import LanNode
from nodes.ledger import REQUEST, classify, packet_key
from nodes.machine import GATEWAY, GatewaySettings, LanSettings, PortSettings
from tests.nodes.harness import MACS, Bench, machine
from tests.nodes.lan.test_node import balanced, dropped, frame

BROADCAST = b"\xff" * 6
GATEWAY_MAC = "02:00:00:00:00:01"


def switch(*ports: PortSettings) -> Bench:
    """Four NICs; eth0 access 10, eth1 trunk 10,20 native 1, eth2 access 10, eth3 access 20."""
    listed = ports or (
        PortSettings("eth0", 10), PortSettings("eth1", 1, (10, 20)),
        PortSettings("eth2", 10), PortSettings("eth3", 20),
        PortSettings(GATEWAY, 1, (10,)),
    )  # fmt: skip
    gateway = GatewaySettings(vlans=((10, ("192.168.10.1",)),))
    settings = machine(nics=4)._replace(lan=LanSettings(ports=listed), gateway=gateway)
    lan = Bench(settings, "lan", lambda around: LanNode(around, settings))
    for name in settings.nic_names:
        lan.give((name, PeerBack(1)), (name, LinkState(1, 10000)))
    return lan


def tagged(data: bytes, vid: int) -> bytes:
    return data[:12] + b"\x81\x00" + vid.to_bytes(2, "big") + data[12:]


def send(lan: Bench, port: int, data: bytes) -> dict[str, bytes]:
    said = lan.give((f"eth{port}", EthFrame(data)))
    balanced(lan)
    return {peer: message.frame for peer, message in said}


def test_a_frame_stays_in_its_vlan_and_is_tagged_on_the_trunk() -> None:
    lan = switch()
    data = frame(MACS[0], BROADCAST)
    assert send(lan, 0, data) == {"eth1": tagged(data, 10), "eth2": data}


def test_a_tag_of_the_trunk_is_taken_off_at_an_access_port() -> None:
    lan = switch()
    data = frame(MACS[1], BROADCAST)
    assert send(lan, 1, tagged(data, 20)) == {"eth3": data}


def test_native_vlan_of_the_trunk_reaches_the_gateway_alone() -> None:
    lan = switch()
    ask = ARP(op=1, hwsrc="00:1b:21:00:00:02", psrc="192.168.1.10", pdst="192.168.1.1")
    data = bytes(Ether(src="00:1b:21:00:00:02", dst="ff:ff:ff:ff:ff:ff") / ask).ljust(60, b"\0")
    answers = send(lan, 1, data)
    assert list(answers) == ["eth1"]
    assert Ether(answers["eth1"])[ARP].op == 2


@pytest.mark.parametrize(
    ("port", "vid"), [(0, 20), (1, 30), (3, 10)], ids=["access", "trunk", "other access"]
)
def test_a_foreign_tag_is_dropped_by_name(port: int, vid: int) -> None:
    lan = switch()
    assert send(lan, port, tagged(frame(MACS[0], BROADCAST), vid)) == {}
    assert dropped(lan, port) == {"in_drop_vlan": 1}


def test_priority_tag_belongs_to_the_native_vlan() -> None:
    lan = switch()
    data = frame(MACS[0], BROADCAST)
    assert send(lan, 0, tagged(data, 0)) == {"eth1": tagged(data, 10), "eth2": data}


def test_a_trunk_without_native_vlan_takes_no_untagged_frame() -> None:
    lan = switch(PortSettings("eth0", 0, (10,)), PortSettings("eth1", 10))
    assert send(lan, 0, frame(MACS[0], BROADCAST)) == {}
    assert dropped(lan, 0) == {"in_drop_vlan": 1}


def test_one_address_may_be_at_two_ports_in_two_vlans() -> None:
    lan = switch()
    send(lan, 0, frame(MACS[0], BROADCAST))
    send(lan, 3, frame(MACS[0], BROADCAST))
    assert lan.page["moved"] == 0
    assert list(send(lan, 1, tagged(frame(MACS[1], MACS[0]), 10))) == ["eth0"]
    assert list(send(lan, 1, tagged(frame(MACS[1], MACS[0]), 20))) == ["eth3"]
    rows = [row for row in lan.page.run("macs")[0::2] if row]
    assert sorted(row >> 52 for row in rows) == [10, 10, 20, 20]


def test_gateway_answers_in_its_vlan_and_the_class_survives_the_tag() -> None:
    lan = switch()
    ping = Ether(src="00:1b:21:00:00:01", dst=GATEWAY_MAC)
    ping = ping / IP(src="192.168.10.5", dst="192.168.10.1") / ICMP(id=7, seq=3)
    data = bytes(ping).ljust(60, b"\0")
    answers = send(lan, 0, data)
    assert Ether(answers["eth0"])[ICMP].type == 0
    assert not Ether(answers["eth0"]).haslayer(Dot1Q)
    assert lan.page.run("gw_answered")[REQUEST] == 1
    assert classify(tagged(data, 10)) == REQUEST
    assert packet_key(tagged(data, 10)) == packet_key(data) == REQUEST << 32 | 7 << 16 | 3
