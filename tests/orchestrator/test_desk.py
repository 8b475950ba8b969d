"""Jobs that move from CPU to CPU: whose word counts, and in which order it is filed."""

from __future__ import annotations

from bus.messages import CPU_MASK_ALL, Signal, TaskExit, TaskMoved, TaskOutput
from orchestrator.machines.desk import EARLY_MAX, Desk
from orchestrator.machines.machine import Job


def started() -> tuple[Desk, Job]:
    desk = Desk()
    job, message = desk.spawn("cpu1", ("ping",), CPU_MASK_ALL, ())
    assert message.request == job.number
    return desk, job


def test_the_next_cpu_is_heard_after_the_last_word_of_the_old_one() -> None:
    desk, job = started()
    desk.file("cpu0", TaskOutput(job.number, 1, "three"))
    desk.file("cpu0", TaskExit(job.number, 7))
    desk.file("cpu1", TaskOutput(job.number, 1, "one"))
    assert not job.done
    desk.file("cpu1", TaskOutput(job.number, 1, "two"))
    desk.file("cpu1", TaskMoved(job.number, "cpu0"))
    assert [text for _, text in job.output] == ["one", "two", "three"]
    assert (job.cpu, job.exit_code) == ("cpu0", 7)


def test_it_may_have_moved_twice_before_the_first_word_of_it() -> None:
    desk, job = started()
    desk.file("cpu0", TaskMoved(job.number, "cpu2"))
    desk.file("cpu2", TaskOutput(job.number, 1, "b"))
    desk.file("cpu1", TaskOutput(job.number, 1, "a"))
    desk.file("cpu1", TaskMoved(job.number, "cpu0"))
    assert [text for _, text in job.output] == ["a", "b"]
    assert job.cpu == "cpu2"


def test_a_cpu_that_has_nothing_to_do_with_a_job_cannot_fill_the_memory() -> None:
    desk, job = started()
    for _ in range(EARLY_MAX + 5):
        desk.file("cpu3", TaskOutput(job.number, 1, "x"))
    assert len(job.early) == EARLY_MAX
    assert not job.output


def test_a_job_outlives_the_cpu_it_had_left() -> None:
    desk, job = started()
    desk.file("cpu0", TaskOutput(job.number, 1, "here"))
    desk.node_died("cpu1", "cpu1 died")
    assert (job.cpu, job.failed) == ("cpu0", "")
    assert job.take() == [(1, "here")]


def test_a_signal_that_came_back_goes_after_the_job_and_only_while_it_runs() -> None:
    desk, job = started()
    returned = Signal(job.number, 2)
    assert desk.moved_from("cpu1", returned) == ""  # it is over there: its exit is on the way
    desk.file("cpu1", TaskMoved(job.number, "cpu0"))
    assert desk.moved_from("cpu1", returned) == "cpu0"
    desk.file("cpu0", TaskExit(job.number, 0))
    assert desk.moved_from("cpu1", returned) == ""
