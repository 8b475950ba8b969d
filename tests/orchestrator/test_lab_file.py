"""A lab's file in a folder of its own: draws, eras, questions, slips, what the verb makes of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from orchestrator.errors import BottomhalfError
from orchestrator.labs import file, page, questions
from tools import labs as tool

TINY = """\
title    = "how many pings are two pings?"
sentence = "{count} pings go out."
level    = "beginner"
minutes  = 5
path     = "operator"
place    = 1
show     = ["irq", "sched"]
[draw]
count = [2, 3, 4, 5, 6, 7, 8, 9]
[[step]]
do     = "ping -c {count} -i 0.01 gateway"
expect = ["exit == 0", "seen(sys_sendmsg) == {count}"]
by_era."2.6.18".expect = "param.hz == 1000"
[[question]]
ask    = "How many requests leave for {count} pings?"
answer = "{seen(sys_sendmsg)}, in era {era} seed {seed}; vector {event(irq_handler_entry,b):#x}."
by_era."2.6.18" = "{seen(sys_sendmsg)} in the old one."
"""


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def bh(*argv: str) -> tuple[int, str]:
    return tool.run(argv)


def test_draws_depend_on_the_seed_alone(tiny: str) -> None:
    drawn = [file.load(tiny, seed=seed).draws["count"] for seed in range(20)]
    assert drawn == [file.load(tiny, seed=seed).draws["count"] for seed in range(20)]
    assert len(set(drawn)) > 3
    lab = file.load(tiny, seed=3)
    assert f"-c {lab.draws['count']} " in lab.scenario.steps[0].text
    assert lab.questions[0].ask == f"How many requests leave for {lab.draws['count']} pings?"


def test_a_lab_may_set_behaviours_and_the_command_line_comes_after_it(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(TINY.replace("[draw]", "[set]\nspurious_window = 20\n[draw]"))
    assert file.load(str(path)).params.spurious_window == 20
    assert file.load(str(path), settings=["spurious_window=30"]).params.spurious_window == 30
    path.write_text(TINY.replace("[draw]", "[set]\nspurious_windows = 20\n[draw]"))
    with pytest.raises(BottomhalfError, match="spurious_windows"):
        file.load(str(path))


def test_a_setting_fixes_a_draw_or_a_behaviour(tiny: str) -> None:
    lab = file.load(tiny, settings=["count=7", "ksoftirqd_nice=19"])
    assert lab.draws["count"] == "7"
    assert lab.params.ksoftirqd_nice == 19


def test_what_goes_before_stands_before_the_first_step_that_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace("[[step]]", '[[step]]\ndo = "dmesg"\nquiet = true\n[[step]]', 1))
    lab = file.load(str(path), before=["cable eth0 out"], seed=1)
    assert [s.argv[0] for s in lab.scenario.steps] == ["dmesg", "cable", "ping"]
    assert lab.again == f"{path} --before 'cable eth0 out'"


def test_a_slip_in_what_goes_before_is_not_the_files(tiny: str) -> None:
    with pytest.raises(BottomhalfError) as caught:
        file.load(tiny, before=["cable eth0 out", "cabel eth0 in"])
    assert caught.value.what == "--before 'cabel eth0 in': no verb `cabel`; did you mean `cable`?"


def test_the_sheet_is_the_same_for_all_who_have_the_seed(tiny: str) -> None:
    assert bh("lab", "sheet", tiny, "--seed", "41") == bh("lab", "sheet", tiny, "--seed", "41")
    code, text = bh("lab", "sheet", tiny, "--seed", "41")
    assert code == 0
    assert "predict first" in text
    assert "answers" not in text


def test_answers_are_what_the_run_measured(tiny: str) -> None:
    lab = file.load(tiny, seed=41)
    code, text = bh("lab", "sheet", tiny, "--seed", "41", "--answers", "--json")
    assert code == 0
    value = json.loads(text)
    assert value["answers"] == [f"{lab.draws['count']}, in era 6.1 seed 41; vector 0x21."]
    code, text = bh("lab", "sheet", tiny, "--answers", "--era", "2.6.18")
    assert "in the old one." in text


def test_a_run_prints_events_the_picture_and_the_checks(tiny: str) -> None:
    code, text = bh("lab", "run", tiny, "--seed", "5", "--set", "count=2")
    assert code == 0
    assert text.startswith("2 pings go out.\ntiny: bond-pair, era 6.1, virtual time, seed 5")
    assert "vector 0x21, handler begins\n" in text
    assert "switch: idle -> ping\n" in text
    assert "\n  cpu0   " in text
    assert "  ok      step 1: seen(sys_sendmsg) == 2\n" in text
    assert "tiny passed.\n" in text


def test_a_failed_check_is_said_and_decides_the_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace('"exit == 0"', '"exit == 3"'))
    code, text = bh("lab", "run", str(path), "--seed", "5")
    assert code == 1
    assert "  FAILED  step 1: exit 0, expected == 3\n" in text
    assert f"  replay: bottomhalf lab run {path} --seed 5\n" in text


def test_json_has_events_contexts_and_checks(tiny: str) -> None:
    code, text = bh("lab", "run", tiny, "--seed", "5", "--json", "--answers")
    assert code == 0
    value = json.loads(text)
    assert value["runtime"] == "simulation"
    assert {check["passed"] for check in value["checks"]} == {True}
    spans = value["contexts"]["cpu0"]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    assert {span[2] for span in spans} >= {"H", "S", "T", "."}
    names = {event["event"] for event in value["events"]}
    assert {"irq_handler_entry", "sched_switch"} <= names
    assert len(value["answers"]) == 1


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("two pings?", "two pings", "a lab's title is a question"),
        ('"irq", "sched"', '"irqs"', "no events `irqs`; did you mean `irq`?"),
        ("{seen(sys_sendmsg)},", "{seen(sendmsg)},", "answer: no trace event `sendmsg`"),
        ('"beginner"', '"easy"', 'level = "easy": allowed is beginner, intermediate, advanced'),
        ("minutes  = 5\n", "", "a lab needs the key `minutes`"),
        ("minutes  = 5\n", 'minutes = 5\nnodes = ["cpu9"]\n', "no node cpu9"),
        ("ping -c {count}", "pong {count}", "no verb `pong`; did you mean `ping`?"),
        ('by_era."2.6.18".expect', 'by_era."5.4".expect', "no era 5.4"),
        ('"exit == 0"', '"lost == 0"', "`lost` is about a ping, and none runs"),
    ],
)
def test_each_slip_has_its_message(tmp_path: Path, old: str, new: str, what: str) -> None:
    assert old in TINY
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace(old, new, 1))
    with pytest.raises(BottomhalfError) as caught:
        file.load(str(path))
    assert what in caught.value.what
    assert "tiny.toml" in caught.value.what


def test_an_era_that_a_lab_is_not_about_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text('eras = ["2.6.18", "3.10"]\n' + TINY)
    assert file.load(str(path)).scenario.machine.era == "3.10"
    with pytest.raises(BottomhalfError, match=r"tiny is about era 2.6.18, 3.10, not 6.1"):
        file.load(str(path), era="6.1")


def test_slips_of_the_command_line() -> None:
    assert bh("lab", "dance")[0] == 2
    assert "no lab `one-pong`; did you mean `one-ping`?" in bh("lab", "run", "one-pong")[1]
    assert bh("lab", "run", "one-ping", "--processes", "--seed", "3")[0] == 2


def test_a_page_is_rewritten_between_its_marks_only(tmp_path: Path, tiny: str) -> None:
    text = (
        "# how many pings are two pings?\n\nMine.\n\n<!-- box -->\nold\n<!-- end -->\n\n"
        "## Predict first\n\n<!-- questions -->\n<!-- end -->\n\n## Run it\n\n"
        "<!-- run: bottomhalf lab run X | checks -->\nold\n<!-- end -->\n\n## Why\n\n"
        "## Change one thing\n\n"
        "```console\nbottomhalf a # one\nbottomhalf b\nbottomhalf c\nbottomhalf d # FAILED\n```\n\n"
        "## On a real box\n"
    )
    lab = file.load(tiny, settings=["count=2"])
    new = page.generated(text, lab, lambda argv: "head\n\nchecks\n  ok\n\ntail\n")
    assert page.faults(new, lab) == []
    assert "Mine." in new
    assert "old" not in new
    assert "| beginner | 5 |" in new
    assert "1. How many requests leave for 2 pings?" in new
    assert "```\n$ bottomhalf lab run X\n...\n\nchecks\n  ok\n```\n" in new
    assert [c.fails for c in page.commands_in(text)] == [False, False, False, True]
    assert page.faults(new.replace("## Why", "## Because"), lab) != []


def test_sheet_lines_fit_a_page(tiny: str) -> None:
    assert all(len(line) <= 80 for line in questions.sheet(file.load(tiny), 1).splitlines())


def test_a_command_ahead_leaves_references_to_steps_what_they_mean(tmp_path: Path) -> None:
    path = tmp_path / "refers.toml"
    path.write_text(
        TINY.replace(
            "[[question]]",
            '[[step]]\ndo = "ping -c 1 gateway"\n'
            'expect = "seen(sys_sendmsg) < seen(sys_sendmsg)@1"\n[[question]]',
        ).replace("{seen(sys_sendmsg)}, in", "{seen(sys_sendmsg)@1} then {seen(sys_sendmsg)@2}, in")
    )
    lab = file.load(str(path), seed=3, before=["cable eth1 out", "cable eth1 in"])
    assert lab.scenario.steps[3].expect[0].text == "seen(sys_sendmsg) < seen(sys_sendmsg)@3"
    assert "{seen(sys_sendmsg)@3} then {seen(sys_sendmsg)@4}" in lab.questions[0].answer
