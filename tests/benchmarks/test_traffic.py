"""UDP each way and floods of two CPUs: small ones on real processes, the frame, the sums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from benchmarks.floods import addresses_by_queue, two_cpus
from benchmarks.machines import machine_settings
from benchmarks.run import snapshot
from benchmarks.udp import frames_in_per_s, frames_out_per_s, udp_frame
from nodes.cpu.page import CPU_SCHEMA
from nodes.lan.page import LAN_SCHEMA
from orchestrator.machines.processes import ProcessMachine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[ProcessMachine]:
    made = ProcessMachine(machine_settings("traffic", 2), base=tmp_path, seed="1")
    yield made
    made.close()


def test_the_frame_is_a_datagram() -> None:
    packet = Ether(udp_frame(b"\2" * 6, ("192.168.1.1", 9), ("192.168.1.10", 40000), 64))
    assert (packet[UDP].sport, packet[UDP].dport, len(packet[UDP].payload)) == (9, 40000, 64)
    told = packet[IP].chksum
    del packet[IP].chksum
    assert Ether(bytes(packet))[IP].chksum == told


def test_traffic_goes_where_the_figures_say(machine: ProcessMachine) -> None:
    near, far = addresses_by_queue(machine)
    assert near != far
    lan = machine.ram.page("lan", LAN_SCHEMA)

    rate, lost = frames_out_per_s(machine, near, 300)
    assert rate > 0
    assert lan["gw_udp_discarded"] == round(300 * (1 - lost))

    polled = sum(machine.ram.page(n, CPU_SCHEMA).run("softnet")[0] for n in ("cpu0", "cpu1"))
    assert frames_in_per_s(machine, near, lambda what: snapshot(machine, what), 300) > 0
    after = sum(machine.ram.page(n, CPU_SCHEMA).run("softnet")[0] for n in ("cpu0", "cpu1"))
    assert after - polled >= 300

    handed = machine.ram.page("cpu1", CPU_SCHEMA).run("handover_out")[2]
    figures = two_cpus(machine, near, far, 200)
    assert machine.ram.page("cpu1", CPU_SCHEMA).run("handover_out")[2] == handed
    ratio = figures["two_cpus_pings_per_s"] / figures["one_cpu_pings_per_s"]
    assert figures["two_cpus_ratio"] == pytest.approx(ratio)
