"""The machine of processes: its life, its end, and that nothing is left whoever is killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nodes.machine import MachineSettings
from orchestrator.machines.launch import LaunchError
from orchestrator.machines.processes import MachineLostError, ProcessMachine
from orchestrator.machines.rundir import RunDirError, running_machines
from tests.bus.asking import GUARD_MS, ask, command, until, writes
from tests.bus.conftest import Starter, assert_nothing_is_left, processes_of, unique_name
from tests.bus.toys import Broken, settings, toys

pytestmark = pytest.mark.processes


def wait_dead(pids: list[int]) -> None:
    """Wait until processes that are not our children are dead."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            assert poll.poll(GUARD_MS), f"process {pid} lives on"
        finally:
            os.close(fd)


class Orchestrator(NamedTuple):
    """An orchestrator in another process, and what belongs to it."""

    process: subprocess.Popen[str]
    directory: Path
    server_pid: int
    node_pids: list[int]


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bus.orchestrator_child", unique_name()],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    directory, server, *nodes = process.stdout.readline().split()
    yield Orchestrator(process, Path(directory), int(server), [int(pid) for pid in nodes])
    process.kill()
    process.wait()
    process.stdout.close()
    wait_dead([int(server), *map(int, nodes)])


# ---------------------------------------------------------------- whoever is killed


def test_a_killed_orchestrator_leaves_no_process_and_no_file(orchestrator: Orchestrator) -> None:
    assert orchestrator.directory.exists()
    orchestrator.process.kill()
    orchestrator.process.wait()
    wait_dead([*orchestrator.node_pids, orchestrator.server_pid])
    assert not orchestrator.directory.exists()
    assert processes_of(orchestrator.directory) == []


def test_frozen_nodes_of_a_killed_orchestrator_die_too(orchestrator: Orchestrator) -> None:
    for pid in orchestrator.node_pids:
        os.kill(pid, signal.SIGSTOP)
    orchestrator.process.kill()
    wait_dead([*orchestrator.node_pids, orchestrator.server_pid])
    assert not orchestrator.directory.exists()


def test_orchestrator_and_fork_server_killed_at_once_leave_no_process(
    orchestrator: Orchestrator,
) -> None:
    os.kill(orchestrator.process.pid, signal.SIGSTOP)  # so that it cannot clean up in between
    os.kill(orchestrator.server_pid, signal.SIGKILL)
    os.kill(orchestrator.process.pid, signal.SIGKILL)
    orchestrator.process.wait()
    wait_dead(orchestrator.node_pids)
    assert orchestrator.directory.exists()  # nobody was left to remove it
    names = [m.name for m in running_machines()]
    assert orchestrator.directory.name not in names
    assert not orchestrator.directory.exists()  # the next who looks does


def test_a_machine_can_start_where_a_dead_one_left_its_files(orchestrator: Orchestrator) -> None:
    os.kill(orchestrator.process.pid, signal.SIGSTOP)
    os.kill(orchestrator.server_pid, signal.SIGKILL)
    os.kill(orchestrator.process.pid, signal.SIGKILL)
    orchestrator.process.wait()
    wait_dead(orchestrator.node_pids)
    made = settings(orchestrator.directory.name)
    machine = ProcessMachine(made, toys(made))
    assert ask(machine, "cpu0", "self")["incarnation"] == 1
    machine.close()
    assert_nothing_is_left(machine)


def test_a_killed_fork_server_ends_the_machine_and_close_leaves_nothing(start: Starter) -> None:
    machine = start()
    pids = [machine.state(name).pid or 0 for name in machine.settings.node_names]
    os.kill(machine.server_pid, signal.SIGKILL)
    with pytest.raises(MachineLostError, match=str(machine.server_pid)):
        machine.wait(lambda: False, GUARD_MS)
    wait_dead(pids)
    with pytest.raises(MachineLostError):
        machine.pump(machine.now_ns())
    machine.close()
    assert_nothing_is_left(machine)


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_any_node_may_be_killed_and_the_machine_goes_on(
    start: Starter, signo: signal.Signals
) -> None:
    machine = start()
    for name in ("lan", "apic", "eth1", "cpu0"):
        os.kill(machine.state(name).pid or 0, signo)
        until(machine, lambda name=name: not machine.state(name).alive)
        assert machine.state(name).signal == signo
    assert ask(machine, "eth0", "self")["incarnation"] == 1


def test_close_ends_frozen_nodes(start: Starter) -> None:
    machine = start()
    for name in machine.settings.node_names:
        machine.freeze(name)
    machine.close()
    assert_nothing_is_left(machine)


def test_nodes_that_are_asked_to_end_exit_with_0(start: Starter) -> None:
    machine = start()
    machine.close()
    ends = [machine.state(name) for name in machine.settings.node_names]
    assert {(end.alive, end.exit_code, end.signal) for end in ends} == {(False, 0, None)}


# ---------------------------------------------------------------- starting


def test_a_second_machine_of_the_same_name_is_refused_clearly(start: Starter) -> None:
    machine = start(config="bond-pair")
    with pytest.raises(RunDirError) as refused:
        start(name=machine.settings.name)
    text = str(refused.value)
    assert f"machine {machine.settings.name} is already running" in text
    assert f"bond-pair, pid {os.getpid()}" in text
    assert refused.value.running is not None
    assert refused.value.running.pid == os.getpid()
    assert ask(machine, "cpu0", "self")["incarnation"] == 1


def test_a_running_machine_is_listed_until_it_ends(start: Starter) -> None:
    machine = start(config="bond-pair")

    def listed() -> list[tuple[int, str, Path]]:
        return [
            (m.pid, m.config, m.directory)
            for m in running_machines()
            if m.name == machine.settings.name
        ]

    assert listed() == [(os.getpid(), "bond-pair", machine.rundir.path)]
    machine.close()
    assert listed() == []


def test_a_run_directory_with_a_path_too_long_for_sockets_works(
    start: Starter, tmp_path: Path
) -> None:
    base = tmp_path / ("long" * 40)
    machine = start(base=base)
    assert len(str(machine.rundir.path)) > 150
    command(machine, "cpu0", "say", "eth0", "4", "1")
    until(machine, lambda: writes(machine, "eth0") == [4])
    machine.kill("eth0")
    machine.restart("eth0")
    command(machine, "eth0", "say", "cpu0", "5", "1")
    until(machine, lambda: writes(machine, "cpu0") == [5])


def test_a_node_that_cannot_be_built_is_named_with_its_traceback() -> None:
    made = settings(unique_name())
    with pytest.raises(LaunchError) as failed:
        ProcessMachine(made, toys(made, eth1=Broken))
    text = str(failed.value)
    assert "eth1" in text
    assert "this node cannot be built" in text
    assert made.name not in [m.name for m in running_machines()]


class Unpicklable:
    """A builder whose module the fork server cannot find."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("import no_such_module_of_ours",))


def test_a_fork_server_that_cannot_load_the_nodes_says_so() -> None:
    made = settings(unique_name())
    with pytest.raises(LaunchError, match="no_such_module_of_ours"):
        ProcessMachine(made, toys(made, eth1=Unpicklable()))
    assert made.name not in [m.name for m in running_machines()]


def big(cpus: int) -> MachineSettings:
    return settings(unique_name(), cpus=cpus)


@pytest.mark.slow
def test_a_machine_of_thirty_five_processes_starts_and_ends() -> None:
    made = big(31)
    machine = ProcessMachine(made, toys(made))
    try:
        command(machine, "cpu30", "say", "eth1", "8", "1")
        until(machine, lambda: writes(machine, "eth1") == [8])
    finally:
        machine.close()
    assert_nothing_is_left(machine)


# ---------------------------------------------------------------- bookkeeping


def test_what_is_out_at_a_node_fails_when_it_dies(start: Starter) -> None:
    machine = start()
    machine.freeze("cpu0")
    request, job = machine.ask("cpu0", "self"), machine.spawn("cpu0", ("say", "eth0", "1", "1"))
    machine.kill("cpu0")
    assert request.done
    assert job.done
    assert request.failed == job.failed == "cpu0 died (SIGKILL)"
    late = machine.ask("cpu0", "self"), machine.spawn("cpu0", ("x",))
    assert [o.failed for o in late] == ["cpu0 is dead (SIGKILL)"] * 2
    for act in (machine.kill, machine.freeze, machine.thaw):
        with pytest.raises(ProcessLookupError):
            act("cpu0")
    with pytest.raises(ValueError):
        machine.restart("eth0")


def test_a_frozen_node_answers_after_it_is_thawed(start: Starter) -> None:
    machine = start()
    machine.freeze("eth0")
    request = machine.ask("eth0", "self")
    ask(machine, "cpu0", "self")
    assert not request.done
    machine.thaw("eth0")
    assert machine.wait(lambda: request.done, GUARD_MS)
    assert request.value["incarnation"] == 1


def test_output_and_exit_code_of_a_job_arrive_in_order(start: Starter) -> None:
    machine = start()
    job = command(machine, "cpu0", "say", "eth0", "1", "1")
    assert (job.take(), job.exit_code) == ([(1, "say eth0 1 1")], 0)


def test_the_page_of_a_dead_life_is_archived_at_its_restart(start: Starter) -> None:
    machine = start()
    command(machine, "eth0", "say", "cpu0", "1", "30")
    until(machine, lambda: machine.ram.page("eth0")["msgs_out"] > 30)
    machine.kill("eth0")
    last = machine.ram.page("eth0").as_dict()
    assert isinstance(last["msgs_out"], int)
    assert last["msgs_out"] > 30
    assert machine.archived_page("eth0", 1) is None
    machine.restart("eth0")
    assert machine.archived_page("eth0", 1) == last
    assert machine.archived_page("eth0", 2) is None
    assert machine.ram.page("eth0")["incarnation"] == machine.ram.incarnation("eth0") == 2
    assert machine.ram.pid("eth0") == machine.state("eth0").pid


def test_the_pump_calls_back_for_a_watched_descriptor_and_may_be_used_inside(
    start: Starter,
) -> None:
    machine = start()
    read_fd, write_fd = os.pipe()
    seen: list[bytes] = []

    def readable() -> None:
        seen.append(os.read(read_fd, 10))
        assert ask(machine, "cpu0", "self")["incarnation"] == 1  # a pump within the pump

    machine.watch_fd(read_fd, readable)
    os.write(write_fd, b"x")
    assert machine.wait(lambda: seen == [b"x"], GUARD_MS)
    machine.unwatch_fd(read_fd)
    os.write(write_fd, b"y")
    ask(machine, "cpu0", "self")
    assert seen == [b"x"]
    os.close(read_fd)
    os.close(write_fd)
