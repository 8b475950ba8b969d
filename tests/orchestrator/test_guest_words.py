"""What the guest's verb says where no guest, another guest, or none of ours runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator import cli
from orchestrator.configuration import config
from orchestrator.configuration.tomlfile import TomlFile
from orchestrator.errors import BottomhalfError, guard
from orchestrator.guest import fetch
from orchestrator.machines import running
from orchestrator.machines.processes import ProcessMachine
from orchestrator.machines.rundir import RUN_DIR_VARIABLE, RunningMachine
from orchestrator.session import Session, drive
from orchestrator.verbs import guest as verb
from orchestrator.verbs import start
from tests.bus.conftest import assert_nothing_is_left, unique_name


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def bh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """A command line, in this process, where nothing runs yet."""
    monkeypatch.setenv(RUN_DIR_VARIABLE, str(tmp_path / "run"))

    def run(*argv: str) -> Said:
        code = guard(lambda: cli.run(argv))
        return Said(code, *capsys.readouterr())

    return run


def runs(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Machines of these names run, a minute old."""
    found = [RunningMachine(name, Path("/nowhere"), 41200, "g", time.time() - 60) for name in names]
    monkeypatch.setattr(running, "running_machines", lambda: found)
    monkeypatch.setattr("orchestrator.machines.rundir.running_machines", lambda: found)


@pytest.mark.parametrize("line", ["exec ls", "console"])
def test_where_nothing_runs_the_hint_is_the_guests_own_command(
    bh: Callable[..., Said], line: str
) -> None:
    said = bh("guest", *line.split())
    assert said.code == 2
    assert said.err == (
        "bottomhalf: no guest is running\n  hint: bottomhalf guest -d          starts one\n"
    )


@pytest.mark.parametrize(
    ("names", "name", "second"),
    [
        (["m1"], "m1", "guest"),
        (["guest"], "guest", "guest2"),
        (["guest", "guest2", "m1"], "m1", "guest3"),
    ],
)
def test_for_a_name_that_is_taken_a_guests_is_proposed(
    bh: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    name: str,
    second: str,
) -> None:
    runs(monkeypatch, *names)
    monkeypatch.setattr(fetch, "everything", lambda *_: None)
    said = bh("guest", "-d", "--name", name)
    assert said.code == 2
    assert said.err.startswith(f"bottomhalf: machine {name} is already running (g, pid 41200, ")
    assert said.err.endswith(f"start a second one: bottomhalf guest --name {second}\n")
    assert ("`bottomhalf down`" in said.err) == (len(names) == 1)


def test_what_to_try_next_names_the_machine_unless_it_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs(monkeypatch, "m1")
    assert running.on_option("m1", "m1") == ""
    assert running.on_option("guest", "guest") == "--on guest "  # m1 runs, too
    runs(monkeypatch, "m1", "m9")
    assert running.on_option("m1", "m1") == "--on m1 "
    runs(monkeypatch, "m9")
    assert running.on_option("m9", "m1") == "--on m9 "


def test_a_wrong_option_of_guest_is_answered_in_lines_that_fit(bh: Callable[..., Said]) -> None:
    said = bh("guest", "--foo")
    assert said.code == 2
    assert [len(line) <= 100 for line in said.err.splitlines()] == [True, True]
    page = bh("guest", "--help").out
    for option in ("--kernel", "--modules", "--smp", "--nics", "--bond", "--exec", "--console",
                   "--detach", "--gdb", "--accel", "--append", "--name", "--fetch"):  # fmt: skip
        assert option in page
    assert max(map(len, page.splitlines())) <= 90


# ---------------------------------------------------------------- a guest of somebody else's


@pytest.fixture(scope="module")
def machine() -> Iterator[ProcessMachine]:
    settings = config.build(TomlFile("g.toml", "guest = true"), "g")
    settings = settings._replace(name=unique_name())
    made = ProcessMachine(settings)
    yield made
    made.close()
    assert_nothing_is_left(made)


def say(machine: ProcessMachine, line: str) -> str:
    """As the command line says it: its session's place is the guest."""
    out: list[str] = []
    session = Session(machine, out.append, out.append, cpu="guest")
    assert drive(session, start(session, line.split())) == 0
    return "".join(out)


@pytest.mark.processes
def test_somebody_elses_guest_takes_no_commands_and_that_is_wrong_usage(
    machine: ProcessMachine,
) -> None:
    with pytest.raises(BottomhalfError, match="was started by somebody else") as refused:
        verb._is_guest(machine)
    assert (refused.value.code, "bottomhalf guest -d" in refused.value.hint) == (2, True)
    with pytest.raises(BottomhalfError, match="`ping` works on our kernel") as refused:
        say(machine, "ping gateway")
    assert (refused.value.code, "guest exec" in refused.value.hint) == (2, False)
    assert say(machine, "tcpdump -D").startswith("1.lan:1 (switch port of eth0)\n")


@pytest.mark.processes
def test_a_new_card_is_found_by_restart_in_our_guest_and_by_a_connection_in_another(
    machine: ProcessMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(machine, "card eth1 out")
    assert say(machine, "card eth1 in").endswith(
        "  the guest must connect to it anew: eth1.vfio in its run directory\n"
    )
    monkeypatch.setattr(machine, "own_guest", True)
    say(machine, "card eth1 out")
    assert say(machine, "card eth1 in").endswith(
        "  the guest's kernel still has the old card: "
        "bottomhalf restart eth1 removes it, rescans and enslaves\n"
    )
