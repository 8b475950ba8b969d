"""Debian's unmodified ixgbe and bonding, in a real 6.1 kernel, on our NIC processes.

One guest, in this order: the bond that it boots with, then, without the bond, eth0 and eth1 in two
network namespaces of the guest, so that what they say to each other goes over our LAN.
"""

from __future__ import annotations

import re
import signal
import time

import pytest

from tests.guest.conftest import Guest

pytestmark = [pytest.mark.guest, pytest.mark.processes, pytest.mark.slow]

#: ``dmesg -r`` begins a line with its level; 4 is a warning.
_WARNING = 4
_OTHER = "ip netns exec other"
_WAIT_S = 30


def _loud(guest: Guest, word: str) -> list[str]:
    """Lines of the kernel log with ``word`` that are warnings or worse."""
    lines = guest.sh("dmesg -r").splitlines()
    return [
        line for line in lines if word in line and int(line[1:].partition(">")[0]) & 7 <= _WARNING
    ]


def _until(guest: Guest, line: str) -> None:
    """Wait in the guest until a shell line succeeds."""
    guest.sh(
        f"n=0; until {line}; do n=$((n+1)); [ $n -lt {_WAIT_S * 10} ] || exit 1; sleep 0.1; done"
    )


def _active(guest: Guest) -> str:
    return guest.sh("cat /sys/class/net/bond0/bonding/active_slave").strip()


def _loss(text: str) -> str:
    found = re.search(r"(\S+)% packet loss", text)
    assert found, text
    return found[1]


def _counters(guest: Guest, device: str, netns: str = "") -> dict[str, int]:
    text = guest.sh(f"{netns} ethtool -S {device}")
    return {name: int(value) for name, value in re.findall(r"^\s+(\S+): (\d+)$", text, re.M)}


# ---------------------------------------------------------------- as it boots


def test_the_driver_probes_without_a_warning(guest: Guest) -> None:
    assert _loud(guest, "ixgbe") == []
    assert "SFP+: 3" in guest.sh("dmesg | grep ixgbe")


def test_both_links_are_up_at_10_gbps(guest: Guest) -> None:
    for nic in ("eth0", "eth1"):
        text = guest.sh(f"ethtool {nic}")
        assert "Speed: 10000Mb/s" in text
        assert "Link detected: yes" in text


def test_ping_reaches_our_gateway_without_loss(guest: Guest) -> None:
    assert _loss(guest.sh("ping -c 10 -i 0.2 gateway")) == "0"


def test_ctrl_c_reaches_the_command_in_the_guest(guest: Guest) -> None:
    with guest.start("guest", "exec", "exec ping -i 0.2 gateway") as command:
        assert command.stdout is not None
        assert command.stdout.readline().startswith("PING")
        command.send_signal(signal.SIGINT)
        assert "packets transmitted" in command.communicate(timeout=_WAIT_S)[0]


# ---------------------------------------------------------------- bonding


def test_bonding_fails_over_when_a_cable_is_pulled(guest: Guest) -> None:
    first = _active(guest)
    guest.bh("cable", first, "out")
    _until(guest, f'[ "$(cat /sys/class/net/bond0/bonding/active_slave)" != {first} ]')
    assert _loss(guest.sh("ping -c 5 -i 0.2 gateway")) == "0"
    assert f"(slave {first}): link status definitely down, disabling slave" in guest.sh("dmesg")
    guest.bh("cable", first, "in")
    _until(guest, f"[ $(cat /sys/class/net/{first}/carrier) = 1 ]")


def test_bonding_fails_over_when_a_nic_process_is_killed_and_takes_it_back(guest: Guest) -> None:
    first = _active(guest)
    guest.bh("kill", first)
    _until(guest, f'[ "$(cat /sys/class/net/bond0/bonding/active_slave)" != {first} ]')
    assert _loss(guest.sh("ping -c 5 -i 0.2 gateway")) == "0"
    assert ": Adapter removed" in guest.sh("dmesg")
    guest.bh("restart", first)
    _until(guest, f"grep -A1 {first} /proc/net/bonding/bond0 | grep -q 'MII Status: up'")
    guest.sh(f"echo {first} >/sys/class/net/bond0/bonding/active_slave")
    assert _active(guest) == first
    assert _loss(guest.sh("ping -c 5 -i 0.2 gateway")) == "0"


def test_a_card_put_in_is_found_by_restart_and_not_by_a_rescan_alone(guest: Guest) -> None:
    backup = next(nic for nic in ("eth0", "eth1") if nic != _active(guest))
    guest.bh("card", backup, "out")
    _until(guest, f"dmesg | tail -3 | grep -q '(slave {backup}): link status definitely down'")
    said = guest.bh("card", backup, "in")
    assert f"the guest's kernel still has the old card: bottomhalf restart {backup} " in said
    probes = guest.sh("dmesg | grep -c 'Intel(R) 10 Gigabit Network Connection'")
    guest.sh("echo 1 >/sys/bus/pci/rescan")
    assert guest.sh("dmesg | grep -c 'Intel(R) 10 Gigabit Network Connection'") == probes
    assert "the process is the same" in guest.bh("restart", backup)
    _until(guest, f"grep -A1 {backup} /proc/net/bonding/bond0 | grep -q 'MII Status: up'")


# ---------------------------------------------------------------- the driver, without the bond


@pytest.fixture(scope="module")
def pair(guest: Guest) -> Guest:
    """eth0 here with 192.168.7.1, eth1 in the namespace ``other`` with 192.168.7.2."""
    guest.sh("ip link del bond0; ip netns add other; ip link set eth1 netns other")
    for nic, where, number in (("eth0", "", 1), ("eth1", _OTHER, 2)):
        guest.sh(
            f"{where} ip addr add 192.168.7.{number}/24 dev {nic}; {where} ip link set {nic} up"
        )
    guest.sh("dd if=/dev/urandom of=/tmp/sent bs=1024 count=1024 2>/dev/null")
    _until(guest, "[ $(cat /sys/class/net/eth0/carrier) = 1 ]")
    _until(guest, "ping -c 1 -W 1 192.168.7.2 >/dev/null")
    return guest


def _transfer(guest: Guest, receiver: str, sender: str, address: str, port: int) -> None:
    """A megabyte of noise, over TCP; what arrives must be what was sent."""
    guest.sh(
        f"sleep 60 | {receiver} timeout 60 nc -l -p {port} >/tmp/received & listener=$!\n"
        f"until {receiver} netstat -ltn | grep -q :{port}; do sleep 0.1; done\n"
        f"{sender} timeout 60 nc {address} {port} </tmp/sent\n"
        "n=0; until [ $(wc -c </tmp/received) = 1048576 ] || [ $n = 100 ]; do\n"
        "n=$((n+1)); sleep 0.1; done\n"
        "kill $listener 2>&-; killall sleep 2>&-; cmp /tmp/sent /tmp/received"
    )


def test_ping_between_two_nics_of_ours_loses_nothing(pair: Guest) -> None:
    assert _loss(pair.sh("ping -c 20 -i 0.1 192.168.7.2")) == "0"


def test_a_megabyte_each_way_with_offloads_arrives_intact(pair: Guest) -> None:
    features = pair.sh("ethtool -k eth0")
    for name in ("rx-checksumming", "tx-checksumming", "tcp-segmentation-offload"):
        assert f"{name}: on" in features
    pair.sh("tcpdump -c 1 -p -i eth0 greater 3000 >/tmp/big 2>&1 </dev/null &")
    _transfer(pair, _OTHER, "", "192.168.7.2", 5001)
    # The stack hands over segments of up to 64 KiB; only the NIC makes frames of them.
    assert "IP 192.168.7.1" in pair.sh("sleep 0.5; cat /tmp/big")
    _transfer(pair, "", _OTHER, "192.168.7.1", 5002)


def test_rss_spreads_flows_over_two_queues(pair: Guest) -> None:
    before = _counters(pair, "eth1", _OTHER)
    pair.sh("for p in 1 2 3 4 5 6 7 8; do nc -w 1 192.168.7.2 600$p </dev/null 2>&-; done; true")
    after = _counters(pair, "eth1", _OTHER)
    grew = [after[f"rx_queue_{q}_packets"] - before[f"rx_queue_{q}_packets"] for q in (0, 1)]
    assert all(grew), grew


def test_ethtool_counts_what_our_lan_counted(pair: Guest) -> None:
    """Frames and bytes at the wire, while nothing else is said."""
    for _ in range(3):
        wire, nic = pair.lan_counts(0), _counters(pair, "eth0")
        pair.sh("ping -c 20 -i 0.05 -q 192.168.7.2")
        wire_after, nic_after = pair.lan_counts(0), _counters(pair, "eth0")
        sent = nic_after["tx_pkts_nic"] - nic["tx_pkts_nic"]
        received = nic_after["rx_pkts_nic"] - nic["rx_pkts_nic"]
        if (sent, received) == (wire_after[0] - wire[0], wire_after[1] - wire[1]):
            assert sent >= 20
            assert received >= 20
            return
        time.sleep(1)  # somebody spoke between two looks
    raise AssertionError((sent, received, wire, wire_after))


def test_vlans_reach_each_other(pair: Guest) -> None:
    for nic, where, number in (("eth0", "", 1), ("eth1", _OTHER, 2)):
        pair.sh(
            f"{where} ip link add link {nic} name {nic}.5 type vlan id 5; "
            f"{where} ip addr add 10.5.0.{number}/24 dev {nic}.5; {where} ip link set {nic}.5 up"
        )
    _until(pair, "ping -c 1 -W 1 10.5.0.2 >/dev/null")
    assert _loss(pair.sh("ping -c 5 -i 0.2 10.5.0.2")) == "0"
    _transfer(pair, _OTHER, "", "10.5.0.2", 5003)


def test_frames_of_9000_bytes_pass(pair: Guest) -> None:
    pair.sh(f"ip link set eth0 mtu 9000; {_OTHER} ip link set eth1 mtu 9000")
    _until(pair, "ping -c 1 -W 1 192.168.7.2 >/dev/null")
    assert _loss(pair.sh("ping -c 5 -i 0.2 -M do -s 8972 192.168.7.2")) == "0"
    _transfer(pair, _OTHER, "", "192.168.7.2", 5004)


def test_the_self_test_passes_while_others_broadcast(pair: Guest) -> None:
    """Its loopback test is promiscuous: a frame from the LAN in its ring would fail it (13)."""
    pair.sh(
        f"({_OTHER} sh -c 'while :; do ip neigh flush dev eth1; "
        "ping -c 1 -W 0.02 192.168.7.99; done' >/dev/null 2>&1 </dev/null & echo $! >/tmp/loud)"
    )
    text = pair.sh("ethtool -t eth0 offline; kill $(cat /tmp/loud)")
    assert "The test result is PASS" in text
    assert re.findall(r"\)\s+(\d+)", text) == ["0"] * 5


def test_the_module_is_removed_and_loaded_again(pair: Guest) -> None:
    pair.sh("ip netns del other; rmmod ixgbe; modprobe ixgbe")
    _until(pair, "[ -e /sys/class/net/eth0 ]")
    pair.sh("ip addr add 192.168.1.10/24 dev eth0; ip link set eth0 up")
    _until(pair, "ping -c 1 -W 1 gateway >/dev/null")
    assert _loss(pair.sh("ping -c 5 -i 0.2 gateway")) == "0"


def test_the_kernel_had_nothing_to_complain_of(guest: Guest) -> None:
    text = guest.sh("dmesg")
    for word in ("WARNING:", "BUG:", "Call Trace:", "Tx Unit Hang", "transmit queue"):
        assert word not in text
