"""Which of the host's processors a machine's processes keep to."""

import os
from pathlib import Path

import psutil
import pytest

from nodes.machine import APIC, LAN
from orchestrator.configuration import config, configtext, tomlfile
from orchestrator.errors import BottomhalfError
from orchestrator.machines.placement import processors
from orchestrator.machines.processes import ProcessMachine
from tests.bus.conftest import unique_name
from tests.machine.settings import bonded_pair

TWO = (4, 6)


def test_what_speaks_most_with_one_another_stays_together():
    placed = processors(bonded_pair("m1"), TWO)
    assert placed[APIC] == placed["cpu0"] != placed["cpu1"]
    assert placed["eth0"] == placed["eth1"] == placed[LAN] != placed["cpu0"]
    assert set(placed.values()) == set(TWO)


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_cpus_are_dealt_over_all_processors(count: int):
    placed = processors(bonded_pair("m1", cpus=8), range(count))
    seats = [placed[f"cpu{number}"] for number in range(8)]
    assert set(seats[:count]) == set(range(count))
    assert max(seats.count(seat) for seat in seats) - min(seats.count(s) for s in seats) <= 1


def test_machines_of_different_names_begin_at_different_processors():
    first = {processors(bonded_pair(f"m{n}"), TWO)["cpu0"] for n in range(20)}
    assert first == set(TWO)
    assert processors(bonded_pair("m1"), TWO) == processors(bonded_pair("m1"), TWO)


@pytest.mark.parametrize("change", [{"placement": "free"}, {"guest": True}])
def test_a_free_machine_and_a_guests_nics_are_not_bound(change: dict[str, object]):
    assert processors(bonded_pair("m1")._replace(**change), TWO) == {}


def test_one_processor_leaves_no_choice():
    assert processors(bonded_pair("m1"), [3]) == {}


def test_placement_is_a_key_of_the_machine_file():
    file = tomlfile.TomlFile("x.toml", 'placement = "free"')
    settings = config.build(file, "x")
    assert settings.placement == "free"
    again = tomlfile.TomlFile("y.toml", configtext.to_toml(settings))
    assert config.build(again, "x") == settings
    with pytest.raises(BottomhalfError, match="placement"):
        config.build(tomlfile.TomlFile("x.toml", 'placement = "nailed"'), "x")


@pytest.mark.processes
def test_processes_are_where_they_were_placed_after_a_restart_too(tmp_path: Path):
    settings = bonded_pair(unique_name())
    available = sorted(os.sched_getaffinity(0))
    machine = ProcessMachine(settings, base=tmp_path)
    try:
        machine.kill("eth0")
        machine.restart("eth0")
        placed = processors(settings)
        for name in settings.node_names:
            allowed = psutil.Process(machine.state(name).pid).cpu_affinity()
            assert allowed == ([placed[name]] if placed else available)
    finally:
        machine.close()
