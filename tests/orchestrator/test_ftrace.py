"""ftrace text: columns, flags and fields against what a real 6.1 kernel printed, and by era."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from bus.recorder import Record
from nodes.apic import node as apic
from nodes.apic.trace import DROP
from nodes.apic.trace import TRACEPOINTS as APIC_EVENTS
from nodes.cpu.kernel.params import PRESETS
from nodes.cpu.trace import TRACEPOINTS, TraceContext, unpack_context
from orchestrator import verbs
from orchestrator.tracing import ftrace, ftracetable
from orchestrator.tracing.ftrace import LAYOUTS, Columns
from orchestrator.tracing.ftraceparts import Names
from orchestrator.tracing.ftracerows import APIC_ROWS, CPU_ROWS, GROUPS

CAPTURES = Path(__file__).parents[1] / "data" / "real-linux" / "e1000e-smp2"
#: Written down from kernel/trace's sources, not from ours.
LINE = re.compile(
    r"^ *(?P<comm>.{1,16})-(?P<pid>\d+) +\[(?P<cpu>\d{3})\] (?P<flags>\S{5}) +"
    r"(?P<s>\d+)\.(?P<us>\d{6}): (?P<event>[a-z_]+): (?P<fields>.*)$"
)


class Line(NamedTuple):
    text: str
    comm: str
    pid: int
    cpu: int
    flags: str
    time_ns: int
    event: str
    fields: str


def captured(name: str) -> tuple[list[str], list[Line]]:
    """Header and entries of a capture; system call lines (another format) are left out."""
    _, *lines = (CAPTURES / name).read_text().splitlines()
    header = [line for line in lines if line.startswith("#")]
    found = []
    for text in lines[len(header) :]:
        match = LINE.match(text)
        if match is None:
            assert "sys_" in text
            continue
        time_ns = (int(match["s"]) * 1_000_000 + int(match["us"])) * 1000
        found.append(
            Line(
                text, match["comm"], int(match["pid"]), int(match["cpu"]), match["flags"],
                time_ns, match["event"], match["fields"],
            )
        )  # fmt: skip
    return header, found


FILES = ["ftrace-ping-journey-events.txt", "ftrace-bond-mii-monitor.txt"]


def moment_of(flags: str, pid: int) -> TraceContext:
    """What the flag characters of 6.1 say, the other way round."""
    irqs, resched, context, depth, _ = flags
    field = (2 if irqs in "Db" else 0) | (1 if context in "Hs" else 0)
    return TraceContext(
        0, 0, irqs in "Dd", resched == "N", context in "Hh", False,
        0 if depth == "." else int(depth, 16), field, pid,
    )  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_header_is_the_kernels(name: str):
    header, _ = captured(name)
    counts = re.search(r"written: (\d+)/(\d+)", header[2])
    assert counts is not None
    kept, written = map(int, counts.groups())
    assert ftrace.header(LAYOUTS["6.1"], 2, (kept, written)) == header


@pytest.mark.parametrize("name", FILES)
def test_columns_and_flags_of_every_captured_line_come_out_again(name: str):
    layout = LAYOUTS["6.1"]._replace(idle_depth=0)  # these depths contain it
    _, lines = captured(name)
    assert len(lines) > 20
    for line in lines:
        columns = Columns(
            line.time_ns, line.comm, line.pid, line.cpu, moment_of(line.flags, line.pid)
        )
        assert ftrace.line(layout, columns, f"{line.event}: {line.fields}") == line.text


def pattern(text: str) -> re.Pattern[str]:
    """A row's text as what it may print."""
    parts = re.split(r"{[^}]*}", text)
    return re.compile(r"(.*?)".join(re.escape(part) for part in parts) + "$")


@pytest.mark.parametrize("name", FILES)
def test_fields_of_captured_events_have_our_rows_form(name: str):
    rows = {row.name or event: row for event, row in CPU_ROWS.items()}
    seen = set()
    for line in captured(name)[1]:
        row = rows.get(line.event)
        if row is not None:
            assert pattern(row.new or row.text).match(line.fields), line.text
            seen.add(line.event)
    assert {"sched_switch", "sched_wakeup", "softirq_raise", "workqueue_execute_end"} <= seen


def test_preempt_depths_of_the_scheduler_are_the_captured_ones():
    """A process or the idle task leaves its CPU: two levels either way; so in the capture."""
    for name in FILES:
        for line in captured(name)[1]:
            if line.event == "sched_switch":
                row = CPU_ROWS["sched_switch"]
                depth = row.held if line.pid else (row.idle_held or 0) + LAYOUTS["6.1"].idle_depth
                assert line.flags == f"d..{depth}."


# ---------------------------------------------------------------- flags

NOTHING = TraceContext(0, 0, False, False, False, False, 0, 0, 7)


@pytest.mark.parametrize(
    ("state", "in_310", "in_61"),
    [
        ({}, "....", "....."),
        ({"irqs_off": True}, "d...", "d...."),
        ({"need_resched": True}, ".N..", ".N..."),
        ({"hardirq": True, "irqs_off": True}, "d.h.", "d.h.."),
        ({"hardirq": True, "irqs_off": True, "softirq_field": 1}, "d.H.", "d.H.."),
        ({"softirq_field": 1}, "..s.", "..s.."),
        ({"softirq_field": 3}, "..s.", "b.s.."),
        ({"softirq_field": 2, "irqs_off": True}, "d.s.", "D...."),
        ({"hardirq": True, "softirq_field": 2, "irqs_off": True}, "d.H.", "D.h.."),
        ({"nmi": True, "hardirq": True, "irqs_off": True}, "d.h.", "d.Z.."),
        ({"nmi": True, "irqs_off": True}, "d...", "d.z.."),
        ({"preempt_depth": 3}, "...3", "...3."),
        ({"preempt_depth": 15}, "...f", "...f."),
    ],
)
def test_flag_characters(state: dict[str, int], in_310: str, in_61: str):
    columns = Columns(0, "task", 7, 0, NOTHING._replace(**state))
    assert ftrace.flags(LAYOUTS["3.10"], columns) == in_310
    assert ftrace.flags(LAYOUTS["6.1"], columns) == in_61
    assert ftrace.flags(LAYOUTS["2.6.39"], columns) == ""


@pytest.mark.parametrize(
    ("era", "line"),
    [
        ("2.6.39", "          <idle>-0     [000]   123.456789: "),
        ("3.10", "          <idle>-0     [000] d.h.   123.456789: "),
        ("6.1", "          <idle>-0       [000] d.h1.   123.456789: "),
    ],
)
def test_line_by_era(era: str, line: str):
    moment = NOTHING._replace(irqs_off=True, hardirq=True, pid=0)
    columns = Columns(123_456_789_400, "swapper/0", 0, 0, moment)
    event = "irq_handler_entry: irq=44 name=eth0-TxRx-0"
    assert ftrace.line(LAYOUTS[era], columns, event) == line + event


def test_times_are_rounded_to_microseconds_and_names_cut_to_fifteen():
    columns = Columns(1_999_999_500, "a" * 20, 123456, 11, NOTHING)
    line = ftrace.line(LAYOUTS["6.1"], columns, "x: y")
    assert line == " " + "a" * 15 + "-123456  [011] .....     2.000000: x: y"


def test_a_node_that_is_no_cpu_has_the_same_columns():
    columns = Columns(1_000, "eth0", 4711, None, None)
    assert ftrace.line(LAYOUTS["6.1"], columns, "msi: x") == (
        "            eth0-4711    [---] .....     0.000001: msi: x"
    )


def test_headers_of_older_kernels():
    assert ftrace.header(LAYOUTS["2.6.39"], 2, (1, 2)) == [
        "# tracer: nop",
        "#",
        "#           TASK-PID    CPU#    TIMESTAMP  FUNCTION",
        "#              | |       |          |         |",
    ]
    assert ftrace.header(LAYOUTS["3.10"], 4, (1, 2))[2] == (
        "# entries-in-buffer/entries-written: 1/2   #P:4"
    )
    for layout in LAYOUTS.values():  # the legend's bars stand over the columns
        line = ftrace.line(layout, Columns(0, "task", 1, 0, NOTHING), "x: y")
        assert layout.legend[-1].rindex("|") > line.index(":")


# ---------------------------------------------------------------- fields by era


BOND0 = 2  # its symbol


def fields(era: str, event: str, a: int, b: int, time_ns: int = 0) -> str:
    params = PRESETS[era]
    names = Names(
        params, LAYOUTS[era], ("eth0", "eth1"), {1: "lo", 2: "eth0"}, {26: "eth0-rx-0"},
        {819: "ping", 14: "ksoftirqd/0"}, ["", "bond_mii_monitor", "bond0"], 1,
    )  # fmt: skip
    return ftracetable.text(CPU_ROWS[event], Record(time_ns, 0, 0, a, b), names)


@pytest.mark.parametrize(
    ("event", "a", "b", "old", "new"),
    [
        ("irq_handler_entry", 26, 0x22, "irq=26 name=eth0-rx-0", ""),
        ("irq_handler_exit", 26, 1, "irq=26 ret=handled", ""),
        ("irq_handler_exit", 26, 2, "irq=26 ret=handled", ""),  # WAKE_THREAD
        ("irq_handler_exit", 26, 0, "irq=26 ret=unhandled", ""),
        ("softirq_entry", 3, 0, "vec=3 [action=NET_RX]", ""),
        ("softirq_raise", 5, 0, "vec=5 [action=BLOCK_IOPOLL]", "vec=5 [action=IRQ_POLL]"),
        (
            "sched_wakeup", 819 | 120 << 32 | 1 << 48, 0,
            "comm=ping pid=819 prio=120 success=1 target_cpu=001",
            "comm=ping pid=819 prio=120 target_cpu=001",
        ),
        (
            "sched_switch", 14 | 120 << 32 | 1 << 48, 120 << 32,
            "prev_comm=ksoftirqd/0 prev_pid=14 prev_prio=120 prev_state=S ==> "
            "next_comm=swapper/1 next_pid=0 next_prio=120",
            "",
        ),
        (
            "sched_switch", 99 | 115 << 32 | 0x80 << 48, 819 | 120 << 32,
            "prev_comm=<...> prev_pid=99 prev_prio=115 prev_state=x ==> "
            "next_comm=ping next_pid=819 next_prio=120",
            "prev_comm=<...> prev_pid=99 prev_prio=115 prev_state=X ==> "
            "next_comm=ping next_pid=819 next_prio=120",
        ),
        ("local_timer_entry", 236, 0, "vector=236", ""),
        ("ipi_send", 253, 1, "target_mask=00000000,00000002 (Rescheduling interrupts)", ""),
        ("ipi_send", 251, 33, "target_mask=00000002,00000000 (Function call interrupts)", ""),
        ("mmio_write", 1, 0x888 << 32 | 0xFFFF, "dev=eth1 EIMC=0x0000ffff (RTXQ=0xffff)", ""),
    ],
)  # fmt: skip
def test_fields(event: str, a: int, b: int, old: str, new: str):
    assert fields("3.10", event, a, b) == old
    assert fields("6.1", event, a, b) == (new or old)


def test_workqueue_and_napi_fields_by_era():
    """A work asked for anywhere and queued on an unbound pool (as the capture of 6.1 has it), and
    one for CPU 1 on that CPU's pool."""
    queued = r"work struct={} function=bond_mii_monitor \[bonding\] workqueue={} req_cpu={} cpu={}"
    raw, hashed = r"ffff[0-9a-f]{12}", r"00000000[0-9a-f]{8}"
    unbound, on_cpu1, names = 7, 7 | 2 << 32 | 2 << 48, 1 | BOND0 << 32
    for a, asked, pool in ((unbound, 5120, 4294967295), (on_cpu1, 1, 1)):
        old = fields("3.10", "workqueue_queue_work", a, names)
        assert re.fullmatch(queued.format(raw, raw, asked, pool), old)
    for a, asked, pool in ((unbound, 8192, -1), (on_cpu1, 1, 1)):
        new = fields("6.1", "workqueue_queue_work", a, names)
        assert re.fullmatch(queued.format(hashed, "bond0", asked, pool), new)
    assert re.fullmatch(f"work struct {raw}", fields("3.10", "workqueue_execute_end", 7, 1))
    end = fields("6.1", "workqueue_execute_end", 7, 1)
    assert re.fullmatch(rf"work struct {hashed}: function bond_mii_monitor \[bonding\]", end)
    poll = f"napi poll on napi struct {raw} for device eth0"
    assert re.fullmatch(poll, fields("3.10", "napi_poll", 2, 3 | 64 << 32))
    assert fields("6.1", "napi_poll", 2, 3 | 64 << 32).endswith(" for device eth0 work 3 budget 64")


def test_timer_fields_are_the_captured_ones():
    """timer_start and timer_expire_entry of bond_mii_monitor in the capture, pointers apart."""
    uptime_ns = (4294906691 - (1 << 32) + 300 * 250) * 4_000_000
    timer = 1 << 24 | 7 | 1 << 32 | 0b100 << 48 | 29 << 52  # of CPU 1, IRQSAFE, in bucket 29
    name = r"timer=0{8}[0-9a-f]{8} function=bond_mii_monitor \[bonding\] "
    started = fields("6.1", "timer_start", timer, 4294906716, uptime_ns)
    tail = r"expires=4294906716 \[timeout=25\] cpu=1 idx=29 flags=I"
    assert re.fullmatch(name + tail, started)
    expired = fields("6.1", "timer_expire_entry", timer, 4294906691, uptime_ns)
    assert re.fullmatch(name + "now=4294906691 baseclk=4294906691", expired)
    flags = fields("6.1", "timer_start", timer | 1 << 48, 4294906716, uptime_ns)
    assert flags.endswith(" flags=D|I")
    hz_1000 = (1 << 32) - 300_000 + 57_580
    old = fields("3.10", "timer_expire_entry", timer, 0, 57_580_000_000)
    assert old.endswith(f" function=bond_mii_monitor [bonding] now={hz_1000}")


def test_one_object_has_one_address():
    layout = LAYOUTS["6.1"]
    assert ftrace.pointer(layout, "work", 7) == ftrace.pointer(layout, "work", 7)
    made = {ftrace.pointer(layout, kind, n) for kind in ("work", "skb") for n in range(500)}
    assert len(made) == 1000


@pytest.mark.conformance("K9.5-3")
def test_which_kernel_has_which_tracepoints():
    """irq and softirq tracepoints came with 2.6.30, workqueue's in this form with 2.6.37:
    2.6.18 has none, the other presets and 2.6.39 have all; sched_waking is of 4.3."""
    assert PRESETS["2.6.18"].ftrace_format == "none"
    events = ["softirq_entry", "softirq_exit", "irq_handler_entry", "irq_handler_exit"]
    events += ["workqueue_queue_work", "workqueue_execute_start"]
    for event in events:
        assert CPU_ROWS[event].eras == ("2.6.39", "3.10", "6.1")
    waking = 1 << TRACEPOINTS["sched_waking"].number
    assert not ftracetable.select("cpu", ["sched"], "3.10") & waking
    assert ftracetable.select("cpu", ["sched"], "6.1") & waking


def test_every_tracepoint_of_a_cpu_prints_and_belongs_to_a_group():
    assert TRACEPOINTS.keys() <= CPU_ROWS.keys()
    for table in ftracetable.TABLES.values():
        assert {shown.row.group for shown in table.values()} <= set(GROUPS)
    for event in TRACEPOINTS:
        for era in ("3.10", "6.1"):
            assert "{" not in fields(era, event, 0, 0), event


def test_a_group_selects_its_events_and_a_name_one():
    mask = ftracetable.select("cpu", ["irq"], "6.1")
    assert mask == 0b11
    assert ftracetable.select("cpu", ["sched_switch"], "6.1") == 1 << 5
    assert ftracetable.select("nic", ["irq"], "6.1") == 0
    assert unpack_context(0).pid == 0


def test_the_help_names_every_group_in_order():
    listed = verbs.TABLE["trace"].help.partition("groups:")[2].partition("\n\n")[0]
    named = re.findall(r"\w+", listed)
    assert [word for word in named if word in GROUPS] == list(GROUPS)


def test_each_event_of_the_interrupt_controller_has_a_row() -> None:
    assert set(APIC_ROWS) == set(APIC_EVENTS)
    names = Names(PRESETS["6.1"], LAYOUTS["6.1"], ("eth0",), {}, {}, {}, ())
    said = {
        name: ftracetable.text(APIC_ROWS[name], Record(0, APIC_EVENTS[name].number, *fields), names)
        for name, fields in {
            "intx": (0, 1, 1),
            "eoi": (2, 0x31, 0),
            "ioapic_write": (1, 0x10, 0x31),
            "slot": (0, 5, 0x48),
        }.items()
    }
    assert said == {
        "intx": "source=eth0 pin=INTA asserted=1",
        "eoi": "cpu=002 vector=0x31",
        "ioapic_write": "cpu=001 offset=0x10 value=0x00000031",
        "slot": "slot=1 card=1 link=0 power=1 SltSta=0x0048",
    }


@pytest.mark.parametrize(("reason", "number"), [(k, n) for k, (_, n) in apic._DROPS.items()])
def test_each_reason_of_the_interrupt_controller_has_its_name(reason: str, number: int) -> None:
    names = Names(PRESETS["6.1"], LAYOUTS["6.1"], (), {}, {}, {}, ())
    record = Record(0, DROP, 0, number, 0)
    assert ftracetable.text(APIC_ROWS["drop"], record, names) == f"reason={reason}"
