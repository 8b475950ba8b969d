"""UDP: ports, datagrams both ways, errors that come back, memory, programs that move."""

from __future__ import annotations

from itertools import pairwise

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from nodes.cpu.kernel.net.udp import UdpSock, udp_bind, udp_close, udp_open
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.sched import kthread_run
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import ERAS, Box
from tests.nodes.cpu.wire import PEER, US, Wire, counters


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("cpu", ["cpu0", "cpu1"])
def test_a_datagram_goes_to_a_port_and_comes_back(era: str, cpu: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    wire = Wire(box)
    ran = box.run("udp_send", "-c", "3", "-i", "0.01", "-s", "100", PEER, "7", cpu=cpu)
    assert [line.split(" time")[0] for line in ran.lines[:3]] == [
        f"100 bytes from 192.168.1.1:7: seq={n}" for n in (1, 2, 3)
    ]
    assert ran.lines[-1] == "3 sent, 3 received, 0 lost"
    assert ran.code == 0
    sent = wire.ip()[0]
    again = IP(bytes(sent)[: sent.len])
    stored, again[UDP].chksum = again[UDP].chksum, None
    assert IP(bytes(again))[UDP].chksum == stored
    assert sent.flags.DF
    idents = [packet.id for packet in wire.ip()]
    assert [b - a for a, b in pairwise(idents)] == [1, 1]
    found = counters(box)
    assert (found["Udp OutDatagrams"], found["Udp InDatagrams"]) == (3, 3)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("cpu", ["cpu0", "cpu1"])
def test_the_server_answers_from_the_address_it_was_asked_at(era: str, cpu: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    job = box.start("udp_echo", "7", cpu=cpu)
    box.live(10)
    wire = Wire(box)
    wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=7) / Raw(b"hello"))
    (packet,) = wire.ip()
    assert (packet.src, packet.dst) == (US, PEER)
    assert (packet[UDP].sport, packet[UDP].dport, packet[UDP].len) == (7, 5000, 13)
    assert bytes(packet[UDP].payload)[:5] == b"hello"
    assert box.interrupt(job).lines[-1] == "1 datagrams sent back"
    wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=7) / Raw(b"hello"))
    assert wire.ip()[-1][ICMP].code == 3  # nobody listens any more


@pytest.mark.parametrize("era", ERAS)
def test_a_datagram_for_nobody_is_answered_with_port_unreachable(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    wire = Wire(box)
    request = IP(src=PEER, dst=US, tos=4) / UDP(sport=5000, dport=99) / Raw(bytes(1000))
    wire.arrive(request)
    (packet,) = wire.ip()
    assert (packet.src, packet.dst, packet.tos) == (US, PEER, 0xC4)
    assert (packet[ICMP].type, packet[ICMP].code) == (3, 3)
    assert packet.len == 576  # as much of it as all hosts take
    assert not packet.flags.DF
    assert wire.sent[0][14 + 28 : 14 + 576] == bytes(request)[:548]
    found = counters(box)
    assert (found["Udp NoPorts"], found["Icmp OutDestUnreachs"]) == (1, 1)
    assert box.drops()[("-", "NO_SOCKET")] == [1, 0, 0]


@pytest.mark.parametrize("era", ERAS)
def test_a_closed_port_is_the_next_calls_error(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    ran = box.run("udp_send", PEER, "99")
    assert ran.err == "udp_send: recv: Connection refused\n"
    assert ran.code == 1
    assert counters(box)["Icmp InDestUnreachs"] == 1


@pytest.mark.parametrize("era", ERAS)
def test_a_neighbour_that_does_not_answer_is_no_route_to_host(era: str) -> None:
    box = Box(era)
    ran = box.run("udp_send", "-w", "5", "192.168.1.77", "7")
    assert ran.err == "udp_send: recv: No route to host\n"


def test_error_messages_to_one_host_are_limited_to_one_a_second_after_a_burst() -> None:
    box = Box()
    box.ping("-c", "1")
    wire = Wire(box)
    for _ in range(10):
        wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=99), ms=1)
    assert len(wire.ip()) == 6
    assert counters(box)["Icmp OutRateLimitHost"] == 4
    box.live(1000)
    wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=99))
    assert len(wire.ip()) == 7


def test_no_error_about_an_error_a_broadcast_or_a_later_fragment() -> None:
    box = Box()
    box.ping("-c", "1")
    wire = Wire(box)
    wire.arrive(IP(src=PEER, dst=US, proto=99) / Raw(bytes(8)))
    assert [(p[ICMP].type, p[ICMP].code) for p in wire.ip()] == [(3, 2)]  # no such protocol
    error = IP(src=PEER, dst=US) / ICMP(type=3, code=3)
    wire.arrive(error / Raw(bytes(IP(src=US, dst=PEER) / UDP(sport=1, dport=2))))
    frame = Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:01")
    wire.arrive(frame / IP(src=PEER, dst=US) / UDP(sport=5000, dport=99))
    assert len(wire.ip()) == 1


def test_a_redirect_is_counted_and_ignored() -> None:
    box = Box()
    box.ping("-c", "1")
    wire = Wire(box)
    quoted = bytes(IP(src=US, dst="10.9.9.9") / ICMP())
    wire.arrive(IP(src=PEER, dst=US) / ICMP(type=5, code=1, gw="192.168.1.9") / Raw(quoted))
    before = box.proc("/proc/net/route")
    assert counters(box)["Icmp InRedirects"] == 1
    assert box.proc("/proc/net/route") == before
    assert box.ping("-c", "1").code == 0


@pytest.mark.parametrize("era", ERAS)
def test_what_routers_report_reaches_pings_error_queue(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    ran = box.ping("-c", "1", "-t", "1", to="10.9.9.9")
    assert "+1 errors" in ran.out
    assert counters(box)["Icmp InTimeExcds"] == 1


def test_a_bad_checksum_is_dropped_and_none_is_no_check() -> None:
    box = Box()
    box.ping("-c", "1")
    box.start("udp_echo", "7")
    box.live(10)
    wire = Wire(box)
    wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=7, chksum=0xBEEF) / Raw(b"x"))
    assert wire.ip() == []
    found = counters(box)
    assert (found["Udp InErrors"], found["Udp InCsumErrors"]) == (1, 1)
    wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=7, chksum=0) / Raw(b"x"))
    assert len(wire.ip()) == 1
    wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=7, len=99) / Raw(b"x"))
    assert counters(box)["Udp InErrors"] == 2


def test_a_port_belongs_to_one_socket_of_all_cpus() -> None:
    box = Box()
    box.start("udp_echo", "7", cpu="cpu1")
    box.live(10)
    ran = box.run("udp_echo", "7")
    assert ran.err == "udp_echo: bind: Address already in use\n"
    assert box.run("udp_echo", "-s", "10.0.0.1", "8").err.endswith(
        "Cannot assign requested address\n"
    )


def test_two_cpus_that_want_one_port_at_the_same_moment() -> None:
    box = Box()
    jobs = [box.start("udp_echo", "7", cpu=cpu) for cpu in ("cpu0", "cpu1")]
    box.live(20)
    assert sorted(job.done for job in jobs) == [False, True]


def test_a_closed_port_can_be_had_again() -> None:
    box = Box()
    for cpu in ("cpu0", "cpu1", "cpu0"):
        job = box.start("udp_echo", "7", cpu=cpu)
        box.live(10)
        assert box.interrupt(job).code == 0


def test_datagrams_that_nobody_reads_fill_the_buffer_and_no_more() -> None:
    box = Box()
    box.ping("-c", "1")
    cpu: Cpu = box.machine.simulation.node("cpu0").cpu
    socks: list[UdpSock] = []

    def holds() -> Context:
        socks.append(udp_open(cpu))
        yield from udp_bind(cpu, socks[0], bytes(4), 7)

    kthread_run(cpu, "holds", holds())
    job = box.start("sleep", "0.01")
    box.end(job)
    wire = Wire(box)
    for _ in range(100):
        wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=7) / Raw(bytes(1000)), ms=0.3)
    box.live(10)
    (sock,) = socks
    assert len(sock.receive_queue) == 212992 // (768 - 256 + 2048) == 83
    found = counters(box)
    assert (found["Udp InDatagrams"], found["Udp RcvbufErrors"]) == (83, 17)
    assert sock.drops == 17
    kthread_run(cpu, "closes", udp_close(cpu, sock))
    box.end(box.start("sleep", "0.01"))
    assert cpu.net.udp_table == {}


@pytest.mark.parametrize("era", ERAS)
def test_a_server_moves_with_its_port_when_its_cpu_goes(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    job = box.start("udp_echo", "7", cpu="cpu1")
    box.live(10)
    wire = Wire(box)
    wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=7) / Raw(b"a"))
    assert box.run("chcpu", "-d", "1").code == 0
    wire.arrive(IP(src=PEER, dst=US) / UDP(sport=5000, dport=7) / Raw(b"b"))
    assert len([p for p in wire.ip() if p.proto == 17]) == 2
    assert box.interrupt(job).lines[-1] == "2 datagrams sent back"


def test_the_counters_file_is_a_real_kernels() -> None:
    box = Box()
    box.ping("-c", "28", "-i", "0.01", "-q")
    box.ping("-c", "1", "-W", "0.01", to="192.168.1.77")
    ours = box.proc("/proc/net/snmp").splitlines()
    real = captured("e1000e-smp2/after20/proc-net-snmp.txt").splitlines()
    ours = [line for line in ours if not line.startswith("Udp")]
    assert ours == real


@pytest.mark.parametrize("era", ERAS)
def test_names_and_numbers_of_the_counters_go_together(era: str) -> None:
    box = Box(era)
    lines = box.proc("/proc/net/snmp").splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        assert len(names.split()) == len(values.split())


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("udp_send -Z gateway 7", "udp_send: invalid option -- 'Z'"),
        ("udp_send gateway 7 -c", "udp_send: option requires an argument -- 'c'"),
        ("udp_send gateway", "udp_send: usage: udp_send [-c N] "),
        ("udp_send nohost 7", "udp_send: nohost: Name or service not known"),
        ("udp_echo -q 7", "udp_echo: invalid option -- 'q'"),
        ("udp_echo", "udp_echo: usage: udp_echo [-s ADDRESS] PORT"),
        ("udp_echo -s nohost 7", "udp_echo: nohost: Name or service not known"),
    ],
)
def test_what_the_programs_say_of_wrong_words(line: str, error: str) -> None:
    box = Box()
    ran = box.run(*line.split())
    assert ran.err.startswith(error)
    assert (ran.code, ran.out) == (2, "")


def test_options_may_stand_together_and_behind_the_host() -> None:
    assert Box().run("udp_send", PEER, "7", "-qc2", "-i0.01").lines[-1] == (
        "2 sent, 2 received, 0 lost"
    )
