"""Filter expressions: libpcap's bytecode on our BPF machine agrees with tcpdump; and what is left
without libpcap."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from orchestrator.captures import bpf, pcapfilter
from orchestrator.captures.bpf import Ancillary, Insn
from orchestrator.captures.pcapfilter import FilterError, compile_filter

US, GATEWAY = "52:54:00:00:00:10", "02:00:00:00:00:01"
ETHER = Ether(src=US, dst=GATEWAY)
FRAMES = [
    ETHER / IP(src="192.168.1.10", dst="192.168.1.1") / ICMP(type=8, id=7, seq=1) / Raw(bytes(56)),
    Ether(src=GATEWAY, dst=US) / IP(src="192.168.1.1", dst="192.168.1.10", ttl=3) / ICMP(type=0),
    Ether(src=US, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="192.168.1.10", pdst="192.168.1.77"),
    ETHER / IP(src="10.0.0.1", dst="192.168.1.1") / UDP(sport=53, dport=9999) / Raw(bytes(400)),
    ETHER / IP(src="10.0.0.1", dst="10.0.0.2", frag=185, proto=17) / Raw(bytes(64)),
    ETHER / Dot1Q(vlan=5) / IP(src="192.168.1.10", dst="192.168.1.1") / ICMP(),
    Ether(src=US, dst=GATEWAY, type=0x8809) / Raw(bytes(110)),
    ETHER / IP(src="1.2.3.4", dst="5.6.7.8", options=[]) / UDP(sport=7, dport=8) / Raw(b"xyzzy"),
]
EXPRESSIONS = (
    "icmp", "arp", "ip", "not icmp", "host 192.168.1.1", "src 192.168.1.10", "udp port 9999",
    "port 53 or arp", "icmp[icmptype] == icmp-echo", "ip[8] < 5", "greater 300", "less 60",
    "ether host 52:54:00:00:00:10", "ether broadcast", "vlan 5 and icmp", "ip[6:2] & 0x1fff != 0",
    "ether proto 0x8809", "net 10.0.0.0/8", "udp[8:4] = 0x78797a7a", "not (arp or udp)",
    "len * 2 > 500", "(ip[2:2] - ((ip[0]&0xf)<<2)) > 200", "udp portrange 1-100",
)  # fmt: skip
needs_libpcap = pytest.mark.skipif(pcapfilter.library() is None, reason="no libpcap here")
needs_tcpdump = pytest.mark.skipif(not shutil.which("tcpdump"), reason="no tcpdump here")
NOTHING = Ancillary()


def chosen(expression: str) -> list[int]:
    passes = compile_filter(expression)
    return [n for n, f in enumerate(FRAMES) if passes(bytes(f), len(bytes(f)), NOTHING)]


@needs_libpcap
@needs_tcpdump
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_same_packets_pass_as_with_tcpdump(tmp_path: Path, expression: str) -> None:
    path = str(tmp_path / "x.pcap")
    for number, frame in enumerate(FRAMES):  # the number is its time
        frame.time = float(number)
        wrpcap(path, frame, append=number > 0)
    said = subprocess.run(
        ["tcpdump", "-nn", "-tt", "-r", path, expression],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    numbers = [int(line.split(".")[0]) for line in said.splitlines() if line[:1].isdigit()]
    assert chosen(expression) == numbers


@needs_libpcap
def test_names_of_the_machines_hosts_are_addresses() -> None:
    passes = compile_filter(
        "host gateway and not host m1", 1, {"gateway": "9.9.9.9", "m1": "8.8.8.8"}
    )
    nines = bytes(ETHER / IP(src="9.9.9.9", dst="1.1.1.1"))
    eights = bytes(ETHER / IP(src="9.9.9.9", dst="8.8.8.8"))
    assert [passes(f, len(f), NOTHING) for f in (nines, eights)] == [True, False]


@needs_libpcap
def test_what_the_kernel_knows_beside_the_bytes() -> None:
    frame = bytes(FRAMES[0])
    out, came = Ancillary(0x800, 4, 3), Ancillary(0x800, 0, 2)
    assert compile_filter("outbound")(frame, len(frame), out)
    assert not compile_filter("outbound")(frame, len(frame), came)
    assert compile_filter("inbound and ifindex 2")(frame, len(frame), came)


@needs_libpcap
def test_an_error_has_libpcaps_words() -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter("port 80 and (")
    assert caught.value.args[0] == "can't parse filter expression: syntax error"


def test_arithmetic_and_memory_of_the_machine() -> None:
    program = [
        Insn(0x00, 0, 0, 7), Insn(0x02, 0, 0, 3), Insn(0x61, 0, 0, 3), Insn(0x04, 0, 0, 5),
        Insn(0x2C, 0, 0, 0), Insn(0x54, 0, 0, 0xFF), Insn(0x64, 0, 0, 1), Insn(0x74, 0, 0, 2),
        Insn(0xA4, 0, 0, 1), Insn(0x44, 0, 0, 0x100), Insn(0x94, 0, 0, 1000), Insn(0x07, 0, 0, 0),
        Insn(0x87, 0, 0, 0), Insn(0x84, 0, 0, 0), Insn(0x16, 0, 0, 0),
    ]  # fmt: skip
    # 7 -> M[3]; x = 7; a = 12 * 7 = 84; & 0xff; << 1 = 168; >> 2 = 42; ^ 1 = 43; | 256 = 299
    assert bpf.run(program, b"", 0) == (-299) & 0xFFFF_FFFF


def test_a_load_behind_the_end_and_a_division_by_nothing_reject() -> None:
    keep = Insn(0x06, 0, 0, 1)
    assert bpf.run([Insn(0x28, 0, 0, 3), keep], b"abcd", 4) == 0
    assert bpf.run([Insn(0x28, 0, 0, 2), keep], b"abcd", 4) == 1
    assert bpf.run([Insn(0x00, 0, 0, 9), Insn(0x3C, 0, 0, 0), keep], b"", 0) == 0


# ---------------------------------------------------------------- without libpcap


@pytest.mark.parametrize(
    "expression",
    ["icmp", "arp", "ip", "udp", "host 192.168.1.1", "src host 192.168.1.10", "dst 192.168.1.1",
     "not icmp", "icmp or arp", "ip and not host 10.0.0.1", "not (arp or udp)", "broadcast",
     "ether host 52:54:00:00:00:10", "! arp && ip"],
)  # fmt: skip
def test_the_small_language_agrees_with_libpcap(
    monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    there = None if pcapfilter.library() is None else chosen(expression)
    monkeypatch.setattr(pcapfilter, "library", lambda: None)
    ours = chosen(expression)
    assert ours
    assert there is None or ours == there


@pytest.mark.parametrize("expression", ["port 80", "host", "icmp and", "(icmp", "icmp)", "host x"])
def test_more_than_that_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    monkeypatch.setattr(pcapfilter, "library", lambda: None)
    with pytest.raises(FilterError) as caught:
        compile_filter(expression)
    assert caught.value.args[0] == f"expression `{expression}` needs libpcap, which is not here"
    assert "without it: icmp arp ip" in caught.value.args[1]
