"""Files of ours: pcapng with names, directions and nanoseconds; read by tcpdump, tshark, scapy and
by ourselves; several interfaces side by side; the switch's ports; -r, -D, -v and the hex dumps."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from scapy.contrib.lacp import LACP, SlowProtocol
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import RawPcapNgReader, rdpcap

from bus.ram import TapPacket
from orchestrator import verbs
from orchestrator.captures import pcapfilter
from orchestrator.captures.packettext import Detail, describe, describe_cooked
from orchestrator.captures.pcap import (
    LINKTYPE_ETHERNET,
    LINKTYPE_LINUX_SLL2,
    PcapWriter,
    sll2_header,
)
from orchestrator.captures.pcapng import Interface, PcapngWriter
from orchestrator.captures.pcapread import FileError, read
from orchestrator.captures.tcpdumpargs import parse
from orchestrator.captures.tcpdumpread import read_file
from orchestrator.captures.tcpdumptext import cell, side_by_side
from orchestrator.errors import BottomhalfError
from orchestrator.session import Session, drive
from tests.nodes.cpu.harness import Box
from tests.orchestrator.test_tcpdump import EPOCH_NS, ETHER, FRAMES, GATEWAY, US, packets

needs_tcpdump = pytest.mark.skipif(not shutil.which("tcpdump"), reason="no tcpdump here")
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark here")
needs_libpcap = pytest.mark.skipif(pcapfilter.library() is None, reason="no libpcap here")
DATA = Path(__file__).parents[1] / "data" / "real-linux"
INNER = IP(src="192.168.1.10", dst="9.9.9.9") / ICMP(id=5, seq=6) / Raw(bytes(56))
A = IP(src="192.168.1.10", dst="192.168.1.1")
MORE = [
    *FRAMES.values(),
    *(ETHER / A / ICMP(type=3, code=code) / INNER for code in range(16)),
    ETHER / A / ICMP(type=3, code=4, nexthopmtu=1400) / INNER,
    *(ETHER / A / ICMP(type=kind, code=code) / INNER
      for kind, code in ((11, 0), (11, 1), (4, 0), (12, 0), (5, 0), (5, 1), (30, 0))),
    ETHER / A / ICMP(type=3, code=3) / IP(dst="9.9.9.9") / UDP(sport=5, dport=777) / Raw(b"abc"),
    ETHER / IP(src="1.2.3.4", dst="5.6.7.8", tos=0x13, chksum=0x1234) / ICMP(chksum=0x4321),
    ETHER / A / UDP(sport=1000, dport=33333, chksum=0x1111) / Raw(bytes(7)),
    ETHER / A / UDP(sport=1000, dport=33333, chksum=0) / Raw(bytes(8)),
    Ether(src=US, dst=GATEWAY) / Dot1Q(vlan=5, prio=3) / A / ICMP(),
    *(Ether(src=US, dst=US, type=0x9000) / Raw(bytes.fromhex(text).ljust(46, b"\0"))
      for text in ("00", "0000 0100 3412", "0000 0200 010203040506", "0000 0200 020203040506",
                   "0300 0100", "0800 0000000000000000 0100 0900", "ff00", "2c00", "2a00 0100")),
    *(Ether(src=US, dst=US, type=0x9000) / Raw(bytes.fromhex(text))
      for text in ("00", "0000", "000001", "0000 0100 34", "0000 0200 0102030405")),
    Ether(src=US) / SlowProtocol() / LACP(actor_system=US, actor_key=9, actor_state=0x3D),
]  # fmt: skip


def host(tool: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool, *argv], capture_output=True, text=True, check=True)


def write(
    path: Path, linktype: int = LINKTYPE_ETHERNET, names: tuple[str, ...] = ("eth0",)
) -> Path:
    with path.open("wb") as file:
        writer = PcapngWriter(
            file, [Interface(name) for name in names], EPOCH_NS, linktype, "Linux"
        )
        for number, packet in enumerate(packets()):
            writer.write(packet, number % len(names))
        writer.end(10**9, [len(packets())] * len(names), 3, "eth0 no-dma")
    return path


@needs_tcpdump
@pytest.mark.parametrize(
    ("options", "detail"),
    [("", {}), ("-e", {"link": True}), ("-v", {"verbose": 1}), ("-vv", {"verbose": 2}),
     ("-e -v", {"link": True, "verbose": 1}), ("-q", {"quiet": True}),
     ("-q -e", {"quiet": True, "link": True}), ("-x", {"hexadecimal": 1}),
     ("-xx", {"hexadecimal": 2}), ("-X", {"both": 1}), ("-XX", {"both": 2}), ("-A", {"ascii": 1})],
)  # fmt: skip
def test_every_detail_is_tcpdumps_own(tmp_path: Path, options: str, detail: dict) -> None:
    path = tmp_path / "x.pcap"
    with path.open("wb") as file:
        writer = PcapWriter(file)
        for frame in MORE:
            writer.write(TapPacket(0, 2, True, len(bytes(frame)), 1, bytes(frame)))
    said = subprocess.run(
        ["tcpdump", "-nn", "-t", *options.split(), "-r", str(path)], capture_output=True, check=True
    ).stdout.decode("latin-1")
    ours = [describe(bytes(f), len(bytes(f)), Detail(**detail)) for f in MORE]
    assert "\n".join(ours) + "\n" == said


@needs_tcpdump
@pytest.mark.parametrize("link", [False, True])
def test_cooked_lines_are_tcpdumps_own(tmp_path: Path, link: bool) -> None:
    path = write(tmp_path / "x.pcapng", LINKTYPE_LINUX_SLL2)
    said = host("tcpdump", "-nn", "-t", *(["-e"] if link else []), "-r", str(path)).stdout
    shown = []
    for packet in packets():
        cooked = sll2_header(packet) + packet.data[14:]
        shown.append(describe_cooked(cooked, packet.length + 6, Detail(link=link)))
    theirs = [line for line in said.splitlines() if not line.startswith("\t")]
    for line, ours in zip(theirs, shown, strict=True):
        assert line.split(None, 2)[2] == ours.split("\n")[0]


@needs_tcpdump
@pytest.mark.parametrize("linktype", [LINKTYPE_ETHERNET, LINKTYPE_LINUX_SLL2])
def test_tcpdump_reads_it_without_a_complaint(tmp_path: Path, linktype: int) -> None:
    path = write(tmp_path / "x.pcapng", linktype, ("bond0", "eth0", "lan:1"))
    done = host("tcpdump", "-nn", "-tt", "--nano", "-r", str(path))
    times = [line.split()[0] for line in done.stdout.splitlines() if line[:1].isdigit()]
    stamps = [divmod(p.time_ns + EPOCH_NS, 10**9) for p in packets()]
    assert times == [f"{seconds}.{rest:09d}" for seconds, rest in stamps]
    assert "truncated" not in done.stderr


@needs_tshark
def test_tshark_finds_names_directions_nanoseconds_and_the_comment(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcapng", names=("bond0", "eth0"))
    fields = ("frame.interface_name", "frame.packet_flags_direction", "frame.time_epoch")
    done = host("tshark", "-r", str(path), "-T", "json", *(w for f in fields for w in ("-e", f)))
    rows = [row["_source"]["layers"] for row in json.loads(done.stdout)]
    assert [row["frame.interface_name"][0] for row in rows][:4] == ["bond0", "eth0"] * 2
    assert [int(row["frame.packet_flags_direction"][0], 0) for row in rows][:4] == [2, 1, 2, 1]
    assert rows[1]["frame.time_epoch"][0].endswith("." + str(packets()[1].time_ns + EPOCH_NS)[-9:])


def test_scapy_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcapng", names=("bond0", "eth0"))
    read_back = rdpcap(str(path))
    assert [bytes(p) for p in read_back] == [p.data for p in packets()]
    with RawPcapNgReader(str(path)) as reader:
        metadata = [meta for _, meta in reader]
    assert [meta.ifname for meta in metadata][:2] == [b"bond0", b"eth0"]


# ---------------------------------------------------------------- reading


def test_what_we_wrote_we_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcapng", names=("bond0", "eth0"))
    with path.open("rb") as file:
        found = list(read(file))
    assert [
        (one.packet.time_ns - EPOCH_NS, one.packet.data, one.packet.outgoing) for one in found
    ] == [(p.time_ns, p.data, p.outgoing) for p in packets()]
    assert [one.interface for one in found][:2] == ["bond0", "eth0"]


@needs_tcpdump
@pytest.mark.parametrize("device", ["bond0", "eth0", "eth1"])
def test_a_real_kernels_file_reads_as_tcpdump_reads_it(device: str) -> None:
    path = DATA / "virtio-mq-smp2" / f"tcpdump-5pings-{device}.pcap"
    out: list[str] = []
    assert read_file(parse(["-r", str(path), "-tt", "-e"]), out.append, lambda text: None) == 0
    assert "".join(out) == host("tcpdump", "-nn", "-tt", "-e", "-r", str(path)).stdout


@needs_libpcap
def test_a_file_can_be_filtered_and_written_again(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcapng", names=("bond0", "eth0"))
    again = tmp_path / "y.pcapng"
    read_file(parse(["-r", str(path), "-w", str(again), "arp"]), str, lambda text: None)
    with again.open("rb") as file:
        assert all(one.packet.data[12:14] == b"\x08\x06" for one in read(file))


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"hello, world", "unknown file format"), (b"\xd4\xc3", "truncated dump file"),
     (b"\x0a\x0d\x0d\x0a" + bytes(40), "block in pcapng dump file has a length of 0")],
)  # fmt: skip
def test_a_broken_file_is_said_so(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(FileError, match=what), path.open("rb") as file:
        list(read(file))
    with pytest.raises(BottomhalfError) as caught:
        read_file(parse(["-r", str(path)]), str, str)
    assert caught.value.program == "tcpdump"


def test_a_file_that_ends_in_a_packet_gives_what_is_before(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcapng")
    data = path.read_bytes()
    path.write_bytes(data[:700])
    with path.open("rb") as file:
        packets_of = read(file)
        assert next(packets_of).interface == "eth0"
        with pytest.raises(FileError):
            list(packets_of)


# ---------------------------------------------------------------- on a simulated machine


def capture(box: Box, line: str, during: tuple[str, ...], **options) -> tuple[str, str]:
    """stdout and stderr of a tcpdump while a program runs."""
    out: list[str] = []
    err: list[str] = []
    session = Session(box.machine, out=out.append, err=err.append, **options)
    steps = verbs.start(session, ["tcpdump", *line.split()])
    started: list[object] = []

    def tick() -> None:
        if err and not started:
            started.append(box.machine.spawn("cpu0", during))
        elif started and started[0].done and not session.signals:  # type: ignore[attr-defined]
            box.live(60)
            session.signals.append(signal.SIGINT)

    session.tick, session.pump_ns = tick, 20_000_000
    assert drive(session, steps) == 0
    return "".join(out), "".join(err)


PING = ("ping", "-c", "2", "-i", "0.2", "192.168.1.1")


def warm(era: str = "6.1") -> Box:
    box = Box(era)
    box.ping("-c", "1")
    box.live(100)
    return box


def test_several_devices_have_a_column_each() -> None:
    out, err = capture(warm("2.6.18"), "-p -t -i bond0 -i eth0 -i eth1 -i any", PING)
    rows = [line.split("IP")[0].split() for line in out.splitlines()]
    assert rows == [
        ["bond0", "eth0", "eth1", "any"],
        *[["Out", "Out", "-", "Out", "2x"], ["In", "-", "-", "In"]] * 2,
    ]
    assert "listening on bond0, eth0, eth1, any, link-type EN10MB" in err
    assert err.endswith("bond0 4, eth0 2, eth1 0, any 6\n")


@needs_libpcap
def test_ports_of_the_switch_and_a_direction() -> None:
    out, _ = capture(warm(), "-t -i lan:1 -Q in icmp and src m1", PING)
    assert [line.split(": ")[1].split(",")[0] for line in out.splitlines()] == [
        "ICMP echo request"
    ] * 2
    out, _ = capture(warm(), "-p -t -i bond0 -i eth0 -i lan:1 -i lan:2", PING)
    assert [line.split("IP")[0].split() for line in out.splitlines()][1:] == [
        ["Out", "Out", "In", "-"], ["In", "In", "Out", "-"],
    ] * 2  # fmt: skip


def test_a_port_that_is_not_there_and_too_many_captures() -> None:
    box = warm()
    session = Session(box.machine, out=str, err=str)
    with pytest.raises(BottomhalfError, match="lan:3: No such device exists"):
        drive(session, verbs.start(session, ["tcpdump", "-i", "lan:3"]))
    ring = box.machine.ram.tap(box.machine.ram.layout.cpus)
    assert ring.ports == 0
    claims = [ring.claim(1, 1) for _ in range(6)]  # process 1 lives as long as the host
    with pytest.raises(BottomhalfError, match="all captures that the switch can serve"):
        drive(session, verbs.start(session, ["tcpdump", "-i", "lan:1"]))
    for claim in claims:
        assert claim is not None
        ring.release(claim)
    assert ring.claim(2, 2**22 + 5) is not None  # nobody's: the next one clears it away
    assert ring.claim(4, 1) is not None
    assert ring.ports == 4


def test_devices_are_listed_in_libpcaps_order() -> None:
    box = warm()
    box.cable("eth0", inserted=False)
    box.live(300)
    out: list[str] = []
    session = Session(box.machine, out=out.append, err=out.append)
    drive(session, verbs.start(session, ["tcpdump", "-D"]))
    assert "".join(out).splitlines()[:5] == [
        "1.bond0 [Up, Running, Connected]",
        "2.eth1 [Up, Running, Connected]",
        "3.any (Pseudo-device that captures on all interfaces) [Up, Running]",
        "4.lo [Up, Running, Loopback]",
        "5.eth0 [Up, Disconnected]",
    ]


@pytest.mark.parametrize("era", ["2.6.18", "3.10", "6.1"])
@pytest.mark.parametrize(
    "devices", ["-i any", "-i bond0", "-i bond0 -i eth0 -i eth1 -i any -i lan"]
)
def test_every_reader_takes_every_capture(tmp_path: Path, era: str, devices: str) -> None:
    path = tmp_path / "x.pcapng"
    _, err = capture(Box(era), f"{devices} -w {path}", PING)
    count = int(err.split("\n")[2].split()[0])
    assert count >= 6
    assert len(rdpcap(str(path))) == count
    if shutil.which("tcpdump"):
        done = host("tcpdump", "-nn", "-v", "-r", str(path))
        assert len([ln for ln in done.stdout.splitlines() if ln[:1].isdigit()]) == count
        assert "bad" not in done.stdout
        assert "wrong" not in done.stdout
    if shutil.which("tshark"):
        wrong = "_ws.malformed or icmp.checksum.status == 0 or ip.checksum.status == 0"
        checked = ("-o", "ip.check_checksum:TRUE")
        assert host("tshark", "-r", str(path), *checked, "-Y", wrong).stdout == ""
        assert len(host("tshark", "-r", str(path)).stdout.splitlines()) == count


@needs_libpcap
def test_a_wrong_expression_has_tcpdumps_words() -> None:
    box = warm()
    session = Session(box.machine, out=str, err=str)
    with pytest.raises(BottomhalfError) as caught:
        drive(session, verbs.start(session, ["tcpdump", "-i", "eth0", "foo", "bar"]))
    text = caught.value.text(terminal=False)
    assert text == "tcpdump: can't parse filter expression: syntax error\n"


def test_the_same_frame_later_is_another_row() -> None:
    one = packets()[0]
    later = one._replace(time_ns=one.time_ns + 50_000_000)
    rows = side_by_side([(0, one), (1, one), (0, later)])
    assert [[cell(row, n) for n in (0, 1)] for row in rows] == [["Out", "Out"], ["Out", "-"]]
