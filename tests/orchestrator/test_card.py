"""``card NIC out|in`` on a machine that keeps book; what ``restart`` leaves to the kernel."""

from __future__ import annotations

import json

import pytest

from nodes.cpu.page import CPU_SCHEMA
from nodes.nic.page import NIC_SCHEMA
from orchestrator.configuration import config, configtext, tomlfile
from orchestrator.dashboards.facts import breaks
from orchestrator.errors import BottomhalfError
from orchestrator.verbs.process import view_of


def hotplug(machine, *names):
    """Give these NICs slots that tell the kernel."""
    nics = tuple(nic._replace(hotplug=nic.name in names) for nic in machine.settings.nics)
    machine.settings = machine.settings._replace(nics=nics)


def test_a_card_is_pulled_and_put_in_and_nothing_else_is_done(say, machine):
    said = say("card eth0 out")
    assert said.code == 0
    assert said.out == "card of eth0 (pid 41203) is out\n  mend: bottomhalf card eth0 in\n"
    hotplug(machine, "eth0")
    said = say("card eth0 in")
    assert (said.code, said.out) == (0, "card of eth0 (pid 41303) is in\n")
    assert machine.calls == [("pull", "eth0"), ("restart", "eth0")]


def test_where_the_slot_is_silent_the_new_card_says_what_an_administrator_does(say, machine):
    say("card eth0 out")
    said = say("card eth0 in")
    assert (
        "its slot tells the kernel nothing (hotplug = false): bottomhalf restart eth0" in said.out
    )


def test_restart_after_card_in_does_the_administrators_part_with_the_same_process(say, machine):
    say("card eth0 out")
    say("card eth0 in")
    machine.ram.page("cpu0", CPU_SCHEMA).words[CPU_SCHEMA.index("nic_flags")] = 0
    machine.calls.clear()
    said = say("restart eth0")
    assert machine.calls == [
        ("spawn", "cpu0", "pci-remove", "eth0"),
        ("spawn", "cpu0", "pci-rescan", "eth0"),
        ("spawn", "cpu0", "enslave", "eth0"),
    ]
    assert said.out == "eth0 (pid 41303) is found again, the process is the same\n"
    machine.ram.page("eth0", NIC_SCHEMA)["pci_command"] = 6  # its driver has it now
    assert "eth0 (pid 41303) is alive" in say("restart eth0").err


def test_restart_in_a_slot_with_hot_plug_only_puts_a_card_in(say, machine):
    hotplug(machine, "eth0", "eth1")
    say("kill eth0")
    machine.calls.clear()
    assert say("restart eth0").out == "eth0 (pid 41303) is a new process\n"
    assert machine.calls == [("restart", "eth0")]
    assert "is alive" in say("restart eth0").err


def test_out_is_out_and_in_is_in(say, machine):
    assert (
        "the card of eth0 (pid 41203) is in\n  hint: bottomhalf card eth0 out"
        in say("card eth0 in").err
    )
    say("card active out")
    machine.pump(machine.now + 12_000_000_000)
    said = say("card eth0 out")
    assert (said.code, said.out) == (0, "")
    assert said.err == (
        "bottomhalf: the card of eth0 is already out (card out, 12 s ago)\n"
        "  hint: bottomhalf card eth0 in\n"
    )


def test_dashboards_and_ps_say_card_out(say, machine):
    say("card eth0 out")
    (broken,) = breaks(view_of(machine))
    assert broken.what.startswith("card out ")
    assert broken.mend == "card eth0 in"
    rows = json.loads(say("ps --json").out)
    assert next(row for row in rows if row["node"] == "eth0")["state"] == "dead (card out)"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("card eth0", "card: out or in?"),
        ("card eth0 aut", "card: out or in? did you mean `out`?"),
        ("card cpu0 out", "card: cpu0 is no card in a slot"),
        ("card eth2 out", "no node `eth2`; did you mean `eth1`?"),
    ],
)
def test_what_is_refused(say, machine, line, what):
    said = say(line)
    assert said.code == 2
    assert what in said.err
    assert machine.calls == []


@pytest.mark.parametrize(
    ("text", "slots"),
    [("", ()), ("hotplug = true", (0, 1)), ('hotplug = ["eth1"]', (1,)), ("hotplug = false", ())],
)
def test_the_key_hotplug(tmp_path, text, slots):
    path = tmp_path / "my.toml"
    path.write_text(text + "\n")
    settings = config.load(str(path))
    assert settings.hotplug_slots == slots
    path.write_text(configtext.to_toml(settings))
    assert config.load(str(path)).hotplug_slots == slots


def test_hotplug_of_a_nic_that_is_not_there(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text('hotplug = ["eth7"]\n')
    with pytest.raises(BottomhalfError, match='hotplug holds "eth7", which is no NIC'):
        config.build(tomlfile.read("machines", str(path)), "my")
