"""The shell on a machine of the simulation, its completion, and steps of scenarios that use it."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.cpu.page import CPU_SCHEMA
from orchestrator import verbs
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.scenarios import scenario
from orchestrator.scenarios.play import Player
from orchestrator.scenarios.story import PlainStory
from orchestrator.session import Session, drive
from orchestrator.shell.shellinput import Input, World, complete
from orchestrator.verbs.files import columns
from orchestrator.verbs.shell import Shell, commands, glob

BOND = "/sys/class/net/bond0/bonding"


@pytest.fixture(scope="module")
def booted() -> SimulatedMachine:
    machine = SimulatedMachine(config.load(), seed=3)
    job = machine.spawn("cpu0", ("no-such-program",))
    assert machine.wait(lambda: job.done, 10_000)
    machine.pump(machine.now_ns() + 200_000_000)
    return machine


Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sh(booted: SimulatedMachine) -> Say:
    """Run a line in a shell of its own: exit code, stdout, stderr."""

    def run(line: str, **options: Any) -> tuple[int, str, str]:
        out: list[str] = []
        err: list[str] = []
        session = Session(booted, out=out.append, err=err.append, **options)
        try:
            code = drive(session, verbs.start(session, ["sh", "-c", line]))
        except BottomhalfError as error:
            err.append(error.text(session.terminal))
            code = error.code
        return code, "".join(out), "".join(err)

    return run


# ---------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("line", "code", "out"),
    [
        ("echo a  'b  c'", 0, "a b  c\n"),
        ("echo -n a; echo -e 'b\\tc'; echo 'd\\tc'", 0, "ab\tc\nd\\tc\n"),
        ("true && echo yes || echo no", 0, "yes\n"),
        ("false && echo yes || echo no", 0, "no\n"),
        ("false; echo $?; echo $?", 0, "1\n0\n"),
        ("exit 3; echo never", 3, ""),
        ("false; exit", 1, ""),
        ("nproc; uname; uname -r; uname -sn; hostname", 0, "2\nLinux\n6.1.0\nLinux m1\nm1\n"),
        ("uname -a", 0, "Linux m1 6.1.0 #1 SMP x86_64 GNU/Linux\n"),
        ("pwd; cd /sys/class/net/; pwd; cat eth0/mtu; cd ..; pwd; cd; pwd", 0,
         "/root\n/sys/class/net\n1500\n/sys/class\n/root\n"),
        ("ls /; ls; cd /sys/class; ls; ls net", 0, "proc\nroot\nsys\nnet\nbond0\neth0\neth1\nlo\n"),
        ("ls -1 /sys/class/net /proc/version", 0,
         "/proc/version\n\n/sys/class/net:\nbond0\neth0\neth1\nlo\n"),
        ("cat /sys/class/net/eth*/mtu /sys/class/net/[a-d]*/mtu", 0, "1500\n1500\n1500\n"),
        ("cd /sys/class/net; echo eth* no*", 0, "eth0 eth1 no*\n"),
        (f"cat {BOND}/miimon > /dev/null", 0, ""),
        ("sleep 0.5; echo done", 0, "done\n"),
        ("", 0, ""),
    ],
)  # fmt: skip
def test_what_a_line_prints(sh: Say, line: str, code: int, out: str) -> None:
    assert sh(line) == (code, out, "")


@pytest.mark.parametrize(
    ("line", "code", "err"),
    [
        ("cat /proc/nix", 1, "cat: /proc/nix: No such file or directory\n"),
        ("cat /proc/net", 1, "cat: /proc/net: Is a directory\n"),
        ("cat /sys/bus/pci/rescan", 1, "cat: /sys/bus/pci/rescan: Permission denied\n"),
        ("cd /proc; cat nix", 1, "cat: nix: No such file or directory\n"),
        ("cd /nix", 1, "bash: cd: /nix: No such file or directory\n"),
        ("cd /proc/version", 1, "bash: cd: /proc/version: Not a directory\n"),
        ("ls /nix", 2, "ls: cannot access '/nix': No such file or directory\n"),
        ("echo 1 > /proc/nix", 1, "bash: /proc/nix: No such file or directory\n"),
        ("echo 1 > /proc", 1, "bash: /proc: Is a directory\n"),
        ("echo 1 > /proc/interrupts", 1, "bash: echo: write error: Input/output error\n"),
        (f"echo eth9 > {BOND}/active_slave", 1, "bash: echo: write error: No such device\n"),
        (f"cat /proc/version > {BOND}/miimon", 1, "cat: write error: Invalid argument\n"),
        ("cat /proc/version > /tmp/x", 1, "bash: /tmp/x: No such file or directory\n"),
        ("uptime", 127, "bash: uptime: command not found\n"),  # the host's would be another's
        ("frob", 127, "bash: frob: command not found\n"),
        ("kill eth0", 127, "bash: kill: command not found\n"),
        ("sh", 127, "bash: sh: command not found\n"),
        ("sleep soon", 1, "sleep: invalid time interval 'soon'\n"),
        ("uname -x", 1, "uname: invalid option -- 'x'\n"),
        ("a &&", 2, "bash: syntax error near unexpected token `newline'\n"),
        ("ping nohost.", 2, "ping: nohost.: Name or service not known\n"),
        ("exit many", 2, "bash: exit: many: numeric argument required\n"),
        ("rmmod nix", 1, "rmmod: ERROR: Module nix is not currently loaded\n"),
    ],
)
def test_what_goes_wrong_is_said_as_on_linux(sh: Say, line: str, code: int, err: str) -> None:
    assert sh(line) == (code, "", err)


def test_hints_are_for_terminals(sh: Say) -> None:
    assert (
        "hint: that is no command of this machine; elsewhere: bottomhalf kill"
        in sh("kill eth0", terminal=True)[2]
    )
    assert "did you mean `ping`?" in sh("pong", terminal=True)[2]
    assert "near it: /proc/version" in sh("cat /proc/versoin", terminal=True)[2]


def test_echo_writes_and_cat_reads(sh: Say) -> None:
    path = "/proc/sys/net/core/netdev_budget"
    assert sh(f"echo 200 > {path} && cat {path}; echo 300 >> {path}; cat {path}") == (
        0,
        "200\n300\n",
        "",
    )
    assert sh(f"cd {BOND}; echo 50 > miimon; cat miimon; echo 100 > ./miimon") == (0, "50\n", "")


def test_the_hosts_tools_stand_behind_a_pipe(sh: Say) -> None:
    code, out, err = sh("cat /proc/interrupts | grep eth0 | wc -l; echo $?")
    assert (code, out.split(), err) == (0, ["3", "0"], "")
    assert sh("cat /proc/version | grep nothing")[0] == 1
    assert sh("nix | cat")[::2] == (0, "bash: nix: command not found\n")
    assert sh("echo a | kill -9 $$")[0] == 137


def test_a_pipe_that_has_seen_enough_ends_the_command(sh: Say) -> None:
    code, out, _ = sh("ping -i 0.01 gateway | head -n 2; echo next")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert out.endswith("next\n")


def test_ctrl_c_ends_the_program_not_the_shell(sh: Say, booted: SimulatedMachine) -> None:
    sent: list[int] = [signal.SIGINT]
    code, out, _ = sh("ping gateway; echo then", signals=sent)
    assert code == 0
    assert "ping statistics" in out
    assert out.endswith("then\n")
    assert sh("sleep 100; echo never", signals=[signal.SIGINT]) == (130, "", "")


def test_taskset_chooses_the_cpu(sh: Say, booted: SimulatedMachine) -> None:
    before = len(booted.ram.log(1).lines())
    assert sh("taskset -c 1 insmod softirq_order && lsmod && rmmod softirq_order") == (
        0,
        "Module                  Size  Used by\nsoftirq_order          16384  0\n",
        "",
    )
    assert len(booted.ram.log(1).lines()) > before
    assert sh("taskset 2 ping -c 1 gateway")[0] == 0
    assert sh("taskset -c 7 ping gateway")[2].startswith("taskset: failed to set pid 0's affinity")
    booted.ram.page("cpu1", CPU_SCHEMA).words[CPU_SCHEMA.index("online")] = 0
    assert sh("taskset -c 1 ping gateway") == (
        1,
        "",
        "taskset: failed to set pid 0's affinity: Invalid argument\n",
    )
    assert sh("taskset -c 0-1 ping -c 1 gateway")[0] == 0
    booted.ram.page("cpu1", CPU_SCHEMA).words[CPU_SCHEMA.index("online")] = 1
    assert sh("taskset -c x ping gateway")[2] == "taskset: failed to parse CPU list: x\n"
    assert sh("taskset -c 1 dmesg")[0] == 127


def test_help_names_every_command(sh: Say) -> None:
    said = sh("help")[1]
    for name in ("ping", "cat", "ls", "echo", "cd", "insmod", "taskset", "exit"):
        assert f"  {name}" in said


def test_sh_takes_one_line_or_none(sh: Say, booted: SimulatedMachine) -> None:
    session = Session(booted, out=lambda text: None)
    for argv, what in ((["-c"], "-c: option requires an argument"), (["-x"], "sh has no option")):
        with pytest.raises(BottomhalfError, match=what):
            drive(session, verbs.start(session, ["sh", *argv]))


def test_lines_from_a_pipe(booted: SimulatedMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("nproc\n\nfalse\ncat /proc/version"))
    out: list[str] = []
    session = Session(booted, out=out.append)
    assert drive(session, verbs.start(session, ["sh"])) == 0
    assert "".join(out) == "2\nLinux version 6.1.0 (bottomhalf)\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("exit 4\nnproc\n"))
    assert drive(session, verbs.start(session, ["sh"])) == 4


def test_a_dead_boot_cpu_is_said() -> None:
    machine = SimulatedMachine(config.load(), seed=3)
    machine.pump(machine.now_ns() + 1_000_000_000)
    machine.kill("cpu0")
    err: list[str] = []
    session = Session(machine, out=lambda text: None, err=err.append)
    assert drive(session, Shell(session).run("echo 1 > /proc/sys/net/core/dev_weight")) == 1
    assert "".join(err).startswith("bash: cpu0 ")


# ---------------------------------------------------------------- ls, cat


def test_ls_for_programs_and_in_columns(sh: Say) -> None:
    assert json.loads(sh("ls /sys/class/net", json=True)[1]) == {
        "/sys/class/net": ["bond0", "eth0", "eth1", "lo"]
    }
    assert sh("ls /sys/class/net", width=80)[1] == "bond0  eth0  eth1  lo\n"
    assert columns(["aaaa", "b", "cc", "d"], 9) == "aaaa  cc\nb     d\n"
    assert columns([], 80) == ""


def test_glob_matches_names_where_they_stand() -> None:
    paths = ["/sys/class/net/eth0/mtu", "/sys/class/net/eth1/mtu", "/proc/version"]
    assert glob("/sys/class/net/*/m*", "/", paths) == paths[:2]
    assert glob("net/eth?", "/sys/class", paths) == ["net/eth0", "net/eth1"]
    assert glob("/[pr]*", "/", paths) == ["/proc", "/root"]
    assert glob("/sys/*/net/eth0/../eth1", "/", paths) == ["/sys/class/net/eth0/../eth1"]
    assert glob("x*", "/proc", paths) == []


# ---------------------------------------------------------------- completion

WORLD = World(
    paths=["/proc/irq/24/smp_affinity", "/proc/interrupts", "/sys/class/net/eth0/mtu"],
    hosts=["gateway", "192.168.1.1"],
    devices=["bond0", "eth0"],
    modules=["softirq_order", "storm"],
    loaded=["storm"],
    cpus=2,
)


@pytest.mark.parametrize(
    ("before", "word", "found"),
    [
        ("", "di", []),
        ("", "dm", ["dmesg "]),
        ("nproc; ", "dm", ["dmesg "]),
        ("true && ", "dm", ["dmesg "]),
        ("cat ", "/p", ["/proc/"]),
        ("cat ", "/proc/i", ["/proc/irq/", "/proc/interrupts "]),
        ("cat ", "/proc/irq/24/", ["/proc/irq/24/smp_affinity "]),
        ("echo 2 > ", "/proc/irq/2", ["/proc/irq/24/"]),
        ("echo 2 >", "/proc/irq/2", ["/proc/irq/24/"]),
        ("cat /proc/interrupts | ", "gr", []),
        ("cat /proc/interrupts || ", "dm", ["dmesg "]),
        ("ping ", "ga", ["gateway "]),
        ("ping -I ", "", ["bond0 ", "eth0 "]),
        ("tcpdump -i ", "e", ["eth0 "]),
        ("tcpdump -i ", "a", ["any "]),
        ("insmod ", "s", ["softirq_order ", "storm "]),
        ("rmmod ", "", ["storm "]),
        ("taskset ", "-", ["-c "]),
        ("taskset -c ", "", ["0 ", "1 "]),
        ("taskset -c 1 ", "ins", ["insmod "]),
        ("taskset -c 1 insmod ", "so", ["softirq_order "]),
    ],
)
def test_completion_offers_what_may_stand_there(before: str, word: str, found: list[str]) -> None:
    assert sorted(complete(before, word, WORLD)) == sorted(found)


def test_completion_is_relative_to_the_directory() -> None:
    world = World(paths=WORLD.paths, cwd="/proc")
    assert complete("cat ", "irq/", world) == ["irq/24/"]
    assert complete("cd ", "../s", world) == ["../sys/"]


def test_completion_knows_the_machine_as_it_is(booted: SimulatedMachine) -> None:
    world = Input(Session(booted))._look()
    assert complete("cat ", f"{BOND}/mii", world) == [f"{BOND}/mii_status ", f"{BOND}/miimon "]
    assert sorted(world.devices) == ["bond0", "eth0", "eth1", "lo"]
    assert "softirq_order" in world.modules
    assert set(world.commands) == set(commands())


# ---------------------------------------------------------------- steps


def test_steps_load_modules_and_write_files(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(
        'until = "1s"\n'
        '[[step]]\nat = "300ms"\ndo = "taskset -c 1 insmod softirq_order"\n'
        '[[step]]\nat = "400ms"\ndo = "sh -c \'echo eth1 > '
        "/sys/class/net/bond0/bonding/active_slave'\"\n"
        'expect = ["active == eth1", "lost == 0"]\n'
        '[[step]]\nat = "600ms"\ndo = "sh -c \'cat /proc/modules | cut -d\\" \\" -f1\'"\n'
    )
    played = scenario.load(str(path))
    machine = SimulatedMachine(played.machine, seed=5)
    said = io.StringIO()
    result = Player(machine, played, PlainStory(said.write), seed=5).play()
    assert result.passed, [verdict.text for verdict in result.verdicts]
    assert "softirq_order: order=HI,TIMER" in said.getvalue()
    assert "softirq_order\n" in said.getvalue()


def test_sh_as_a_step_needs_its_line(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('until = "1s"\n[[step]]\nat = "300ms"\ndo = "sh"\n')
    with pytest.raises(BottomhalfError, match="sh as a step needs its line"):
        scenario.load(str(path))
