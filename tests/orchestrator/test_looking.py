"""``regs`` and ``ring``: names and fields of the datasheet; a look changes nothing."""

from __future__ import annotations

import json

import pytest

from nodes.nic.page import NIC_SCHEMA
from nodes.nic.registers import KEYS, TABLE
from orchestrator import verbs
from orchestrator.completing import candidates
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive

MS = 1_000_000
SHORT = ("192.168.1.1",)


class Said:
    def __init__(self, machine: SimulatedMachine, line: str) -> None:
        out: list[str] = []
        err: list[str] = []
        session = Session(machine, out=out.append, err=err.append)
        self.code = drive(session, verbs.start(session, line.split()))
        self.text, self.err = "".join(out), "".join(err)

    @property
    def value(self):
        return json.loads(self.text)


@pytest.fixture
def pinged() -> SimulatedMachine:
    # rings are to fill: without byte limits, which keep frames in the queueing discipline
    settings = config.load()._replace(name="m1", overrides=(("bql", "none"),))
    machine = SimulatedMachine(settings, seed=7)
    assert wait_until_ready(machine)
    job = machine.spawn("cpu0", ("ping", "-q", "-c", "10", "-i", "0.01", *SHORT))
    assert machine.wait(lambda: job.done, 5000)
    return machine


def device(machine: SimulatedMachine):
    return machine.simulation.node("eth0").device


# ---------------------------------------------------------------- regs


def test_a_register_has_offset_value_section_and_fields(pinged: SimulatedMachine) -> None:
    text = Said(pinged, "regs eth0 links").text.splitlines()
    assert text[0].split(maxsplit=4) == [
        "LINKS", "042a4", f"{device(pinged).regs.peek(0x42A4):#010x}", "8.2.3.22",
        "link status (RO)",
    ]  # fmt: skip
    assert ["30", "UP", "1"] in [line.split() for line in text[1:]]
    assert ["29:28", "SPEED", "3", "10G"] in [line.split() for line in text[1:]]


def test_names_match_in_any_case_by_element_offset_and_beginning(pinged: SimulatedMachine) -> None:
    def names(line: str) -> list[str]:
        return [row["name"] for row in Said(pinged, f"regs eth0 {line} --json").value]

    assert names("eicr") == ["EICR"]  # a whole name is not a beginning
    assert names("Rdt[1] 0x00800") == ["RDT[1]", "EICR"]
    assert names("rdt") == ["RDT[0]", "RDT[1]"]  # the elements in use
    assert set(names("eic")) >= {"EICR", "EICS", "EICR_EX[0]"}


def test_without_names_all_that_differ_from_reset(pinged: SimulatedMachine) -> None:
    rows = {row["name"]: row for row in Said(pinged, "regs eth0 --json").value}
    assert rows["GPRC"]["value"] >= 10
    assert "CRCERRS" not in rows
    assert rows["RDT[0]"]["fields"]
    for row in rows.values():
        assert row["value"] != row["reset"]
        assert row["section"]


def test_looking_changes_nothing(pinged: SimulatedMachine) -> None:
    """No clear on read, no semaphore taken, no cause cleared: every register by name, twice."""
    regs = device(pinged).regs
    device(pinged).write32(KEYS["EICS"][0], 1 << 20)
    pinged.pump(pinged.now_ns() + MS)
    before = {key: regs.peek(key) for keys in KEYS.values() for key in keys}
    page = pinged.ram.page("eth0", NIC_SCHEMA)
    counted = page["mmio_reads"], page["msi_raised"]
    every = " ".join(row.name for row in TABLE)
    shown = Said(pinged, f"regs eth0 {every} --json").value
    assert len(shown) >= len(TABLE)
    Said(pinged, "regs eth0")
    moving = {"FRTIMER", "EITR[1]", "EITR[0]", "EITR[2]"}
    after = {key: regs.peek(key) for key in before}
    names = {row["offset"]: row["name"] for row in shown}
    changed = {names.get(key, hex(key)) for key in before if before[key] != after[key]}
    assert changed <= moving
    assert (page["mmio_reads"], page["msi_raised"]) == counted
    for row in shown:
        if row["name"] not in moving:
            assert row["value"] == after[row["offset"]], row["name"]


def test_an_unknown_register_names_the_nearest(pinged: SimulatedMachine) -> None:
    with pytest.raises(BottomhalfError, match="no register `EIRC`; did you mean `EI"):
        Said(pinged, "regs eth0 EIRC")
    with pytest.raises(BottomhalfError, match="no register `RDT\\[500\\]`"):
        Said(pinged, "regs eth0 RDT[500]")
    with pytest.raises(BottomhalfError, match="apic is no NIC"):
        Said(pinged, "regs apic EICR")


def test_a_dead_nic_answers_from_its_last_page_and_says_so(pinged: SimulatedMachine) -> None:
    tail = device(pinged).receive.queue(0).tail
    pinged.kill("eth0")
    said = Said(pinged, "regs eth0 RDT --json")
    assert said.err.startswith("bottomhalf: eth0 is dead (SIGKILL, 0 ms ago); these registers")
    assert {row["name"]: row["value"] for row in said.value}["RDT[0]"] == tail
    with pytest.raises(BottomhalfError, match="LINKS did not die in its page"):
        Said(pinged, "regs eth0 LINKS")
    assert "EIMS" in Said(pinged, "regs eth0").text


def test_a_frozen_nic_answers_from_its_page_without_waiting(pinged: SimulatedMachine) -> None:
    pinged.freeze("eth0")
    before = pinged.now_ns()
    said = Said(pinged, "regs eth0 eims")
    assert "eth0 is frozen" in said.err
    assert said.text.startswith("EIMS ")
    assert pinged.now_ns() == before


def test_neighbours_that_hold_the_same_share_a_line(pinged: SimulatedMachine) -> None:
    lines = Said(pinged, "regs eth0").text.splitlines()
    assert [line for line in lines if line.startswith("RETA")] == [
        "RETA[0..31]    0eb00  0x01000100  8.2.3.7    E3=1 E1=1"
    ]


# ---------------------------------------------------------------- ring


def test_a_receive_ring_says_who_owns_what(pinged: SimulatedMachine) -> None:
    value = Said(pinged, "ring eth0 rx 1 --json").value
    queue = device(pinged).receive.queue(1)
    assert (value["base"], value["length"]) == (queue.base, queue.size)
    assert (value["head"], value["tail"]) == (queue.head, queue.tail)
    assert value["nic"] == (queue.tail - queue.head) % queue.size
    owners = {row["entry"]: row["owner"] for row in value["descriptors"]}
    assert owners[queue.head] == "nic"
    assert owners[queue.tail] == "driver"


def test_done_descriptors_wait_for_a_driver_that_was_not_told(pinged: SimulatedMachine) -> None:
    """With its interrupts lost the driver cleans nothing: DD, EOP and lengths stand there."""
    head = device(pinged).receive.queue(1).head
    Said(pinged, "fault eth0 lose-msi")
    job = pinged.spawn("cpu0", ("ping", "-q", "-c", "3", "-i", "0.01", "-W", "0.1", *SHORT))
    assert pinged.wait(lambda: job.done, 5000)
    value = Said(pinged, "ring eth0 rx 1 --json").value
    done = [row for row in value["descriptors"] if row["dd"]]
    assert [row["entry"] for row in done] == [head, head + 1, head + 2]
    assert all(row["eop"] and row["length"] == 98 and row["owner"] == "driver" for row in done)
    text = Said(pinged, "ring eth0 rx 1").text
    assert f" {head}     driver  DD EOP --      98  packet   -\n" in text


def test_a_transmit_ring_of_a_hung_nic_holds_what_was_posted(pinged: SimulatedMachine) -> None:
    Said(pinged, "fault eth0 hang")
    job = pinged.spawn("cpu0", ("ping", "-q", "-c", "3", "-i", "0.01", "-W", "0.1", *SHORT))
    assert pinged.wait(lambda: job.done, 5000)
    value = Said(pinged, "ring eth0 tx 0 --json").value
    mine = [r for r in value["descriptors"] if r["owner"] == "nic" and r["length"] == 98]
    assert value["nic"] >= len(mine)  # the kernel may ask for an address besides
    assert [(r["kind"], r["length"], r["dd"], r["eop"], r["rs"]) for r in mine] == [
        ("data", 98, False, True, True)
    ] * 3


def test_the_bar_and_the_rows_around_head_and_tail(pinged: SimulatedMachine) -> None:
    lines = Said(pinged, "ring eth0 rx 0").text.splitlines()
    assert lines[0].startswith("eth0 rx queue 0: base 0x")
    assert lines[1][1] == "H"
    assert lines[1].endswith("#T]")
    assert lines[2].startswith("510 the NIC's, 2 the driver's, 1 packet so far")
    assert all(len(line) < 80 for line in lines)
    assert len(Said(pinged, "ring eth0 rx 0 --all").text.splitlines()) == 6 + 512


def test_a_dead_nics_ring_stands_in_memory(pinged: SimulatedMachine) -> None:
    before = Said(pinged, "ring eth0 tx 0 --json").value
    pinged.kill("eth0")
    said = Said(pinged, "ring eth0 tx 0 --json")
    assert said.value == before
    assert "the ring as it was left" in said.err


@pytest.mark.parametrize(
    "line", ["ring eth0", "ring eth0 up 0", "ring eth0 rx x", "ring eth0 rx 16"]
)
def test_ring_says_what_it_takes(pinged: SimulatedMachine, line: str) -> None:
    with pytest.raises(BottomhalfError, match=r"ring: (a NIC, rx or tx, and a queue|no queue)"):
        Said(pinged, line)


def test_a_ring_that_is_off(pinged: SimulatedMachine) -> None:
    assert Said(pinged, "ring eth0 rx 9").text == "eth0 rx queue 9 is off\n"


def test_completion_knows_the_registers() -> None:
    assert {"eth0", "EICR", "RDT"} <= set(candidates("regs"))
    assert {"eth0", "rx", "tx", "0", "1"} <= set(candidates("ring"))
