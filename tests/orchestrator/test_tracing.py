"""``trace``: a ping under the recorders, in the simulation and on a running machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bus.ram import RECORDS, Ram
from bus.recorder import Recorder
from orchestrator import verbs
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive
from orchestrator.tracing.recording import Recording
from tests.nodes.harness import machine as small_machine

ROOT = Path(__file__).parents[2]
GUARD_S = 60
#: What a script would use that knows ftrace and not us.
ENTRY = {
    count: re.compile(
        rf"^ *(.{{1,16}}?)-(\d+) +\[(\d{{3}}|---)\] ({flags}) +(\d+\.\d{{6}}): (\w+): (.+)$"
    )
    for count, flags in (
        (4, "[d.][N.][Hhs.][0-9a-f.]"),
        (5, "[Ddb.][N.][ZzHhs.][0-9a-f.][0-9a-f.]"),
    )
}


def booted(**options) -> SimulatedMachine:
    machine = SimulatedMachine(config.load(**options)._replace(name="m1"), seed=7)
    assert wait_until_ready(machine)
    return machine


class Traced:
    """What the verb printed."""

    def __init__(self, machine: SimulatedMachine, line: str, **options) -> None:
        out: list[str] = []
        err: list[str] = []
        session = Session(machine, out=out.append, err=err.append, **options)
        self.code = drive(session, verbs.start(session, ["trace", *line.split()]))
        self.text, self.err = "".join(out), "".join(err)
        self.header = [text for text in self.text.splitlines() if text.startswith("#")]
        self.lines = self.text.splitlines()[len(self.header) :]

    def entries(self, flags: int = 5) -> list[tuple[str, ...]]:
        """(comm, pid, cpu, flags, time, event, fields) of each line; every line must parse."""
        found = []
        for line in self.lines:
            match = ENTRY[flags].match(line)
            assert match is not None, line
            found.append(match.groups())
        return found


def traced_ping(era: str, events: str, count: int = 3) -> Traced:
    machine = booted(era=era)
    # until the byte limit of eth0's queue is what pings need
    warm = machine.spawn("cpu0", ("ping", "-c", "8", "-i", "0.01", "192.168.1.1"))
    assert machine.wait(lambda: warm.done, 3000)
    machine.spawn("cpu0", ("ping", "-c", str(count), "-i", "0.01", "192.168.1.1"))
    return Traced(machine, f"-e {events} --for 30ms")


@pytest.mark.parametrize(("era", "flags"), [("2.6.18", 4), ("3.10", 4), ("6.1", 5)])
def test_every_line_of_a_traced_ping_is_an_ftrace_line(era: str, flags: int):
    traced = traced_ping(era, "irq,softirq,tasklet,timer,sched,ipi,workqueue,napi,net")
    entries = traced.entries(flags)
    assert len(entries) > 40
    assert f"entries-in-buffer/entries-written: {len(entries)}/{len(entries)}   #P:2" in traced.text
    times = [float(entry[4]) for entry in entries]
    assert times == sorted(times)
    assert {"<idle>", "ping"} <= {entry[0] for entry in entries}


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_one_interrupt_is_the_kernels_sequence(era: str):
    """irq_handler_entry, softirq_raise vec=3, irq_handler_exit, softirq_entry, softirq_exit."""
    entries = traced_ping(era, "irq,softirq").entries(5 if era == "6.1" else 4)
    by_cpu: dict[str, list[tuple[str, ...]]] = {}
    for entry in entries:
        by_cpu.setdefault(entry[2], []).append(entry)
    seen = 0
    for rows in by_cpu.values():
        for at, row in enumerate(rows):
            if row[5] != "irq_handler_entry" or row[0] != "<idle>":
                continue
            irq, name = re.fullmatch(r"irq=(\d+) name=(.*)", row[6]).groups()  # type: ignore[union-attr]
            assert re.fullmatch(r"eth[01]-TxRx-[01]", name)
            assert [(r[5], r[6]) for r in rows[at + 1 : at + 5]] == [
                ("softirq_raise", "vec=3 [action=NET_RX]"),
                ("irq_handler_exit", f"irq={irq} ret=handled"),
                ("softirq_entry", "vec=3 [action=NET_RX]"),
                ("softirq_exit", "vec=3 [action=NET_RX]"),
            ]
            depth = "1." if era == "6.1" else "."
            states = [r[3][:3] + r[3][3:] for r in rows[at : at + 4]]
            assert states == ["d.h" + depth, "d.h" + depth, "d.h" + depth, "..s" + depth]
            seen += 1
    assert seen


@pytest.mark.conformance("K9.5-1")
@pytest.mark.parametrize(("era", "flags"), [("3.10", "..s."), ("6.1", "b....")])
def test_bottom_halves_off_by_era(era: str, flags: str):
    """dev_queue_xmit of a task holds bottom halves off: ``s`` in column 3, later ``b`` in 1."""
    sent = [e for e in traced_ping(era, "net_dev_queue").entries(len(flags)) if e[0] == "ping"]
    assert sent
    assert {entry[3] for entry in sent} == {flags}


def test_a_wake_up_crosses_cpus_as_an_interrupt_and_leads_to_a_switch():
    entries = traced_ping("6.1", "sched,ipi").entries()
    wakes = [at for at, e in enumerate(entries) if e[5] == "sched_wakeup" and "comm=ping" in e[6]]
    assert wakes
    for at in wakes:
        assert entries[at][3] in ("dNh4.", "dNs4.")  # as in the capture, or from the softirq
        rest = [e for e in entries[at:] if e[2] == entries[at][2]]
        switch = next(e for e in rest if e[5] == "sched_switch")
        assert "==> next_comm=ping" in switch[6]
        assert switch[3] == "d..2."
    assert any(e[5] == "sched_waking" for e in entries)
    last = [e for e in entries if e[5] == "sched_switch" and "prev_comm=ping" in e[6]][-1]
    assert "prev_state=Z" in last[6]  # it has ended; nobody has fetched its status yet


def test_a_task_that_came_and_went_meanwhile_has_its_name():
    machine = booted()
    out: list[str] = []
    session = Session(machine, out=out.append)
    steps = verbs.start(session, ["trace", "-e", "sched", "--for", "40ms"])
    wait = next(steps)
    while wait.until_ns is not None and machine.now_ns() < wait.until_ns:  # it asks for names
        machine.pump(machine.now_ns() + 1_000_000)
        if wait.ready is not None and wait.ready():
            break
    job = machine.spawn("cpu0", ("ping", "-c", "1", "192.168.1.1"))
    assert drive(session, steps) == 0
    text = "".join(out)
    assert job.done
    assert "sched_wakeup_new: comm=ping" in text
    assert "<...>" not in text


def test_two_functions_of_a_work():
    traced = traced_ping("6.1", "workqueue")
    assert not traced.lines or "function" in traced.text
    machine = booted()
    events = [
        (entry[5], match[1])
        for entry in Traced(machine, "-e workqueue --for 250ms").entries()
        if (match := re.search(r"work struct[ =]([0-9a-f]{16})", entry[6]))
    ]
    assert len({work for _, work in events}) > 1
    order = ["queue_work", "activate_work", "execute_start", "execute_end"]
    for work in {work for _, work in events}:
        own = [event.removeprefix("workqueue_") for event, of in events if of == work]
        own = own[own.index("queue_work") :]
        whole = len(own) // 4 * 4
        assert own[:whole] == order * (whole // 4)
        assert whole


@pytest.mark.parametrize(
    ("era", "asked"),
    [("3.10", "req_cpu=5120 cpu=4294967295"), ("6.1", "workqueue=bond0 req_cpu=8192 cpu=-1")],
)
def test_the_monitors_work_is_queued_on_an_unbound_pool_as_the_capture_of_6_1_has_it(era, asked):
    text = Traced(booted(era=era), "-e workqueue --for 250ms").text
    queued = [line for line in text.splitlines() if "workqueue_queue_work" in line]
    assert len(queued) > 1
    bond = [line for line in queued if "function=bond_mii_monitor [bonding]" in line]
    assert bond
    assert all(line.endswith(asked) for line in bond)
    activated = [line for line in text.splitlines() if "workqueue_activate_work" in line]
    assert len(activated) == len(queued)


def test_a_kernel_without_ftrace_says_so_and_prints_the_next_ones_form():
    traced = traced_ping("2.6.18", "irq,softirq")
    assert traced.err == (
        "  hint: 2.6.18 has no ftrace (nor irq, softirq and workqueue tracepoints); "
        "shown as 3.10 prints it\n"
    )
    assert "#                              _-----=> irqs-off" in traced.header
    assert traced.entries(4)


def test_what_is_no_tracepoint_is_hinted_on_a_terminal_only():
    machine = booted()
    machine.spawn("cpu0", ("ping", "-c", "3", "-i", "0.01", "192.168.1.1"))
    hinted = Traced(machine, "-e ipi,irq --for 20ms", terminal=True).err
    assert hinted == "  hint: no tracepoints of 6.1.0 on x86: ipi_raise\n"
    assert Traced(machine, "-e ipi,irq --for 20ms").err == ""
    assert Traced(machine, "-e irq --for 5ms", terminal=True).err == ""


def test_targets_limit_the_nodes():
    machine = booted()
    machine.spawn("cpu0", ("ping", "-c", "3", "-i", "0.01", "192.168.1.1"))
    traced = Traced(machine, "-e irq,softirq cpu1 --for 60ms")
    assert {entry[2] for entry in traced.entries()} == {"001"}


def test_nics_and_controller_print_in_the_same_columns():
    machine = booted()
    machine.spawn("cpu0", ("ping", "-c", "1", "192.168.1.1"))
    traced = Traced(machine, "-e mmio,dma,msi --for 20ms")
    text = traced.text
    assert re.search(
        r"^            eth0-0       \[---\] \.\.\.\.\. +\d+\.\d{6}: tx_dma: ", text, re.M
    )
    assert re.search(
        r"^            eth0-0 .*: msi: vector=\d+ address=0xfee\w+ data=0x", text, re.M
    )
    assert re.search(r"^            apic-0 .*: route: vector=0x\w\w mode=\d+ cpu=00\d", text, re.M)
    assert re.search(r"\[000\] .*: mmio_write: dev=eth0 TDT\[0\]=0x", text)
    only = Traced(machine, "eth1 --for 20ms")
    assert {line.split("-")[0].strip() for line in only.lines} <= {"eth1"}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("-e sofirq", "trace: no events `sofirq`; did you mean `softirq`?"),
        ("-e sched_swich", "trace: no events `sched_swich`; did you mean `sched_switch`?"),
        ("-e irq eth0", "trace: eth0 has no events irq"),
        ("--for soon", "trace --for: `soon` is not a length of time"),
        ("cpu9", "no node `cpu9`; did you mean `cpu1`?"),
    ],
)
def test_slips_get_the_nearest_word(line: str, what: str):
    with pytest.raises(BottomhalfError, match=re.escape(what)):
        Traced(booted(), line)


def test_json_is_one_object_a_record():
    machine = booted()
    machine.spawn("cpu0", ("ping", "-c", "1", "192.168.1.1"))
    rows = [json.loads(line) for line in Traced(machine, "-e irq --for 20ms --json").lines]
    assert rows
    first = rows[0]
    assert first["event"] == "irq_handler_entry"
    assert first["node"] == f"cpu{first['cpu']}"
    assert first["irqs_off"]
    assert first["hardirq"]
    assert first["fields"].startswith(f"irq={first['a']} name=eth")


def test_ctrl_c_ends_a_live_trace_with_all_that_was_recorded():
    machine = booted()
    machine.spawn("cpu0", ("ping", "-c", "2", "-i", "0.01", "192.168.1.1"))
    out: list[str] = []
    session = Session(machine, out=out.append)
    end = machine.now_ns() + 35_000_000

    def tick() -> None:
        if machine.now_ns() >= end and not session.signals:
            session.signals.append(signal.SIGINT)

    session.tick = tick
    assert drive(session, verbs.start(session, ["trace", "-e", "irq,sched"])) == 0
    live = [line for line in "".join(out).splitlines() if not line.startswith("#")]
    assert len(live) > 10
    assert all(ENTRY[5].match(line) for line in live)
    times = [ENTRY[5].match(line)[5] for line in live]  # type: ignore[index]
    assert times == sorted(times, key=float)
    assert "entries-in-buffer" not in "".join(out)  # nobody can know yet


def test_a_dead_cpus_recorder_is_read_as_it_was_left():
    machine = booted()
    job = machine.spawn("cpu0", ("ping", "-c", "3", "-i", "0.01", "192.168.1.1"))
    assert machine.wait(lambda: job.done, 3000)
    machine.kill("cpu1")
    traced = Traced(machine, "cpu1 -e irq --for 1s")
    assert traced.err == "bottomhalf: cpu1 is dead; these are the last records it left\n"
    assert {entry[5] for entry in traced.entries()} == {"irq_handler_entry"}  # always recorded


# ---------------------------------------------------------------- recorders


def test_recorders_are_as_before_afterwards():
    machine = booted()

    def masks() -> list[int]:
        return [Recorder(machine.ram.recorder_words(n)).mask for n in machine.settings.node_names]

    before = masks()
    Traced(machine, "--for 5ms")
    assert masks() == before
    with pytest.raises(BottomhalfError):
        Traced(machine, "-e nothing")
    assert masks() == before


def test_two_readers_take_away_only_their_own_bits():
    ram = Ram.anonymous(small_machine().layout())
    recorder = Recorder(ram.recorder_words("cpu0"))
    recorder.mask = 0b0001
    first = Recording(ram, {"cpu0": 0b0011})
    second = Recording(ram, {"cpu0": 0b0110})
    assert recorder.mask == 0b0111
    first.stop()
    assert recorder.mask == 0b0101
    second.stop()
    assert recorder.mask == 0b0001


def test_overwritten_records_are_counted_before_the_next_one():
    ram = Ram.anonymous(small_machine().layout())
    recorder = Recorder(ram.recorder_words("cpu0"))
    recording = Recording(ram, {"cpu0": 0b10})
    recorder.record(1, 1, a=7)
    assert [(e.record.a, e.lost) for e in recording.pull()] == [(7, 0)]
    recorder.mask |= 1
    for n in range(RECORDS + 36):
        recorder.record(2 + n, 0)  # of somebody else's
    assert recording.pull() == []
    recorder.record(9_999_999, 1, a=8)
    assert [(e.record.a, e.lost) for e in recording.pull()] == [(8, 37)]
    assert recording.lost == 37


def test_lost_records_are_said_as_ftrace_says_it():
    machine = booted()
    recorder = Recorder(machine.ram.recorder_words("cpu1"))
    out: list[str] = []
    session = Session(machine, out=out.append)
    steps = verbs.start(session, ["trace", "-e", "irq", "cpu1", "--for", "5ms"])
    wait = next(steps)
    while wait.ready is not None and not wait.ready():
        machine.pump(machine.now_ns() + 100_000)
    steps.send(None)
    for _ in range(RECORDS + 36):
        recorder.record(machine.now_ns(), 0, a=25)
    assert drive(session, steps) == 0
    lines = "".join(out).splitlines()
    (lost,) = (line for line in lines if "LOST" in line)
    match = re.fullmatch(r"CPU:1 \[LOST (\d+) EVENTS\]", lost)
    assert match is not None
    count = int(match[1])
    assert 37 <= count < 60  # and what cpu1 itself recorded meanwhile
    entries = [line for line in lines if "irq_handler" in line]
    assert lines[2] == (
        f"# entries-in-buffer/entries-written: {len(entries)}/{len(entries) + count}   #P:2"
    )


# ---------------------------------------------------------------- processes


@pytest.mark.processes
def test_a_running_machine_is_traced_and_ctrl_c_ends_it(tmp_path: Path):
    environment = os.environ | {
        "BOTTOMHALF_RUN_DIR": str(tmp_path / "r"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "orchestrator.cli"]

    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *words], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(*words: str) -> tuple[int | None, str, str]:
        process = start(*words)
        out, err = process.communicate(timeout=GUARD_S)
        return process.returncode, out, err

    assert run("up", "-d")[0] == 0
    try:
        ping = start("ping", "-i", "0.02", "gateway")
        assert ping.stdout is not None
        assert ping.stdout.readline().startswith("PING")
        code, out, err = run("trace", "-e", "irq,softirq", "--for", "0.5s")
        assert (code, err) == (0, "")
        lines = out.splitlines()
        entries = [ENTRY[5].match(line) for line in lines if not line.startswith("#")]
        assert all(entries)
        events = [match[6] for match in entries if match]
        assert events.count("irq_handler_entry") >= 5
        assert "softirq_exit" in events
        counts = re.fullmatch(r"# entries-in-buffer/entries-written: (\d+)/(\d+)   #P:2", lines[2])
        assert counts is not None
        assert int(counts[1]) == len(entries)

        live = start("trace", "-e", "irq,softirq")
        assert live.stdout is not None
        seen = [live.stdout.readline() for _ in range(20)]
        live.send_signal(signal.SIGINT)
        rest, err = live.communicate(timeout=GUARD_S)
        assert (live.returncode, err) == (0, "")
        text = "".join(seen) + rest
        assert all(ENTRY[5].match(line) for line in text.splitlines() if not line.startswith("#"))
        ping.send_signal(signal.SIGINT)
        ping.communicate(timeout=GUARD_S)
    finally:
        run("down")


# ---------------------------------------------------------------- the device


def test_a_ping_at_the_device_is_one_kind_of_line_from_doorbell_to_vector():
    """mmio, dma and msi of all nodes: registers by name, fields and messages decoded."""
    traced = traced_ping("6.1", "mmio,dma,msi", count=1)
    by_node: dict[str, list[tuple[str, str]]] = {}
    for entry in traced.entries():
        by_node.setdefault(entry[0], []).append((entry[5], entry[6]))
    nic = by_node["eth0"]
    assert any(
        re.fullmatch(r"TDT\[0\]=0x000000[0-9a-f]{2}", t) for e, t in nic if e == "mmio_write"
    )
    order = [event for event, _ in nic]
    assert order.index("mmio_write") < order.index("tx_dma") < order.index("rx_dma")
    assert order.index("rx_dma") < order.index("msi")
    sent = next(text for event, text in nic if event == "msi")
    assert re.fullmatch(
        r"vector=\d address=0xfee0[0-9a-f]00[04] data=0x00(..) \(fixed 0x\1 to (logical|physical)"
        r" 0x0[0-9a-f]\)",
        sent,
    )
    taken = [text for event, text in by_node["apic"] if event == "msi"]
    assert sent.partition(" ")[2] in [text.partition(" ")[2] for text in taken]
    assert any(event == "route" for event, _ in by_node["apic"])


def test_a_register_write_names_its_fields_on_both_sides():
    """The posted write of the CPU and what the NIC takes are the same text."""
    machine = booted()
    Traced(machine, "-e mmio --for 1ms")
    traced = Traced(machine, "-e mmio_write --for 2500ms")  # the service task kicks by EICS
    written = [(e[0], e[6]) for e in traced.entries() if "EICS" in e[6]]
    by_cpu = [text for comm, text in written if comm not in ("eth0", "eth1")]
    by_nic = [text for comm, text in written if comm == "eth0"]
    assert by_nic
    assert f"dev=eth0 {by_nic[0]}" in by_cpu
    machine.cable("eth0", False)
    machine.pump(machine.now_ns() + 500_000_000)
    machine.cable("eth0", True)
    traced = Traced(machine, "eth0 -e mmio_read --for 2500ms")
    links = [entry[6] for entry in traced.entries() if entry[6].startswith("LINKS=0x7")]
    assert re.fullmatch(r"LINKS=0x7\w{7} \(UP=0x1 SPEED=10G.*\)", links[-1])


def test_a_fault_and_what_it_hits_stand_in_the_trace():
    machine = booted()
    assert drive(Session(machine, out=lambda t: None), verbs.start(
        Session(machine, out=lambda t: None), ["fault", "eth0", "lose-msi=1"])) == 0  # fmt: skip
    machine.spawn("cpu0", ("ping", "-c", "1", "192.168.1.1"))
    traced = Traced(machine, "eth0 -e msi,fault --for 20ms")
    events = [(entry[5], entry[6]) for entry in traced.entries()]
    assert ("fault", "lose-msi mended") in events  # the one was used up
    assert any(e == "msi_fault" and t.startswith("lose-msi address=0xfee") for e, t in events)
