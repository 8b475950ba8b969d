"""From trace records to the lanes of workers and the step line of nr_running."""

from __future__ import annotations

from bus.recorder import Record
from nodes.cpu.kernel import words
from nodes.cpu.page import CONTEXTS
from nodes.cpu.trace import TRACEPOINTS
from orchestrator.labs import workers

MS = 1_000_000
BEGIN = 50 * MS
TASK = CONTEXTS.index("task")
SYMBOLS = ["", "w0", "w1", "bond_mii_monitor"]
COMMS = {7: "kworker/1:0", 8: "kworker/1:1", 9: "ping"}
SLEEPING = 2 << 48


def record(ms: float, event: str, a: int = 0, b: int = 0, pid: int = 0) -> Record:
    return Record(
        BEGIN + int(ms * MS), TRACEPOINTS[event].number, TASK | pid << 32, a, b
    )  # fmt: skip


def work(ms: float, event: str, number: int, pid: int) -> Record:
    name = f"workqueue_execute_{event}"
    return record(ms, name, words.OTHER_WORK + number, number + 1, pid)


def drawn(records: list[Record]) -> list[str]:
    shown = workers.picture("cpu1", records, SYMBOLS, COMMS)
    assert shown is not None
    return workers.draw(shown)


def lane(lines: list[str], head: str) -> str:
    (found,) = (line for line in lines if line.startswith(f"    {head}"))
    return found[workers.MARGIN :]


#: w0 burns 2 ms, sleeps 3 ms, burns 1 ms; w1 burns 2 ms in its place
TWO = [
    record(-0.1, "sched_switch", 0, 7),
    record(0, "worker_pool_nr_running", 2, 1),
    work(0, "start", 0, 7),
    record(2, "worker_pool_nr_running", 2, 0),
    record(2, "sched_wakeup", 8),
    record(2, "sched_switch", 7 | SLEEPING, 8),
    record(2, "worker_pool_nr_running", 2, 1),
    work(2, "start", 1, 8),
    record(4, "sched_wakeup", 7),
    record(4, "worker_pool_nr_running", 2, 2),
    work(5, "end", 1, 8),
    record(5, "worker_pool_nr_running", 2, 1),
    record(5, "sched_switch", 8 | SLEEPING, 7),
    work(6, "end", 0, 7),
    record(6, "worker_pool_nr_running", 2, 0),
    record(6, "sched_switch", 7 | SLEEPING, 0),
]


def test_a_lane_says_which_work_runs_sleeps_or_waits() -> None:
    lines = drawn(TWO)
    # 200 us a column, and a tenth more than the works took
    assert lane(lines, "kworker/1:0") == "0" * 10 + "z" * 10 + "=" * 5 + "0" * 5 + "..."
    assert lane(lines, "kworker/1:1") == "." * 10 + "1" * 15 + "." * 8
    assert lane(lines, "woken") == " " * 10 + "^" + " " * 9 + "^"


def test_a_column_of_the_step_line_holds_every_value_there_was_in_it() -> None:
    rows = [line for line in drawn(TWO) if line[16:17].isdigit()]
    assert [row[16] for row in rows] == ["2", "1", "0"]
    assert rows[0].startswith("    nr_running")
    assert rows[1].startswith("      pool 2")
    two, one, zero = (row[workers.MARGIN :].ljust(33) for row in rows)
    assert two == " " * 20 + "2" * 5 + " " * 8
    assert one == "1" * 20 + " " * 5 + "1" * 5 + " " * 3
    assert zero == " " * 30 + "000"


def test_a_value_that_lasted_less_than_a_column_is_seen() -> None:
    records = [*TWO[:4], record(2.05, "worker_pool_nr_running", 2, 1), *TWO[7:]]
    rows = [line for line in drawn(records) if line[16:17].isdigit()]
    assert rows[-1][workers.MARGIN :] == " " * 10 + "0" + " " * 19 + "000"
    assert rows[-2][workers.MARGIN :].startswith("1" * 11)


def test_works_of_the_kernel_are_no_picture() -> None:
    monitor = [
        record(-2, "workqueue_execute_start", 24, 3, 7),
        record(-1, "workqueue_execute_end", 24, 3, 7),
    ]
    assert workers.picture("cpu1", monitor, SYMBOLS, COMMS) is None
    shown = workers.picture("cpu1", [*monitor, *TWO], SYMBOLS, COMMS)
    assert shown is not None
    assert shown.works == {"w0": "0", "w1": "1"}
    assert (shown.begin_ns, shown.end_ns) == (BEGIN, BEGIN + 6_600_000)


def test_the_legend_names_the_works_and_only_the_letters_that_occur() -> None:
    text = " ".join(line.strip() for line in drawn(TWO)[-2:])
    assert "0 w0  1 w1  z sleeps in its work  = waits for the CPU" in text
    assert "awake without a work" not in text
