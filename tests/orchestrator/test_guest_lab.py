"""The lab that a real kernel plays too: its file, its page, its comparison. No QEMU is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.errors import BottomhalfError
from orchestrator.guest import fetch
from orchestrator.guest.play import GuestPlayed
from orchestrator.labs import file, guestlab, page
from orchestrator.labs.guestlab import Side, Sides
from orchestrator.machines.kernellog import LogLine
from orchestrator.scenarios.phases import Phase
from orchestrator.scenarios.played import Verdict
from orchestrator.verbs import guestrun
from tools import labs as tool

BOND = "Ethernet Channel Bonding Driver: v6.1.0\n\nMII Status: up\n"
DOWN = "ixgbe 0000:01:00.0 eth0: NIC Link is Down"
RESET = "ixgbe 0000:01:00.0 eth0: Reset adapter"
REMOVED = "ixgbe 0000:02:00.0: Adapter removed"


def phases(gap: float) -> list[Phase]:
    return [Phase("start", 0.0), *(Phase(f"step {n}", 2000.0 * n, lost=n) for n in (1, 2)),
            Phase("kill active", 7000.0, lost=22, gap_ms=gap),
            Phase("restart eth1", 11000.0)]  # fmt: skip


def side(gap: float, bond: str = BOND, *more: tuple[int, str]) -> Side:
    log = [(2_100_000_000, DOWN), *more, (8_900_000_000, REMOVED)]
    return Side(phases(gap), log, bond, [])


def test_its_file_names_a_scenario_and_its_page_has_all_parts_and_questions() -> None:
    for name in guestlab.bundled():
        lab = guestlab.load(name)
        text = page.read(lab)
        assert lab.next in ("", *file.bundled())
        assert len(lab.questions) == 3
        assert text.startswith(f"# {lab.title}\n")
        for part in page.PARTS:
            assert f"\n## {part}\n" in text
        for number, question in enumerate(lab.questions, 1):
            assert f"\n{number}. {question.ask}\n" in text


def test_it_is_listed_shown_and_handed_out_like_the_others() -> None:
    assert "lab run real-driver " in tool.run(("lab", "list"))[1]
    code, shown = tool.run(("lab", "show", "real-driver"))
    assert (code, "Predict first" in shown) == (0, True)
    code, sheet = tool.run(("lab", "sheet", "real-driver"))
    assert (code, "  3. kill active" in sheet, "predict first" in sheet) == (0, True, True)


def test_an_answer_that_names_nothing_is_refused(tmp_path: Path) -> None:
    assert guestlab._known("real.gap@1", 4)
    assert guestlab._known("emulated.after(the new active one)@3", 4)
    for wrong in ("gap@1", "real.gap@5", "real.irqs@1", "guest.gap@1"):
        assert not guestlab._known(wrong, 4)


def test_both_logs_are_one_and_what_only_one_has_stands_in_its_column() -> None:
    sides = Sides(
        side(938.4), side(3972.2, BOND.replace("6.1.0", "6.1.0-50"), (2_200_000_000, RESET))
    )
    assert guestlab.log_rows(sides) == [
        (2_100_000_000, 2_100_000_000, DOWN),
        (None, 2_200_000_000, RESET),
        (8_900_000_000, 8_900_000_000, REMOVED),
    ]
    assert guestlab.bond_differences(sides) == [
        "emulated: Ethernet Channel Bonding Driver: v6.1.0",
        "real: Ethernet Channel Bonding Driver: v6.1.0-50",
    ]
    lab = guestlab.load("real-driver")
    text = "\n".join(guestlab.text(lab, sides))
    assert "22, 938.4" in text
    assert "22, 3972.2" in text


def test_answers_have_the_figures_of_both() -> None:
    sides = Sides(side(938.4), side(3972.2))
    answers = guestlab.answers(guestlab.load("real-driver"), sides)
    assert "Emulated: 1900 ms after the step" in answers[1][1]
    assert "(not measured)" in answers[1][1]  # nobody became active in these logs
    assert "real: 3972.2 ms and 22 lost" in " ".join(answers[2][1].split())


def test_without_qemu_it_says_how_to_get_it_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, said = tool.run(("lab", "run", "real-driver"))
    assert code == 2
    assert "no apt-get here" in said
    assert "vfio-user-pci in PATH" in said
    assert "virtual time" not in said


def test_what_a_real_kernel_cannot_be_asked_for_is_refused() -> None:
    for option in ("--simulate", "--step", "--compare=6.1", "--era=6.1"):
        code, said = tool.run(("lab", "run", "real-driver", option))
        assert (code, "half of it is a real kernel" in said) == (2, True), said


def test_a_run_compares_and_its_code_is_that_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest's half is a stand-in; the emulated half is played."""
    loaded = guestlab.load("real-driver").scenario
    verdict = Verdict(1, loaded.steps[0].expect[0], 9000.0, False, "")
    played = GuestPlayed(loaded, phases=phases(3972.2), bond=BOND)
    played.log = [(2_100_000_000, LogLine(1, 6, DOWN))]
    monkeypatch.setattr(guestrun, "play", lambda *_, **__: played)
    monkeypatch.setattr(fetch, "everything", lambda: None)
    code, said = tool.run(("lab", "run", "real-driver", "--answers"))
    assert code == 0, said
    assert "real-driver passed." in said
    assert "ok      emulated, step 3: gap" in said
    assert "real: 3972.2 ms and 22 lost" in " ".join(said.split())
    played.verdicts = [verdict]
    monkeypatch.setattr(guestlab, "emulate", lambda *_: side(938.4))
    code, said = tool.run(("lab", "run", "real-driver", "--json"))
    assert code == 1
    value = json.loads(said)
    assert (value["passed"], value["emulated"]["passed"], value["real"]["passed"]) == (
        False, True, False,
    )  # fmt: skip
    with pytest.raises(BottomhalfError, match="real-drive"):
        guestlab.load("real-drive")
