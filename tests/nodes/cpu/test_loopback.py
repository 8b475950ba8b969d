"""lo: what a machine sends to itself, by which way, who counts it and who sees it."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP

from bus.recorder import ALL_EVENTS, Recorder
from nodes.cpu.kernel.net.netdevice import LOOPBACK_IFINDEX
from nodes.cpu.kernel.net.route import ip_route_output
from nodes.cpu.trace import TRACEPOINTS, unpack_context
from orchestrator.ledger import settled
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box
from tests.nodes.cpu.wire import PEER, Wire, counters

ME, LOCALHOST, NOBODY = "192.168.1.10", "127.0.0.1", "192.168.1.77"
NAMES = {event.number: name for name, event in TRACEPOINTS.items()}
#: Of an echo request without options, as lo counts it: no Ethernet header.
ECHO_BYTES = 84


def lo_row(box: Box) -> list[int]:
    """(bytes, packets) received, then sent, of /proc/net/dev."""
    line = box.proc("/proc/net/dev").splitlines()[2]
    name, _, rest = line.partition(":")
    assert name.strip() == "lo"
    cells = [int(word) for word in rest.split()]
    return [*cells[:2], *cells[8:10]]


def interrupts_of_devices(box: Box) -> list[str]:
    """Rows of /proc/interrupts with a number: what the I/O APIC or an MSI brought."""
    lines = box.proc("/proc/interrupts").splitlines()
    return [line for line in lines if line.split(":")[0].strip().isdigit()]


def softirqs(box: Box, cpu: str, number: int) -> int:
    value: int = box.pages[cpu].run("softirqs")[number]
    return value


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("cpu", ["cpu0", "cpu1"])
def test_a_ping_to_oneself_needs_one_softirq_and_no_interrupt(era: str, cpu: str) -> None:
    box = Box(era)
    box.live(100)
    before = interrupts_of_devices(box), softirqs(box, cpu, 3), softirqs(box, cpu, 2)
    for count, host in enumerate((ME, LOCALHOST, "127.1.2.3"), 1):
        ran = box.run("ping", "-c", "2", "-i", "0.01", host, cpu=cpu)
        assert f"64 bytes from {host}: icmp_seq=2 ttl=64" in ran.out, ran.out
        assert ran.code == 0
        assert softirqs(box, cpu, 3) - before[1] == 2 * count  # request and reply in one NET_RX
    assert softirqs(box, cpu, 2) == before[2]
    assert interrupts_of_devices(box) == before[0]
    assert lo_row(box) == [12 * ECHO_BYTES, 12] * 2
    assert settled(box.machine).balanced


@pytest.mark.parametrize("era", ERAS)
def test_the_names_of_oneself(era: str) -> None:
    box = Box(era)
    name = box.settings.name
    assert f"64 bytes from {name} ({ME}): icmp_seq=1" in box.run("ping", "-c", "1", name).out
    ran = box.run("ping", "-c", "1", "localhost")
    assert f"64 bytes from localhost ({LOCALHOST}): icmp_seq=1" in ran.out


@pytest.mark.parametrize("era", ERAS)
def test_the_way_of_a_request_through_lo_and_back(era: str) -> None:
    box = Box(era)
    box.live(100)
    recorder = Recorder(box.machine.ram.recorder_words("cpu0"))
    recorder.mask = ALL_EVENTS
    since = recorder.count
    box.run("ping", "-c", "1", ME)
    records, _, lost = recorder.read(since)
    assert not lost
    quiet = ("sched_", "timer_", "hrtimer_", "dst_", "local_timer", "tasklet", "workqueue")
    events = [r for r in records if not NAMES[r.event].startswith(quiet)]
    names = [NAMES[r.event] for r in events]
    once = ["net_dev_queue", "netif_rx", "net_dev_xmit"]
    way = names[names.index("sys_sendmsg") : names.index("recvmsg") + 1]
    assert way == [
        "sys_sendmsg", "ip_output", "net_dev_queue", "netif_rx", "softirq_raise", "net_dev_xmit",
        "softirq_entry", "netif_receive_skb", "ip_rcv", "icmp_rcv",
        "ip_output", *once, "netif_receive_skb", "ip_rcv", "sock_queue_rcv", "icmp_rcv",
        "softirq_exit", "recvmsg",
    ]  # fmt: skip
    (entry,) = [r for r in events if NAMES[r.event] == "softirq_entry" and r.a == 3]
    where = unpack_context(entry.context)
    assert (where.depth, where.preempt_depth > 0) == (0, True)  # of the task's local_bh_enable
    by_device = {"netif_rx", "netif_receive_skb", "net_dev_queue"}
    assert {r.b for r in events if NAMES[r.event] in by_device if r.b & 0xFFFF == 1} <= {
        LOOPBACK_IFINDEX | length << 32 for length in (ECHO_BYTES, ECHO_BYTES + 14)
    }


# ---------------------------------------------------------------- what shows it


@pytest.mark.parametrize(("era", "mtu"), [("2.6.18", 16436), ("3.10", 65536), ("6.1", 65536)])
def test_its_mtu(era: str, mtu: int) -> None:
    box = Box(era)
    assert f"lo: <LOOPBACK,UP,LOWER_UP> mtu {mtu} qdisc noqueue" in box.run("ip", "link").out
    assert box.proc("/sys/class/net/lo/mtu") == f"{mtu}\n"


def test_ip_shows_it_as_the_real_one_does() -> None:
    box = Box("6.1")
    box.run("ping", "-c", "3", ME)
    for verb, name in ((("addr",), "ip-addr.txt"), (("-s", "link"), "ip-s-link.txt")):
        real = captured(f"e1000e-smp2/after20/{name}").splitlines()
        ours = box.run("ip", *verb).lines
        size = next(n for n, line in enumerate(real) if line.startswith("2:"))
        zero = [line.replace(str(6 * ECHO_BYTES), "  0").replace(" 6 ", " 0 ") for line in ours]
        assert zero[:size] == real[:size]
        assert ours[size].startswith("2: eth0")


@pytest.mark.parametrize("era", ERAS)
def test_sysfs_has_it_too(era: str) -> None:
    box = Box(era)
    box.run("ping", "-c", "1", LOCALHOST)
    folder = "/sys/class/net/lo/"
    shown = {
        "type": "772", "flags": "0x9", "ifindex": "1", "carrier": "1", "operstate": "unknown",
        "address": "00:00:00:00:00:00", "broadcast": "00:00:00:00:00:00",
        "statistics/rx_packets": "2", "statistics/tx_bytes": str(2 * ECHO_BYTES),
    }  # fmt: skip
    for name, text in shown.items():
        assert box.proc(folder + name) == text + "\n", name


@pytest.mark.parametrize("era", ERAS)
def test_taps_see_a_packet_as_it_leaves_and_as_it_comes(era: str) -> None:
    box = Box(era)
    taps = {name: box.capture(name, "-p") for name in ("lo", "any", "bond0")}
    box.run("ping", "-c", "2", "-i", "0.01", ME)
    packets = taps["lo"].packets()
    assert [packet.outgoing for packet in packets] == [True, False] * 4
    assert {packet.ifindex for packet in packets} == {LOOPBACK_IFINDEX}
    assert {packet.data[:14] for packet in packets} == {bytes(12) + b"\x08\x00"}
    of_any = [packet for packet in taps["any"].packets() if packet.ifindex == LOOPBACK_IFINDEX]
    assert [packet.data for packet in of_any] == [packet.data for packet in packets]
    assert not taps["bond0"].packets()


# ---------------------------------------------------------------- routes


@pytest.mark.parametrize("era", ERAS)
def test_the_way_to_an_own_address_is_local(era: str) -> None:
    box = Box(era)
    for address, source in ((ME, ME), ("127.9.9.9", LOCALHOST)):
        assert box.run("ip", "route", "get", address).out == (
            f"local {address} dev lo src {source} uid 0 \n    cache <local> \n"
        )
    assert "lo" not in box.run("ip", "route").out  # of the table main
    assert not box.kernel()["neighbours"]


@pytest.mark.parametrize("era", ERAS)
def test_an_address_is_there_while_its_device_is_down(era: str) -> None:
    box = Box(era)
    assert box.run("ip", "link", "set", "bond0", "down").code == 0
    assert box.run("ping", "-c", "1", ME).code == 0
    assert box.run("ping", "-c", "1", GATEWAY).code == 2  # its routes are gone
    assert box.run("ip", "link", "set", "bond0", "up").code == 0
    assert box.run("ping", "-c", "1", ME, cpu="cpu1").code == 0


@pytest.mark.parametrize("era", ERAS)
def test_lo_can_be_down_and_comes_back_on_all_cpus(era: str) -> None:
    box = Box(era)
    assert box.run("ip", "link", "set", "lo", "down").code == 0
    assert "1: lo: <LOOPBACK> mtu" in box.run("ip", "link").out
    assert "qdisc noqueue state DOWN" in box.run("ip", "link").lines[0]
    for cpu in ("cpu0", "cpu1"):
        assert box.run("ping", "-c", "1", "-W", "0.1", ME, cpu=cpu).code == 1
    assert box.drops()[("-", "QDISC_DROP")] == [0, 2, 0]
    assert box.run("ip", "link", "set", "lo", "up").code == 0
    box.live(1)  # the others hear of it by IPI
    for cpu in ("cpu0", "cpu1"):
        assert box.run("ping", "-c", "1", ME, cpu=cpu).code == 0
    assert settled(box.machine).balanced


@pytest.mark.parametrize(("era", "code"), [("2.6.18", 1), ("3.10", 1), ("6.1", 0)])
def test_a_socket_bound_to_the_bond_hears_its_own_address_since_4_14(era: str, code: int) -> None:
    box = Box(era)
    assert box.run("ping", "-c", "1", "-W", "0.1", "-I", "bond0", ME).code == code
    assert box.run("ping", "-c", "1", "-W", "0.1", "-I", "lo", LOCALHOST).code == 0
    # nobody is there: what comes through lo for another host is discarded
    assert box.run("ping", "-c", "1", "-W", "0.1", "-I", "lo", "192.168.1.5").code == 1
    assert settled(box.machine).balanced


@pytest.mark.parametrize("era", ERAS)
def test_127_does_not_leave_the_machine_nor_come_from_outside(era: str) -> None:
    box = Box(era)
    ran = box.run("ping", "-c", "1", "-I", LOCALHOST, GATEWAY)
    assert (ran.err, ran.code) == ("ping: connect: Invalid argument\n", 2)
    assert box.run("ping", "-c", "1", "-I", LOCALHOST, ME).code == 0
    wire = Wire(box)
    wire.arrive(IP(src=PEER, dst=LOCALHOST) / ICMP(type=8))
    assert box.drops()[("-", "IP_NOROUTE")] == [0, 1, 0]
    assert counters(box)["Ip InAddrErrors"] == 1


@pytest.mark.parametrize("era", ERAS)
def test_a_route_through_lo_leads_nowhere(era: str) -> None:
    box = Box(era)
    assert box.run("ip", "route", "add", "10.5.0.0/16", "dev", "lo").code == 0
    ran = box.run("ping", "-c", "1", "-W", "0.1", "10.5.1.1")
    assert (ran.err, ran.code) == ("", 1)
    assert box.drops()[("-", "NOT_SPECIFIED")] == [0, 1, 0]  # dst_discard


@pytest.mark.parametrize("era", ERAS)
def test_an_entry_lives_no_longer_than_its_packets(era: str) -> None:
    box = Box(era)
    for cpu in ("cpu0", "cpu1"):
        box.run("ping", "-c", "3", "-i", "0.01", ME, cpu=cpu)
    box.live(3000)
    held = era == "6.1"
    for name in ("cpu0", "cpu1"):
        cpu = box.machine.simulation.node(name).cpu
        assert not cpu.net.route_cache.ops.uncached
        rt = ip_route_output(cpu, bytes((127, 0, 0, 1)))
        assert rt is not None
        assert (rt.refcnt, rt.local, rt.dev.name) == (1 + held, True, "lo")


# ---------------------------------------------------------------- sockets, filters


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("cpu", ["cpu0", "cpu1"])
def test_udp_from_one_cpu_to_a_server_on_another(era: str, cpu: str) -> None:
    box = Box(era)
    box.start("udp_echo", "7", cpu="cpu0")
    box.live(10)
    # at most one frame with lo's MTU; 2.6.18's is smaller: four fragments, put together on cpu0
    ran = box.run("udp_send", "-c", "1", "-s", "60000", ME, "7", cpu=cpu)
    assert ran.lines[-1] == "1 sent, 1 received, 0 lost"
    frames = 4 if era == "2.6.18" else 1
    assert lo_row(box)[1] == 2 * frames
    assert counters(box)["Ip ReasmOKs"] == (2 if frames > 1 else 0)
    ran = box.run("udp_send", LOCALHOST, "99", cpu=cpu)
    assert ran.err == "udp_send: recv: Connection refused\n"


@pytest.mark.parametrize("era", ERAS)
def test_the_filter_sees_it_go_and_come(era: str) -> None:
    box = Box(era)
    for chain in ("OUTPUT", "INPUT"):
        assert box.run("iptables", "-A", chain, "-p", "icmp").code == 0
    box.run("ping", "-c", "1", ME)
    for chain in ("OUTPUT", "INPUT"):
        row = box.run("iptables", "-L", chain, "-v").lines[2]
        assert row.split()[:2] == ["2", str(2 * ECHO_BYTES)]


@pytest.mark.parametrize("era", ERAS)
def test_a_packet_through_lo_has_one_connection(era: str) -> None:
    box = Box(era)
    assert box.run("insmod", "nf_conntrack").code == 0
    box.run("ping", "-c", "1", ME)
    file = "/proc/net/ip_conntrack" if era == "2.6.18" else "/proc/net/nf_conntrack"
    rows = box.proc(file).splitlines()
    assert len(rows) == (0 if era == "2.6.18" else 1)  # forgotten with its last reply
    assert not [row for row in rows if "UNREPLIED" in row]
    assert settled(box.machine).balanced


# ---------------------------------------------------------------- what cannot be delivered


@pytest.mark.parametrize("era", ERAS)
def test_host_unreachable_is_a_message_to_oneself_as_captured(era: str) -> None:
    """Three requests whose neighbour does not answer: three packets of 112 bytes through lo."""
    box = Box(era)
    ran = box.run("ping", "-c", "3", "-l", "3", NOBODY)
    assert (
        ran.out.count(f"From {box.settings.name} ({ME}) icmp_seq=")
        + ran.out.count(f"From {ME} icmp_seq=")
        == 3
    )
    assert lo_row(box) == [336, 3] * 2
    found = counters(box)
    assert (found["Icmp OutDestUnreachs"], found["Icmp InDestUnreachs"]) == (3, 3)
    assert settled(box.machine).balanced


@pytest.mark.parametrize(
    ("era", "sent", "dropped"), [("2.6.18", 6, 0), ("3.10", 2, 4), ("6.1", 2, 4)]
)
def test_a_full_backlog_is_counted_by_era(era: str, sent: int, dropped: int) -> None:
    """2.6.18 counts what is sent; the drop is softnet's there, later the device's too."""

    def softnet() -> list[int]:
        return [int(word, 16) for word in box.proc("/proc/net/softnet_stat").split()[:2]]

    box = Box(era)
    box.live(100)
    processed = softnet()[0]
    box.run("ping", "-c", "1", ME)
    assert softnet() == [processed + (4 if era == "2.6.18" else 2), 0]
    assert box.run("write", "/proc/sys/net/core/netdev_max_backlog", "0\n").code == 0
    assert box.run("ping", "-c", "4", "-i", "0.01", "-W", "0.1", ME).code == 1
    assert softnet()[1] == 4
    cells = box.proc("/proc/net/dev").splitlines()[2].partition(":")[2].split()
    assert (int(cells[1]), int(cells[3])) == (sent, dropped)
    assert settled(box.machine).balanced


@pytest.mark.parametrize("era", ERAS)
def test_ethtool_knows_no_more_of_it_than_its_link(era: str) -> None:
    box = Box(era)
    assert box.run("ethtool", "lo").out == "Settings for lo:\n\tLink detected: yes\n"
    ran = box.run("ethtool", "-i", "lo")
    assert ran.err == "Cannot get driver information: Operation not supported\n"
