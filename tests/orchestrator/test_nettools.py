"""sar, netstat and date: formats of sysstat and net-tools, in virtual time."""

from __future__ import annotations

import pytest

from orchestrator import verbs
from orchestrator.errors import BottomhalfError
from orchestrator.session import Session, drive
from orchestrator.views import sar
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box


def say(box: Box, line: str) -> list[str]:
    """A command line at the machine's prompt; what it printed."""
    out: list[str] = []
    session = Session(box.machine, out=out.append, err=out.append)
    argv = line.split()
    assert drive(session, verbs.load(verbs.lookup(argv[0]))(session, argv[1:])) == 0
    return "".join(out).splitlines()


TITLES = {
    "2.6.18": "IFACE rxpck/s txpck/s rxbyt/s txbyt/s rxcmp/s txcmp/s rxmcst/s",
    "3.10": "IFACE rxpck/s txpck/s rxkB/s txkB/s rxcmp/s txcmp/s rxmcst/s",
    "6.1": "IFACE rxpck/s txpck/s rxkB/s txkB/s rxcmp/s txcmp/s rxmcst/s %ifutil",
}


@pytest.mark.conformance("N5.5")
@pytest.mark.parametrize("era", ERAS)
def test_a_hundred_echoes_a_second_of_98_bytes(era: str) -> None:
    box = Box(era, primary="eth0")
    box.ping("-c", "1")
    box.start("ping", "-q", "-i", "0.01", GATEWAY)
    box.live(1005 - (box.now_s * 1000) % 10)
    lines = say(box, "sar -n DEV 1 2")
    assert lines[0].startswith(f"Linux {era}")
    titles = lines[2].split()
    assert " ".join(titles[1:]) == TITLES[era]
    row = next(line for line in lines[3:] if " eth0 " in line)
    assert row[:8] == "00:00:03" or row[2] == ":"
    octets = "9800.00" if era == "2.6.18" else "9.57"
    assert row.split()[2:] == ["100.00", "100.00", octets, octets, "0.00", "0.00", "0.00"] + (
        ["0.00"] if era == "6.1" else []
    )
    assert lines[2].index("rxpck/s") + 7 == row.index("100.00") + 6  # columns stand below titles
    assert [line.split()[1] for line in lines if line.startswith("Average:")] == [
        "IFACE", "lo", "eth0", "eth1", "bond0",
    ]  # fmt: skip


def test_share_of_the_line_and_devices_that_come_anew() -> None:
    zero = sar.Reading(0, {"eth0": [0] * 16}, {"eth0": 10_000})
    full = [125_000_000 * 5, 0, 0, 0, 0, 0, 0, 0, 125_000_000, 0, 0, 0, 0, 0, 0, 0]
    later = sar.Reading(1_000_000_000, {"eth0": full, "eth9": full}, {"eth0": 10_000})
    rows = sar.table("12", "x", zero, later).splitlines()
    assert rows[0].split()[-1] == "50.00"
    assert rows[1].split()[-1] == "0.00"  # nobody knows its speed
    again = sar.Reading(2_000_000_000, {"eth0": [10] * 16}, {"eth0": 10_000})
    assert sar.table("10", "x", later, again).split()[2:4] == ["10.00", "10.00"]


def test_who_listens_and_which_program_it_is() -> None:
    box = Box()
    box.start("udp_echo", "7")
    box.start("udp_echo", "-s", "192.168.1.10", "5353", cpu="cpu1")
    box.start("udp_send", "-w", "100", "-c", "1", GATEWAY, "9")
    box.live(20)
    lines = say(box, "netstat -lunp")
    assert lines[0] == "Active Internet connections (only servers)"
    assert lines[1] == (
        "Proto Recv-Q Send-Q Local Address           Foreign Address         State       "
        "PID/Program name    "
    )
    assert [line.split()[3:5] for line in lines[2:]] == [
        ["0.0.0.0:7", "0.0.0.0:*"],
        ["192.168.1.10:5353", "0.0.0.0:*"],
    ]
    assert lines[2].rstrip().endswith("/udp_echo")
    (row,) = [line for line in say(box, "netstat -un") if line.startswith("udp")]
    assert row.split()[4:] == ["192.168.1.1:9", "ESTABLISHED"]
    assert len(say(box, "netstat -una")) == 5


def test_the_sockets_of_ping_are_raw() -> None:
    box = Box()
    box.start("ping", "-q", GATEWAY)
    box.live(20)
    (row,) = [line for line in say(box, "netstat -wln") if line.startswith("raw")]
    assert row.split() == ["raw", "0", "0", "0.0.0.0:1", "0.0.0.0:*", "7"]


def test_the_table_of_interfaces() -> None:
    box = Box(primary="eth0")
    box.ping("-c", "3", "-i", "0.01")
    box.live(100)
    lines = say(box, "netstat -i")
    assert lines[:2] == [
        "Kernel Interface table",
        "Iface             MTU    RX-OK RX-ERR RX-DRP RX-OVR    TX-OK TX-ERR TX-DRP TX-OVR Flg",
    ]
    rows = {line.split()[0]: line.split() for line in lines[2:]}
    assert {name: row[-1] for name, row in rows.items()} == {
        "bond0": "BMmRU", "eth0": "BMsRU", "eth1": "BMsRU", "lo": "LRU",
    }  # fmt: skip
    assert all(len(line) == len(lines[2]) - 5 + len(line.split()[-1]) for line in lines[2:])


@pytest.mark.parametrize("era", ERAS)
def test_proc_net_udp_has_the_kernels_columns(era: str) -> None:
    box = Box(era)
    assert all(len(line) == 127 for line in box.proc("/proc/net/udp").splitlines())
    box.start("udp_echo", "-s", "192.168.1.10", "4096")
    box.live(10)
    row = box.proc("/proc/net/udp").splitlines()[1]
    assert len(row) == 127
    fields = row.split()
    assert fields[1:4] == ["0A01A8C0:1000", "00000000:0000", "07"]
    assert len(fields) == (12 if era == "2.6.18" else 13)


def test_the_simulation_lives_in_1970() -> None:
    box = Box()
    (line,) = say(box, "date")
    assert line.startswith("Thu Jan  1 00:00:0")
    assert line.endswith(" UTC 1970")
    assert say(box, "date +%Y-%m-%d") == ["1970-01-01"]
    assert say(box, "date -u")[0].endswith(" UTC 1970")
    box.live(1.5)
    now_ns = box.machine.now_ns() - box.machine.ram.boot_ns
    assert say(box, "date +%s.%N,%%N") == [f"{now_ns // 10**9}.{now_ns % 10**9:09},%N"]


@pytest.fixture(scope="module")
def shared() -> Box:
    return Box()


@pytest.mark.parametrize(
    ("line", "what", "code"),
    [
        ("sar", "only -n DEV is modelled, the network devices", 2),
        ("sar 1 5", "only -n DEV is modelled", 2),
        ("sar -u 1", "only -n DEV is modelled", 2),
        ("sar -n TCP 1", "only -n DEV is modelled", 2),
        ("sar -n DEV", "an interval in seconds is missing", 2),
        ("sar -n DEV x", "`x` is not an interval: a whole number from 1", 1),
        ("sar -n DEV 0.2 1", "`0.2` is not an interval", 1),
        ("sar -n DEV 1 0", "`0` is not a count", 1),
        ("sar -n DEV 1 1 1", "`1` is one word too many", 1),
        ("sar -n", "`-n` is no option of sar", 1),
        ("sar -n FOO 1", "`-n FOO` is no option of sar", 1),
        ("sar --foo", "`--foo` is no option of sar", 1),
        ("sar foo", "`foo` is no option of sar", 1),
        ("netstat -r", "`-r` is not modelled", 2),
        ("netstat -l --route", "`--route` is not modelled", 2),
        ("netstat -lq", "invalid option -- 'q'", 3),
        ("netstat --foo", "unrecognized option '--foo'", 3),
        ("date -s x", "setting the time is not modelled", 2),
        ("date 010112002030", "setting the time is not modelled", 2),
        ("date -R", "`-R` is not modelled", 2),
        ("date foo", "invalid date 'foo'", 1),
        ("date +%s +%N", "extra operand '+%N'", 1),
        ("date -Z", "invalid option -- 'Z'", 1),
        ("date --foo", "unrecognized option '--foo'", 1),
    ],
)
def test_wrong_words_end_with_the_tools_own_codes_and_what_is_not_modelled_with_2(
    shared: Box, line: str, what: str, code: int
) -> None:
    with pytest.raises(BottomhalfError) as caught:
        say(shared, line)
    error = caught.value
    assert (error.program, error.code) == (line.split(maxsplit=1)[0], code)
    assert what in error.what
    assert error.text(terminal=False).count("\n") == 1


def test_netstat_looks_at_options_alone(shared: Box) -> None:
    assert say(shared, "netstat foo --udp -n") == say(shared, "netstat -un")


def test_lo_is_first_in_sar_and_netstat_and_tcpdump_prints_its_packets_once() -> None:
    box = Box()
    box.start("ping", "-i", "0.1", "192.168.1.10")
    box.live(1005 - (box.now_s * 1000) % 10)
    row = next(line for line in say(box, "sar -n DEV 1 1") if " lo " in line)
    assert row.split()[2:6] == ["20.00", "20.00", "1.64", "1.64"]
    rows = say(box, "netstat -i")
    (row,) = [line for line in rows if line.startswith("lo ")]
    assert row.split()[1] == "65536"
    assert row.split()[-1] == "LRU"
    for device, before in (("lo", ""), ("any", "lo    In  ")):
        lines = say(box, f"tcpdump -n -i {device} -c 4 icmp")
        packets = [line for line in lines if " ICMP " in line]
        assert [line.split(", ")[0].split(" ", 1)[1] for line in packets] == [
            f"{before}IP 192.168.1.10 > 192.168.1.10: ICMP echo {kind}"
            for kind in ("request", "reply")
        ] * 2
        assert "4 packets captured" in lines
        assert "8 packets received by filter" in lines
