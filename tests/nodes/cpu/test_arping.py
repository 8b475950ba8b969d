"""arping of the emulated machine. Texts and exit codes are what iputils 20221126 printed in a
namespace behind a TAP uplink, with the same options; times are those of virtual time."""

from __future__ import annotations

import re

import pytest

from nodes.cpu.programs.arpingargs import USAGE
from orchestrator.ledger import settled
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box, Ran

ME, NOBODY = "192.168.1.10", "192.168.1.9"
GATEWAY_MAC = "02:00:00:00:00:01"
BOND_MAC = "00:1b:21:00:00:01"


def sent(ran: Ran) -> tuple[int, int, int]:
    """Probes, broadcasts among them, responses."""
    found = re.search(r"Sent (\d+) probes \((\d+) b.*\nReceived (\d+) response\(s\)\n$", ran.out)
    assert found, ran.out
    return int(found[1]), int(found[2]), int(found[3])


@pytest.mark.parametrize("era", ERAS)
def test_the_first_request_is_broadcast_and_the_next_goes_to_who_answered(era: str) -> None:
    box = Box(era)
    tap = box.capture("bond0")
    ran = box.run("arping", "-c", "2", GATEWAY)
    line = rf"Unicast reply from {GATEWAY} \[{GATEWAY_MAC}\]  \d+\.\d{{3}}ms"
    assert ran.lines[0] == f"ARPING {GATEWAY} from {ME} bond0"
    assert re.fullmatch(line, ran.lines[1])
    assert re.fullmatch(line, ran.lines[2])
    assert ran.lines[3:] == ["Sent 2 probes (1 broadcast(s))", "Received 2 response(s)"]
    assert ran.code == 0
    assert ran.err == ""
    requests = [p.data for p in tap.packets() if p.outgoing]
    assert [frame[:6].hex(":").upper() for frame in requests] == ["FF:FF:FF:FF:FF:FF", GATEWAY_MAC]
    assert requests[1][32:38].hex(":").upper() == GATEWAY_MAC  # ar_tha


def test_a_time_is_half_a_millisecond_too_long_as_iputils_prints_it() -> None:
    box = Box()
    tap = box.capture("bond0")
    ran = box.run("arping", "-f", GATEWAY)
    ms = float(ran.lines[1].split()[-1].removesuffix("ms"))
    assert 0.5 < ms < 1.0
    request, reply = tap.packets()
    assert (reply.time_ns - request.time_ns) / 1e6 == pytest.approx(ms - 0.5, abs=0.02)


@pytest.mark.parametrize(
    ("options", "counts", "code"),
    [
        (("-b", "-c", "2", GATEWAY), (2, 2, 2), 0),
        (("-f", "-w", "3", GATEWAY), (1, 1, 1), 0),
        (("-w", "3", "-c", "2", GATEWAY), (2, 1, 2), 0),
        (("-w", "2", "-c", "5", GATEWAY), (3, 1, 2), 1),
        (("-w", "2", "-i", "2", GATEWAY), (2, 1, 1), 0),
        (("-w", "2", "-i", "0", "-c", "1", GATEWAY), (1, 1, 1), 0),
        (("-c", "1", "-s", ME, GATEWAY), (1, 1, 1), 0),
        (("-w", "2", NOBODY), (3, 3, 0), 1),
        (("-c", "2", NOBODY), (2, 2, 0), 1),
        (("-D", "-c", "1", GATEWAY), (1, 1, 1), 1),
        (("-D", "-c", "1", "-s", ME, GATEWAY), (1, 1, 1), 1),
        (("-D", "-c", "1", NOBODY), (1, 1, 0), 0),
        (("-U", "-c", "3", "-I", "bond0", ME), (3, 3, 0), 0),
        (("-A", "-c", "1", "-I", "bond0", ME), (1, 1, 0), 0),
        (("-c", "1", "-I", "bond0", "8.8.8.8"), (1, 1, 0), 1),
    ],
)
def test_what_is_counted_and_the_exit_code(
    options: tuple[str, ...], counts: tuple[int, int, int], code: int
) -> None:
    box = Box()
    ran = box.run("arping", *options)
    assert (sent(ran), ran.code) == (counts, code)
    ledger = settled(box.machine)
    assert ledger.balanced, ledger.text()


def test_duplicate_address_detection_asks_without_an_address_of_its_own() -> None:
    box = Box()
    tap = box.capture("bond0")
    ran = box.run("arping", "-D", "-c", "1", GATEWAY)
    assert ran.lines[0] == f"ARPING {GATEWAY} from 0.0.0.0 bond0"
    assert ran.lines[1].startswith(f"Unicast reply from {GATEWAY} [{GATEWAY_MAC}]  ")
    request = tap.packets()[0].data
    assert (request[21], request[28:32]) == (1, bytes(4))


@pytest.mark.parametrize(("option", "operation"), [("-U", 1), ("-A", 2)])
def test_an_address_is_told_by_hand_as_a_request_or_a_reply(option: str, operation: int) -> None:
    box = Box()
    tap = box.capture("bond0")
    before = box.now_s
    box.run("arping", option, "-c", "2", "-I", "bond0", ME)
    assert 1 <= box.now_s - before < 1.1  # it ends at the last one
    for packet in tap.packets():
        frame = packet.data
        assert frame[:6] == b"\xff" * 6
        assert frame[21] == operation
        assert frame[28:32] == frame[38:42] == bytes((192, 168, 1, 10))
        assert frame[22:28].hex(":") == BOND_MAC
        assert frame[32:38] == (frame[22:28] if option == "-A" else b"\xff" * 6)


@pytest.mark.parametrize(
    ("words", "stdout", "stderr", "code"),
    [
        ((), "", USAGE, 2),
        (("-h",), "", USAGE, 2),
        (("a", "b"), "", USAGE, 2),
        (("-z",), "", f"arping: invalid option -- 'z'\n{USAGE}", 2),
        (("-c",), "", f"arping: option requires an argument -- 'c'\n{USAGE}", 2),
        (("-c", "0", GATEWAY), "",
         "arping: invalid argument: '0': out of range: 1 <= value <= 2147483647", 1),
        (("-c", "x", GATEWAY), "", "arping: invalid argument: 'x'", 1),
        (("-w", "-1", GATEWAY), "",
         "arping: invalid argument: '-1': out of range: 0 <= value <= 2147483647", 1),
        (("-c", "9" * 23, GATEWAY), "",
         f"arping: invalid argument: '{'9' * 23}': Numerical result out of range", 1),
        (("--", "-c"), "", "arping: -c: Name or service not known", 2),
        (("nosuch",), "", "arping: nosuch: Name or service not known", 2),
        (("-I", "nope", GATEWAY), "", "arping: Device nope not available.", 2),
        (("-s", "zz", GATEWAY), "", "arping: invalid source zz", 2),
        (("-s", "192.168.1.77", GATEWAY), "", "arping: bind: Cannot assign requested address", 2),
        (("-U", "-I", "bond0", GATEWAY), "",
         "arping: bind: Cannot assign requested address", 2),
        ((ME,), 'Interface "lo" is not ARPable', "", 2),
        (("-D", "-I", "lo", ME), 'Interface "lo" is not ARPable', "", 0),
        (("-q", "-I", "lo", ME), "", "", 2),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_iputils_words(
    words: tuple[str, ...], stdout: str, stderr: str, code: int
) -> None:
    ran = Box().run("arping", *words)
    assert (ran.out.rstrip("\n"), ran.err.rstrip("\n"), ran.code) == (
        stdout, stderr.rstrip("\n"), code,
    )  # fmt: skip


def test_without_a_route_a_device_must_be_given() -> None:
    box = Box()
    assert box.run("ip", "route", "del", "default").code == 0
    ran = box.run("arping", "8.8.8.8")
    assert (ran.err, ran.code) == ("arping: NETLINK_ROUTE unexpected iov element\n", 1)
    ran = box.run("arping", "-c", "1", "-I", "bond0", "8.8.8.8")
    assert ran.lines[0] == f"ARPING 8.8.8.8 from {ME} bond0"  # taken to be on the link


def test_quiet_says_nothing_and_sigint_still_sums_up() -> None:
    box = Box()
    quiet = box.run("arping", "-q", "-c", "1", GATEWAY)
    assert (quiet.out, quiet.code) == ("", 0)
    job = box.start("arping", "-b", GATEWAY)
    box.live(2500)
    ran = box.interrupt(job)
    assert (sent(ran), ran.code) == ((3, 3, 3), 0)


def test_a_device_that_goes_down_ends_it() -> None:
    box = Box()
    job = box.start("arping", GATEWAY)
    box.live(1500)
    assert box.run("ip", "link", "set", "bond0", "down").code == 0
    ran = box.end(job, 10)
    assert (ran.err, ran.code) == ("arping: recvfrom: Network is down\n", 2)
    assert sent(ran) == (2, 1, 2)
    ran = box.run("arping", "-I", "bond0", GATEWAY)
    assert (ran.out, ran.code) == ('Interface "bond0" is down\n', 2)


def test_it_runs_on_any_cpu_and_moves_with_one_that_goes_offline() -> None:
    box = Box(cpus=2)
    job = box.start("arping", "-c", "4", GATEWAY, cpu="cpu1")
    box.live(1500)
    assert box.run("chcpu", "-d", "1").code == 0
    ran = box.end(job)
    assert (sent(ran), ran.code) == ((4, 1, 4), 0)


@pytest.mark.parametrize("era", ERAS)
def test_on_a_slave_it_hears_what_the_era_lets_a_slaves_socket_hear(era: str) -> None:
    """2.6.18 rewrites the frame's device to the bond before any socket is asked; later kernels
    match the device that it came by too."""
    box = Box(era, primary="eth0")
    ran = box.run("arping", "-c", "1", "-I", "eth0", GATEWAY)
    assert ran.lines[0] == f"ARPING {GATEWAY} from {ME} eth0"
    heard = era != "2.6.18"
    assert sent(ran) == (1, 1, int(heard))
    assert ran.code == int(not heard)
