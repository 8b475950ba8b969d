"""Lab modules: loading, removing, parameters, and who keeps the list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nodes.cpu import modules
from nodes.cpu.kernel.params import PRESETS
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.modules import MODULES, module, report
from nodes.nic.page import NIC_SCHEMA
from tests.nodes.cpu.harness import ERAS, MS, Box


@pytest.fixture
def probe() -> Iterator[list[Any]]:
    """A module ``probe`` that keeps book of what is done to it."""
    done: list[Any] = []

    def leave(cpu: Cpu) -> Context:
        done.append(("exit", cpu.number))
        yield

    @module(
        "probe",
        {"count": (3, "how many"), "who": ("me", "a name"), "quick": (False, "no sleep")},
        exit=leave,
    )
    def init(cpu: Cpu, params: Any) -> Context:
        """Tell what it got."""
        done.append((cpu.number, dict(params)))
        if not params["quick"]:
            yield from msleep(cpu, 5)
        if params["count"] < 0:
            return -22
        report(cpu, "probe", count=params["count"], who=params["who"])
        return 0

    yield done
    del MODULES["probe"]


@pytest.fixture
def box() -> Box:
    return Box("6.1")


@pytest.mark.conformance("K3.4-6")
@pytest.mark.parametrize("era", ERAS)
def test_softirqs_run_in_the_order_of_their_numbers_however_they_were_raised(era: str) -> None:
    box = Box(era)
    assert box.run("insmod", "softirq_order", cpu="cpu1").code == 0
    names = PRESETS[era].softirq_names
    said = [text for text in box.said() if text.startswith("softirq_order: ")]
    assert said[-2] == f"softirq_order: raised={','.join(reversed(names))}"
    report = f"softirq_order: order={','.join(names)} first=HI n={len(names)}"
    assert said[-1] == f"{report} again=HI next_pass=HI preempt_count=0x101"
    assert box.ping("-c", "1").code == 0  # the actions are as they were


@pytest.mark.conformance("K3.4-3")
@pytest.mark.parametrize("again", ["HI", "NET_TX", "TASKLET", "RCU"])
def test_what_a_softirq_raises_waits_for_the_next_pass_be_its_number_lower_or_higher(
    box: Box, again: str
) -> None:
    assert box.run("insmod", "softirq_order", f"again={again}", cpu="cpu1").code == 0
    found = last_report(box, "softirq_order")
    assert found["order"] == ",".join(PRESETS["6.1"].softirq_names)
    assert found["next_pass"] == again


def test_softirq_order_refuses_a_softirq_that_the_era_does_not_have() -> None:
    assert Box("2.6.18").run("insmod", "softirq_order", "again=RCU").code == 1


def test_a_module_runs_on_the_cpu_it_is_loaded_on_and_is_listed(box: Box, probe: list[Any]) -> None:
    assert box.run("insmod", "./probe.ko", "count=0x10", "who=you", "quick", cpu="cpu1").code == 0
    assert probe == [(1, {"count": 16, "who": "you", "quick": True})]
    assert box.proc("/proc/modules") == "probe 16384 0 - Live 0x0000000000000000\n"
    assert box.said()[-1] == "probe: count=16 who=you"
    for cpu in ("cpu0", "cpu1"):
        again = box.run("insmod", "probe", cpu=cpu)
        assert again.code == 1
        assert again.err == "insmod: ERROR: could not insert module probe: File exists\n"


@pytest.mark.parametrize("cpu", ["cpu0", "cpu1"])
def test_rmmod_runs_the_exit_function_where_the_module_was_loaded(
    box: Box, probe: list[Any], cpu: str
) -> None:
    box.run("insmod", "probe", cpu="cpu1")
    assert box.run("rmmod", "probe", cpu=cpu).code == 0
    assert probe[-1] == ("exit", 1)
    assert box.proc("/proc/modules") == ""
    gone = box.run("rmmod", "probe", cpu=cpu)
    assert (gone.code, gone.err) == (1, "rmmod: ERROR: Module probe is not currently loaded\n")
    assert box.run("insmod", "probe").code == 0


def test_of_two_that_load_one_name_at_once_one_does(box: Box, probe: list[Any]) -> None:
    first = box.start("insmod", "probe", "who=first", cpu="cpu1")
    second = box.start("insmod", "probe", "who=second", cpu="cpu0")
    ran = [box.end(first), box.end(second)]
    assert sorted(r.code for r in ran) == [0, 1]
    assert "File exists" in "".join(r.err for r in ran)
    assert len(probe) == 1


def test_an_init_that_fails_leaves_nothing(box: Box, probe: list[Any]) -> None:
    ran = box.run("insmod", "probe", "count=-1")
    assert ran.err == "insmod: ERROR: could not insert module probe: Invalid parameters\n"
    assert box.proc("/proc/modules") == ""


def test_while_it_loads_it_is_listed_as_loading_and_cannot_be_removed(
    box: Box, probe: list[Any]
) -> None:
    job = box.start("insmod", "probe", cpu="cpu1")
    box.live(2)
    assert "Loading" in box.proc("/proc/modules")
    ran = box.run("rmmod", "probe")
    assert ran.err == "rmmod: ERROR: could not remove module probe: Device or resource busy\n"
    assert box.end(job).code == 0


def test_values_that_do_not_fit_their_parameter(box: Box, probe: list[Any]) -> None:
    ran = box.run("insmod", "probe", "count=many")
    assert ran.err == "insmod: ERROR: could not insert module probe: Invalid parameters\n"
    assert box.said()[-1] == "probe: `many' invalid for parameter `count'"
    assert box.run("insmod", "probe", "quick=maybe").code == 1
    assert probe == []


def test_unknown_parameters_are_refused_up_to_3_10_and_ignored_in_6_1(
    box: Box, probe: list[Any]
) -> None:
    assert box.run("insmod", "probe", "cuont=1").code == 0
    assert "probe: unknown parameter 'cuont' ignored" in box.said()
    old = Box("3.10")
    ran = old.run("insmod", "probe", "cuont=1")
    assert ran.err == "insmod: ERROR: could not insert module probe: Unknown symbol in module\n"
    assert "probe: Unknown parameter `cuont'" in old.said()


def test_a_module_that_there_is_not(box: Box) -> None:
    ran = box.run("insmod", "nix.ko")
    assert ran.code == 1
    assert ran.err == "insmod: ERROR: could not load module nix.ko: No such file or directory\n"
    assert box.run("insmod").err == "insmod: ERROR: missing filename.\n"


def test_modinfo_wants_a_name(box: Box) -> None:
    ran = box.run("modinfo")
    assert (ran.code, ran.err) == (1, "modinfo: ERROR: missing module or filename.\n")


def test_modinfo_tells_parameters(box: Box, probe: list[Any]) -> None:
    assert box.run("modinfo", "probe").out == (
        "name:           probe\n"
        "description:    Tell what it got.\n"
        "parm:           count:how many (int)\n"
        "parm:           who:a name (charp)\n"
        "parm:           quick:no sleep (bool)\n"
    )


def test_every_file_of_the_folder_is_a_module_of_its_name() -> None:
    assert "softirq_order" in modules.names()
    for name in modules.names():
        assert MODULES[name].init.__doc__, name


def test_printk_of_a_module_is_the_log_of_its_cpu(box: Box) -> None:
    @module("talker")
    def init(cpu: Cpu, params: Any) -> Context:
        """Talk."""
        printk(cpu, "talker: hello")
        yield
        return 0

    try:
        box.run("insmod", "talker", cpu="cpu1")
        lines = [text for _, _, text in box.machine.ram.log(1).lines()]
        assert lines[-1] == "talker: hello"
    finally:
        del MODULES["talker"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("loader", ["cpu0", "cpu2"])
def test_on_each_cpu_has_run_once_on_every_cpu_before_init_begins(era: str, loader: str) -> None:
    done: list[Any] = []

    def on_each_cpu(cpu: Cpu, params: Any) -> None:
        done.append((cpu.number, params["count"]))

    @module("everywhere", {"count": (3, "how many")}, on_each_cpu=on_each_cpu)
    def init(cpu: Cpu, params: Any) -> Context:
        """Note that it runs."""
        done.append("init")
        yield
        return 0

    try:
        box = Box(era, cpus=3)
        for count in (5, 6):  # each load anew
            assert box.run("insmod", "everywhere", f"count={count}", cpu=loader).code == 0
            assert box.run("rmmod", "everywhere").code == 0
            assert sorted(done[:3]) == [(n, count) for n in range(3)]
            assert done[3:] == ["init"]
            done.clear()
    finally:
        del MODULES["everywhere"]


def last_report(box: Box, name: str) -> dict[str, str]:
    """The last result line of a module, as key -> value."""
    lines = [text for text in box.said() if text.startswith(f"{name}: ") and "=" in text]
    return dict(pair.split("=", 1) for pair in lines[-1].removeprefix(f"{name}: ").split())


@pytest.mark.parametrize("era", ERAS)
def test_int_n_runs_at_once_and_a_softirq_when_bottom_halves_are_on_again(era: str) -> None:
    box = Box(era)
    assert box.run("insmod", "int_n", "n=0x55").code == 0
    found = last_report(box, "int_n")
    assert found["real_mode_entry"] == hex(4 * 0x55)
    assert found["long_mode_gate"] == hex(16 * 0x55)
    assert found["order"] == "int,interrupts_on,bottom_halves_on,softirq"
    assert found["apic_in_service"] == "0"


def test_int_n_refuses_vectors_that_are_not_free(box: Box) -> None:
    ran = box.run("insmod", "int_n", "n=0x80")
    assert ran.code == 1
    assert "Invalid" in ran.err


@pytest.mark.parametrize("era", ERAS)
def test_what_bottom_halves_off_and_interrupts_off_hold_off(era: str) -> None:
    box = Box(era)
    assert box.run("insmod", "bh_off_irq_off", cpu="cpu1").code == 0
    assert last_report(box, "bh_off_irq_off") == {
        "none": "work",
        "bh": "tasklet,timer,work",
        "irq": "hardirq,tasklet,timer,work",
        "preempt": "work",
        "ran_elsewhere": "4",
    }


@pytest.mark.parametrize("era", ERAS)
def test_a_calm_softirq_runs_on_the_way_out_of_interrupts(era: str) -> None:
    box = Box(era)
    assert box.run("insmod", "softirq_storm", "loads=25", "window_ms=40", cpu="cpu1").code == 0
    calm = last_report(box, "softirq_storm")
    assert (calm["irq_exit"], calm["ksoftirqd"], calm["dropped"]) == ("100", "0", "0")
    assert 70 <= int(calm["user"]) <= 76


@pytest.mark.parametrize(("wanted", "windows"), [(0, 1), (1000, 5)])
def test_a_storm_waits_for_packets_five_windows_at_most(wanted: int, windows: int) -> None:
    """Where a window saw too few runs of NET_RX it lasts longer; here none come at all."""
    box = Box("6.1")
    began = box.machine.now_ns()
    words = ("loads=25", "window_ms=40", f"net_rx={wanted}")
    assert box.run("insmod", "softirq_storm", *words, cpu="cpu1").code == 0
    lasted = box.machine.now_ns() - began
    assert windows * 40 * MS <= lasted < (windows * 40 + 20) * MS


#: restart rule and gate -> least and most share of ksoftirqd and of the user task, in percent
STORMS = [
    ("2.6.18", (), (0, 10), (0, 10)),
    ("3.10", (), (35, 75), (0, 20)),
    ("6.1", (), (80, 100), (35, 60)),
    ("6.1", (("ksoftirqd_gate", "never"),), (35, 75), (0, 20)),
    ("3.10", (("ksoftirqd_gate", "always"),), (80, 100), (35, 60)),
    ("3.10", (("softirq_restart", "count"), ("ksoftirqd_nice", "19")), (0, 10), (0, 10)),
]


@pytest.mark.parametrize(("era", "overrides", "ksoftirqd", "user"), STORMS)
def test_under_overload_the_gate_decides_whether_a_user_task_gets_its_share(
    era: str,
    overrides: tuple[tuple[str, str], ...],
    ksoftirqd: tuple[int, int],
    user: tuple[int, int],
) -> None:
    box = Box(era, overrides=overrides)
    assert box.run("insmod", "softirq_storm", "loads=150", cpu="cpu1").code == 0
    storm = last_report(box, "softirq_storm")
    assert ksoftirqd[0] <= int(storm["ksoftirqd"]) <= ksoftirqd[1]
    assert user[0] <= int(storm["user"]) <= user[1]


def test_register_rtt_waits_for_each_read_and_leaves_the_registers_as_they_were(box: Box) -> None:
    page = box.machine.ram.page("eth0", NIC_SCHEMA)
    before, registers = page["mmio_reads"], box.ask("eth0", "registers")
    assert box.run("insmod", "register_rtt", "rounds=50").code == 0
    assert page["mmio_reads"] - before >= 100
    said = next(text for text in box.said() if text.startswith("register_rtt: nic=eth0 rounds=50"))
    values = dict(word.split("=") for word in said.split()[1:])
    assert 0 < int(values["read_ns"]) <= int(values["write_ns"])
    after = box.ask("eth0", "registers")
    assert {k: v for k, v in after.items() if k.startswith("EITR")} == {
        k: v for k, v in registers.items() if k.startswith("EITR")
    }


@pytest.mark.parametrize("bad", [("nic=eth9",), ("rounds=0",), ("rounds=100001",)])
def test_register_rtt_refuses_what_it_cannot_time(box: Box, bad: tuple[str, ...]) -> None:
    assert box.run("insmod", "register_rtt", *bad).code != 0
