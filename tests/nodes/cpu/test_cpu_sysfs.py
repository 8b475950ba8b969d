"""/sys/devices/system/cpu and chcpu: texts and errors; what cpu_down does is its own test."""

from __future__ import annotations

from collections.abc import Callable
from errno import EBUSY, ENOSPC

import pytest

from nodes.cpu.kernel import cpusysfs, procfs
from nodes.cpu.kernel.cpusysfs import kstrtobool
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.programs.chcpu import ChcpuError, cpulist_parse, parse
from tests.nodes.cpu.harness import ERAS, Box, Ran

SYS = "/sys/devices/system/cpu/"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """A kernel in which CPUs go and come at a word; what it was asked for."""
    seen: list[tuple[str, int]] = []

    def down(cpu: Cpu, number: int) -> Context:
        yield
        seen.append(("down", number))
        if number not in cpu.online_cpus:
            return -22
        cpu.online_cpus = [n for n in cpu.online_cpus if n != number]
        return 0

    def up(cpu: Cpu, number: int) -> Context:
        yield
        seen.append(("up", number))
        if number in cpu.online_cpus:
            return -22
        cpu.online_cpus = sorted([*cpu.online_cpus, number])
        return 0

    monkeypatch.setattr(cpusysfs, "cpu_down", down)
    monkeypatch.setattr(cpusysfs, "cpu_up", up)
    return seen


def failing(error: int) -> Callable[[Cpu, int], Context]:
    def fail(_cpu: Cpu, _number: int) -> Context:
        yield
        return -error

    return fail


def write(box: Box, name: str, text: str) -> Ran:
    return box.run("write", SYS + name, text)


def masks(box: Box) -> tuple[str, ...]:
    return tuple(box.proc(SYS + name) for name in ("online", "offline", "possible", "present"))


def test_masks_with_a_cpu_offline_are_those_of_the_capture(asked: list[tuple[str, int]]) -> None:
    """e1000e-smp2/cpuhp/2-command.txt: online 0, offline 1, present 0-1; cpu0 cannot go."""
    box = Box("6.1")
    assert masks(box) == ("0-1\n", "\n", "0-1\n", "0-1\n")
    assert write(box, "cpu1/online", "0\n") == Ran(0, "", "", [])
    assert masks(box) == ("0\n", "1\n", "0-1\n", "0-1\n")
    refused = write(box, "cpu0/online", "0\n")
    assert (refused.code, refused.err) == (1, f"bash: {SYS}cpu0/online: Permission denied\n")
    assert box.proc(SYS + "cpu1/online") == "0\n"
    assert write(box, "cpu1/online", "1\n").code == 0
    assert box.proc(SYS + "cpu1/online") == "1\n"
    assert asked == [("down", 1), ("up", 1)]


def test_topology_is_there_while_the_cpu_is_online(asked: list[tuple[str, int]]) -> None:
    box = Box("6.1", cpus=4)
    assert box.proc(SYS + "cpu2/topology/physical_package_id") == "2\n"
    assert box.proc(SYS + "cpu2/topology/core_siblings") == "4\n"
    assert box.proc(SYS + "cpu2/topology/thread_siblings_list") == "2\n"
    write(box, "cpu2/online", "0")
    names = procfs.paths({"cpu0": box.kernel()})
    assert [n for n in names if n.startswith(SYS + "cpu2/")] == [SYS + "cpu2/online"]
    assert box.proc(SYS + "offline") == "2\n"
    assert box.proc(SYS + "kernel_max") == "63\n"


def test_2_6_18_has_no_masks_and_no_lists_but_can_take_a_cpu_out() -> None:
    names = procfs.paths({"cpu0": Box("2.6.18").kernel()})
    assert sorted(n.removeprefix(SYS) for n in names if n.startswith(SYS)) == [
        f"cpu{n}/{name}"
        for n in (0, 1)
        for name in (
            *(("online",) * n), "topology/core_id", "topology/core_siblings",
            "topology/physical_package_id", "topology/thread_siblings",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("era", ERAS)
def test_what_is_already_so_is_refused_until_3_10_and_fine_later(
    era: str, asked: list[tuple[str, int]]
) -> None:
    box = Box(era)
    again = write(box, "cpu1/online", "1\n")
    if era == "6.1":
        assert (again.code, again.err, asked) == (0, "", [])
    else:
        assert again.err == "bash: echo: write error: Invalid argument\n"


@pytest.mark.parametrize(
    ("era", "text", "taken"),
    [
        ("6.1", "off", True), ("6.1", "no", True), ("6.1", "2", False), ("6.1", "x", False),
        ("6.1", " 0", False), ("3.10", "0x1", True), ("3.10", "off", False), ("3.10", "n", False),
        ("2.6.18", "2", False), ("2.6.18", "0", True),
    ],
)  # fmt: skip
def test_what_counts_as_no(era: str, text: str, taken: bool, asked: list[tuple[str, int]]) -> None:
    ran = write(Box(era), "cpu1/online", f"{text}\n")
    if taken:
        assert (ran.code, asked) == (0, [("down", 1)])
    else:
        assert (ran.err, asked) == ("bash: echo: write error: Invalid argument\n", [])


@pytest.mark.parametrize(
    ("error", "why"), [(EBUSY, "Device or resource busy"), (ENOSPC, "No space left on device")]
)
def test_a_refusal_of_the_kernel_is_the_writers_error(
    error: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpusysfs, "cpu_down", failing(error))
    box = Box("6.1")
    assert write(box, "cpu1/online", "0\n").err == f"bash: echo: write error: {why}\n"
    ran = box.run("chcpu", "-d", "1")
    assert ran == Ran(64, "", f"chcpu: CPU 1 disable failed: {why}\n", [])


def test_kstrtobool() -> None:
    assert [kstrtobool(t) for t in ("1", "y\n", "On\n", "True")] == [True] * 4
    assert [kstrtobool(t) for t in ("0", "N", "oFf", "f")] == [False] * 4
    assert [kstrtobool(t) for t in ("", "o", "2", "\n", " 1")] == [None] * 5


# ---------------------------------------------------------------- chcpu


def test_chcpu_takes_cpus_out_and_back(asked: list[tuple[str, int]]) -> None:
    box = Box("6.1", cpus=4)
    assert box.run("chcpu", "-d", "1,3") == Ran(
        0, "CPU 1 disabled\nCPU 3 disabled\n", "", ["CPU 1 disabled", "CPU 3 disabled"]
    )
    assert box.proc(SYS + "online") == "0,2\n"
    ran = box.run("chcpu", "--enable=1-2")
    assert (ran.code, ran.out) == (0, "CPU 1 enabled\nCPU 2 is already enabled\n")
    assert box.run("chcpu", "-d3").out == "CPU 3 is already disabled\n"
    assert asked == [("down", 1), ("down", 3), ("up", 1)]


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ("-d 0", 64, "", "chcpu: CPU 0 is not hot pluggable\n"),
        ("-e 7", 64, "", "chcpu: CPU 7 does not exist\n"),
        ("-d 0-2", 64, "CPU 1 disabled\n",
         "chcpu: CPU 0 is not hot pluggable\nchcpu: CPU 2 does not exist\n"),
        ("-e 99999", 1, "", "chcpu: invalid CPU number in CPU list: 99999\n"),
        ("-e abc", 1, "", "chcpu: failed to parse CPU list: abc\n"),
        ("-e 3-1", 1, "", "chcpu: failed to parse CPU list: 3-1\n"),
        ("-e 1,,2", 1, "", "chcpu: failed to parse CPU list: 1,,2\n"),
        ("", 1, "", "chcpu: bad usage\nTry 'chcpu --help' for more information.\n"),
        ("-e 1 x", 1, "", "chcpu: bad usage\nTry 'chcpu --help' for more information.\n"),
        ("-x", 1, "",
         "chcpu: invalid option -- 'x'\nTry 'chcpu --help' for more information.\n"),
        ("-e", 1, "",
         "chcpu: option requires an argument -- 'e'\nTry 'chcpu --help' for more information.\n"),
        ("--nix", 1, "",
         "chcpu: unrecognized option '--nix'\nTry 'chcpu --help' for more information.\n"),
        ("-e 1 -d 1", 1, "", "chcpu: mutually exclusive arguments: "
         "--configure --disable --enable --deconfigure --dispatch\n"),
        ("-c 1", 64, "", "chcpu: CPU 1 is not configurable\n"),
        ("-r", 1, "", "chcpu: This system does not support rescanning of CPUs\n"),
    ],
)  # fmt: skip
def test_chcpu_says_what_util_linux_says(
    words: str, code: int, out: str, err: str, asked: list[tuple[str, int]]
) -> None:
    ran = Box("6.1").run("chcpu", *words.split())
    assert (ran.code, ran.out, ran.err) == (code, out, err)


def test_chcpu_help_names_the_options() -> None:
    ran = Box("6.1").run("chcpu", "--help")
    assert ran.code == 0
    assert " -d, --disable <cpu-list>      disable cpus\n" in ran.out


def test_lists_have_ranges_with_steps() -> None:
    assert cpulist_parse("3,0-8:4,3") == [0, 3, 4, 8]
    assert parse(("--disable", "1")) == ("d", "1")
    for text in ("", "1-", "-1", "1-2:0", "0x1", "1" * 400):
        with pytest.raises(ChcpuError):
            cpulist_parse(text)
