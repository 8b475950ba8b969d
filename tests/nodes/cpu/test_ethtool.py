"""ethtool and ip link on a whole machine: texts by release, settings that reach the hardware."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bus.messages import MemWrite
from nodes.cpu.kernel.drivers.ixgbe.adapter import NTC, NTU
from nodes.cpu.programs import ethtoolregs
from nodes.machine import GATEWAY_ADDRESSES
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import ERAS, Box, posted

TXDCTL_0 = 0x6028


@pytest.fixture(params=ERAS)
def box(request: pytest.FixtureRequest) -> Box:
    return Box(request.param)


def out(box: Box, line: str, code: int = 0) -> str:
    """Standard output of a command line that ends with ``code``."""
    ran = box.run(*line.split())
    assert (ran.code, ran.err) == (code, "") if code == 0 else ran.code == code, ran.err
    return ran.out if code == 0 else ran.err


def words(text: str) -> list[str]:
    """A text with its values left out: what may differ between two cards."""
    return [re.sub(r"(:)\s*\S.*$", r"\1", line) for line in text.splitlines()]


# ---------------------------------------------------------------- texts


def test_plain_ethtool_says_what_the_driver_says(box: Box) -> None:
    text = out(box, "ethtool eth0")
    for part in ("Settings for eth0:\n", "\tSpeed: 10000Mb/s\n", "\tLink detected: yes\n"):
        assert part in text
    old = box.settings.era == "2.6.18"
    assert ("\tPort: FIBRE\n" if old else "\tPort: Direct Attach Copper\n") in text
    box.cable("eth0", inserted=False)
    box.live(100)
    text = out(box, "ethtool eth0")
    assert "\tSpeed: Unknown!" in text
    assert "\tLink detected: no\n" in text


@pytest.mark.parametrize(("option", "file"), [("", "ethtool-bond0"), ("-i ", "ethtool-i-bond0")])
def test_a_bond_looks_as_a_real_kernel_shows_it(option: str, file: str) -> None:
    ours, theirs = out(Box(), f"ethtool {option}bond0"), captured(f"e1000e-smp2/static/{file}.txt")
    assert words(ours) == words(theirs)


@pytest.mark.parametrize("option", ["i", "g", "c"])
def test_tables_have_the_lines_of_a_real_6_1(option: str) -> None:
    """Of another card: the words before the colons are the tool's."""
    ours = out(Box(), f"ethtool -{option} eth0")
    theirs = captured(f"e1000e-smp2/static/ethtool-{option}-eth0.txt")
    assert words(ours) == words(theirs)


def test_features_have_the_names_and_the_order_of_a_real_6_1() -> None:
    ours = out(Box(), "ethtool -k eth0")
    assert words(ours) == words(captured("e1000e-smp2/static/ethtool-k-eth0.txt"))
    assert "receive-hashing: on\n" in ours


def test_channels_have_the_lines_of_a_real_6_1() -> None:
    ours = out(Box(), "ethtool -l eth0")
    assert words(ours) == words(captured("vmxnet3-smp2/static/ethtool-l-eth0.txt"))


@pytest.mark.parametrize(
    ("era", "version", "firmware"),
    [("2.6.18", "3.2.9-k2", "8.0-1"), ("3.10", "3.13.10-k", "0x12348000"), ("6.1", "6.1.0", None)],
)
def test_drvinfo_by_era(era: str, version: str, firmware: str | None) -> None:
    lines = out(Box(era), "ethtool -i eth0").splitlines()
    assert lines[:2] == ["driver: ixgbe", f"version: {version}"]
    assert lines[2] == f"firmware-version: {firmware or '0x12348000'}"
    assert "bus-info: 0000:01:00.0" in lines
    assert len(lines) == {"2.6.18": 4, "3.10": 9, "6.1": 10}[era]


def test_statistics_are_of_the_hardware_and_of_the_queues(box: Box) -> None:
    def read() -> dict[str, str]:
        found = re.findall(r"^     (\S+): (\d+)$", out(box, "ethtool -S eth0"), re.MULTILINE)
        return dict(found)

    box.ping("-c", "1")
    before = read()
    box.ping("-c", "5", "-i", "0.01")
    rows = read()

    def gained(name: str) -> int:
        return int(rows[name]) - int(before[name])

    assert gained("tx_pkts_nic") == gained("rx_pkts_nic") == 5
    assert gained("tx_bytes_nic") == 5 * (98 + 4)
    assert sum(gained(f"tx_queue_{n}_packets") for n in (0, 1)) == 5
    assert sum(gained(f"rx_queue_{n}_bytes") for n in (0, 1)) == 5 * 98
    assert ("tx_queue_62_packets" in rows) == (box.settings.era != "2.6.18")
    assert ("tx_ipsec" in rows) == (box.settings.era == "6.1")
    assert rows["rx_pb_7_pxoff"] == "0"


def test_the_indirection_table_and_key_are_read_from_the_card() -> None:
    box = Box(cpus=4, nics=1)
    text = out(box, "ethtool -x eth0")
    assert "with 4 RX ring(s):\n    0:      0     1     2     3     0     1     2     3\n" in text
    key = box.machine.simulation.node("cpu0").cpu.net.rss_key
    assert f"RSS hash key:\n{key.hex(':')}\n" in text
    assert box.run("ethtool", "-x", "bond0").code == 1


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("-G eth0 foo 3", "unknown parameter 'foo'"),
        ("-G eth0 rx", "no value for parameter 'rx'"),
        ("-C eth0 rx-usecs -1", "invalid value '-1' for parameter 'rx-usecs'"),
        (
            f"-G eth0 rx {'9' * 5000}",  # more digits than int() takes
            f"invalid value '{'9' * 5000}' for parameter 'rx'",
        ),
        ("--set-channels eth0 combined x", "invalid value 'x' for parameter 'combined'"),
    ],
)
def test_a_slip_behind_the_device_is_named_since_netlink(line: str, what: str) -> None:
    option = line.split(maxsplit=1)[0]
    assert out(Box(), f"ethtool {line}", 1) == f"ethtool ({option}): {what}\n"
    old = out(Box("3.10"), f"ethtool {line}", 1)
    assert old.startswith("ethtool: bad command line argument(s)\n")


@pytest.mark.parametrize(
    ("line", "heading", "text", "code"),
    [
        ("-g bond0", "Ring parameters for bond0:\n", "get device ring settings", 76),
        ("-G bond0 rx 64", "", "get device ring settings", 76),
        ("-c bond0", "Coalesce parameters for bond0:\n", "get device coalesce settings", 82),
        ("-l bond0", "Channel parameters for bond0:\n", "get device channel parameters\n", 1),
        ("-d bond0", "", "get register dump", 74),
    ],
)
def test_what_a_bond_cannot_is_refused_in_each_releases_words(
    line: str, heading: str, text: str, code: int
) -> None:
    new = Box().run("ethtool", *line.split())
    assert (new.code, new.out) == (1, "")
    assert new.err == "netlink error: Operation not supported\n"
    old = Box("3.10").run("ethtool", *line.split())
    assert (old.code, old.out) == (code, heading)
    assert old.err == f"Cannot {text}: Operation not supported\n"


def test_options_that_came_later_are_unknown_to_an_old_tool() -> None:
    old = Box("2.6.18")
    for option in ("-l", "-L", "-x", "-z"):
        assert "bad command line argument(s)" in out(old, f"ethtool {option} eth0", 1)
    late = out(Box("3.10"), "ethtool -x eth0", 102)
    assert late == "Cannot get RX flow hash indirection table: Operation not supported\n"


def test_a_register_dump_has_each_register_once_with_its_value(box: Box) -> None:
    lines = out(box, "ethtool -d eth0").splitlines()
    assert lines[0] == "0x042A4: LINKS (Link Status register)                 0x70000080"
    assert lines[1] == "       Link Status:                                   up"
    assert "0x00008: STATUS      (Device Status)                  0x00080000" in lines
    assert "0x01008: RDLEN00     (Receive Descriptor Length 00)   0x00002000" in lines
    assert "0x02200: DCA_RXCTRL00 (Rx DCA Control 00)             0x000002A0" in lines
    assert sum(line.startswith("0x") for line in lines) == len(ethtoolregs.ROWS)


def test_a_register_dump_counts_up_to_now(box: Box) -> None:
    before = out(box, "ethtool -d eth0")
    assert box.ping("-c", "5", "-i", "0.01").code == 0
    after = out(box, "ethtool -d eth0")
    for name in ("gptc", "ptc127"):
        sent = [
            int(re.findall(rf" {name} .*0x(\w+)$", text, re.M)[0], 16) for text in (before, after)
        ]
        assert sent[1] - sent[0] >= 5


# ---------------------------------------------------------------- settings


def settled(box: Box) -> None:
    """Until the bond has a carrier again."""
    box.live(1500)
    assert box.ping("-c", "3", "-i", "0.01").code == 0


def test_ring_sizes_take_effect(box: Box) -> None:
    writes = posted(box, "eth0")
    out(box, "ethtool -G eth0 rx 1020 tx 65")
    text = out(box, "ethtool -g eth0")
    assert re.findall(r"^[RT]X:\s+(\d+)$", text, re.MULTILINE) == ["4096", "4096", "1024", "72"]
    lengths = [w.value for w in writes if w.offset in (0x1008, 0x6008)]
    assert sorted(lengths[-2:]) == [72 * 16, 1024 * 16]
    settled(box)
    for address in GATEWAY_ADDRESSES:  # the small rings go round
        assert box.ping("-c", "40", "-i", "0.001", to=address).code == 0
    rings = box.machine.simulation.node("cpu0").cpu.net.adapters["eth0"].rings
    for ring in rings:
        assert box.machine.ram.words64[ring.state + NTU] < 72
        assert box.machine.ram.words64[ring.state + NTC] < 72


def test_a_ring_that_is_too_large_is_refused(box: Box) -> None:
    error = out(box, "ethtool -G eth0 rx 4097", 1)
    assert error.endswith("Invalid argument\n")
    unchanged = box.run("ethtool", "-G", "eth0", "rx", "512")
    assert unchanged.code == (0 if box.settings.era == "6.1" else 80)


def test_moderation_reaches_eitr(box: Box) -> None:
    writes = posted(box, "eth0")
    out(box, "ethtool -C eth0 rx-usecs 100")
    # an interval, or what is left of it on its way through 10,000 interrupts a second
    eitr = 0x8000_0186 if box.settings.era == "2.6.18" else 0x8000_0190
    assert [w.value for w in writes if 0x820 <= w.offset < 0x828] == [eitr] * 2
    assert "\nrx-usecs: 100\n" in out(box, "ethtool -c eth0")
    assert out(box, "ethtool -C eth0 rx-usecs 1023", 1).endswith("Invalid argument\n")
    writes.clear()
    out(box, "ethtool -C eth0 rx-usecs 2")  # more than 100,000/s: WTHRESH 1 needs a reset
    assert [w.value >> 16 & 0x7F for w in writes if w.offset == TXDCTL_0][-1] == 1
    settled(box)


@pytest.mark.parametrize(
    ("era", "line", "code", "text"),
    [
        ("3.10", "adaptive-rx on", 0, ""),
        ("3.10", "adaptive-rx off", 80, "no coalesce parameters changed, aborting\n"),
        ("3.10", "adaptive-rx maybe", 1, "ethtool: bad command line argument(s)\n"),
        ("6.1", "adaptive-rx on", 1, "netlink error: Operation not supported\n"),
        ("6.1", "adaptive-rx off rx-usecs 50", 1, "netlink error: Operation not supported\n"),
    ],
)
def test_what_ixgbe_does_not_know_of_moderation_is_ignored_until_5_7(
    era: str, line: str, code: int, text: str
) -> None:
    box = Box(era, nics=1)
    assert out(box, f"ethtool -C eth0 {line}", code).startswith(text)
    assert "Adaptive RX: " + ("n/a" if era == "6.1" else "off") in out(box, "ethtool -c eth0")
    assert "\nrx-usecs: 1\n" in out(box, "ethtool -c eth0")


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_fewer_channels_have_fewer_interrupts(era: str) -> None:
    box = Box(era, cpus=4)
    out(box, "ethtool -L eth0 combined 2")
    assert "Combined:\t2\n" in out(box, "ethtool -l eth0")
    rows = box.proc("/proc/interrupts")
    assert "eth0-TxRx-1" in rows
    assert "eth0-TxRx-2" not in rows
    assert "eth1-TxRx-3" in rows
    settled(box)
    for cpu in ("cpu0", "cpu3"):  # cpu3 sends on queue 1 now
        assert box.ping("-c", "3", "-i", "0.01", cpu=cpu).code == 0
    out(box, "ethtool -L eth0 combined 4")
    assert "eth0-TxRx-3" in box.proc("/proc/interrupts")
    settled(box)


def test_the_self_test_passes_and_the_port_is_up_again(box: Box) -> None:
    text = out(box, "ethtool -t eth0")
    assert text.startswith("The test result is PASS\nThe test extra info:\n")
    assert text.count("\t 0\n") == 5
    settled(box)


@pytest.mark.parametrize(
    ("broken", "row"),
    [("eeprom", "Eeprom test    (offline)\t 1"), ("loopback", "Loopback test  (offline)\t 13")],
)
def test_the_self_test_finds_what_is_broken(broken: str, row: str) -> None:
    box = Box(nics=1)
    device = box.machine.simulation.node("eth0").device
    if broken == "eeprom":
        device.eeprom.image[0x2A] ^= 1
    else:
        box.machine.ram.iommu(0).unmap(box.machine.ram.iommu(0).windows()[0].address)
    ran = box.run("ethtool", "-t", "eth0")
    assert ran.code == 1
    text = ran.out
    assert text.startswith("The test result is FAIL\n")
    assert row in text


# ---------------------------------------------------------------- ip link


def test_a_jumbo_frame_crosses_in_several_descriptors(box: Box) -> None:
    out(box, "ip link set bond0 mtu 9000")
    box.live(1500)
    for cpu in ("cpu0", "cpu1"):
        for address in GATEWAY_ADDRESSES[:4]:
            ran = box.ping("-c", "3", "-i", "0.01", "-s", "8000", to=address, cpu=cpu)
            assert ran.code == 0, ran.out
            assert ran.out.count("8008 bytes from") == 3


def test_an_mtu_out_of_range_is_refused(box: Box) -> None:
    error = out(box, "ip link set eth0 mtu 9711", 2)
    if box.settings.era == "6.1":
        assert error == "Error: mtu greater than device maximum.\n"
    else:
        assert error == "RTNETLINK answers: Invalid argument\n"


def test_a_port_that_is_set_down_has_no_carrier_until_it_is_up_again(box: Box) -> None:
    out(box, "ip link set eth0 down")
    box.live(300)
    assert "eth0-TxRx-0" not in box.proc("/proc/interrupts")
    assert "\tLink detected: no\n" in out(box, "ethtool eth0")
    assert box.ping("-c", "2", "-i", "0.01").code == 0  # eth1 has it
    out(box, "ip link set eth0 up")
    box.live(1500)
    assert "\tLink detected: yes\n" in out(box, "ethtool eth0")


# ---------------------------------------------------------------- hang


def test_a_hung_ring_is_found_in_two_looks_and_the_adapter_reset(box: Box) -> None:
    """The queue is switched off behind the driver's back: what it is given stays there."""
    box.live(2500)
    queues = len(box.machine.simulation.node("cpu0").cpu.net.adapters["eth0"].rings)
    for queue in range(queues):
        box.machine.simulation.send("eth0", MemWrite(0, TXDCTL_0 + 0x40 * queue, 0), sender="cpu0")
    hung = box.now_s
    job: Any = box.start("ping", "-i", "0.1", "-c", "200", "192.168.1.1")
    box.live(9000)
    said = box.said(hung)
    at = next(n for n, line in enumerate(said) if "Detected Tx Unit Hang" in line)
    assert said[at + 1].startswith("  Tx Queue             <")
    assert said[at + 2].startswith("  TDH, TDT             <")
    assert any("tx hang 1 detected on queue" in line for line in said)
    assert 2 <= box.when("Detected Tx Unit Hang", hung) - hung <= 6.5
    assert any(line.endswith("eth0: Reset adapter") for line in said)
    assert "NIC Link is Up" in " ".join(said[at:])
    box.live(1500)
    assert box.interrupt(job).code == 0  # replies came again
    rows = dict(re.findall(r"^     (\S+): (\d+)$", out(box, "ethtool -S eth0"), re.MULTILINE))
    assert rows["tx_timeout_count"] == "1"
    assert sum(sum(v) for k, v in box.drops().items() if k == ("eth0", "TX_RING_RESET")) > 0
