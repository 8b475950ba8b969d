"""The interrupt controller as a node: routing, copies, IPIs, losses by name, any input survived."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages import (
    EthFrame,
    IcrWrite,
    Interrupt,
    IntxMessage,
    LocalApicId,
    MemRead,
    MemWrite,
    MsiWrite,
    PeerBack,
    PeerLost,
    Reply,
    Snapshot,
)
from bus.recorder import ALL_EVENTS, Recorder
from nodes.apic import trace
from nodes.apic.node import ApicNode
from nodes.apic.page import IPI_DROPS, MSI_DROPS
from tests.nodes.harness import Bench, machine


def bench(cpus: int = 4) -> Bench:
    settings = machine(cpus)
    return Bench(settings, "apic", lambda around: ApicNode(around, settings))


def balanced(apic: Bench) -> None:
    """The sums that the page promises."""
    page = apic.page
    for kind, drops in (("msi", MSI_DROPS), ("ipi", IPI_DROPS)):
        entered = sum(page.run(f"{kind}_in"))
        ended = sum(page.run(f"{kind}_routed")) + sum(page[name] for name in drops)
        assert entered + page[f"{kind}_copies"] == ended


def msi(apic: Bench, address: int, data: int, sender: str = "eth0") -> list[tuple[str, Any]]:
    return apic.give((sender, MsiWrite(address, data)))


def test_flat_logical_message_of_linux_goes_to_its_cpu() -> None:
    apic = bench()
    for cpu in range(4):
        said = msi(apic, 0xFEE00004 | (1 << cpu) << 12, 0x22 + cpu)
        assert said == [(f"cpu{cpu}", Interrupt(0x22 + cpu, 0, 0))]
    assert apic.page.run("msi_routed")[:4] == [1, 1, 1, 1]


def test_physical_message_reaches_cpus_beyond_the_flat_ones() -> None:
    apic = bench(cpus=32)
    assert msi(apic, 0xFEE00000 | 31 << 12, 0x30) == [("cpu31", Interrupt(0x30, 0, 0))]
    assert msi(apic, 0xFEE00000 | 32 << 12, 0x30) == []
    assert apic.page["msi_drop_no_target"] == 1


@pytest.mark.conformance("A5-3")
def test_nmi_is_an_nmi_whatever_the_vector() -> None:
    apic = bench()
    assert msi(apic, 0xFEE01000, 0x0433) == [("cpu1", Interrupt(0x33, 4, 0))]


@pytest.mark.conformance("A6.13-1")
@pytest.mark.conformance("A6.13-2")
def test_lowest_priority_picks_one_and_fixed_copies_to_all() -> None:
    apic = bench()
    targets = []
    for _ in range(9):
        said = msi(apic, 0xFEE0700C, 0x0161)
        assert [m for _, m in said] == [Interrupt(0x61, 0, 0)]
        targets.append(said[0][0])
    assert sorted(targets) == ["cpu0"] * 3 + ["cpu1"] * 3 + ["cpu2"] * 3
    said = msi(apic, 0xFEE07004, 0x61)
    assert [peer for peer, _ in said] == ["cpu0", "cpu1", "cpu2"]
    assert apic.page["msi_copies"] == 2
    balanced(apic)


def test_broadcast_reaches_everybody() -> None:
    apic = bench()
    assert [p for p, _ in msi(apic, 0xFEEFF000, 0x81)] == ["cpu0", "cpu1", "cpu2", "cpu3"]


def test_messages_are_counted_by_source_and_reason() -> None:
    apic = bench()
    msi(apic, 0xFEE00000, 0x41)
    msi(apic, 0xFEE00010, 0x41, "eth1")
    msi(apic, 0xFEE00010, 0x41, "eth1")
    msi(apic, 0xFEE00000, 0x41, "cpu1")
    assert apic.page.run("msi_in") == [1, 2, 0, 0, 0, 0, 0, 0, 1]
    assert apic.page["msi_drop_remappable"] == 2
    assert apic.page.run("vectors")[0x41] == 2
    balanced(apic)


# -- IPIs


def icr(apic: Bench, value: int, sender: str = "cpu1") -> list[tuple[str, Any]]:
    return apic.give((sender, IcrWrite(value)))


@pytest.mark.conformance("A6.11-4")
def test_all_excluding_self() -> None:
    apic = bench()
    said = icr(apic, 0xFB | 3 << 18)
    assert said == [(f"cpu{n}", Interrupt(0xFB, 0, 0)) for n in (0, 2, 3)]
    assert apic.page.run("ipi_in")[:4] == [0, 1, 0, 0]
    assert apic.page.run("ipi_routed")[:4] == [1, 0, 1, 1]
    assert apic.page["ipi_fixed"] == 3
    balanced(apic)


def test_self_and_all_including_self() -> None:
    apic = bench()
    assert icr(apic, 0xF6 | 1 << 18 | 3 << 56) == [("cpu1", Interrupt(0xF6, 0, 0))]
    assert len(icr(apic, 0xF6 | 2 << 18)) == 4


@pytest.mark.conformance("A6.11-2")
def test_startup_sequence_carries_its_page() -> None:
    apic = bench()
    assert icr(apic, 0xC500 | 1 << 56, "cpu0") == [("cpu1", Interrupt(0, 5, 0))]
    assert icr(apic, 0x8500 | 1 << 56, "cpu0") == []
    assert icr(apic, 0x0607 | 1 << 56, "cpu0") == [("cpu1", Interrupt(7, 6, 0))]
    page = apic.page
    assert (page["ipi_init"], page["ipi_startup"], page["ipi_drop_deassert"]) == (1, 1, 1)
    balanced(apic)


def test_lowest_priority_ipi_goes_to_one() -> None:
    apic = bench()
    said = icr(apic, 0x140 | 1 << 11 | 0b1100 << 56) + icr(apic, 0x140 | 1 << 11 | 0b1100 << 56)
    assert said == [("cpu2", Interrupt(0x40, 0, 0)), ("cpu3", Interrupt(0x40, 0, 0))]
    assert apic.page["ipi_lowest"] == 2
    balanced(apic)


def test_fixed_ipis_are_edge_whatever_the_level_bits_say() -> None:
    apic = bench()
    assert icr(apic, 0xC040 | 2 << 56) == [("cpu2", Interrupt(0x40, 0, 0))]


@pytest.mark.conformance("A6.9-1")
def test_illegal_vector_is_not_sent() -> None:
    apic = bench()
    assert icr(apic, 0x0F | 2 << 56) == []
    assert apic.page["ipi_drop_vector"] == 1


def test_icr_of_somebody_who_is_no_cpu_means_nothing() -> None:
    apic = bench()
    assert icr(apic, 0x40, "eth0") == []
    assert apic.page["unexpected"] == 1


# -- how messages find a local APIC


def learn(apic: Bench, cpu: int, *, ldr: int, flat: int = 1, x2: int = 0, enabled: int = 1) -> None:
    assert apic.give((f"cpu{cpu}", LocalApicId(cpu, ldr, flat, x2, enabled))) == []


def reached(said: list[tuple[str, Any]]) -> list[str]:
    return [peer for peer, _ in said]


def test_flat_destinations_follow_the_ldr_that_software_wrote() -> None:
    apic = bench()
    assert reached(msi(apic, 0xFEE01004, 0x41)) == ["cpu0"]
    learn(apic, 0, ldr=0x80 << 24)
    learn(apic, 3, ldr=0x01 << 24)
    assert reached(msi(apic, 0xFEE01004, 0x41)) == ["cpu3"]
    assert reached(msi(apic, 0xFEE80004, 0x41)) == ["cpu0"]


def test_cluster_destinations() -> None:
    """CPUs 0 and 1 in cluster 0, 2 and 3 in cluster 1."""
    apic = bench()
    for cpu in range(4):
        learn(apic, cpu, ldr=(cpu // 2 << 4 | 1 << cpu % 2) << 24, flat=0)
    assert reached(msi(apic, 0xFEE02004, 0x41)) == ["cpu1"]
    assert reached(msi(apic, 0xFEE13004, 0x41)) == ["cpu2", "cpu3"]
    assert reached(msi(apic, 0xFEEF1004, 0x41)) == ["cpu0", "cpu2"]
    assert reached(msi(apic, 0xFEEFF004, 0x41)) == ["cpu0", "cpu1", "cpu2", "cpu3"]
    assert reached(msi(apic, 0xFEE14004, 0x41)) == []
    assert apic.page["msi_drop_no_target"] == 1
    balanced(apic)


def test_an_ldr_of_zero_is_never_matched() -> None:
    apic = bench()
    learn(apic, 1, ldr=0)
    assert reached(msi(apic, 0xFEEFF004, 0x41)) == ["cpu0", "cpu2", "cpu3"]


def test_lowest_priority_passes_over_those_whom_software_disabled() -> None:
    apic = bench()
    learn(apic, 0, ldr=1 << 24, enabled=0)
    said = [msi(apic, 0xFEE0300C, 0x0161) for _ in range(3)]
    assert [reached(each) for each in said] == [["cpu1"]] * 3
    learn(apic, 1, ldr=2 << 24, enabled=0)
    assert msi(apic, 0xFEE0300C, 0x0161) == []
    assert reached(msi(apic, 0xFEE0300C & ~8, 0x61)) == ["cpu0", "cpu1"]
    balanced(apic)


def test_an_x2apic_is_sent_32_bit_destinations_and_found_by_8_bits_too() -> None:
    apic = bench(cpus=20)
    for cpu in range(20):
        learn(apic, cpu, ldr=cpu >> 4 << 16 | 1 << (cpu & 15), flat=0, x2=1)
    assert reached(icr(apic, 0x40 | 17 << 32)) == ["cpu17"]
    assert reached(icr(apic, 0x40 | 1 << 11 | 0x1_0006 << 32)) == ["cpu17", "cpu18"]
    assert len(icr(apic, 0x40 | 0xFFFF_FFFF << 32)) == 20
    assert icr(apic, 0x40 | 0xFF << 32) == []
    assert reached(msi(apic, 0xFEE13000, 0x41)) == ["cpu19"]
    assert reached(msi(apic, 0xFEE06004, 0x41)) == ["cpu1", "cpu2"]
    balanced(apic)


def test_smi_init_and_extint_are_passed_on() -> None:
    apic = bench()
    for mode in (2, 5, 7):
        assert msi(apic, 0xFEE01000, mode << 8) == [("cpu1", Interrupt(0, mode, 0))]
    assert icr(apic, 0x200 | 2 << 56) == [("cpu2", Interrupt(0, 2, 0))]
    balanced(apic)


# -- losses, looks, garbage


def test_what_a_dead_cpu_does_not_take_is_named() -> None:
    apic = bench()
    apic.node.undelivered("cpu2", [Interrupt(0x41, 0, 0)] * 3, True)
    apic.node.undelivered("cpu1", [Interrupt(0x41, 0, 0)], False)
    apic.node.undelivered("ctl", [Reply(1, 1, b"")], True)
    assert apic.page.run("lost_dead")[:4] == [0, 0, 3, 0]
    assert apic.page.run("lost_full")[:4] == [0, 1, 0, 0]


def test_last_rows_and_routing_table() -> None:
    apic = bench()
    for _ in range(3):
        msi(apic, 0xFEE01000, 0x22)
    icr(apic, 0xFD | 2 << 56, "cpu0")
    rows = apic.page.run("last")
    assert apic.page["last_count"] == 4
    assert rows[0] == apic.clock.ns
    assert rows[1] == 0 | 1 << 16 | 0x22 << 32
    assert rows[7] == 64 | 2 << 16 | 0xFD << 32
    ((_, reply),) = apic.give(("ctl", Snapshot(1, "state")))
    assert msgpack.unpackb(reply.value)["table"] == [["eth0", 0x22, 1, 3], ["cpu0", 0xFD, 2, 1]]


def test_trace_of_a_message() -> None:
    apic = bench()
    recorder = Recorder(apic.ram.recorder_words("apic"))
    recorder.mask = ALL_EVENTS
    msi(apic, 0xFEE01000, 0x22)
    msi(apic, 0xFEE01010, 0x22)
    records = recorder.read()[0]
    assert [r.event for r in records] == [trace.MSI, trace.ROUTE, trace.MSI, trace.DROP]
    assert (records[0].a, records[0].b) == (0xFEE01000, 0x22)
    assert (records[1].a, records[1].b) == (0x22, 1)


MESSAGES = st.one_of(
    st.builds(
        MsiWrite,
        st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0xFEE00000, 0xFEEFFFFF)),
        st.integers(0, 0xFFFFFFFF),
    ),
    st.builds(IcrWrite, st.integers(0, (1 << 64) - 1)),
    st.builds(MemRead, st.just(1), st.integers(0, 1), st.sampled_from([0, 0x10, 0x40])),
    st.builds(MemWrite, st.just(0), st.sampled_from([0, 0x10, 0x40]), st.integers(0, 0xFFFFFFFF)),
    st.builds(IntxMessage, st.integers(1, 4), st.integers(0, 1)),
    st.builds(
        LocalApicId,
        st.integers(0, 3),
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 1),
        st.integers(0, 1),
        st.integers(0, 1),
    ),
    st.builds(EthFrame, st.binary(max_size=8)),
    st.builds(Snapshot, st.just(1), st.text(max_size=6)),
    st.just(PeerLost(1)),
    st.just(PeerBack(1)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["eth0", "cpu0", "cpu3", "ctl", "x"]), MESSAGES)))
def test_any_messages_leave_balanced_accounts(messages: list[tuple[str, Any]]) -> None:
    apic = bench()
    said = apic.give(*messages)
    balanced(apic)
    routed = sum(sum(apic.page.run(f"{way}_routed")) for way in ("msi", "ipi", "ioapic"))
    assert sum(isinstance(m, Interrupt) for _, m in said) == routed
