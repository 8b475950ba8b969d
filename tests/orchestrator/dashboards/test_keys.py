"""Bytes of a terminal become keys."""

from __future__ import annotations

import pytest

from orchestrator.dashboards.keys import Keys


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"12\r", ["1", "2", "enter"]),
        (b"\x1b[D\x1b[C", ["left", "right"]),
        (b"\x1bOD", ["left"]),
        (b"\x1b[15~", ["unknown"]),
        (b"\x1b\x1b[C", ["esc", "right"]),
        (b"\xc3\xa4\x01k", ["k"]),
    ],
)
def test_bytes_become_keys(data, keys):
    assert Keys().feed(data) == keys


def test_a_lone_escape_is_decided_by_silence():
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.undecided
    assert keys.feed(b"") == ["esc"]
    assert not keys.undecided


def test_a_sequence_may_come_in_pieces():
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.feed(b"[") == []
    assert keys.feed(b"D5") == ["left", "5"]


def test_an_endless_sequence_does_not_swallow_the_keys_after_it():
    keys = Keys()
    assert keys.feed(b"\x1b[" + b"1" * 30)[0] == "unknown"
