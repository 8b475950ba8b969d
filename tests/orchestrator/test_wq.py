"""``wq``: the columns of the kernel's wq_monitor, and pools as wq_dump shows them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from nodes.cpu.kernel.params import PRESETS
from orchestrator import completing, verbs
from orchestrator.configuration import config
from orchestrator.session import ENDLESS, Session, drive, stdout
from orchestrator.verbs.shell import commands
from orchestrator.views import wqtable

SECOND = 1_000_000_000
GUARD_S = 60.0
ROOT = Path(__file__).parents[2]
UNBOUND, MEM_RECLAIM, ORDERED = 1 << 1, 1 << 3, 1 << 17


def stats(started=0, completed=None, cpu_time_us=0, **more):
    names = ("cpu_intensive", "cm_wakeup", "repatriated", "mayday", "rescued")
    done = started if completed is None else completed
    figures = {"started": started, "completed": done, "cpu_time_us": cpu_time_us}
    return figures | dict.fromkeys(names, 0) | more


def pwq(pool, **figures):
    return {"pool": pool, "max_active": 256, "nr_active": 0, "inactive": []} | stats(**figures)


def pool(number, node, nice=0, idle=2, unbound=False, **more):
    return {
        "id": number, "cpu": -1 if unbound else node, "node": node, "nice": nice, "flags": [],
        "host": node, "nr_running": 0, "nr_idle": idle, "nr_workers": 2, "worklist": [],
        "workers": [],
    } | more  # fmt: skip


def wq(name, flags, *pwqs):
    return {"name": name, "flags": flags, "pwqs": list(pwqs)}


@pytest.fixture
def machine(machine: FakeMachine) -> FakeMachine:
    """Two CPUs, four workqueues."""
    kworker = {
        "name": "kworker/1:0", "pid": 100_005, "state": 0x402, "nice": 0, "flags": [],
        "work": "vmstat_update", "wq": "events", "desc": "events", "since_ns": 1,
    }  # fmt: skip
    machine.snapshots["cpu0", "workqueues"] = {
        "pools": [pool(0, 0), pool(1, 0, -20), pool(4, 0, unbound=True)],
        "workqueues": [
            wq("events", 0, pwq(0, started=18_000, cpu_time_us=6_060_000, cm_wakeup=4)),
            wq("events_unbound", UNBOUND, pwq(4, started=38_306, repatriated=7)),
            wq("ixgbe", MEM_RECLAIM, pwq(0, started=3, mayday=2, rescued=1)),
            wq("bond0", UNBOUND | MEM_RECLAIM | ORDERED, pwq(4, started=5, completed=4)),
        ],
    }
    machine.snapshots["cpu1", "workqueues"] = {
        "pools": [pool(2, 1, idle=1, nr_workers=3, workers=[kworker]),
                  pool(3, 1, -20), pool(5, 1, unbound=True)],
        "workqueues": [
            wq("events", 0, pwq(2, started=545, completed=544, cpu_time_us=40_000, cm_wakeup=1)),
            wq("events_unbound", UNBOUND, pwq(5)),
            wq("ixgbe", MEM_RECLAIM, pwq(2)),
        ],
    }  # fmt: skip
    return machine


def test_a_line_a_workqueue_with_the_columns_of_the_tool(say, machine):
    assert say("wq").out == (
        "                            total  infl  CPUtime  CPUhog CMW/RPR  mayday rescued\n"
        "events                      18545     1      6.1       0       5       -       -\n"
        "events_unbound              38306     0      0.0       -       7       -       -\n"
        "ixgbe                           3     0      0.0       0       0       2       1\n"
        "bond0                           5     1      0.0       -       0       0       0\n"
    )


def test_names_are_patterns_and_one_that_finds_nothing_names_those_there_are(say, machine):
    found = [line.split()[0] for line in say("wq ^events$ bond").out.splitlines()[1:]]
    assert found == ["events", "bond0"]
    said = say("wq nothing")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(
        "bottomhalf: wq: no workqueue `nothing`\n  hint: events events_unbound ixgbe bond0"
    )


def test_json_has_the_tools_names_and_adds_up(say, machine):
    rows = json.loads(say("wq --json").out)
    assert [row["name"] for row in rows] == ["events", "events_unbound", "ixgbe", "bond0"]
    assert rows[0]["started"] == 18_545
    assert rows[0]["completed"] == 18_544
    assert rows[0]["cpu_time_us"] == 6_100_000
    assert [rows[3][kind] for kind in ("ordered", "unbound", "mem_reclaim")] == [True] * 3


def test_with_for_it_prints_every_second(say, machine):
    tables = say("wq events$ --for 3s").out.split("\n\n")
    assert len(tables) == 4
    assert len(say("wq events$ --for 1s -i 0.25").out.split("\n\n")) == 5
    began = machine.now
    assert len(say("wq -i 0").out.split("\n\n")) == 1
    assert machine.now - began < SECOND // 2


def test_on_a_terminal_it_goes_on_until_ctrl_c(machine, capsys):
    session = Session(machine, out=stdout, width=80)
    machine.later(2 * SECOND + SECOND // 2, lambda: session.signals.append(signal.SIGINT))
    assert drive(session, verbs.start(session, ["wq", "bond0"])) == 0
    assert len(capsys.readouterr().out.split("\n\n")) == 3


def test_in_a_pipe_it_prints_once(machine, capsys):
    session = Session(machine, out=stdout, width=ENDLESS)
    assert drive(session, verbs.start(session, ["wq", "bond0"])) == 0
    assert capsys.readouterr().out.count("CPUtime") == 1


def test_pools_and_the_pool_of_each_workqueue_on_each_cpu(say, machine):
    text = say("wq pools").out
    assert text.startswith(
        "Worker Pools\n"
        "============\n"
        "pool[0] ref=3 nice=  0 idle/workers=  2/  2 cpu=  0\n"
        "pool[1] ref=1 nice=-20 idle/workers=  2/  2 cpu=  0\n"
        "pool[2] ref=3 nice=  0 idle/workers=  1/  3 cpu=  1\n"
        "pool[3] ref=1 nice=-20 idle/workers=  2/  2 cpu=  1\n"
        "pool[4] ref=2 nice=  0 idle/workers=  2/  2 cpus=00000001\n"
        "pool[5] ref=1 nice=  0 idle/workers=  2/  2 cpus=00000002\n"
        "\n"
        "Workqueue CPU -> pool\n"
        "=====================\n"
        "[      workqueue       \\ type   CPU 0 1 dfl]\n"
        "events                   percpu     0 2\n"
        "events_unbound           unbound    4 5 4\n"
        "ixgbe                    percpu     0 2\n"
        "bond0                    ordered    4 4 4\n"
        "\n"
    )
    assert " 100005 I    kworker/1:0+events                       vmstat_update\n" in text
    assert set(json.loads(say("wq pools --json").out)) == {"cpu0", "cpu1"}


@pytest.mark.parametrize(
    ("era", "work", "desc", "name"),
    [
        ("3.10", "a", "events", "kworker/1:0 "),
        ("6.1", "a", "events", "kworker/1:0+events "),
        ("6.1", "", "events", "kworker/1:0-events "),
        ("6.1", "", "", "kworker/1:0 "),
    ],
)
def test_a_kworkers_name_as_ps_shows_it(machine, era, work, desc, name):
    found = machine.snapshots["cpu1", "workqueues"]["pools"][0]["workers"][0]
    found |= {"work": work, "desc": desc, "nice": -20}
    text = wqtable.workers({1: machine.snapshots["cpu1", "workqueues"]}, PRESETS[era].worker_comm)
    assert f" I<   {name}" in text


def test_a_cpu_that_cannot_answer_is_named_and_the_others_count(say, machine):
    machine.kill("cpu1")
    said = say("wq events$")
    assert said.err == "bottomhalf: cpu1 is dead: what it counted is missing here\n"
    assert said.out.split("\n")[1].startswith("events                      18000     0")
    machine.kill("cpu0")
    said = say("wq")
    assert (said.code, said.out) == (1, "")
    assert "cpu0 is dead; cpu1 is dead" in said.err


def test_a_hung_cpu_is_waited_for_once_and_then_left_out(say, machine):
    machine.hung.add("cpu1")
    assert "cpu1 does not answer" in say("wq").err
    machine.freeze("cpu1")
    assert "cpu1 is frozen" in say("wq").err


def test_keventd_has_no_such_counters_and_says_why():
    machine = FakeMachine(config.load()._replace(era="2.6.18"))
    machine.snapshots["cpu0", "workqueues"] = {
        "pools": [],
        "workqueues": [wq("events", 0, {"started": 12, "completed": 11})],
        "threads": [
            {"wq": "events", "name": "events/0", "pid": 5, "state": 2, "nice": -5, "work": "a",
             "worklist": ["b"], "insert_sequence": 13, "remove_sequence": 11},
        ],
    }  # fmt: skip
    out: list[str] = []
    err: list[str] = []
    session = Session(machine, out=out.append, err=err.append)
    machine.kill("cpu1")
    assert drive(session, verbs.start(session, ["wq"])) == 0
    assert "events                         12     1        -       -       -       -       -\n" in (
        "".join(out)
    )
    assert "hint: 2.6.18 has a thread for each workqueue and CPU" in "".join(err)
    del out[:]
    assert drive(session, verbs.start(session, ["wq", "pools"])) == 0
    assert "      5 D<   events/0                      13      11      1 a\n" in "".join(out)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("wq [", "is no regular expression"),
        ("wq -i soon", "is no number of seconds"),
        ("wq --for ever", "is not a length of time"),
        ("wq --four 2s", "no option `--four`"),
        ("wq pools events", "prints all pools, once"),
    ],
)
def test_slips_are_answered_in_two_lines(say, machine, line, why):
    said = say(line)
    assert said.code == 2
    assert why in said.err
    assert said.err.count("\n") == 2


def test_it_is_a_command_of_the_prompt_too(say, machine):
    assert "wq" in commands()
    assert "trace" not in commands()
    assert say("sh -c wq").out == say("wq").out


def test_completion_offers_pools_and_options():
    assert completing.candidates("wq")[:1] == ["pools"]
    assert "--for" in completing.candidates("wq")


# ---------------------------------------------------------------- processes


@pytest.fixture
def bottomhalf(tmp_path):
    """The program in its own run directory; what runs there ends with the test."""
    environment = os.environ | {
        "BOTTOMHALF_RUN_DIR": str(tmp_path / "r"), "PYTHONPATH": str(ROOT), "COLUMNS": "80",
    }  # fmt: skip

    def start(*words: str, stdout=subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *words],
            env=environment, text=True, stdout=stdout, stderr=subprocess.PIPE,
        )  # fmt: skip

    yield start
    start("down").communicate(timeout=GUARD_S)


def ran(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=GUARD_S)
    return process.returncode, out or "", err


@pytest.mark.processes
def test_a_running_machine_shows_its_workqueues_and_ctrl_c_ends_it(bottomhalf):
    assert ran(bottomhalf("wq")) == (
        2, "", "bottomhalf: no machine is running\n"
        "  hint: bottomhalf up -d          or watch one first: bottomhalf demo\n",
    )  # fmt: skip
    assert ran(bottomhalf("up", "-d"))[0] == 0
    code, out, err = ran(bottomhalf("wq"))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == wqtable.HEADER
    assert {"events", "events_unbound", "bond0"} <= {line.split()[0] for line in out.splitlines()}

    before = json.loads(ran(bottomhalf("wq", "--json"))[1])
    pages = [json.loads(ran(bottomhalf("top", cpu, "--pools", "--json"))[1])
             for cpu in ("cpu0", "cpu1")]  # fmt: skip
    after = json.loads(ran(bottomhalf("wq", "--json"))[1])
    executed = sum(pool["executed"] for page in pages for pool in page["pools"])
    assert sum(row["completed"] for row in before) < executed
    assert executed <= sum(row["started"] for row in after)
    assert all(0 <= row["started"] - row["completed"] <= 1 for row in after)

    assert len(ran(bottomhalf("wq", "--for", "1s", "-i", "0.5"))[1].split("\n\n")) == 3
    assert ran(bottomhalf("sh", "-c", "wq bond0 | tail -1"))[1].startswith("bond0 ")
    pools = ran(bottomhalf("wq", "pools"))[1]
    assert re.search(r"^pool\[0\] ref= ?\d+ nice=  0 idle/workers=  \d/  \d cpu=  0$", pools, re.M)
    assert re.search(r"^ +\d+ I    kworker/u4:\d-bond0 ", pools, re.M)

    master, slave = os.openpty()
    live = bottomhalf("wq", "events$", stdout=slave)
    os.close(slave)
    seen = ""
    while seen.count("CPUtime") < 2:
        seen += os.read(master, 65536).decode()
    live.send_signal(signal.SIGINT)
    assert live.communicate(timeout=GUARD_S)[1] == ""
    assert live.returncode == 0
    os.close(master)
