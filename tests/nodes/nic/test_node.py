"""The NIC as a bus node: accounts that balance, losses by name, snapshots, any input survived."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages import (
    CfgRead,
    CfgWrite,
    Completion,
    EthFrame,
    Interrupt,
    LinkState,
    MemRead,
    MemWrite,
    MsiWrite,
    PeerBack,
    PeerLost,
    Reply,
    Snapshot,
)
from bus.recorder import ALL_EVENTS, Recorder
from nodes.nic import trace
from nodes.nic.registers import DECODE, name_of
from tests.nodes.nic.rig import Rig, balanced, frame


def test_read_is_answered_after_the_writes_before_it() -> None:
    rig = Rig()
    rig.enable()
    said = rig.give(
        ("cpu0", MemWrite(0, 0x5800, 1)),
        ("cpu1", MemRead(9, 0, 0x5800)),
        ("cpu0", MemWrite(0, 0x5800, 2)),
    )
    assert said == [("cpu1", Completion(9, 1))]


def test_losses_at_the_hand_over_have_names() -> None:
    rig = Rig()
    rig.node.undelivered("lan", [EthFrame(frame()), LinkState(1, 10000)], True)
    rig.node.undelivered("lan", [EthFrame(frame())] * 2, False)
    rig.node.undelivered("apic", [MsiWrite(0xFEE00000, 0x41)], True)
    rig.node.undelivered("cpu0", [Completion(1, 1)], True)
    assert rig.page.run("tx_lost_peer_dead") == [1, 0, 0]
    assert rig.page.run("tx_lost_peer_full") == [2, 0, 0]
    assert rig.page["msi_lost_peer_dead"] == 1
    assert rig.page["completions_lost"] == 1


@pytest.mark.conformance("H15-1")
def test_card_that_comes_back_knows_nothing_of_before() -> None:
    """That reads of a card that is away give ones is the bus's doing: ``test_mmio``."""
    before = Rig()
    before.up()
    ring = before.tx_queue()
    after = Rig(ram=before.ram)
    assert after.read("STATUS") == 0xFFFFFFFF  # no decode yet: its configuration is new too
    assert after.write("RDBAL", 0x10000) == []
    after.enable()
    offsets = [offset for offset, slot in DECODE.items() if slot.register.name != "FRTIMER"]
    fresh = Rig()
    fresh.enable()
    for offset in offsets:
        assert after.device.peek32(offset) == fresh.device.peek32(offset), name_of(offset)
    before.ram.words64[ring // 8 + 1] = 0
    assert after.frames(after.write("TDT", 1)) == []
    assert after.config(0x10) == fresh.config(0x10)


def test_snapshots() -> None:
    rig = Rig()
    rig.up()
    ((_, reply),) = rig.give(("ctl", Snapshot(4, "state")))
    assert isinstance(reply, Reply)
    assert (reply.request, reply.ok) == (4, 1)
    state = msgpack.unpackb(reply.value)
    assert state["pci"] == "0000:01:00.0"
    assert state["msix"][3] == [3, 0xFEE03000, 0x23, 0]
    ((_, reply),) = rig.give(("ctl", Snapshot(5, "registers")))
    assert msgpack.unpackb(reply.value)["FCTRL"] == 0x400
    ((_, reply),) = rig.give(("ctl", Snapshot(6, "weather")))
    assert reply.ok == 0
    assert "state" in msgpack.unpackb(reply.value)


def test_trace_tells_the_way_of_a_frame() -> None:
    rig = Rig()
    rig.up()
    ring = rig.tx_queue()
    rig.rx_queue(0)
    recorder = Recorder(rig.ram.recorder_words("eth0"))
    recorder.mask = ALL_EVENTS
    start = recorder.count
    rig.put_tx(ring, 0, rig.map(2048), frame())
    rig.write("TDT", 1)
    rig.write("EIMS_EX", 1)
    rig.wire(frame())
    names = {point.number: point.name for point in trace.TRACEPOINTS.values()}
    events = [names[r.event] for r in recorder.read(start)[0]]
    assert [e for e in events if not e.startswith("mmio")] == [
        "doorbell", "tx_dma", "tx_wire", "tx_writeback", "msi", "rx_wire", "rx_dma", "msi",
    ]  # fmt: skip


def test_page_shows_rings_and_state() -> None:
    rig = Rig()
    rig.up()
    ring = rig.tx_queue(1, 64)
    rig.rx_queue(1, 32)
    rig.put_tx(ring, 0, rig.map(2048), frame())
    rig.write("TDT", 1, 1)
    page = rig.page
    assert (page.run("tx_head")[1], page.run("tx_tail")[1], page.run("tx_size")[1]) == (1, 1, 64)
    assert (page.run("rx_head")[1], page.run("rx_tail")[1], page.run("rx_size")[1]) == (0, 31, 32)
    assert (page["link_up"], page["light"], page["laser"]) == (1, 1, 1)
    assert (page["rxen"], page["txen"], page["msix_enabled"]) == (1, 1, 1)
    assert page["eims_vectors"] & 3 == 1  # vector 1 was masked by its own message


OFFSETS = st.one_of(st.sampled_from(sorted(DECODE)), st.integers(0, 0xFFFFFFFF))
VALUES = st.one_of(
    st.sampled_from([0, 1, 0x02000000, 0x04000000, 0xFFFFFFFF]), st.integers(0, 0xFFFFFFFF)
)
MESSAGES = st.one_of(
    st.builds(MemWrite, st.sampled_from([0, 0, 0, 2, 4, 9]), OFFSETS, VALUES),
    st.builds(MemRead, st.just(1), st.sampled_from([0, 2, 4, 9]), OFFSETS),
    st.builds(CfgRead, st.just(1), st.integers(0, 0xFFF), st.integers(1, 4)),
    st.builds(CfgWrite, st.just(1), st.integers(0, 0xFFF), st.integers(1, 4), VALUES),
    st.builds(EthFrame, st.binary(max_size=200)),
    st.builds(LinkState, st.integers(0, 1), VALUES),
    st.builds(Snapshot, st.just(1), st.text(max_size=8)),
    st.just(PeerLost(1)),
    st.just(PeerBack(1)),
    st.just(Interrupt(3, 0, 0)),
)
SENDERS = st.sampled_from(["cpu0", "lan", "apic", "ctl"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SENDERS, MESSAGES), max_size=60))
def test_any_messages_leave_a_working_node_and_balanced_accounts(
    messages: list[tuple[str, Any]],
) -> None:
    rig = Rig()
    rig.up()
    ring = rig.tx_queue()
    rig.rx_queue(0, 16)
    buffer = rig.map(4096)
    for i in range(8):
        rig.put_tx(ring, i, buffer, frame())
    for k in range(0, len(messages), 7):
        rig.give(*messages[k : k + 7])
        rig.clock.ns += 1000
    balanced(rig)
    assert rig.config(0) == 0x10FB8086


def test_random_bits_in_descriptors_and_registers_never_break_the_accounts() -> None:
    """Half-valid traffic: real rings, random descriptors and queue registers."""
    rng = random.Random(7)
    names = sorted(
        offset for offset, slot in DECODE.items()
        if slot.register.name in (
            "SRRCTL", "RXDCTL", "TXDCTL", "RDT", "TDT", "RDH", "TDH", "RDLEN", "TDLEN", "HLREG0",
            "MAXFRS", "TDWBAL", "RXCTRL", "DMATXCTL", "FCTRL", "IVAR", "EITR", "GPIE", "EIMS_EX",
        ) and slot.element < 2
    )  # fmt: skip
    rig = Rig()
    rig.up()
    tx = rig.tx_queue(0, 64)
    rx, buffer = rig.rx_queue(0, 64)
    for _ in range(3000):
        choice = rng.randrange(4)
        if choice == 0:
            at = rng.choice((tx, rx)) // 8 + rng.randrange(128)
            rig.ram.words64[at] = rng.getrandbits(64) if rng.random() < 0.5 else rig.dma
        elif choice == 1:
            value = rng.choice((rng.getrandbits(32), rng.randrange(70), 0x02000000))
            rig.write_at(rng.choice(names), value)
        elif choice == 2:
            rig.wire(rng.randbytes(rng.choice((14, 59, 60, 1514, 5000))), frame())
        else:
            rig.write("TDT", rng.randrange(64))
            rig.clock.ns += rng.randrange(100_000)
        if rng.random() < 0.1:  # a driver that resets its queues
            for name, value in (
                ("RXDCTL", 0), ("RDLEN", 1024), ("RDH", 0), ("RDT", 63), ("SRRCTL", 0x12000402),
                ("RXDCTL", 1 << 25), ("TXDCTL", 0), ("TDLEN", 1024), ("TDH", 0), ("TDT", 0),
                ("DMATXCTL", 1), ("TXDCTL", 1 << 25), ("RXCTRL", 1), ("FCTRL", 0x600),
            ):  # fmt: skip
                rig.write(name, value)
            for i in range(64):
                rig.put_tx(tx, i, buffer, frame())
                rig.ram.words64[rx // 8 + 2 * i] = buffer
    balanced(rig)
    assert sum(rig.page.run("tx_fetched")) > 100
    assert sum(rig.page.run("rx_dma")) > 10
