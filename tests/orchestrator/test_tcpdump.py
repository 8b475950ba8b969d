"""Captures: real tcpdump, tshark and scapy read our files, and our text is tcpdump's."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw
from scapy.utils import rdpcap

from bus.ram import TAP_SLOTS, TapPacket
from orchestrator.captures.capture import SETTLE_NS, TapReader
from orchestrator.captures.packettext import Detail, describe
from orchestrator.captures.pcap import LINKTYPE_LINUX_SLL2, PcapWriter
from orchestrator.captures.tcpdumpargs import parse
from orchestrator.captures.tcpdumptext import Stamps
from orchestrator.errors import BottomhalfError

US = "52:54:00:00:00:10"
GATEWAY = "02:00:00:00:00:01"
ETHER = Ether(src=US, dst=GATEWAY)
ADDRESSES = IP(src="192.168.1.10", dst="192.168.1.1")
FRAMES = {
    "echo request": ETHER / ADDRESSES / ICMP(type=8, id=729, seq=1) / Raw(bytes(56)),
    "echo reply": Ether(src=GATEWAY, dst=US)
    / IP(src="192.168.1.1", dst="192.168.1.10")
    / ICMP(type=0, id=729, seq=1)
    / Raw(bytes(56)),
    "who-has": Ether(src=US, dst="ff:ff:ff:ff:ff:ff")
    / ARP(op=1, hwsrc=US, psrc="192.168.1.10", pdst="192.168.1.1"),
    "gratuitous": Ether(src=US, dst="ff:ff:ff:ff:ff:ff")
    / ARP(op=1, hwsrc=US, psrc="192.168.1.10", pdst="192.168.1.10"),
    "unicast who-has": ETHER
    / ARP(op=1, hwsrc=US, psrc="192.168.1.10", hwdst=GATEWAY, pdst="192.168.1.1"),
    "is-at": Ether(src=GATEWAY, dst=US)
    / ARP(op=2, hwsrc=GATEWAY, psrc="192.168.1.1", hwdst=US, pdst="192.168.1.10"),
    "padded is-at": Ether(src=GATEWAY, dst=US)
    / ARP(op=2, hwsrc=GATEWAY, psrc="192.168.1.1", hwdst=US, pdst="192.168.1.10")
    / Raw(bytes(18)),
    "later fragment": ETHER / IP(src="1.2.3.4", dst="5.6.7.8", frag=185, proto=1) / Raw(bytes(64)),
    "first fragment": ETHER
    / IP(src="1.2.3.4", dst="5.6.7.8", flags="MF")
    / ICMP(type=8, id=7, seq=9)
    / Raw(bytes(1472)),
    "udp": ETHER / ADDRESSES / UDP(sport=1000, dport=33333) / Raw(bytes(8)),
    "host unreachable": ETHER
    / ADDRESSES
    / ICMP(type=3, code=1)
    / IP(src="192.168.1.10", dst="9.9.9.9")
    / ICMP()
    / Raw(bytes(56)),
    "unknown ethertype": Ether(src=US, dst=GATEWAY, type=0x88B5) / Raw(b"Hello, wire! " * 3),
}
needs_tcpdump = pytest.mark.skipif(not shutil.which("tcpdump"), reason="no tcpdump here")
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark here")
EPOCH_NS = 1_795_394_765_000_000_000


def packets() -> list[TapPacket]:
    return [
        TapPacket(n * 12_345_678_901, 2, n % 2 == 0, len(bytes(f)), 1, bytes(f))
        for n, f in enumerate(FRAMES.values())
    ]


def write(path: Path, **options) -> Path:
    with path.open("wb") as file:
        writer = PcapWriter(file, EPOCH_NS, **options)
        for packet in packets():
            writer.write(packet)
    return path


def host_tcpdump(path: Path, *options: str) -> list[str]:
    done = subprocess.run(
        ["tcpdump", "-nn", *options, "-r", str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"TZ": "UTC", "PATH": "/usr/bin:/usr/sbin:/bin:/sbin"},
    )
    return done.stdout.splitlines()


@needs_tcpdump
@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5])
def test_text_is_tcpdumps_own(tmp_path: Path, link: bool, kind: int):
    path = write(tmp_path / "x.pcap")
    stamp = Stamps(kind, EPOCH_NS, utc=True)
    ours = [stamp(p.time_ns) + describe(p.data, p.length, Detail(link=link)) for p in packets()]
    options = (["-e"] if link else []) + (["-" + "t" * kind] if kind else [])
    assert "\n".join(ours).splitlines() == host_tcpdump(path, *options)


@needs_tshark
def test_tshark_finds_every_checksum_right(tmp_path: Path):
    path = write(tmp_path / "x.pcap")
    done = subprocess.run(
        [
            *("tshark", "-r", str(path), "-o", "ip.check_checksum:TRUE", "-T", "json"),
            *("-e", "icmp.checksum.status", "-e", "ip.checksum.status"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    layers = [row["_source"]["layers"] for row in json.loads(done.stdout)]
    assert len(layers) == len(FRAMES)
    assert layers[0]["icmp.checksum.status"] == ["1"]
    assert layers[0]["ip.checksum.status"] == ["1"]


@pytest.mark.parametrize(("nanoseconds", "unit_ns"), [(False, 1000), (True, 1)])
def test_scapy_reads_times_lengths_and_bytes(tmp_path: Path, nanoseconds: bool, unit_ns: int):
    path = write(tmp_path / "x.pcap", nanoseconds=nanoseconds)
    read = rdpcap(str(path))
    assert [bytes(p) for p in read] == [p.data for p in packets()]
    for packet, ours in zip(read, packets(), strict=True):
        expected = (ours.time_ns + EPOCH_NS) // unit_ns * unit_ns
        assert round(packet.time * 10**9) == expected


def test_cut_packet_keeps_its_length_on_the_wire():
    file = io.BytesIO()
    PcapWriter(file).write(TapPacket(0, 2, True, 98, 1, bytes(60)))
    assert int.from_bytes(file.getvalue()[32:36], "little") == 60
    assert int.from_bytes(file.getvalue()[36:40], "little") == 98


@needs_tcpdump
def test_any_is_a_cooked_capture_with_directions(tmp_path: Path):
    path = write(tmp_path / "x.pcap", linktype=LINKTYPE_LINUX_SLL2)
    lines = host_tcpdump(path, "-t")
    assert "Out IP 192.168.1.10 > 192.168.1.1: ICMP echo request, id 729, seq 1" in lines[0]
    assert "In  IP 192.168.1.1 > 192.168.1.10: ICMP echo reply" in lines[1]


# -- the rings


def test_rings_of_two_cpus_are_merged_by_time(machine):
    reader = TapReader(machine.ram)
    for time_ns, cpu in ((10, 0), (30, 0), (20, 1), (40, 1)):
        machine.ram.tap(cpu).append(time_ns, 2, True, 1, bytes(60), 60)
    assert [p.time_ns for p in reader.rest()] == [10, 20, 30, 40]


def test_a_fresh_packet_waits_until_older_ones_must_be_there(machine):
    reader = TapReader(machine.ram)
    machine.ram.tap(0).append(1000, 2, True, 1, bytes(60), 60)
    assert reader.pull(1000 + SETTLE_NS - 1) == []
    machine.ram.tap(1).append(900, 2, True, 1, bytes(60), 60)
    assert [p.time_ns for p in reader.pull(1000 + SETTLE_NS)] == [900, 1000]


def test_overwritten_packets_are_counted(machine):
    reader = TapReader(machine.ram)
    for n in range(TAP_SLOTS + 10):
        machine.ram.tap(0).append(n, 2, True, 1, bytes(60), 60)
    assert len(reader.rest()) + reader.lost == TAP_SLOTS + 10
    assert reader.lost >= 10


# -- the verb


def opens(session: int, ifindex: int = 2):
    def program(machine, job) -> None:
        text = json.dumps({"session": session, "ifindex": ifindex}) + "\n"
        machine.later(1000, lambda: job.output.append((1, text)))

    return program


@pytest.fixture
def tapped(machine):
    """Four packets, 100 ms apart; session 3 wants all but the second."""
    machine.programs["tcpdump"] = opens(3)
    frames = [bytes(f) for f in FRAMES.values()]
    for n in range(4):
        sessions = 0b0010 if n == 1 else 0b1000
        machine.later(
            100_000_000 * (n + 1),
            lambda n=n, sessions=sessions: machine.ram.tap(n % 2).append(
                machine.now, 2, True, sessions, frames[n], 2000
            ),
        )
    return machine


def test_text_and_closing_lines(say, tapped):
    sent: list[int] = []
    tapped.later(600_000_000, lambda: sent.append(signal.SIGINT))
    said = say("tcpdump -i eth0 -nn -tt", signals=sent)
    assert said.code == 0
    assert said.out.splitlines() == [
        "0.100000 IP 192.168.1.10 > 192.168.1.1: ICMP echo request, id 729, seq 1, length 64",
        "0.300000 ARP, Request who-has 192.168.1.1 tell 192.168.1.10, length 28",
        "0.400000 ARP, Request who-has 192.168.1.10 tell 192.168.1.10, length 28",
    ]
    assert said.err == (
        "tcpdump: verbose output suppressed, use -v[v]... for full protocol decode\n"
        "listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n"
        "\n3 packets captured\n3 packets received by filter\n0 packets dropped by kernel\n"
    )
    assert ("spawn", "cpu0", "tcpdump", "-i", "eth0") in tapped.calls
    assert ("signal", "tcpdump", signal.SIGINT) in tapped.calls


def test_count_ends_it_and_the_filter_counts(say, tapped):
    said = say("tcpdump -i eth0 -c 1 -p arp")
    assert "\n1 packet captured\n" in said.err
    assert said.out.count("\n") == 1
    assert "who-has" in said.out
    assert ("spawn", "cpu0", "tcpdump", "-i", "eth0", "-p") in tapped.calls


def test_written_file_is_read_by_scapy(say, tapped, tmp_path: Path):
    said = say(f"tcpdump -i eth0 -c 3 -w {tmp_path}/x.pcap")
    assert said.out == ""
    assert said.err.startswith("tcpdump: listening on eth0, link-type EN10MB (Ethernet)")
    read = rdpcap(f"{tmp_path}/x.pcap")
    assert [bytes(p) for p in read] == [bytes(list(FRAMES.values())[n]) for n in (0, 2, 3)]


def test_device_that_does_not_exist_is_the_tools_message(say, machine):
    def program(m, job) -> None:
        job.output.append((2, "tcpdump: eth7: No such device exists\n"))
        job.exit_code = 1

    machine.programs["tcpdump"] = program
    said = say("tcpdump -i eth7", terminal=True)
    assert said.code == 1
    assert said.err.startswith("tcpdump: eth7: No such device exists\n  hint: devices: ")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("-Z nobody", "-Z: not modelled (docs/limitations.md)"),
        ("-c x", "invalid packet count x"),
        ("-Q sideways", "unknown capture direction `sideways'"),
        ("-i eth0 -i eth0", "-i eth0 twice"),
        ("--version", "--version: not modelled (docs/limitations.md)"),
    ],
)
def test_what_is_not_modelled_says_so(line: str, what: str):
    with pytest.raises(BottomhalfError) as caught:
        parse(line.split())
    assert caught.value.what == what
    assert caught.value.program == "tcpdump"


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("-k", "invalid option -- 'k'"),
        ("-nnk", "invalid option -- 'k'"),
        ("icmp -c", "option requires an argument -- 'c'"),
        ("--foo", "unrecognized option '--foo'"),
        ("--interface", "option '--interface' requires an argument"),
    ],
)
def test_a_word_that_is_no_option_gets_tcpdumps_words_and_usage(line: str, first: str):
    with pytest.raises(BottomhalfError) as caught:
        parse(line.split())
    assert caught.value.code == 1
    ours = caught.value.text(terminal=False).splitlines()
    assert ours[0] == f"tcpdump: {first}"
    assert ours[3].startswith("Usage: tcpdump [-AbdDefhHIJKlLnNOpqStuUvxX#] [ -B size ]")
    if shutil.which("tcpdump"):  # the real one; of libraries it names those it was built with
        real = subprocess.run(
            ["tcpdump", *line.split()], capture_output=True, text=True, check=False
        )
        said = real.stderr.splitlines()
        assert (real.returncode, said[0]) == (1, ours[0])
        if said[1] == ours[1]:
            assert [word for word in said if word.startswith(("Usage", "\t"))] == ours[3:]


def test_options_may_stand_behind_the_expression_and_be_long():
    wish = parse(["icmp", "-c", "5", "and", "--interface=eth0", "-p", "host", "gateway"])
    assert (wish.devices, wish.count, wish.promiscuous) == (["eth0"], 5, False)
    assert wish.expression == "icmp and host gateway"
    assert parse(["--", "-1"]).expression == "-1"


def test_options_may_be_bundled():
    wish = parse(["-nne", "-ieth0", "-tttt", "-c5", "icmp"])
    assert (wish.devices, wish.count, wish.stamps, wish.link, wish.expression) == (
        ["eth0"], 5, 4, True, "icmp",
    )  # fmt: skip


def test_packets_for_programs_are_an_object_a_line(say, tapped):
    said = say("tcpdump -i eth0 -c 2", json=True)
    rows = [json.loads(row) for row in said.out.splitlines()]
    assert [(row["time"], row["interface"], row["direction"]) for row in rows] == [
        (0.1, "eth0", "out"),
        (0.3, "eth0", "out"),
    ]
    assert rows[0]["length"] == len(FRAMES["echo request"])
    assert rows[0]["text"].endswith("ICMP echo request, id 729, seq 1, length 64")
    assert "2 packets captured" in said.err
