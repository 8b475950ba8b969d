"""The folder of a run: every file in it is what it says, for tools that are not ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

from orchestrator.configuration import config
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.scenarios.report import Report


def five_pings(directory: Path, era: str) -> Report:
    machine = SimulatedMachine(config.load(era=era)._replace(name="m1"), seed=1)
    assert wait_until_ready(machine)
    report = Report(directory)
    report.begin(machine)
    job = machine.spawn("cpu0", ("ping", "-c", "5", "-i", "0.05", "192.168.1.1"))
    while not job.done:
        machine.pump(machine.now_ns() + 20_000_000)
        report.pull()
    machine.pump(machine.now_ns() + 10_000_000)
    report.end([])
    return report


def icmp_types(path: Path) -> list[int]:
    return [packet[ICMP].type for packet in rdpcap(str(path)) if ICMP in packet]


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    five_pings(directory, "6.1")
    return directory


def test_on_6_1_slave_and_bond_see_both_directions(modern: Path):
    assert icmp_types(modern / "bond0.pcap") == [8, 0] * 5
    assert icmp_types(modern / "eth0.pcap") == [8, 0] * 5
    assert icmp_types(modern / "eth1.pcap") == []


def test_on_2_6_18_the_slave_sees_only_requests(tmp_path: Path):
    five_pings(tmp_path, "2.6.18")
    assert icmp_types(tmp_path / "bond0.pcap") == [8, 0] * 5
    assert icmp_types(tmp_path / "eth0.pcap") == [8] * 5
    assert icmp_types(tmp_path / "eth1.pcap") == []


def test_every_checksum_is_right(modern: Path):
    for packet in rdpcap(str(modern / "bond0.pcap")):
        if IP not in packet:
            continue
        again = Ether(bytes(packet))
        del again[IP].chksum, again[ICMP].chksum
        assert bytes(again.__class__(bytes(again))) == bytes(packet)


@pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark here")
def test_tshark_reads_the_captures(modern: Path):
    done = subprocess.run(
        [
            *("tshark", "-r", str(modern / "eth0.pcap"), "-Y", "icmp", "-T", "fields"),
            *("-e", "icmp.checksum.status", "-e", "icmp.seq"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split("\t") for line in done.stdout.splitlines()] == [
        ["1", str(n)] for n in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    ]


def test_proc_before_and_after_show_what_moved(modern: Path):
    before = (modern / "before/proc/interrupts").read_text()
    after = (modern / "after/proc/interrupts").read_text()
    assert before.splitlines()[0] == after.splitlines()[0]
    assert before != after
    assert "Currently Active Slave: eth0" in (modern / "after/proc/net/bonding/bond0").read_text()


def test_machine_of_the_report_is_a_machine_file(modern: Path):
    assert config.load(str(modern / "machine.toml")).nic_names == ("eth0", "eth1")


def test_result_is_kept_as_json_and_text(tmp_path: Path):
    report = Report(tmp_path)
    report.keep_result({"passed": True}, "a sentence\n")
    assert json.loads((tmp_path / "result.json").read_text()) == {"passed": True}
    assert (tmp_path / "result.txt").read_text() == "a sentence\n"
