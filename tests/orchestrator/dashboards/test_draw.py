"""Frames: exact sizes, boxes that shrink and drop, figures that fit."""

from __future__ import annotations

import pytest
from rich.text import Text

from orchestrator.dashboards.draw import (
    Box,
    Shelf,
    compose,
    count,
    duration,
    plural,
    rate,
    spark,
    static,
    two,
    uptime,
)


def boxes(*sizes: tuple[int, int]) -> list[Shelf]:
    return [
        Shelf((Box(f"box{n}", static([f"line {i}" for i in range(want)]), want, least),))
        for n, (want, least) in enumerate(sizes)
    ]


def frame(shelves: list[Shelf], height: int, width: int = 80) -> list[str]:
    lines = compose("header", "Sentence.", shelves, ["keys", "label"], width, height).lines
    assert len(lines) == height
    assert {line.cell_len for line in lines} == {width}
    return [line.plain.rstrip() for line in lines]


def test_everything_is_shown_when_there_is_room():
    lines = frame(boxes((3, 1), (2, 0)), 12)
    assert lines[0] == "header"
    assert lines[1] == " Sentence."
    assert lines[2].startswith("+- box0 ---")
    assert [line[:8] for line in lines[3:6]] == ["|line 0 ", "|line 1 ", "|line 2 "]
    assert lines[9] == "+" + "-" * 78 + "+"
    assert lines[-2:] == ["keys", "label"]


def test_a_box_shrinks_before_the_last_one_is_dropped():
    lines = frame(boxes((3, 1), (2, 0)), 10)
    assert "box1" in "".join(lines)
    assert "line 2" not in "".join(lines)


def test_boxes_drop_from_the_bottom_up():
    text = "".join(frame(boxes((3, 0), (2, 0), (1, 0)), 9))
    assert "box0" in text
    assert "box1" not in text
    assert "box2" not in text


@pytest.mark.parametrize("height", range(1, 7))
def test_a_tiny_terminal_keeps_header_and_sentence(height):
    lines = frame(boxes((3, 0)), height)
    assert lines[0] == "header"
    assert lines[1:2] in ([], [" Sentence."])


def test_boxes_stand_below_each_other_on_a_narrow_terminal():
    pair = Shelf((Box("left", static(["l"]), 1), Box("right", static(["r"]), 1)))
    wide, narrow = frame([pair], 12), frame([pair], 12, 60)
    assert "left" in wide[2]
    assert "right" in wide[2]
    assert "left" in narrow[2]
    assert "right" in narrow[4]


def test_a_growing_box_takes_the_spare_lines():
    grows = Shelf((Box("log", lambda c, n: [f"{n} lines"], 1, 1, grows=True),))
    assert any("15 lines" in line for line in frame([grows], 21))


def test_a_line_that_is_too_long_is_cut():
    lines = frame([Shelf((Box("b", static(["x" * 200]), 1),))], 8)
    assert lines[3] == "|" + "x" * 78 + "|"


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (900, "1 us"),
        (64_000_000, "64 ms"),
        (2_100_000_000, "2.1 s"),
        (200_000_000_000, "3 min 20 s"),
        (7_320_000_000_000, "2 h 2 min"),
    ],
)
def test_durations_read_as_people_say_them(ns, text):
    assert duration(ns) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (99_999, "99999"), (100_000, "100k"), (123_456_789, "123M"), (10**16, "10000T")],
)
def test_counts_stay_short(value, text):
    assert count(value) == text


def test_rates_keep_a_digit_only_where_it_says_something():
    assert [rate(v) for v in (0, 0.2, 1.0, 9.96, 100.4)] == ["0", "0.2", "1", "10", "100"]


def test_uptime_has_hours_only_when_there_are_some():
    assert [uptime(s * 10**9) for s in (12, 161, 9667)] == ["0:12", "2:41", "2:41:07"]


def test_plural():
    assert plural(1, "frame") == "1 frame"
    assert plural(2, "frame") == "2 frames"
    assert plural(2, "access", "accesses") == "2 accesses"


def test_a_sparkline_never_hides_what_is_not_zero():
    assert spark([0, 0.001, 10]) == " .@"
    assert spark([0, 0]) == "  "
    assert spark([1, 2], top=10) == ".:"


def test_the_right_part_of_a_line_wins_when_room_is_short():
    assert two("left part", Text("right"), 8).plain == "lefright"
