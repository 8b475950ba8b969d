"""The control socket: what a client asks is done by the owner, and leaving is noticed."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from bus.ram import Ram
from orchestrator.errors import BottomhalfError
from orchestrator.machines.client import RemoteMachine
from orchestrator.machines.daemon import ControlServer, serve
from orchestrator.session import Session, drive
from orchestrator.verbs import start

GUARD_S = 60


class Owned(FakeMachine):
    """Its time goes on by one event whenever a client said something or an event is due."""

    server: ControlServer

    def pump(self, until_ns: int, stop: Callable[[], bool] | None = None) -> None:
        while stop is None or not stop():
            if self._events:
                super().pump(self._events[0][0])
            else:
                select.select([self.server], [], [], GUARD_S)


class Owner:
    """A machine and its server in a thread of their own."""

    def __init__(self, directory: Path) -> None:
        self.machine = Owned()
        self.control = str(directory / "control")
        self.ram = str(directory / "ram")
        Ram.create(self.ram, self.machine.settings.layout()).close()
        self.server = ControlServer(self.machine, self.control)
        self.machine.server = self.server
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        serve(self.machine, self.server, lambda: False)
        self.server.close()

    def client(self) -> RemoteMachine:
        return RemoteMachine(self.control, self.ram, self.machine.settings)

    def ended(self) -> bool:
        self.thread.join(GUARD_S)
        return not self.thread.is_alive()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(tmp_path)
    yield owner
    if owner.thread.is_alive():
        client = owner.client()
        client.shut_down()
        client.close()
    assert owner.ended()


@pytest.fixture
def client(owner: Owner) -> Iterator[RemoteMachine]:
    client = owner.client()
    yield client
    client.close()


def test_socket_is_for_its_owner_alone(owner: Owner):
    assert stat.S_IMODE(os.stat(owner.control).st_mode) == 0o600


def test_signals_go_to_the_owner(client: RemoteMachine, owner: Owner):
    client.kill("eth0")
    state = client.state("eth0")
    assert (state.alive, state.signal) == (False, 9)
    assert ("kill", "eth0") in owner.machine.calls


def test_a_verb_runs_against_it_as_against_any_machine(client: RemoteMachine):
    out: list[str] = []
    session = Session(client, out=out.append)
    assert drive(session, start(session, ["kill", "eth0"])) == 0
    assert out == ["eth0 (pid 41203) got SIGKILL\n", "  mend: bottomhalf restart eth0\n"]


def test_snapshots_keep_integer_keys_and_bytes(client: RemoteMachine, owner: Owner):
    owner.machine.snapshots["cpu0", "state"] = {3: b"\x00\xff", "x": [1, None]}
    request = client.ask("cpu0", "state")
    assert client.wait(lambda: request.done, GUARD_S * 1000)
    assert (request.ok, request.value) == (True, {3: b"\x00\xff", "x": [1, None]})


def test_failed_request_says_why(client: RemoteMachine):
    request = client.ask("cpu0", "nonsense")
    assert client.wait(lambda: request.done, GUARD_S * 1000)
    assert request.failed == "no snapshot nonsense"


def test_output_and_exit_code_of_a_program_arrive(client: RemoteMachine, owner: Owner):
    def program(machine: FakeMachine, job) -> None:
        job.output += [(1, "out\n"), (2, "err\n")]
        machine.later(1000, lambda: setattr(job, "exit_code", 7))

    owner.machine.programs["ping"] = program
    job = client.spawn("cpu0", ("ping", "x"))
    assert client.wait(lambda: job.done, GUARD_S * 1000)
    assert (job.take(), job.exit_code) == ([(1, "out\n"), (2, "err\n")], 7)


def test_a_client_learns_where_its_program_runs_now(client: RemoteMachine, owner: Owner):
    def program(machine: FakeMachine, job) -> None:
        machine.later(1000, lambda: setattr(job, "cpu", "cpu1"))
        machine.later(2000, lambda: setattr(job, "exit_code", 0))

    owner.machine.programs["ping"] = program
    job = client.spawn("cpu0", ("ping", "x"), 0b11)
    assert client.wait(lambda: job.done, GUARD_S * 1000)
    assert job.cpu == "cpu1"


def test_a_client_that_leaves_hangs_up_on_its_programs(owner: Owner):
    heard = threading.Event()

    class Hearing(list):  # type: ignore[type-arg]
        def append(self, call: object) -> None:
            super().append(call)
            if call == ("signal", "sleep", signal.SIGHUP):
                heard.set()

    owner.machine.calls = Hearing()
    owner.machine.programs["sleep"] = lambda machine, job: None
    client = owner.client()
    client.spawn("cpu0", ("sleep",))
    client.states()  # the owner has taken the order
    client.close()
    assert heard.wait(GUARD_S)


def test_fault_of_an_operation_is_a_message_not_the_end(client: RemoteMachine):
    with pytest.raises(BottomhalfError, match="kill: 'eth9'"):
        client.kill("eth9")
    assert client.state("eth0").alive


def test_garbage_ends_only_its_own_connection(client: RemoteMachine, owner: Owner):
    for garbage in (b"\xc1\xc1\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\x90", b"\x93\x01\xa4kill\x05"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(owner.control)
            stranger.sendall(garbage)
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(GUARD_S)
            while stranger.recv(4096):
                pass
    assert client.state("eth0").alive


def test_down_ends_the_owner(owner: Owner):
    client = owner.client()
    client.shut_down()
    assert owner.ended()
    client.close()
    assert not os.path.exists(owner.control)


def test_requests_fail_when_the_owner_ends(owner: Owner):
    waiting, other = owner.client(), owner.client()
    owner.machine.hung.add("eth0")
    request = waiting.ask("eth0", "state")
    job = waiting.spawn("cpu0", ("ping", "x"))
    waiting.states()
    other.shut_down()
    assert owner.ended()
    assert waiting.wait(lambda: request.done and job.done, GUARD_S * 1000)
    assert request.failed == "the machine has ended"
    with pytest.raises(BottomhalfError, match="the machine has ended"):
        waiting.states()
    waiting.close()
    other.close()


def test_who_holds_the_machine_takes_it_along(owner: Owner):
    client = owner.client()
    client.hold()
    client.close()
    assert owner.ended()


def test_who_released_it_leaves_it_running(owner: Owner):
    client = owner.client()
    client.hold()
    client.release()
    client.close()
    other = owner.client()
    assert other.state("eth0").alive
    other.close()


def test_long_directories_work(tmp_path: Path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    owner = Owner(deep)
    client = owner.client()
    assert client.state("lan").alive
    client.shut_down()
    client.close()
    assert owner.ended()
