"""The module cpu_offline, on a CPU that stays and on one that goes while the module is loaded."""

from __future__ import annotations

import pytest

from tests.nodes.cpu.harness import ERAS, Box
from tests.nodes.cpu.hotplugs import change


def reports(box: Box) -> dict[str, str]:
    """All figures; a later one replaces an earlier one."""
    found: dict[str, str] = {}
    for text in box.said():
        if text.startswith("cpu_offline: ") and "=" in text:
            found |= dict(pair.split("=") for pair in text.split()[1:])
    return found


@pytest.mark.parametrize("era", ERAS)
def test_on_a_cpu_that_stays_all_of_it_runs_there(era: str) -> None:
    box = Box(era)
    load = ("insmod", "cpu_offline", "ms=50", "hold_ms=5", "spin_ms=1")
    assert box.run(*load, cpu="cpu1").code == 0
    box.live(200)
    assert box.run("rmmod", "cpu_offline", cpu="cpu1").code == 0
    said = reports(box)
    assert [said[f"{what}_cpu"] for what in ("timer", "tasklet", "work", "back")] == ["1"] * 4
    assert int(said["tasklet_ran"]) > 1
    assert (said["works"], said["moved"]) == ("4", "none")
    assert (said["timer_early"], said["work_early"]) == ("0", "0")
    assert box.run(*load, cpu="cpu1").code == 0  # it can be loaded again
    box.live(200)


@pytest.mark.parametrize("era", ERAS)
def test_it_goes_with_the_module_and_a_late_rmmod_has_the_cpu_back(era: str) -> None:
    box = Box(era)
    assert box.run("insmod", "cpu_offline", "ms=100", "hold_ms=20", cpu="cpu1").code == 0
    assert change(box, 1, up=False) == 0
    box.live(200)
    assert change(box, 1, up=True) == 0
    assert box.run("rmmod", "cpu_offline", cpu="cpu1").code == 0
    said = reports(box)
    assert [said[f"{what}_cpu"] for what in ("timer", "tasklet", "work")] == ["0"] * 3
    assert (said["back_cpu"], said["works"]) == ("1", "4")


@pytest.mark.parametrize("bad", ["ms=0", "hold_ms=60001", "spin_ms=-1"])
def test_what_makes_no_sense_is_refused(bad: str) -> None:
    box = Box("6.1")
    assert box.run("insmod", "cpu_offline", bad).code == 1
    assert reports(box) == {}
